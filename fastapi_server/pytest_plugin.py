"""Fixtures for the tests of those who use `fastapi_server.mcp`: servers that misbehave when told to.

`pytest` loads this by itself. What the fixtures need is imported when they are first used, so that it costs nothing.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fastapi_server.mcp import StdioConfig
    from fastapi_server.mcp.testing.http_peer import HTTPPeer
    from fastapi_server.mcp.testing.raw_peer import RawPeer
    from fastapi_server.mcp.testing.sse_peer import SSEPeer


@pytest.fixture
def mcp_stdio_peer() -> "Callable[..., StdioConfig]":
    """Makes configurations of a server on standard input and output that misbehaves by its flags and its tools.

    `mcp_stdio_peer("--discover", "silent", timeout=500)`, say; the flags are listed by
    `python -m fastapi_server.mcp.testing.stdio_peer --help`.
    """
    from fastapi_server.mcp import StdioConfig, testing  # noqa: PLC0415 - see above

    script = Path(testing.__file__).with_name("stdio_peer.py")

    def config(*flags: str, **settings: Any) -> StdioConfig:
        return StdioConfig(sys.executable, ["-S", str(script), *flags], **settings)

    return config


@pytest.fixture
def mcp_http_peer() -> "Callable[..., AbstractAsyncContextManager[HTTPPeer]]":
    """Starts servers over real sockets whose every answer the test decides.

    ```python
    async with mcp_http_peer(stateless=True) as peer:
        @peer.on("tools/call")
        async def call(seen): return seen.error(-32603, "no")
    ```
    """
    from fastapi_server.mcp.testing.http_peer import http_peer  # noqa: PLC0415 - see above

    return http_peer


@pytest.fixture
def mcp_sse_peer() -> "Callable[..., AbstractAsyncContextManager[SSEPeer]]":
    """Starts servers of HTTP+SSE, revision 2024-11-05, whose every answer the test decides.

    ```python
    async with mcp_sse_peer() as peer:
        @peer.on("tools/call")
        async def call(seen): return await peer.answer(seen, {"content": []})
    ```
    """
    from fastapi_server.mcp.testing.sse_peer import sse_peer  # noqa: PLC0415 - see above

    return sse_peer


@pytest.fixture
def mcp_raw_peer() -> "Callable[..., AbstractAsyncContextManager[RawPeer]]":
    """Starts servers over HTTP that write bytes, so that a response may stop, drip or break anywhere.

    ```python
    async with mcp_raw_peer() as peer:
        @peer.on("tools/call")
        async def call(request): request.reset()
    ```
    """
    from fastapi_server.mcp.testing.raw_peer import raw_peer  # noqa: PLC0415 - see above

    return raw_peer
