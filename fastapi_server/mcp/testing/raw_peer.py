"""A server over HTTP that writes bytes, not responses: it can stop, drip or reset anywhere in one."""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
"""Of an event stream that ends with its connection."""


def json_head(length: int, *more: str) -> bytes:
    """The head of a response with a JSON body of `length` bytes."""
    lines = ["HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {length}", *more, "", ""]
    return "\r\n".join(lines).encode()


@dataclass
class RawRequest:
    """One request, and the connection that it came on.

    Attributes:
        head: Request line and headers, as they came.
        body: The JSON-RPC message; empty where there is none.
        writer: Of the connection.
    """

    head: str
    body: dict[str, Any]
    writer: asyncio.StreamWriter

    @property
    def id(self) -> Any:
        return self.body.get("id")

    @property
    def method(self) -> str:
        """Of the JSON-RPC message; of HTTP where there is none."""
        return self.body.get("method") or self.head.split(" ", 1)[0]

    def result(self, value: Any) -> bytes:
        """A JSON-RPC result."""
        return json.dumps({"jsonrpc": "2.0", "id": self.id, "result": value}).encode()

    def text(self, content: str) -> bytes:
        """The result of a tool."""
        return self.result({"content": [{"type": "text", "text": content}]})

    async def write(self, data: bytes) -> None:
        """Bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Handler = Callable[[RawRequest], Awaitable[None]]


@dataclass
class RawPeer:
    """Answers by method as a plain server would, in the handshake era or the stateless one, where no handler is set.

    Attributes:
        stateless: The era.
        handlers: What `on` has set, by the JSON-RPC method of a POST, or `GET`, `DELETE`.
        seen: Every request that came.
        url: Where it listens; any path will do.
    """

    stateless: bool = False
    handlers: dict[str, Handler] = field(default_factory=dict[str, Handler])
    seen: list[RawRequest] = field(default_factory=list[RawRequest])
    url: str = ""

    def on(self, method: str) -> Callable[[Handler], Handler]:
        """Decide what is written for `method`."""

        def decide(handler: Handler) -> Handler:
            self.handlers[method] = handler
            return handler

        return decide

    def count(self, method: str) -> int:
        """How many requests of a method came."""
        return sum(one.method == method for one in self.seen)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (line[15:] for line in head.lower().split("\r\n") if line.startswith("content-length:")), ""
                )
                data = await reader.readexactly(int(length or 0))
                request = RawRequest(head, json.loads(data) if data else {}, writer)
                self.seen.append(request)
                await self.handlers.get(request.method, self.default)(request)
        writer.close()

    async def default(self, request: RawRequest) -> None:
        match request.method:
            case "server/discover" if self.stateless:
                versions = {"resultType": "complete", "supportedVersions": ["2026-07-28"]}
                body = request.result({**versions, "capabilities": {}, "ttlMs": 0, "cacheScope": "private"})
            case "initialize":
                info = {"name": "raw", "version": "0"}
                body = request.result({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": info})
            case "tools/call":
                body = request.text("done")
            case "ping":
                body = request.result({})
            case "GET" | "DELETE":
                return await request.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            case _ if request.id is None:
                return await request.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            case _:
                error = {"code": -32601, "message": "Method not found"}
                body = json.dumps({"jsonrpc": "2.0", "id": request.id, "error": error}).encode()
        return await request.write(json_head(len(body)) + body)


@asynccontextmanager
async def raw_peer(
    peer: RawPeer | None = None, *, stateless: bool = False, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncGenerator[RawPeer]:
    """A peer that listens on `port`, or on any. Leaving ends every connection, as the end of its process would."""
    peer = peer or RawPeer(stateless)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(peer.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", port, ssl=tls)
    host, bound = server.sockets[0].getsockname()
    peer.url = f"http{'s' if tls else ''}://{host}:{bound}"
    try:
        yield peer
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
