"""A receiver that takes only what an independent Standard Webhooks library verifies.

    receiver.py PATH=SECRET ...

Listens on a free port of 127.0.0.1 and prints it on the first line; then, for each request, one
line of JSON: path, id, verified, problem, body (base64). Answers 204 to what it verified, and
400 to anything else.
"""

import base64
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

SECRETS = dict(argument.split("=", 1) for argument in sys.argv[1:])
PRINTING = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        problem = None
        try:
            Webhook(SECRETS[self.path]).verify(body, headers)
        except Exception as error:  # whatever it is, the request was not verified
            problem = f"{type(error).__name__}: {error}"
        arrival = {
            "path": self.path,
            "id": headers.get("webhook-id"),
            "verified": problem is None,
            "problem": problem,
            "body": base64.b64encode(body).decode(),
        }
        with PRINTING:
            print(json.dumps(arrival), flush=True)
        self.send_response(204 if problem is None else 400)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


server = Server(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
server.serve_forever()
