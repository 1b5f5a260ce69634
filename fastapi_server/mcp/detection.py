"""Which transport a configuration means, from the configuration alone."""

import difflib
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi_server.mcp.errors import ConfigError

STDIO: Final = "stdio"
SSE: Final = "sse"
HTTP: Final = "http"
REST: Final = "rest"
"""Not a transport of its own but the dialect of `http` that is tried last."""
AUTO: Final = "auto"
"""A URL whose transport is found out by asking the server."""

_NEAR = 0.75
_SEPARATORS = re.compile(r"[-_ +]")
_SPELLINGS = {
    "stdio": STDIO,
    "local": STDIO,
    "sse": SSE,
    "httpsse": SSE,
    "http": HTTP,
    "https": HTTP,
    "streamable": HTTP,
    "streamablehttp": HTTP,
    "auto": AUTO,
    "remote": AUTO,
    "": AUTO,
}


def canonical_transport(name: str) -> str:
    """`Streamable-HTTP`, `streamableHttp` and `http` are all `http`; a name of your own is only lower-cased."""
    return _SPELLINGS.get(_SEPARATORS.sub("", name.strip().lower()), name.strip().lower())


def detect_transport(config: Mapping[str, Any]) -> str:
    """`stdio` for a configuration with a `command`, `auto` for one with an `endpoint`.

    Raises:
        ConfigError: It has neither, or both.
    """
    has_command, has_endpoint = "command" in config, "endpoint" in config
    if has_command and has_endpoint:
        raise ConfigError("config: has both a command and an endpoint; keep the one that is meant")
    if has_command:
        return STDIO
    if has_endpoint:
        return AUTO
    needed = "config: needs a command (a server to start) or a url (a server to reach)"
    for key in config:
        for meant in difflib.get_close_matches(key, ("command", "url", "endpoint"), n=1, cutoff=_NEAR):
            raise ConfigError(f"{needed}; is {key!r} meant to be {meant!r}?")
    raise ConfigError(needed)


def candidate_transports(endpoint: str) -> tuple[str, ...]:
    """In which order to try a URL: Streamable HTTP, HTTP+SSE (first where the path says so), the REST dialect."""
    path = urlsplit(endpoint).path.rstrip("/")
    if path.endswith("/sse"):
        return (SSE, HTTP, REST)
    return (HTTP, SSE, REST)
