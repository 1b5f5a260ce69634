"""Streamable HTTP, in both eras: each message is a POST, and the POST is the correlation."""

import asyncio
import logging
from collections.abc import Sequence

import aiohttp

from fastapi_server.mcp.clients.channel import Channel, Request, fresh
from fastapi_server.mcp.clients.deadline import Deadline
from fastapi_server.mcp.clients.http_origin import HTTPOrigin, Identity
from fastapi_server.mcp.clients.remote_client import RemoteMCPClient
from fastapi_server.mcp.clients.rest_dialect import RESTChannel
from fastapi_server.mcp.config import HTTPConfig
from fastapi_server.mcp.errors import (
    AuthenticationError,
    Delivery,
    HTTPStatusError,
    MCPClientError,
    MCPConnectionError,
    ProtocolError,
    RPCError,
    SessionExpiredError,
)
from fastapi_server.mcp.metrics import ClientMetrics
from fastapi_server.mcp.protocol import jsonrpc
from fastapi_server.mcp.protocol.eras import Era, EraName
from fastapi_server.mcp.protocol.jsonrpc import Message
from fastapi_server.mcp.protocol.sse import EventParser
from fastapi_server.mcp.resilience import backoff_delays

logger = logging.getLogger("fastapi_server.mcp")

_POST = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
_GET = {"Accept": "text/event-stream"}
_SESSION = "Mcp-Session-Id"
_EVENT_STREAM = "text/event-stream"
_BUSY = frozenset({429, 500, 502, 503, 504})
_STILL_OPEN = 409
"""What servers of the SDKs say to a second GET stream: they have not noticed yet that the first one broke."""

_STREAM_ATTEMPTS = 5
_RETRY_SECONDS = 1.0
_LEAST_RETRY_SECONDS = 0.1
_DELETE_SECONDS = 2.0
_LINGER_SECONDS = 0.1
_MOST_LINGERS = 3
_LINGER_PAUSE_SECONDS = 60.0


class StreamableHTTPChannel(Channel):
    """One HTTP session: the id the server gave us for it in the handshake era, nothing at all in the stateless one."""

    transport = "http"
    shared_stream = False

    def __init__(self, config: HTTPConfig, metrics: ClientMetrics, identity: Identity) -> None:
        super().__init__(metrics)
        self._origin = HTTPOrigin(config, identity)
        self._limit = config.max_message_bytes
        self._session: dict[str, str] = {}
        self._version: dict[str, str] = {}
        self._in_flight: set[Deadline] = set()
        self._lingered = 0
        self._linger_again = 0.0
        self._skipped = False

    @property
    def session_id(self) -> str | None:
        """What the server calls our session, in the handshake era."""
        return self._session.get(_SESSION)

    async def _open(self) -> None:
        """Nothing to do: the first request connects."""

    def begin_session(self, era: Era) -> None:
        if era.name is EraName.HANDSHAKE:
            self._version = era.headers("", None)
            self.hearing = asyncio.Event()
            self._spawn(self._listen(self.hearing))

    async def exchange(self, request: Request) -> Message:
        body = request.encode()
        self._raise_if_lost()
        try:
            with Deadline(None, self._loop) as interruption:
                self._in_flight.add(interruption)
                try:
                    return await self._post(request, body)
                finally:
                    self._in_flight.discard(interruption)
        except asyncio.CancelledError:
            self._tell_cancelled(request)
            raise
        except TimeoutError:
            if self.lost is None:
                raise
            raise fresh(self.lost, Delivery.UNKNOWN) from None

    async def notify(self, data: bytes, era: Era) -> None:
        self._raise_if_lost()
        self.metrics.bytes_sent += len(data)
        headers = {**_POST, **self._session, **era.headers("", None)}
        response = await self._origin.send("POST", self._origin.url, headers, data)
        async with response:
            if response.status >= 300:
                raise await self._origin.refusal(response)
            await self._origin.read(response)

    # One request.

    async def _post(self, request: Request, body: bytes) -> Message:
        self.metrics.bytes_sent += len(body)
        headers = {
            **_POST,
            **self._session,
            **request.era.headers(request.method, request.params),
            **request.headers,
        }
        response = await self._origin.send("POST", self._origin.url, headers, body)
        async with response:  # left early, it disconnects: in the stateless era that cancels the request
            if response.status >= 300:
                return await self._error_reply(response)
            if request.method == "initialize" and _SESSION in response.headers:
                self._session = {_SESSION: response.headers[_SESSION]}
            match response.content_type:
                case "application/json":
                    return self._only_reply(request, await self._origin.read(response))
                case "text/event-stream":
                    parser = EventParser(self._limit)
                    reply = await self._reply_from(response, request, parser)
                case other:
                    raise await self._not_mcp(response, other)
        return reply or await self._resume(request, parser)

    def _only_reply(self, request: Request, body: bytes | bytearray) -> Message:
        self.metrics.bytes_received += len(body)
        if request.on_json is not None:
            request.on_json(body)
        reply = self._take(jsonrpc.decode(body, raw_results=request.on_json is not None), request)
        if reply is None:
            raise ProtocolError(f"the body of the response to {request.method} holds no reply to it")
        return reply

    def _take(self, messages: Sequence[Message], request: Request) -> Message | None:
        """Hand on what is not the reply to our request, and return what is."""
        reply = None
        for message in messages:
            if not message.is_reply:
                self.on_message(message, request.id)
            elif message.id == request.id:
                reply = message
            elif message.id == str(request.id) or not isinstance(message.id, (int, float, str)):
                self.metrics.coerced_replies += 1
                reply = message
            else:
                self.metrics.unmatched_replies += 1
        return reply

    async def _reply_from(
        self, response: aiohttp.ClientResponse, request: Request, parser: EventParser
    ) -> Message | None:
        """Follow an event stream up to the reply; `None` where the stream ends or breaks without it."""
        try:
            while not response.content.at_eof():
                for event in parser.feed(await self._origin.chunk(response)):  # held by no name while it is decoded
                    if event.event != "message" or not event.data:
                        continue
                    reply = self._take(self._decoded(event.data, request), request)
                    if reply is not None:
                        if request.on_json is not None:
                            request.on_json(event.data)
                        await self._read_to_end(response)
                        return reply
        except MCPConnectionError:
            if not parser.last_event_id or request.era.name is not EraName.HANDSHAKE:
                raise
        return None

    def _decoded(self, data: bytes | bytearray, request: Request | None = None) -> Sequence[Message]:
        self.metrics.bytes_received += len(data)
        try:
            return jsonrpc.decode(data, raw_results=request is not None and request.on_json is not None)
        except ProtocolError as error:
            if request is not None and jsonrpc.addressee(bytes(data)) == request.id:
                raise ProtocolError(f"the reply cannot be read: {error.message}") from error
            self.metrics.skipped_messages += 1
            if not self._skipped:
                self._skipped = True
                shown, reason = self.shown(data), self.clean(error)
                logger.warning("http sent an event that is no JSON-RPC message, skipped: %s (%s)", shown, reason)
            return []

    async def _read_to_end(self, response: aiohttp.ClientResponse) -> None:
        """Read what follows the reply, which should be nothing but the end: only then is the connection used again.

        A server that leaves its streams open is given a moment three times in a row, and once a minute after that: it
        may only have been slow.
        """
        if response.content.at_eof():
            self._lingered = 0
            return
        now = asyncio.get_running_loop().time()
        if self._lingered >= _MOST_LINGERS and now < self._linger_again:
            return
        self._linger_again = now + _LINGER_PAUSE_SECONDS
        try:
            async with asyncio.timeout_at(now + _LINGER_SECONDS):
                while await self._origin.chunk(response):
                    pass
            self._lingered = 0
        except TimeoutError:
            self._lingered += 1
        except MCPConnectionError:
            pass  # the reply is here; the connection is not needed

    async def _resume(self, request: Request, parser: EventParser) -> Message:
        """Ask for the rest of a stream that ended early (2025-11-25, "Resumability and Redelivery")."""
        if not parser.last_event_id or request.era.name is not EraName.HANDSHAKE:
            raise MCPConnectionError(f"the event stream ended before the result of {request.method}")
        fruitless = 0
        while fruitless < _STREAM_ATTEMPTS:
            await asyncio.sleep(_RETRY_SECONDS if parser.retry is None else parser.retry)
            headers = {
                **_GET,
                **self._session,
                **request.era.headers("", None),
                "Last-Event-ID": parser.last_event_id,
            }
            known, parser = parser.last_event_id, parser.successor()
            try:
                reply = await self._rest_of_stream(request, parser, headers)
            except MCPConnectionError as error:
                if isinstance(error, HTTPStatusError) and error.status not in _BUSY:
                    raise MCPConnectionError(
                        f"the event stream ended before the result, and could not be resumed: {error.message}"
                    ) from error
                reply = None  # the server is busy or away: it may be back for the next try
            if reply is not None:
                return reply
            fruitless = 0 if parser.last_event_id != known else fruitless + 1
        raise MCPConnectionError(
            f"the event stream of {request.method} broke {_STREAM_ATTEMPTS} times in a row without anything new"
        )

    async def _rest_of_stream(self, request: Request, parser: EventParser, headers: dict[str, str]) -> Message | None:
        response = await self._origin.send("GET", self._origin.url, headers)
        async with response:
            if response.status >= 300 or response.content_type != _EVENT_STREAM:
                raise await self._origin.refusal(response)
            return await self._reply_from(response, request, parser)

    # Refusals.

    async def _error_reply(self, response: aiohttp.ClientResponse) -> Message:
        """A JSON-RPC error in the body of an HTTP error is the reply; everything else is raised."""
        body = await self._origin.start_of_body(response)
        refusal, reply = self._origin.judge(response, body), _rpc_error(body)
        if self._session_is_gone(refusal, reply):
            raise fresh(self.lost, Delivery.REJECTED) if self.lost else refusal
        if reply is None or type(refusal) is not HTTPStatusError:
            raise refusal
        return reply

    def _session_is_gone(self, refusal: HTTPStatusError, reply: Message | None) -> bool:
        """HTTP 404 to a session id means that (2025-11-25, "Session Management"), unless only the method is unknown.

        Servers built on the TypeScript SDK's examples say 400 and speak of the session in the body.
        """
        code = reply.error.code if reply and isinstance(reply.error, jsonrpc.ErrorObject) else None
        gone = refusal.status == 404 or (refusal.status == 400 and "session" in refusal.body.lower())
        if not gone or not self._session or code == RPCError.METHOD_NOT_FOUND:
            return False
        self._lose(
            SessionExpiredError(
                f"the server does not know our session any more ({refusal.message})",
                status=refusal.status,
                body=refusal.body,
            )
        )
        return True

    async def _not_mcp(self, response: aiohttp.ClientResponse, content_type: str) -> MCPClientError:
        if response.status == 202:
            return ProtocolError("the server accepted a request (HTTP 202) without answering it")
        refusal = await self._origin.refusal(response)
        return ProtocolError(f"expected JSON or an event stream, the server sent {content_type}: {refusal.body}")

    # The stream beside the calls, in the handshake era.

    async def _listen(self, hearing: asyncio.Event) -> None:
        """Hold the GET stream open, on which the server says what belongs to no call; many servers have none (405)."""
        try:
            await self._hold_stream(hearing)
        finally:
            hearing.set()

    async def _hold_stream(self, hearing: asyncio.Event) -> None:
        parser = EventParser(self._limit)
        delays = backoff_delays(_STREAM_ATTEMPTS)
        while self.lost is None:
            heard = False
            try:
                headers = {**_GET, **self._session, **self._version}
                if parser.last_event_id:
                    headers["Last-Event-ID"] = parser.last_event_id
                response = await self._origin.send("GET", self._origin.url, headers)
                async with response:
                    if response.status in _BUSY or response.status == _STILL_OPEN:
                        raise await self._origin.refusal(response)
                    if response.status != 200 or response.content_type != _EVENT_STREAM:
                        return
                    hearing.set()
                    if not parser.last_event_id:
                        self.on_hearing()
                    heard = await self._hear(response, parser)
            except AuthenticationError as error:
                logger.debug("the GET stream is not for us: %s", error)
                return
            except MCPClientError as error:
                logger.debug("the GET stream broke: %s", error)
            if heard:
                delays = backoff_delays(_STREAM_ATTEMPTS)
            delay = next(delays, None)
            if delay is None:
                logger.info("the GET stream broke %d times in a row; going on without it", _STREAM_ATTEMPTS)
                return
            await asyncio.sleep(delay if parser.retry is None else max(parser.retry, _LEAST_RETRY_SECONDS))
            parser = parser.successor()

    async def _hear(self, response: aiohttp.ClientResponse, parser: EventParser) -> bool:
        heard = False
        while chunk := await self._origin.chunk(response):
            heard = True  # a comment shows that the server is there
            for event in parser.feed(chunk):
                if event.event != "message" or not event.data:
                    continue
                for message in self._decoded(event.data):
                    if message.is_reply:
                        self.metrics.unmatched_replies += 1
                    else:
                        self.on_message(message, None)
        return heard

    # The end.

    def _lose(self, error: MCPClientError, *, notify: bool = True) -> None:
        super()._lose(error, notify=notify)
        for interruption in self._in_flight:
            interruption.expire()
        self._in_flight.clear()

    def redacted(self, text: str) -> str:
        return self._origin.redacted(text)

    async def signed_in(self) -> bool:
        return await self._origin.signed_in()

    async def _shut(self) -> None:
        if self._session and not isinstance(self.lost, SessionExpiredError):
            try:
                async with asyncio.timeout(_DELETE_SECONDS):
                    headers = {**self._session, **self._version}
                    (await self._origin.send("DELETE", self._origin.url, headers)).release()
            except (MCPClientError, TimeoutError) as error:
                logger.debug("the session could not be ended: %s", error)
        await self._origin.close()


def _rpc_error(body: bytes) -> Message | None:
    """The JSON-RPC error that a body holds, if it does."""
    try:
        (message,) = jsonrpc.decode(body)
    except (ProtocolError, ValueError):
        return None
    return message if message.is_reply and isinstance(message.error, jsonrpc.ErrorObject) else None


class HTTPMCPClient(RemoteMCPClient):
    """A client of a server reached over Streamable HTTP. `config` is an `HTTPConfig` or a mapping of its fields."""

    transport = "http"
    config: HTTPConfig

    async def _establish_connection(self) -> Channel:
        kind = RESTChannel if self.config.dialect == "rest" else StreamableHTTPChannel
        channel = kind(self.config, self.metrics, self.identity)
        await channel.open()
        return channel
