"""Registers, lists and deletes a hook with the calls of SOLAPI's own client.

Takes an API key, its secret, the address of the server and the id of an event; prints an answer
a line, and for a refusal what the client makes of it.
"""

import json
import sys

from solapi.lib.fetcher import default_fetcher

key, secret, server, event = sys.argv[1:]
credentials = {"api_key": key, "api_secret": secret}
hooks = f"{server}/webhook/v1/outgoing"


def call(method, url, data=None):
    return default_fetcher(credentials, {"method": method, "url": url}, data)


made = call("POST", hooks, {"eventId": event, "url": "https://example.com/report"})
print(json.dumps(made))
print(json.dumps(call("GET", hooks)))
try:
    call("POST", hooks, {"eventId": "NO-SUCH-EVENT", "url": "https://example.com/report"})
    print(json.dumps(["taken", ""]))
except Exception as refusal:
    print(json.dumps([str(part) for part in refusal.args]))
print(json.dumps(call("DELETE", f"{hooks}/{made['webhookId']}", {})))
