"""The fixtures that users get."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from aiohttp import web

from fastapi_server.mcp import HTTPConfig, HTTPMCPClient, OutcomeUnknownError, RPCError, StdioConfig, StdioMCPClient
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen


async def test_a_process_that_misbehaves(mcp_stdio_peer: Callable[..., StdioConfig]) -> None:
    async with StdioMCPClient("peer", mcp_stdio_peer("--banner", shutdown_timeout=500)) as client:
        with pytest.raises(OutcomeUnknownError, match="exited with code 3"):
            await client.call_tool("exit", {"code": 3})
        assert await client.list_tools()


async def test_a_server_whose_answers_the_test_decides(
    mcp_http_peer: Callable[..., AbstractAsyncContextManager[HTTPPeer]],
) -> None:
    async with mcp_http_peer(stateless=True) as peer:

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            return seen.error(-32603, "no")

        async with HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
            with pytest.raises(RPCError, match="no"):
                await client.call_tool("x")
    assert peer.methods() == ["server/discover", "tools/call"]
