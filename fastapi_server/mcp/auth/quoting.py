"""What a server has said, as it may stand in an error, a log and on a terminal."""

import re

from pydantic import ValidationError

from fastapi_server.mcp.redaction import redacted

_MOST_SHOWN = 200
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def quoted(text: str) -> str:
    """Its start, without secrets of ours and what could write elsewhere on a terminal."""
    return _UNPRINTABLE.sub("?", redacted(text)[:_MOST_SHOWN])


def faulty_members(error: ValidationError) -> str:
    """Where a document breaks its model, without what it says there."""
    return ", ".join(".".join(map(str, one["loc"])) for one in error.errors()) or "no object"
