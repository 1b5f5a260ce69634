"""The fixtures that users get."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from aiohttp import web

from fastapi_server.mcp import (
    HandshakeError,
    HTTPConfig,
    HTTPMCPClient,
    OutcomeUnknownError,
    RPCError,
    SSEConfig,
    SSEMCPClient,
    StdioConfig,
    StdioMCPClient,
)
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen
from fastapi_server.mcp.testing.raw_peer import RawPeer, RawRequest, json_head
from fastapi_server.mcp.testing.sse_peer import SSEPeer


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


async def test_a_server_of_http_sse_whose_answers_the_test_decides(
    mcp_sse_peer: Callable[..., AbstractAsyncContextManager[SSEPeer]],
) -> None:
    async with mcp_sse_peer() as peer:

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            return await peer.answer(seen, {"content": [{"type": "text", "text": "done"}]})

        client = SSEMCPClient("peer", SSEConfig(f"{peer.url}/sse"))
        assert getattr((await client.call_tool("x")).content[0], "text", "") == "done"
        await client.disconnect()
        peer.endpoint = "http://elsewhere.invalid/messages"
        assert await client.connect(retry_count=1) is False
        assert isinstance(client.last_error, HandshakeError)


@pytest.mark.parametrize("stateless", [False, True])
async def test_a_server_that_writes_bytes(
    mcp_raw_peer: Callable[..., AbstractAsyncContextManager[RawPeer]], stateless: bool
) -> None:
    async with mcp_raw_peer(stateless=stateless) as peer:

        @peer.on("tools/call")
        async def call(request: RawRequest) -> None:
            await request.write(json_head(1_000) + b'{"jsonrpc"')
            request.reset()

        async with HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
            with pytest.raises(OutcomeUnknownError):
                await client.call_tool("x")
    assert peer.count("tools/call") == 1
