"""What becomes of a body when the connections of its origin are closed."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from fastapi_server.mcp import HTTPConfig, MCPConnectionError
from fastapi_server.mcp.clients.http_origin import HTTPOrigin, Identity
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer


async def test_a_body_that_is_read_after_its_connection_was_closed_is_an_error_of_ours(nothing_left: None) -> None:
    async def stream(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        await response.write(b"first")
        await asyncio.Event().wait()
        return response

    async with http_peer(HTTPPeer({"GET": stream})) as peer:
        origin = HTTPOrigin(HTTPConfig(f"{peer.url}/mcp"), Identity(aiohttp.CookieJar()))
        async with await origin.send("GET", origin.url, {}) as response:
            assert await origin.chunk(response) == b"first"
            await origin.close()
            for read in (origin.chunk, origin.read):
                with pytest.raises(MCPConnectionError, match=r"/mcp broke: Connection closed\.") as raised:
                    await read(response)
                assert raised.value.__context__ is None
            assert await origin.start_of_body(response) == b""
