"""Reads the body of a delivery as SOLAPI's own package has it, from the file that is named, and
prints for each report its id, its message and how often it was tried before."""

import json
import sys

from solapi.model.webhook.single_report import SingleReportPayload

with open(sys.argv[1], encoding="utf-8") as body:
    reports = SingleReportPayload.model_validate_json(body.read()).root
for report in reports:
    print(json.dumps([report.event_data_id, report.data.message_id, report.retry_count]))
