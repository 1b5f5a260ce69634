"""Clients without a process or a socket, for tests of those who use this package: a scripted server, or a real one.

```python
client = MemoryMCPClient("weather", {
    "tools/list": {"tools": [{"name": "forecast", "inputSchema": {}}]},
    "tools/call": lambda params: {"content": [{"type": "text", "text": params["arguments"]["city"]}]},
    "resources/read": RPCError("no such resource", code=-32602),
})
```
"""

import asyncio
import inspect
from abc import abstractmethod
from collections.abc import Awaitable, Mapping
from typing import Any, cast

import msgspec
from mcp_types import jsonrpc_message_adapter

from fastapi_server.mcp.clients.base_client import MCPClient
from fastapi_server.mcp.clients.channel import CorrelatingChannel
from fastapi_server.mcp.clients.handlers import Handlers
from fastapi_server.mcp.clients.hooks import Hooks
from fastapi_server.mcp.errors import MCPConnectionError, RPCError
from fastapi_server.mcp.metrics import ClientMetrics
from fastapi_server.mcp.protocol import jsonrpc
from fastapi_server.mcp.protocol.eras import HANDSHAKE_VERSIONS
from fastapi_server.mcp.protocol.jsonrpc import as_object

_INITIALIZED = {
    "protocolVersion": HANDSHAKE_VERSIONS[-1],
    "capabilities": {},
    "serverInfo": {"name": "scripted", "version": "0"},
}


class MemoryChannel(CorrelatingChannel):
    """A peer in this very process. What goes to and fro is encoded and decoded as on any other channel."""

    transport = "memory"

    async def _open(self) -> None:
        """Nothing to connect to."""

    def _send(self, data: bytes) -> Awaitable[None] | None:
        self.metrics.bytes_sent += len(data)
        return self._take(data)

    @abstractmethod
    async def _take(self, data: bytes) -> None:
        """Give one message to the peer, which answers through `_receive`."""

    async def _shut(self) -> None:
        """Nothing to release."""


class ScriptedChannel(MemoryChannel):
    """Answers by method from a script.

    Attributes:
        sent: Every message that the client sent, decoded.
    """

    def __init__(self, script: Mapping[str, Any], metrics: ClientMetrics) -> None:
        super().__init__(metrics)
        self._script = {"initialize": _INITIALIZED, "ping": {}, **script}
        self.sent: list[dict[str, Any]] = []

    async def _take(self, data: bytes) -> None:
        message = as_object(msgspec.json.decode(data))
        self.sent.append(message)
        if "id" in message and "method" in message:
            self._spawn(self._answer(message))

    async def _answer(self, message: dict[str, Any]) -> None:
        request_id = message["id"]
        try:
            reply = jsonrpc.encode_result(request_id, await self._scripted(message))
        except RPCError as error:
            reply = jsonrpc.encode_error(request_id, error.code, error.message)
        except MCPConnectionError as error:
            self._lose(error)
            return
        self._receive(reply)

    async def _scripted(self, message: dict[str, Any]) -> Any:
        method: str = message["method"]
        answer = self._script.get(method, RPCError(f"not in the script: {method}", code=RPCError.METHOD_NOT_FOUND))
        if callable(answer):
            answer = answer(as_object(message.get("params")))
            if inspect.isawaitable(answer):
                answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def tell(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Have the server say something unasked."""
        self._receive(jsonrpc.encode_notification(method, params))

    def break_off(self) -> None:
        """Have the connection break."""
        self._lose(MCPConnectionError("the scripted connection broke"))


class InProcessChannel(MemoryChannel):
    """A server of the official SDK (an `MCPServer` or a low-level `Server`), run in a task of this channel."""

    def __init__(self, server: Any, metrics: ClientMetrics) -> None:
        super().__init__(metrics)
        self._server = getattr(server, "_lowlevel_server", server)
        self._outgoing: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def _open(self) -> None:
        from mcp.shared.memory import create_client_server_memory_streams  # noqa: PLC0415 - an extra

        self._spawn(self._serve(create_client_server_memory_streams))
        await self._outgoing

    async def _serve(self, create_client_server_memory_streams: Any) -> None:
        async with create_client_server_memory_streams() as ((incoming, outgoing), (reading, writing)):
            self._outgoing.set_result(outgoing)
            self._spawn(self._pump(incoming))
            await self._server.run(reading, writing, self._server.create_initialization_options())
        self._lose(MCPConnectionError("the server in this process ended"))

    async def _pump(self, incoming: Any) -> None:
        async for session_message in incoming:
            self._receive(session_message.message.model_dump_json(by_alias=True, exclude_unset=True).encode())

    async def _take(self, data: bytes) -> None:
        from mcp.shared.message import SessionMessage  # noqa: PLC0415 - an extra

        await (await self._outgoing).send(SessionMessage(jsonrpc_message_adapter.validate_json(data)))


class MemoryMCPClient(MCPClient):
    """A client of a script, or of a server object of the official SDK.

    Args:
        name: How you call the server.
        peer: Either a mapping of methods to answers: a result, an exception (`RPCError` is the server's no,
            `MCPConnectionError` breaks the connection), or a plain or coroutine function from the parameters to
            either; `initialize` and `ping` have answers of their own. Or an `MCPServer`, or a low-level `Server`.
        handlers: What to answer when the server asks or tells something.
        principal: On whose behalf the client works.
        hooks: Told what happens.
    """

    transport = "memory"

    def __init__(
        self,
        name: str,
        peer: Any,
        *,
        handlers: Handlers | None = None,
        principal: str | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        super().__init__(name, {"peer": peer}, handlers=handlers, principal=principal, hooks=hooks)
        self._peer = peer

    @property
    def scripted(self) -> ScriptedChannel:
        """The present channel of a scripted client, to see what was sent, to `tell`, and to `break_off`."""
        channel = self._connector.channel
        if not isinstance(channel, ScriptedChannel):
            raise TypeError("the client is not connected to a script")
        return channel

    async def _establish_connection(self) -> MemoryChannel:
        peer: object = self._peer
        if isinstance(peer, Mapping):
            channel: MemoryChannel = ScriptedChannel(cast("Mapping[str, Any]", peer), self.metrics)
        else:
            channel = InProcessChannel(peer, self.metrics)
        await channel.open()
        return channel
