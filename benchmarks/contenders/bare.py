"""A hand-written loop on aiohttp and msgspec, or on asyncio's pipes: about as little as can be done in Python.

It keeps to the protocol and does nothing else: no deadlines, no validation, no errors, no cancelling.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import Any, cast

import aiohttp
import msgspec

from benchmarks.stub import Server

IMPORTS = {
    "package": "import aiohttp, msgspec",
    "stdio": "import asyncio, msgspec",
    "json": "import asyncio, aiohttp, msgspec",
}
DISTRIBUTIONS = ("aiohttp", "msgspec")

_VERSION = "2026-07-28"
_INFO = {"name": "bare", "version": "1"}
_META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": _VERSION,
    "io.modelcontextprotocol/clientInfo": _INFO,
    "io.modelcontextprotocol/clientCapabilities": {},
}
_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": _VERSION,
}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Bare(ABC):
    """A session; how a message gets there and back is the transport's."""

    def __init__(self) -> None:
        self._id = 0
        self.meta = _META
        self.told = 0

    @abstractmethod
    async def exchange(self, request: dict[str, Any]) -> Any:
        """Send a request and return the message that answers it."""

    async def request(self, method: str, params: dict[str, Any]) -> Any:
        self._id += 1
        message = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": {"_meta": self.meta, **params}}
        return (await self.exchange(message))["result"]

    async def _call(self, tool: str, arguments: dict[str, Any]) -> Any:
        return await self.request("tools/call", {"name": tool, "arguments": arguments})

    async def echo(self, text: str) -> str:
        return (await self._call("echo", {"text": text}))["content"][0]["text"]

    async def weather(self, city: str) -> Any:
        return (await self._call("weather", {"city": city}))["structuredContent"]

    async def large(self, size: int) -> str:
        return (await self._call("large", {"bytes": size}))["content"][0]["text"]

    async def tools(self) -> int:
        return len((await self.request("tools/list", {}))["tools"])

    async def progress(self, count: int) -> int:
        self.told = 0
        params = {"_meta": {**self.meta, "progressToken": 1}, "name": "progress", "arguments": {"count": count}}
        await self.request("tools/call", params)
        return self.told


class _Correlating(Bare):
    """Replies come on one stream."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    @abstractmethod
    async def send(self, data: bytes) -> None: ...

    async def exchange(self, request: dict[str, Any]) -> Any:
        reply = self._waiting[request["id"]] = asyncio.get_running_loop().create_future()
        await self.send(_encode(request))
        return await reply

    def take(self, data: bytes) -> None:
        message = _decode(data)
        if "id" in message:
            self._waiting.pop(message["id"]).set_result(message)
        else:
            self.told += 1


class _Pipes(_Correlating, asyncio.SubprocessProtocol):
    def __init__(self) -> None:
        super().__init__()
        self._rest: list[bytes] = []
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.process = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._rest, lines[0]])
            self._rest.clear()
        self._rest.append(rest)
        for line in lines:
            self.take(line)

    def process_exited(self) -> None:
        self.ended.set()

    async def send(self, data: bytes) -> None:
        self.stdin.write(data + b"\n")

    async def open(self, command: tuple[str, ...]) -> None:
        await asyncio.get_running_loop().subprocess_exec(lambda: self, *command, stderr=None)
        self.stdin = cast("asyncio.WriteTransport", self.process.get_pipe_transport(0))

    async def close(self) -> None:
        self.stdin.close()
        await self.ended.wait()
        self.process.close()


class _Stream(_Correlating):
    """HTTP+SSE."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        super().__init__()
        self._http = http
        self._url = url
        self._rest = bytearray()
        self.meta = {}
        self._post_url: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def read(self) -> None:
        async with self._http.get(self._url, headers={"Accept": "text/event-stream"}) as response:
            while chunk := await response.content.readany():
                self._rest += chunk
                if self._rest.find(b"\n\n", -len(chunk) - 1) < 0:
                    continue
                *events, self._rest = self._rest.split(b"\n\n")
                for event in events:
                    self._event(bytes(event))

    def _event(self, event: bytes) -> None:
        name, data = event.split(b"\n", 1)
        if name == b"event: endpoint":
            self._post_url.set_result(self._url.removesuffix("/sse") + data.removeprefix(b"data: ").decode())
        else:
            self.take(data.removeprefix(b"data: "))

    async def send(self, data: bytes) -> None:
        url = await self._post_url
        async with self._http.post(url, data=data, headers={"Content-Type": "application/json"}) as response:
            await response.read()

    async def initialize(self) -> None:
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": _INFO}
        await self.request("initialize", params)
        await self.send(_encode({"jsonrpc": "2.0", "method": "notifications/initialized"}))


class _Posts(Bare):
    """Streamable HTTP, with either kind of reply."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        super().__init__()
        self._http = http
        self._url = url

    async def exchange(self, request: dict[str, Any]) -> Any:
        headers = {**_HEADERS, "Mcp-Method": request["method"]}
        if "name" in request["params"]:
            headers["Mcp-Name"] = request["params"]["name"]
        async with self._http.post(self._url, data=_encode(request), headers=headers) as response:
            body = await response.read()
            if response.content_type == "application/json":
                return _decode(body)
        *notes, reply = (event.partition(b"\ndata: ")[2] for event in body.split(b"\n\n") if event)
        self.told = len([_decode(note) for note in notes])
        return _decode(reply)


@contextlib.asynccontextmanager
async def opened(server: Server) -> AsyncGenerator[Bare]:
    if server.transport == "stdio":
        pipes = _Pipes()
        await pipes.open(server.command)
        await pipes.request("server/discover", {})
        yield pipes
        await pipes.close()
        return
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        if server.transport == "sse":
            stream = _Stream(http, server.url)
            reader = asyncio.create_task(stream.read())
            await stream.initialize()
            yield stream
            reader.cancel()
        else:
            posts = _Posts(http, server.url)
            await posts.request("server/discover", {})
            yield posts
