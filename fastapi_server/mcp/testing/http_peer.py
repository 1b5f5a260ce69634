"""A server over real sockets whose every answer a test decides."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from fastapi_server.mcp.testing.listening import listening

Handler = Callable[["Seen"], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """One HTTP request, as it arrived."""

    http: web.Request
    body: dict[str, Any]

    @property
    def id(self) -> Any:
        return self.body.get("id")

    @property
    def method(self) -> str:
        """Of the JSON-RPC message; of HTTP where there is none."""
        return self.body.get("method", self.http.method)

    def json(self, result: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
        """A JSON-RPC result."""
        reply = {"jsonrpc": "2.0", "id": self.id, "result": result}
        return web.json_response(reply, status=status, headers=headers)

    def error(self, code: int, message: str, data: Any = None, *, status: int = 200) -> web.Response:
        """A JSON-RPC error."""
        reply = {"jsonrpc": "2.0", "id": self.id, "error": {"code": code, "message": message, "data": data}}
        return web.json_response(reply, status=status)

    async def stream(self, headers: dict[str, str] | None = None) -> web.StreamResponse:
        """An event stream, opened."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **(headers or {})})
        await response.prepare(self.http)
        return response


def event(message: Any, *, id: str = "", retry: int | None = None, name: str = "") -> bytes:
    """One event with a JSON-RPC message; `None` for one without data."""
    lines = [f"event: {name}"] if name else []
    lines += [f"id: {id}"] if id else []
    lines += [f"retry: {retry}"] if retry is not None else []
    lines.append(f"data: {json.dumps(message)}" if message is not None else "data:")
    return ("\n".join(lines) + "\n\n").encode()


@dataclass
class HTTPPeer:
    """Answers by method: the JSON-RPC method of a POST, or `GET`, `DELETE`.

    What a test has not decided is answered as a plain server of the handshake era would.
    """

    handlers: dict[str, Handler] = field(default_factory=dict[str, Handler])
    seen: list[Seen] = field(default_factory=list[Seen])
    url: str = ""
    stateless: bool = False
    connections: set[Any] = field(default_factory=set[Any])
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def on(self, method: str) -> Callable[[Handler], Handler]:
        """Decide the answer to `method`."""

        def decide(handler: Handler) -> Handler:
            self.handlers[method] = handler
            return handler

        return decide

    def methods(self) -> list[str]:
        return [one.method for one in self.seen]

    async def handle(self, http: web.Request) -> web.StreamResponse:
        self.connections.add(http.transport)
        data = await http.read()
        seen = Seen(http, json.loads(data) if data else {})
        self.seen.append(seen)
        handler = self.handlers.get(seen.method) or self.handlers.get(http.path)
        if handler is None:
            return self.default(seen)
        try:
            return await handler(seen)
        except asyncio.CancelledError:
            self.gone.set()
            raise

    def default(self, seen: Seen) -> web.StreamResponse:
        match seen.method:
            case "server/discover" if self.stateless:
                return seen.json(
                    {
                        "resultType": "complete",
                        "supportedVersions": ["2026-07-28"],
                        "capabilities": {"tools": {"listChanged": True}, "logging": {}},
                        "ttlMs": 0,
                        "cacheScope": "private",
                    }
                )
            case "server/discover":
                return seen.error(-32601, "Method not found")
            case "initialize":
                info = {"name": "peer", "version": "0"}
                return seen.json(
                    {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "logging": {}}, "serverInfo": info},
                    headers={"Mcp-Session-Id": "s-1"},
                )
            case "tools/list":
                return seen.json({"tools": []})
            case "tools/call":
                content = [{"type": "text", "text": json.dumps(seen.body["params"].get("arguments", {}))}]
                return seen.json({"content": content})
            case "ping":
                return seen.json({})
            case _ if seen.id is None and seen.http.method == "POST":
                return web.Response(status=202)
            case _ if seen.http.method == "POST":
                return seen.error(-32601, "Method not found")
            case "DELETE":
                return web.Response(status=200)
            case _:
                return web.Response(status=405)


@asynccontextmanager
async def http_peer(peer: HTTPPeer | None = None, *, stateless: bool = False) -> AsyncGenerator[HTTPPeer]:
    """A peer that listens at `url` + any path."""
    peer = peer or HTTPPeer(stateless=stateless)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", peer.handle)
    async with listening(app, handler_cancellation=True) as peer.url:
        yield peer
