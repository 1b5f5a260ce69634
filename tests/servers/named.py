"""A server on standard input and output whose tools, prompts and resources have the names that are given.

`python -S named.py NAME …`, bare Python, so that it starts at once. Each says what it is called.
"""

import json
import sys
from typing import Any

NAMES = sys.argv[1:]


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def result(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    match method:
        case "initialize":
            offers: dict[str, Any] = {"tools": {}, "prompts": {}, "resources": {}}
            return {
                "protocolVersion": "2025-11-25",
                "capabilities": offers,
                "serverInfo": {"name": "named", "version": "1"},
            }
        case "tools/list":
            return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in NAMES]}
        case "tools/call" if params["name"] in NAMES:
            return {"content": [text(f"tool {params['name']}")]}
        case "prompts/list":
            return {"prompts": [{"name": name} for name in NAMES]}
        case "prompts/get" if params["name"] in NAMES:
            return {"messages": [{"role": "user", "content": text(f"prompt {params['name']}")}]}
        case "resources/list":
            return {"resources": [{"uri": f"named://{name}", "name": name} for name in NAMES]}
        case "resources/templates/list":
            return {"resourceTemplates": [{"uriTemplate": "named://t/{x}", "name": "t"}]}
        case "resources/read" if params["uri"].startswith("named://"):
            words = f"{params['uri'].removeprefix('named://')} of {NAMES[-1]}"
            return {"contents": [{"uri": params["uri"], "text": words}]}
        case _:
            return None


if __name__ == "__main__":
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
            given = result(message["method"], message.get("params", {}))
            if given is None:
                answer["error"] = {"code": -32601, "message": f"not found: {message['method']}"}
            else:
                answer["result"] = given
            print(json.dumps(answer), flush=True)
