"""The life of one connection: four verbs, and the correlating kind that stdio and HTTP+SSE share."""

import asyncio
import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from msgspec import UNSET, Raw, Struct

from fastapi_server.mcp.errors import ClientClosedError, Delivery, MCPClientError, ProtocolError
from fastapi_server.mcp.metrics import ClientMetrics
from fastapi_server.mcp.protocol import jsonrpc
from fastapi_server.mcp.protocol.correlation import CorrelationTable
from fastapi_server.mcp.protocol.eras import Era
from fastapi_server.mcp.protocol.jsonrpc import Message
from fastapi_server.mcp.redaction import clean

logger = logging.getLogger("fastapi_server.mcp")

_CANCEL_NOTICE_SECONDS = 5.0
_SHOWN = 200


class Request(Struct, gc=False):
    """One request on its way: what the client wants sent, and the era whose rules it follows.

    Attributes:
        id: Unique within the channel.
        method: Of the protocol.
        params: Already stamped by the era.
        era: Whose headers and whose way to cancel apply.
        headers: More HTTP headers for this request alone.
        on_json: With it the result may be left as JSON, a `msgspec.Raw`. Over HTTP it is shown the message.
        sent: The server may have got it.
    """

    id: int
    method: str
    params: Mapping[str, Any] | None
    era: Era
    headers: Mapping[str, str] = MappingProxyType({})
    on_json: Callable[[bytes | bytearray], None] | None = None
    sent: bool = True

    def encode(self) -> bytes:
        """The JSON-RPC message.

        Raises:
            ProtocolError: The parameters have no JSON form.
        """
        return jsonrpc.encode_request(self.id, self.method, self.params)

    def encode_cancel(self, *, shared_stream: bool) -> bytes | None:
        """The notice that tells the server to stop, where the era has one."""
        notice = self.era.cancel_notice(self.id, self.method, shared_stream=shared_stream)
        return None if notice is None else jsonrpc.encode_notification("notifications/cancelled", notice)


class Channel(ABC):
    """One connection: opened once, closed once, never used again after that.

    Its tasks belong to it: `open` starts them and `close` ends them, whoever calls either. A failure is raised in the
    frame of the call that it hits. Cancelling the task that waits in `exchange` cancels the request; the channel tells
    the server in its era's way and goes on.

    Attributes:
        transport: Its name in configurations.
        shared_stream: All replies come on one stream, so closing it is no way to cancel one request.
        may_be_stateless: The transport can carry revision 2026-07-28.
        is_dialect: Not MCP proper: nothing is negotiated.
        on_message: Given each request and notification of the server, with the id of our request on whose stream it
            came where that is known. Must return at once.
        on_lost: Given the error once, when the channel dies of itself.
        on_hearing: Called when the server, which could not be heard before, can be: what it told until then is lost.
        hearing: Set when it can, or never will; `None` where it can from the beginning.
        lost: Why the channel can be used no more; `None` while it can.
    """

    transport: ClassVar[str]
    shared_stream: ClassVar[bool]
    may_be_stateless: ClassVar[bool] = True
    is_dialect: ClassVar[bool] = False

    def __init__(self, metrics: ClientMetrics) -> None:
        self.metrics = metrics
        self.on_message: Callable[[Message, int | None], None] = _ignore_message
        self.on_lost: Callable[[MCPClientError], None] = _ignore_loss
        self.on_hearing: Callable[[], None] = _nothing_missed
        self.hearing: asyncio.Event | None = None
        self.lost: MCPClientError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            MCPConnectionError: The server cannot be reached; nothing is left behind.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await self._open()
        except BaseException as error:
            await self._close_in_any_case()
            if isinstance(error, MCPClientError):
                self.clean(error)
            raise

    async def _close_in_any_case(self) -> None:
        """Nobody knows the channel yet who could wait for its end: a cancellation comes after that."""
        closing = asyncio.ensure_future(self.close())
        cancelled: asyncio.CancelledError | None = None
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    @abstractmethod
    async def _open(self) -> None:
        """Connect; whatever is left behind on failure, `_shut` releases."""

    @abstractmethod
    async def exchange(self, request: Request) -> Message:
        """Send a request and wait for its reply, which may be a JSON-RPC error.

        Raises:
            MCPClientError: The request failed; `delivery` says whether the server may have acted.
        """

    @abstractmethod
    async def notify(self, data: bytes, era: Era) -> None:
        """Send a message that has no reply: a notification, or our reply to a request of the server's.

        Raises:
            MCPClientError: It could not be sent.
        """

    @abstractmethod
    async def _shut(self) -> None:
        """Release everything. Called once, never cancelled."""

    def abandon(self) -> None:  # noqa: B027 - what a closed event loop had, it has closed, or the collector will
        """The event loop is gone, and nothing can be awaited: release what would outlive it."""

    def begin_session(self, era: Era) -> None:  # noqa: B027 - most channels have nothing to do
        """The era is agreed on: start what the channel runs beside the calls."""

    def redacted(self, text: str) -> str:
        """`text` of the server's without any credential that we gave it."""
        return text

    def clean(self, error: MCPClientError) -> MCPClientError:
        """Have an error, and what led to it, show none of them. Returns it."""
        clean(error, self.redacted)
        return error

    def shown(self, data: bytes | bytearray) -> str:
        """The start of what the server sent, for an error or the log: cut last, as half a credential is not known."""
        return repr(self.redacted(data.decode("utf-8", "replace"))[:_SHOWN])

    async def signed_in(self) -> bool:
        """Wait until nobody is signing in. Whether somebody was: then silence says nothing of the server."""
        return False

    async def close(self) -> None:
        """Fail the calls in flight and release everything. Safe in any state, from any task, any number of times."""
        if self._closing is None:
            self._lose(ClientClosedError("the client was closed"), notify=False)
            self._closing = asyncio.get_running_loop().create_task(self._finish())
        await asyncio.shield(self._closing)

    async def _finish(self) -> None:
        try:
            await self._shut()
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in a task that this channel owns."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def lose(self, error: MCPClientError) -> None:
        """Give the channel up: it looks alive, but does not answer. Its calls fail with `error`."""
        self._lose(error)

    def _lose(self, error: MCPClientError, *, notify: bool = True) -> None:
        """The channel is dead. The first reason stands."""
        if self.lost is None:
            self.lost = error
            if notify:
                self.on_lost(self.clean(error))

    def _raise_if_lost(self) -> None:
        if self.lost is not None:
            raise fresh(self.lost, Delivery.NOT_SENT)

    def _tell_cancelled(self, request: Request) -> None:
        notice = request.encode_cancel(shared_stream=self.shared_stream)
        if notice is not None and self.lost is None:
            self._spawn(self._send_notice(notice, request.era))

    async def _send_notice(self, notice: bytes, era: Era) -> None:
        try:
            async with asyncio.timeout(_CANCEL_NOTICE_SECONDS):
                await self.notify(notice, era)
        except (MCPClientError, TimeoutError) as error:
            logger.debug("a cancel notice could not be sent: %s", error)


class CorrelatingChannel(Channel):
    """A channel on which all replies come back on one stream, in any order.

    Attributes:
        bare: The peer need not say `"jsonrpc": "2.0"`, nor which request it answers where there is but one.
    """

    shared_stream = True

    def __init__(self, metrics: ClientMetrics) -> None:
        super().__init__(metrics)
        self._table: CorrelationTable[asyncio.Future[Message]] = CorrelationTable()
        self._raw_wanted = 0
        self.bare = False
        self._skipped = False

    @abstractmethod
    def _send(self, data: bytes) -> Awaitable[None] | None:
        """Hand one message to the transport; where that takes time, what to wait for."""

    def _ready(self) -> Awaitable[None] | None:
        """What to wait for until the peer takes data; `None` where it does. Nothing has left before that."""

    def _withdraw(self, data: bytes) -> bool:
        """Take back what was handed to `_send`. Whether none of it had left."""
        return False

    async def exchange(self, request: Request) -> Message:
        request.sent = False
        data = request.encode()
        self._raise_if_lost()
        ready = self._ready()
        if ready is not None:
            await ready
            self._raise_if_lost()
        request.sent = True
        reply: asyncio.Future[Message] = self._loop.create_future()
        self._table[request.id] = reply
        self._raw_wanted += request.on_json is not None
        try:
            sending = self._send(data)
            if sending is not None:
                await sending
            message = await reply
            if request.on_json is None and isinstance(message.result, Raw):
                return jsonrpc.with_plain_result(message)
            return message
        except BaseException as error:
            if self._withdraw(data) or (isinstance(error, MCPClientError) and error.delivery is Delivery.NOT_SENT):
                request.sent = False
            if isinstance(error, asyncio.CancelledError) and request.sent:
                self._tell_cancelled(request)
            if isinstance(error, MCPClientError) and not request.sent:
                error.delivery = Delivery.NOT_SENT
            if reply.done() and not reply.cancelled():
                reply.exception()  # seen: the call may have failed on its way out instead
            raise
        finally:
            self._raw_wanted -= request.on_json is not None
            self._table.pop(request.id, None)

    async def notify(self, data: bytes, era: Era) -> None:
        self._raise_if_lost()
        ready = self._ready()
        if ready is not None:
            await ready
        sending = self._send(data)
        if sending is not None:
            await sending

    def _receive(self, data: bytes | bytearray) -> None:
        """Take one message, or a batch, off the stream."""
        self.metrics.bytes_received += len(data)
        try:
            messages = jsonrpc.decode(data, raw_results=self._raw_wanted > 0)
        except ProtocolError as error:
            if not self._fail_unreadable(data, error):
                self._skip(data, error)
            return
        for message in messages:
            if message.method is UNSET:
                self._settle(message)
            else:
                self.on_message(message, None)

    def _settle(self, reply: Message) -> None:
        if reply.jsonrpc is UNSET and not self.bare and (reply.id is UNSET or reply.id is None):
            self.metrics.unmatched_replies += 1  # a line of a log that merely looks like one
            return
        waiter = self._table.take(reply)
        if waiter is None:
            self.metrics.unmatched_replies += 1
            return
        if isinstance(reply.id, (str, float)):
            self.metrics.coerced_replies += 1
        if not waiter.done():
            waiter.set_result(reply)

    def _fail_unreadable(self, data: bytes | bytearray, error: ProtocolError) -> bool:
        """A reply that is nearly one (`NaN` in it, an error without a code) fails the call that waits for it."""
        request_id = jsonrpc.addressee(bytes(data))
        waiter = None if request_id is None else self._table.take(Message(id=request_id))
        if waiter is None or waiter.done():
            return False
        waiter.set_exception(ProtocolError(f"the reply cannot be read: {error.message}"))
        return True

    def _skip(self, data: bytes | bytearray, error: ProtocolError) -> None:
        self.metrics.skipped_messages += 1
        if not self._skipped:
            self._skipped = True
            shown, reason = self.shown(data), self.clean(error)
            logger.warning("%s sent what is no JSON-RPC message, skipped: %s (%s)", self.transport, shown, reason)

    def _lose(self, error: MCPClientError, *, notify: bool = True) -> None:
        super()._lose(error, notify=notify)
        for waiter in self._table.drain():
            if not waiter.done():
                waiter.set_exception(fresh(error, Delivery.UNKNOWN))


def fresh(error: MCPClientError, delivery: Delivery) -> MCPClientError:
    """A copy of `error` to raise once more, with its own traceback and `delivery`."""
    again = copy.copy(error)
    again.delivery = delivery
    again.__cause__ = error.__cause__
    return again


def _ignore_message(_message: Message, _call: int | None) -> None:
    """Nobody listens yet."""


def _nothing_missed() -> None:
    """Nobody listens yet."""


def _ignore_loss(_error: MCPClientError) -> None:
    """Nobody listens yet."""
