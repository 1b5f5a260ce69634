"""A server of HTTP+SSE, revision 2024-11-05, whose every answer a test decides."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, event, http_peer


class SSEPeer(HTTPPeer):
    """Answers on the event stream what is POSTed to `/messages`; `GET` of any path opens a stream.

    A handler returns the response to the POST, and gives its answer with `answer`, or does not.

    Attributes:
        streams: Those opened so far; the last one is written to.
        endpoint: What the `endpoint` event of the next stream says; empty for no such event.
    """

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[web.StreamResponse] = []
        self.endpoint = "/messages?session=1"
        self.on("GET")(self.open_stream)
        self.on("initialize")(self.initialize)
        self.on("ping")(lambda seen: self.answer(seen, {}))
        self.on("tools/call")(lambda seen: self.answer(seen, {"content": []}))

    async def open_stream(self, seen: Seen) -> web.StreamResponse:
        """The answer to `GET`: a stream that stays open for as long as the client reads it."""
        response = await seen.stream()
        self.streams.append(response)
        if self.endpoint:
            await response.write(f"event: endpoint\ndata: {self.endpoint}\n\n".encode())
        await asyncio.Event().wait()
        return response

    async def send(self, message: Any) -> None:
        """A JSON-RPC message on the stream."""
        await self.streams[-1].write(event(message, name="message"))

    async def answer(self, seen: Seen, result: Any) -> web.StreamResponse:
        """A JSON-RPC result on the stream; returns what to answer the POST with."""
        await self.send({"jsonrpc": "2.0", "id": seen.id, "result": result})
        return web.Response(status=202, text="Accepted")

    async def initialize(self, seen: Seen) -> web.StreamResponse:
        """The answer to `initialize`."""
        info = {"name": "peer", "version": "0"}
        return await self.answer(seen, {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": info})


@asynccontextmanager
async def sse_peer(peer: SSEPeer | None = None) -> AsyncGenerator[SSEPeer]:
    """A peer that listens; its stream is at `url` + any path, `/sse` say."""
    peer = peer or SSEPeer()
    async with http_peer(peer):
        yield peer
