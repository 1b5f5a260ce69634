"""What a server has said: what is in it, and as it may stand in an error, a log and on a terminal."""

import json
import re
from typing import Any

from pydantic import ValidationError

from fastapi_server.mcp.protocol.jsonrpc import as_object
from fastapi_server.mcp.redaction import redacted

_MOST_SHOWN = 200
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def quoted(text: str) -> str:
    """Its start, without secrets of ours and what could write elsewhere on a terminal."""
    return _UNPRINTABLE.sub("?", redacted(text)[:_MOST_SHOWN])


def faulty_members(error: ValidationError) -> str:
    """Where a document breaks its model, without what it says there."""
    return ", ".join(".".join(map(str, one["loc"])) for one in error.errors()) or "no object"


def object_in(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is; an empty one where it is none."""
    try:
        return as_object(json.loads(body))
    except (ValueError, RecursionError):
        return {}
