"""Which certificates are trusted."""

import functools
import ssl
from pathlib import Path
from typing import Literal

from fastapi_server.mcp.errors import Delivery, MCPConnectionError


def context_for(ca_file: Path | None) -> ssl.SSLContext | Literal[True]:
    """What aiohttp takes: its own context for the whole process, or one for each `ca_file`.

    Raises:
        MCPConnectionError: The file cannot be read, or holds no certificate.
    """
    if ca_file is None:
        return True
    try:
        return _context_of(ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise MCPConnectionError(
            f"ca_file cannot be used: {ca_file}: {error.strerror or error}", delivery=Delivery.NOT_SENT
        ) from error


@functools.cache
def _context_of(ca_file: Path) -> ssl.SSLContext:
    """Built once for each file, since that takes milliseconds and every connection can share it."""
    return ssl.create_default_context(cafile=ca_file)
