"""A server that writes down what it is told, then answers; it may be killed at any moment in between.

`python ledger.py FILE` speaks on standard input and output, `python ledger.py FILE PORT` over Streamable HTTP in the
stateless era. The tool `commit` appends its token to the file before it answers.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LEDGER = Path(sys.argv[1])
SCHEMA = {"type": "object", "properties": {"token": {"type": "string"}}}


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    """The reply to a message, if it wants one."""
    if "id" not in message:
        return None
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
    match message["method"]:
        case "server/discover":
            more = {"capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"}
            return {**reply, "result": {"resultType": "complete", "supportedVersions": ["2026-07-28"], **more}}
        case "tools/list":
            tool = {"name": "commit", "inputSchema": SCHEMA}
            return {**reply, "result": {"resultType": "complete", "tools": [tool], "ttlMs": 0}}
        case "tools/call":
            token = message["params"]["arguments"]["token"]
            with LEDGER.open("a", encoding="utf-8") as ledger:
                ledger.write(token + "\n")
            content = [{"type": "text", "text": token}]
            return {**reply, "result": {"resultType": "complete", "content": content}}
        case _:
            return {**reply, "error": {"code": -32601, "message": "Method not found"}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        reply = answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        body = b"" if reply is None else json.dumps(reply).encode()
        self.send_response(202 if reply is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


if len(sys.argv) > 2:
    with Server(("127.0.0.1", int(sys.argv[2])), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
for line in sys.stdin:
    reply = answer(json.loads(line))
    if reply is not None:
        print(json.dumps(reply), flush=True)
