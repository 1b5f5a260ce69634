"""What a server has said, as it may stand in an error, a log and on a terminal."""

import re

from fastapi_server.mcp.userinfo import without_userinfo

_MOST_SHOWN = 200
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def quoted(text: str) -> str:
    """Its start, without credentials in URLs and without what could write elsewhere on a terminal."""
    return _UNPRINTABLE.sub("?", without_userinfo(text)[:_MOST_SHOWN])
