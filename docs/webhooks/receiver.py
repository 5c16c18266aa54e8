"""A complete receiver of webhooks: WEBHOOK_SECRET=whsec_… PORT=8080 python3 receiver.py"""
import base64
import hashlib
import hmac
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE = 5 * 60  # seconds; older messages may be replayed by somebody who has seen one


def verify(secret, headers, body):
    """Checks the header webhook-signature (https://www.standardwebhooks.com) of the exact bytes of a body."""
    event_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    mac = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256)
    want = b"v1," + base64.b64encode(mac.digest())
    # Two signatures while a secret is rotated.
    return any(hmac.compare_digest(want, got.encode()) for got in headers.get("webhook-signature", "").split())


class Receiver(BaseHTTPRequestHandler):
    seen = set()  # a database in real life: an event may come again after a restart

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        valid = verify(os.environ["WEBHOOK_SECRET"], self.headers, body)
        if valid and self.headers["webhook-id"] not in self.seen:
            self.seen.add(self.headers["webhook-id"])
            print("received", self.headers["X-Pabbly-Event"], flush=True)
        self.send_response(204 if valid else 401)
        self.end_headers()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Receiver).serve_forever()
