"""A server on standard input and output that is in trouble. Bare Python, so that it starts at once.

`python -S troubled.py [--silent METHOD] [--fails METHOD] [--dies-of METHOD FILE] [--deep METHOD LEVELS] [--restless]`:
it never answers the first method, answers the second with an error, dies of the third, once, and nests so many lists in
the answer to the fourth. FILE counts its lives; its one tool is called `life-1` in the first, or has another name
whenever it is asked for, as the server says then. A call of a tool `late` is answered by a question, once it has been
cancelled, and the next call once that has been answered.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser()
parser.add_argument("--silent")
parser.add_argument("--fails")
parser.add_argument("--dies-of", nargs=2, metavar=("METHOD", "FILE"), default=(None, None))
parser.add_argument("--deep", nargs=2, metavar=("METHOD", "LEVELS"), default=(None, 0))
parser.add_argument("--restless", action="store_true")
flags = parser.parse_args()

deadly, file = flags.dies_of
life = 1
if file is not None:
    life += int(Path(file).read_text() or 0) if Path(file).exists() else 0
    Path(file).write_text(str(life))

OFFERS: dict[str, Any] = {"tools": {}, "prompts": {}, "resources": {}}
RESULTS: dict[str, Any] = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": OFFERS,
        "serverInfo": {"name": "troubled", "version": "1"},
    },
    "tools/list": {"tools": [{"name": f"life-{life}", "inputSchema": {"type": "object"}}]},
    "tools/call": {"content": [{"type": "text", "text": f"life {life}"}]},
    "prompts/list": {"prompts": []},
    "resources/list": {"resources": []},
    "resources/templates/list": {"resourceTemplates": []},
    "resources/read": {"contents": []},
    "prompts/get": {"messages": []},
}

nested: list[Any] = []
for _ in range(int(flags.deep[1]) - 1):
    nested = [nested]
ANYTHING = {"name": "deep", "uri": "x:deep", "uriTemplate": "x:{deep}", "inputSchema": {"type": "object"}}
if flags.deep[0] in RESULTS:
    listed = next(iter(RESULTS[flags.deep[0]]))
    empty = [] if listed in {"content", "contents", "messages"} else [{**ANYTHING, "_meta": {"deep": nested}}]
    RESULTS[flags.deep[0]] = {listed: empty, "_meta": {"deep": nested}}

asking = False
QUESTION = {
    "jsonrpc": "2.0",
    "id": "late",
    "method": "elicitation/create",
    "params": {"message": "Late?", "requestedSchema": {"type": "object", "properties": {}}},
}

for line in sys.stdin:
    message = json.loads(line)
    method = message.get("method")
    if method == "notifications/cancelled":
        asking = True
        print(json.dumps(QUESTION), flush=True)
    if method == "tools/call" and message["params"]["name"] == "late":
        continue
    if method == "tools/call" and asking:
        while "method" in json.loads(sys.stdin.readline()):
            pass
    if method == deadly and life == 1:
        os._exit(3)
    if "id" not in message or "method" not in message or method == flags.silent:
        continue
    if method == "tools/list" and flags.restless:
        RESULTS[method]["tools"][0]["name"] += "'"
        for _ in range(3):
            print(json.dumps({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}), flush=True)
    answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
    if method == flags.fails:
        answer["error"] = {"code": -32603, "message": "out of order", "data": nested}
    elif method in RESULTS:
        answer["result"] = RESULTS[method]
    else:
        answer["error"] = {"code": -32601, "message": f"Method not found: {method}"}
    print(json.dumps(answer), flush=True)
