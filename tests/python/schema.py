"""Holds the API at URL against its document.

    schema.py URL TOKEN EXAMPLES

Checks the document by openapi-spec-validator, then sends what schemathesis thinks of, EXAMPLES
times for each operation: no answer may be a 5xx, or one that the document does not have.
"""

import json
import os
import sys
import tempfile
from urllib.request import urlopen

from openapi_spec_validator import validate
from schemathesis.cli import schemathesis

url, token, examples = sys.argv[1:]
with urlopen(url + "/openapi.json") as answer:
    validate(json.load(answer))

checks = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
sys.argv = [
    "schemathesis",
    "run",
    url + "/openapi.json",
    "--header", "Authorization: Bearer " + token,
    "--checks", ",".join(checks),
    "--max-examples", examples,
    "--phases", "examples,coverage,fuzzing",
    "--seed", "7",
    "--generation-database", "none",
    "--suppress-health-check", "all",
    "--no-color",
]
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    schemathesis()
