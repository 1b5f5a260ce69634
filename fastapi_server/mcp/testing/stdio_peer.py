"""A server on standard input and output that misbehaves when told to. Bare Python, so that it starts at once.

`python stdio_peer.py [--flag value …]`; its tools misbehave one call at a time.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

parser = argparse.ArgumentParser()
parser.add_argument(
    "--discover", choices=["error", "silent", "exit", "stateless", "unknown", "refuse"], default="error"
)
parser.add_argument("--revision", default="2025-11-25")
parser.add_argument("--initialize", choices=["ok", "error", "silent", "exit"], default="ok")
parser.add_argument("--banner", action="store_true")
parser.add_argument("--stderr", default="")
parser.add_argument("--exit-at-start", type=int)
parser.add_argument("--deaf", action="store_true", help="ignore the end of standard input, and SIGTERM")
parser.add_argument("--stay", action="store_true", help="ignore the end of standard input")
parser.add_argument("--grandchild", action="store_true", help="leave a child of our own")
parser.add_argument("--exit-after", type=int, help="exit on this call of a tool, each time we are started")
parser.add_argument("--log", help="append the method of each message to this file")
parser.add_argument("--echo", action="store_true", help="answer everything with {'echo': request}, without ids")
flags = parser.parse_args()

lock = threading.Lock()
released = threading.Event()


def send(message: Any) -> None:
    """One message on a line of its own."""
    raw(json.dumps(message).encode() + b"\n")


def raw(data: bytes) -> None:
    """Bytes as they are."""
    with lock:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def result(request: dict[str, Any], value: Any) -> None:
    send({"jsonrpc": "2.0", "id": request["id"], "result": value})


def error(request: dict[str, Any], code: int, message: str, data: Any = None) -> None:
    send({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message, "data": data}})


def text(request: dict[str, Any], content: str, **more: Any) -> None:
    result(request, {"content": [{"type": "text", "text": content}], **more})


held: list[dict[str, Any]] = []
calls = 0


def call(request: dict[str, Any], name: str, arguments: dict[str, Any]) -> None:
    match name:
        case "echo":
            text(request, json.dumps(arguments))
        case "environment":
            text(request, json.dumps(dict(os.environ)))
        case "cwd":
            text(request, os.getcwd())
        case "pid":
            text(request, str(os.getpid()))
        case "parent":
            text(request, str(os.getppid()))
        case "big":
            text(request, "x" * arguments["bytes"])
        case "drip":
            reply: dict[str, Any] = {
                "jsonrpc": "2.0",
                "id": request["id"],
                "result": {"content": [{"type": "text", "text": "é" * 20}]},
            }
            for byte in json.dumps(reply, ensure_ascii=False).encode() + b"\n":
                raw(bytes([byte]))
        case "notify":
            token = request["params"]["_meta"]["progressToken"]
            for done in range(arguments["count"]):
                params = {"progressToken": token, "progress": done + 1, "total": arguments["count"], "message": "m"}
                send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
            text(request, "done")
        case "never":
            pass
        case "hold":  # answered in reverse order when the last comes
            held.append(request)
            if len(held) == arguments["of"]:
                for one in reversed(held):
                    text(one, str(one["params"]["arguments"]["n"]))
                held.clear()
        case "string_id":
            send({"jsonrpc": "2.0", "id": str(request["id"]), "result": {"content": []}})
        case "twice":
            text(request, "first")
            text(request, "second")
        case "unknown_id":
            send({"jsonrpc": "2.0", "id": 999999, "result": {}})
            text(request, "after")
        case "batch":
            note = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
            reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"], "result": {"content": []}}
            send([note, reply])
        case "junk":
            raw(b"this is no JSON\n\n\xff\xfe\n[1, 2]\n42\n")
            text(request, "after the junk")
        case "latin1":  # one byte of a reply's text is no UTF-8
            reply: dict[str, Any] = {
                "jsonrpc": "2.0",
                "id": request["id"],
                "result": {"content": [{"type": "text", "text": "@"}]},
            }
            raw(json.dumps(reply).encode().replace(b"@", b"caf\xe9") + b"\n")
        case "latin1_error":
            refusal = {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32603, "message": "@"}}
            raw(json.dumps(refusal).encode().replace(b"@", b"caf\xe9") + b"\n")
        case "flood":
            note = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 100}})
            for _ in range(arguments["lines"]):
                raw(note.encode() + b"\n")
            text(request, "flooded")
        case "half":
            raw(b'{"jsonrpc": "2.0", "id": ')
        case "exit":
            sys.stderr.write(arguments.get("stderr", ""))
            sys.stderr.flush()
            os._exit(arguments.get("code", 0))
        case "answer_and_exit":
            text(request, "last words")
            os._exit(0)
        case "close_stdout":
            os.close(1)
        case "stop_reading":
            text(request, "deaf now")
            released.wait(60)
        case "flood_stderr":
            for _ in range(arguments["lines"]):
                sys.stderr.write("e" * 100 + "\n")
            sys.stderr.flush()
            text(request, "flooded")
        case "malformed_result":
            result(request, {"content": "not a list"})
        case "ask":
            question = {
                "jsonrpc": "2.0",
                "id": "q1",
                "method": arguments["method"],
                "params": arguments.get("params", {}),
            }
            send(question)
            held.append(request)
        case "structured":
            text(request, "structured", structuredContent=arguments["value"])
        case "refuse":
            error(request, arguments["code"], "not today")
        case "fail":
            text(request, "it failed", isError=True)
        case _:
            error(request, -32602, f"Unknown tool: {name}")


def handle(message: dict[str, Any]) -> None:
    global calls  # noqa: PLW0603
    method = message.get("method")
    calls += method == "tools/call"
    if calls == flags.exit_after:
        os._exit(9)
    if flags.log:
        with open(flags.log, "a", encoding="utf-8") as log:
            log.write(json.dumps(message) + "\n")
    if flags.echo:
        send({"result": {"echo": message}})
        return
    match method:
        case None:  # the answer to a question of ours
            request = held.pop()
            text(request, json.dumps({key: message[key] for key in ("result", "error") if key in message}))
        case "server/discover":
            discover(message)
        case "initialize":
            initialize(message)
        case "tools/list":
            schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
            plain = {"type": "object"}
            tools: list[dict[str, Any]] = [
                {"name": name, "inputSchema": plain} for name in ("echo", "exit", "never", "fail")
            ]
            tools.append({"name": "structured", "inputSchema": plain, "outputSchema": schema})
            result(message, {"tools": tools})
        case "tools/call":
            call(message, message["params"]["name"], message["params"].get("arguments", {}))
        case "resources/list":
            cursor = message.get("params", {}).get("cursor")
            result(message, {"resources": [], "nextCursor": "again"} if cursor != "end" else {"resources": []})
        case "prompts/list":
            cursor = int(message.get("params", {}).get("cursor", 0))
            page: dict[str, Any] = {"prompts": [{"name": f"p{cursor}"}]}
            if cursor < 4:
                page["nextCursor"] = str(cursor + 1)
            result(message, page)
        case "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe":
            result(message, {})
            if method == "resources/subscribe":
                uri = message["params"]["uri"]
                send({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}})
        case "notifications/cancelled" | "notifications/initialized":
            pass
        case _ if "id" in message:
            error(message, -32601, f"Method not found: {method}")
        case _:
            pass


def discover(request: dict[str, Any]) -> None:
    capabilities = {"capabilities": {"tools": {"listChanged": True}}, "ttlMs": 0, "cacheScope": "private"}
    match flags.discover:
        case "error":
            error(request, -32601, "Method not found")
        case "exit":
            os._exit(3)
        case "stateless":
            result(request, {"resultType": "complete", "supportedVersions": ["2026-07-28"], **capabilities})
        case "unknown":
            result(request, {"resultType": "complete", "supportedVersions": ["2099-01-01"], **capabilities})
        case "refuse":
            error(request, -32022, "Unsupported protocol version", {"supported": ["2099-01-01"]})
        case _:
            pass


def initialize(request: dict[str, Any]) -> None:
    match flags.initialize:
        case "error":
            error(request, -32603, "not today")
        case "silent":
            pass
        case "exit":
            os._exit(4)
        case _:
            info = {"name": "peer", "version": "0"}
            capabilities = {"tools": {}, "logging": {}, "resources": {"subscribe": True}}
            result(request, {"protocolVersion": flags.revision, "capabilities": capabilities, "serverInfo": info})


if flags.stderr:
    sys.stderr.write(flags.stderr + "\n")
    sys.stderr.flush()
if flags.exit_at_start is not None:
    sys.exit(flags.exit_at_start)
if flags.deaf:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if flags.grandchild:
    subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
if flags.banner:
    raw(b"Welcome to the peer!\nlistening on stdio\n")
for line in sys.stdin.buffer:
    handle(json.loads(line))
while flags.deaf or flags.stay:
    time.sleep(600)
