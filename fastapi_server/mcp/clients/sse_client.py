"""HTTP+SSE, the transport of revision 2024-11-05: one event stream brings everything, POSTs carry what we say."""

import asyncio
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from fastapi_server.mcp.clients.channel import CorrelatingChannel, fresh
from fastapi_server.mcp.clients.http_origin import HTTPOrigin, Identity
from fastapi_server.mcp.clients.remote_client import RemoteMCPClient
from fastapi_server.mcp.config import HTTPConfig, SSEConfig
from fastapi_server.mcp.errors import (
    Delivery,
    HTTPStatusError,
    MCPClientError,
    MCPConnectionError,
    ProtocolError,
    RPCError,
)
from fastapi_server.mcp.metrics import ClientMetrics
from fastapi_server.mcp.protocol.jsonrpc import ErrorObject, Message
from fastapi_server.mcp.protocol.sse import Event, EventParser

_GET = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
_POST = {"Content-Type": "application/json"}


class SSEChannel(CorrelatingChannel):
    """One event stream. When it ends, so does the session that the server kept for it."""

    transport = "sse"
    may_be_stateless = False

    def __init__(self, config: SSEConfig | HTTPConfig, metrics: ClientMetrics, identity: Identity) -> None:
        super().__init__(metrics)
        self._origin = HTTPOrigin(config, identity)
        self._limit = config.max_message_bytes
        self._stream_url = self._origin.url
        self._post_url: asyncio.Future[URL] = asyncio.get_running_loop().create_future()

    async def _open(self) -> None:
        self._spawn(self._read())
        await asyncio.shield(self._post_url)

    async def _read(self) -> None:
        """Take events off the stream until it ends."""
        try:
            response = await self._origin.send("GET", self._stream_url, _GET)
            async with response:
                if response.status != 200:
                    raise await self._origin.refusal(response)
                if response.content_type != "text/event-stream":
                    raise ProtocolError(f"expected an event stream, the server sent {response.content_type}")
                self._stream_opened()
                await self._take_events(response)
            self._lose(MCPConnectionError("the server ended the event stream"))
        except MCPClientError as error:
            self._lose(error)

    def _stream_opened(self) -> None:
        """The stream is there; in MCP proper its first event says where to POST."""

    async def _take_events(self, response: aiohttp.ClientResponse) -> None:
        parser = EventParser(self._limit)
        while not response.content.at_eof():
            for event in parser.feed(await self._origin.chunk(response)):  # held by no name while it is decoded
                self._event(event)

    def _event(self, event: Event) -> None:
        if event.event == "endpoint":
            self._endpoint(event.data.decode("utf-8", "replace").strip())
        elif event.event == "message" and event.data:
            self._receive(event.data)

    def _endpoint(self, location: str) -> None:
        """Learn where to POST. It must stay on the origin, or our credentials would leave it."""
        if self._post_url.done():
            return
        try:
            url = self._origin.url.join(URL(location))
            origin = url.origin()
        except ValueError:
            named = self.shown(location.encode())
            raise ProtocolError(f"the server named an endpoint that is no URL: {named}") from None
        if origin != self._origin.url.origin():
            raise ProtocolError(f"the server named an endpoint on another origin, {origin}; it is not used")
        self._post_url.set_result(url)

    async def _send(self, data: bytes) -> None:
        self.metrics.bytes_sent += len(data)
        try:
            await self._post(await self._post_url, data)
        except MCPConnectionError as error:
            if self.lost is None or isinstance(error, HTTPStatusError):
                raise
            raise fresh(self.lost, error.delivery) from None  # the POST broke because the channel was closed

    async def _post(self, url: URL, data: bytes) -> None:
        response = await self._origin.send("POST", url, _POST, data)
        async with response:
            if response.status >= 300:
                raise await self._origin.refusal(response)
            await self._origin.read(response)

    def _lose(self, error: MCPClientError, *, notify: bool = True) -> None:
        if not self._post_url.done():
            error.delivery = Delivery.NOT_SENT
            self._post_url.set_exception(error)
            self._post_url.exception()  # seen: nobody may be waiting for it any more
        super()._lose(error, notify=notify)

    def redacted(self, text: str) -> str:
        return self._origin.redacted(text)

    async def signed_in(self) -> bool:
        return await self._origin.signed_in()

    async def _shut(self) -> None:
        await self._origin.close()


class _RPCReply(msgspec.Struct):
    request_id: int | float | str | None | msgspec.UnsetType = msgspec.UNSET
    result: Any = msgspec.UNSET
    error: ErrorObject | str | None | msgspec.UnsetType = msgspec.UNSET
    type: str | None = None


class RPCDialectChannel(SSEChannel):
    """The `rpc` dialect: `POST …/connect`, events from `…/events`, requests to `…/rpc`.

    A reply is an event whose data is `{"request_id": …, "result": …}`; data with a `type` is an event of the server's,
    handed on as a notification of that name.
    """

    is_dialect = True

    def __init__(self, config: SSEConfig | HTTPConfig, metrics: ClientMetrics, identity: Identity, name: str) -> None:
        super().__init__(config, metrics, identity)
        base = str(self._origin.url).rstrip("/")
        self._name = name
        self._connect_url = URL(f"{base}/connect")
        self._stream_url = URL(f"{base}/events")
        self._rpc_url = URL(f"{base}/rpc")

    async def _open(self) -> None:
        body = msgspec.json.encode({"client": self._name})
        response = await self._origin.send("POST", self._connect_url, _POST, body)
        async with response:
            if response.status != 200:
                raise await self._origin.refusal(response)
        await super()._open()

    def _stream_opened(self) -> None:
        self._post_url.set_result(self._rpc_url)

    def _event(self, event: Event) -> None:
        if not event.data:
            return
        self.metrics.bytes_received += len(event.data)
        try:
            reply = msgspec.json.decode(event.data, type=_RPCReply)
        except msgspec.DecodeError as error:
            self._skip(event.data, ProtocolError(str(error)))
            return
        if reply.type is not None:
            self.on_message(Message(method=reply.type, params=msgspec.Raw(event.data)), None)
            return
        error = ErrorObject(RPCError.INTERNAL_ERROR, reply.error) if isinstance(reply.error, str) else reply.error
        self._settle(Message(id=reply.request_id, result=reply.result, error=error))


class SSEMCPClient(RemoteMCPClient):
    """A client of a server reached over HTTP+SSE. `config` is an `SSEConfig` or a mapping of its fields."""

    transport = "sse"
    config: SSEConfig

    async def _establish_connection(self) -> SSEChannel:
        if self.config.dialect == "rpc":
            channel = RPCDialectChannel(self.config, self.metrics, self.identity, self.name)
        else:
            channel = SSEChannel(self.config, self.metrics, self.identity)
        await channel.open()
        return channel
