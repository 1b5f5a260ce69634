"""A server that gives markup, script and broken schemas wherever it may. Bare Python, so that it starts at once."""

import json
import sys
from typing import Any

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
LINK = "javascript:alert(3)"

NESTED: dict[str, Any] = {
    "type": "object",
    "required": ["place", "days", "strict", "unit"],
    "properties": {
        "place": {"$ref": "#/$defs/Place"},
        "days": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 7}},
        "strict": {"type": "boolean"},
        "unit": {"enum": ["celsius", "kelvin"], "default": "celsius"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "quiet": {"type": "boolean"},
        "limit": {"type": "integer", "default": 5, "exclusiveMinimum": 0, "maximum": 10},
        "backup": {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]},
        "extra": {"type": "object"},
    },
    "$defs": {
        "Place": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string"}, "country": {"type": "string", "description": "two letters"}},
        }
    },
}
BROKEN: dict[str, Any] = {
    "type": "object",
    "required": "all",
    "properties": {
        "nothing": None,
        "anything": True,
        "choice": {"enum": "abc", "type": "string"},
        "lost": {"$ref": "#/nowhere/%"},
        "circle": {"$ref": "#/properties/circle"},
        "itself": {"$ref": "#"},
        "list": {"type": "array", "items": [1, 2]},
        "odd": {"type": {"not": "a type"}, "anyOf": "none", "allOf": {}, "minimum": "low"},
        "__proto__": {"type": "string"},
        "words": {"type": "string", "minLength": "x", "maxLength": -3, "default": 7, "description": {"no": "text"}},
    },
}
TOOLS: list[dict[str, Any]] = [
    {"name": "nested", "inputSchema": NESTED},
    {"name": "folder/chatty", "inputSchema": {"type": "object"}},
    {"name": "broken", "inputSchema": BROKEN},
    {"name": "nonsense", "inputSchema": {"type": "object", "properties": None, "anyOf": [{"type": "string"}]}},
    {"name": MARKUP, "inputSchema": {"type": "object"}},
    {"name": "plain", "title": MARKUP, "description": MARKUP, "inputSchema": {"type": "object"}},
    {
        "name": "fields",
        "description": LINK,
        "inputSchema": {
            "type": "object",
            "properties": {MARKUP: {"type": "string", "description": MARKUP, "enum": [MARKUP, LINK]}},
        },
    },
]
HOSTILE: list[dict[str, Any]] = [
    {"type": "text", "text": MARKUP},
    {"type": "resource_link", "name": MARKUP, "uri": LINK, "description": MARKUP},
    {"type": "resource_link", "name": "page", "uri": "https://example.com/page", "mimeType": MARKUP},
    {"type": "image", "data": "PHNjcmlwdD4=", "mimeType": "text/html"},
    {"type": "audio", "data": "PHNjcmlwdD4=", "mimeType": 'audio/wav" onerror="alert(4)'},
    {"type": "resource", "resource": {"uri": LINK, "mimeType": "text/html", "text": MARKUP}},
    {"type": "resource", "resource": {"uri": "file:///blob", "mimeType": "image/svg+xml", "blob": "PHN2Zz4="}},
]
INFO = {"name": MARKUP, "version": MARKUP}
OFFERS: dict[str, Any] = {"tools": {}, "resources": {}, "prompts": {}, "logging": {}}


def called(params: dict[str, Any]) -> dict[str, Any]:
    match params["name"]:
        case "plain" | "<img src=x onerror=alert(1)><script>alert(2)</script>":
            return {"content": HOSTILE, "structuredContent": {MARKUP: LINK}}
        case "folder/chatty":
            for line in range(300):
                send({"method": "notifications/message", "params": {"level": "info", "data": f"line {line}"}})
            return {"content": []}
        case "fields":
            return {"content": [{"type": "text", "text": MARKUP}], "isError": True}
        case _:
            return {"content": [{"type": "text", "text": json.dumps(params.get("arguments", {}))}]}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    match method:
        case "initialize":
            return {
                "protocolVersion": "2025-11-25",
                "capabilities": OFFERS,
                "serverInfo": INFO,
                "instructions": MARKUP,
            }
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call":
            return called(params)
        case "resources/list":
            return {"resources": [{"name": MARKUP, "uri": LINK, "description": MARKUP, "mimeType": MARKUP}]}
        case "resources/templates/list":
            return {"resourceTemplates": [{"name": MARKUP, "uriTemplate": "javascript:{alert}"}]}
        case "resources/read":
            return {"contents": [{"uri": params["uri"], "mimeType": "text/html", "text": MARKUP}]}
        case "prompts/list":
            return {"prompts": [{"name": "folder/ask", "description": MARKUP, "arguments": [{"name": MARKUP}]}]}
        case "prompts/get":
            messages = [{"role": "user", "content": one} for one in HOSTILE]
            return {"description": MARKUP, "messages": messages}
        case "ping" | "logging/setLevel":
            return {}
        case _:
            return None


def send(message: dict[str, Any]) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def main() -> None:
    print(MARKUP, file=sys.stderr, flush=True)
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            if message["method"] == "notifications/initialized":
                send({"method": "notifications/message", "params": {"level": "warning", "logger": "l", "data": MARKUP}})
            continue
        result = answer(message["method"], message.get("params", {}))
        refusal = {"code": -32601, "message": f"there is no {message['method']}"}
        send({"id": message["id"], **({"result": result} if result is not None else {"error": refusal})})


if __name__ == "__main__":
    main()
