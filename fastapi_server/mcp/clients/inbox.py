"""What a server says without being asked: progress, logs, changes, and questions of its own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import msgspec
from mcp_types import LoggingMessageNotificationParams
from pydantic import ValidationError

from fastapi_server.mcp.clients.handlers import HandlerContext, Handlers
from fastapi_server.mcp.clients.mailbox import Mailbox
from fastapi_server.mcp.clients.subscriptions import LIST_NOTICES, Change, Interest, Subscription, change_in
from fastapi_server.mcp.errors import MCPClientError, RPCError
from fastapi_server.mcp.protocol import jsonrpc
from fastapi_server.mcp.protocol.caching import ListCache
from fastapi_server.mcp.protocol.jsonrpc import Message, as_object

logger = logging.getLogger("fastapi_server.mcp")

ProgressCallback: TypeAlias = Callable[[float, float | None, str | None], Awaitable[None] | None]
"""Told `(progress, total, message)`."""

_LONGEST_ID = 20
_MOST_QUESTIONS = 1_000
_CANCEL_SECONDS = 1.0
_SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"


class _Progress(msgspec.Struct, rename="camel"):
    progress_token: int | str
    progress: float
    total: float | None = None
    message: str | None = None


class Inbox:
    """Receives from one channel after another, for as long as its client lives.

    Args:
        server: Name of the server, for the context of handlers.
        principal: On whose behalf the client works.
        handlers: Of the host.
        cache: Lists, dropped when a notice says so.
        reply: Sends our reply to a question of the server's.
    """

    def __init__(
        self,
        server: str,
        principal: str | None,
        handlers: Handlers,
        cache: ListCache,
        reply: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._server = server
        self._principal = principal
        self._handlers = handlers
        self._cache = cache
        self._reply = reply
        self._mailbox = Mailbox()
        self._channels = 0
        self._progress: dict[int, Callable[[_Progress], None]] = {}
        self._answering: dict[int | str, asyncio.Task[None]] = {}
        self.subscriptions: dict[int, Subscription] = {}

    def context(self, call: int | None = None) -> HandlerContext:
        """Who asks, for a handler."""
        return HandlerContext(self._server, self._principal, call)

    def receive(self, message: Message, call: int | None) -> None:
        """Take one request or notification of the server's; returns at once.

        Args:
            message: What it says.
            call: Id of our request on whose stream it came, where that is known.
        """
        if message.is_request:
            self._question(message, call)
            return
        match message.method:
            case "notifications/progress":
                self._progressed(message)
            case "notifications/message":
                self._logged(message, call)
            case "notifications/cancelled":
                self._cancelled(message.params_as())
            case "notifications/subscriptions/acknowledged":
                self._acknowledged(message.params_as())
            case str(method):
                self._told(method, message.params_as(), call)
            case _:
                pass

    # Progress.

    def expect_progress(self, token: int, callback: ProgressCallback, renew: Callable[[], None]) -> Mailbox:
        """Hand progress of the request `token` to `callback`, after `renew`; flush the mailbox before it returns."""
        mailbox = Mailbox()

        def told(note: _Progress) -> None:
            renew()
            mailbox.post(partial(callback, note.progress, note.total), note.message)

        self._progress[token] = told
        return mailbox

    def forget_progress(self, token: int) -> None:
        """No more of it is wanted."""
        self._progress.pop(token, None)

    def _progressed(self, message: Message) -> None:
        try:
            note = msgspec.json.decode(message.params or b"{}", type=_Progress)
            told = self._progress.get(int(note.progress_token))
        except (*jsonrpc.MALFORMED, ValueError):
            logger.debug("server %r: malformed progress notification", self._server)
            return
        if told is not None:
            told(note)

    # Notices.

    def _logged(self, message: Message, call: int | None) -> None:
        if self._handlers.logging is None:
            return
        try:
            params = LoggingMessageNotificationParams.model_validate(message.params_as())
        except ValidationError:
            logger.debug("server %r: malformed log notification", self._server)
            return
        self._mailbox.post(partial(self._handlers.logging, self.context(call)), params)

    def _told(self, method: str, params: dict[str, Any], call: int | None) -> None:
        self._cache.drop(method)
        change = change_in(method, params)
        if change is None:
            if self._handlers.notification is not None:
                self._mailbox.post(partial(self._handlers.notification, self.context(call), method), params)
            return
        subscription_id = _subscription_id(params)
        if subscription_id is None:
            for subscription in list(self.subscriptions.values()):
                subscription.tell(change)
        elif subscription_id in self.subscriptions:
            self.subscriptions[subscription_id].tell(change)
        if self._is_for_handler(change, subscription_id):
            self._tell_handler(change, call)

    def missed(self, told: Interest) -> None:
        """The server has not been heard until now: have the handler know that the lists of `told` may have changed.

        Of lists that nobody has asked for there is nothing to know.
        """
        for notice, change in LIST_NOTICES.items():
            if told.covers(change) and self._cache.was_wanted(notice):
                self._cache.drop(notice)
                self._tell_handler(change, None)

    def _is_for_handler(self, change: Change, subscription_id: int | None) -> bool:
        """Each subscription is told of a list's change; the handler hears it once, from its own."""
        if subscription_id is None or change.kind == "resource":
            return True
        standing = [known for known, subscription in self.subscriptions.items() if subscription.standing]
        return not standing or subscription_id in standing

    def _tell_handler(self, change: Change, call: int | None) -> None:
        if change.kind == "resource":
            if self._handlers.resource_updated is not None and change.uri is not None:
                self._mailbox.post(partial(self._handlers.resource_updated, self.context(call)), change.uri)
        elif self._handlers.list_changed is not None:
            self._mailbox.post(partial(self._handlers.list_changed, self.context(call)), change.kind)

    def _acknowledged(self, params: dict[str, Any]) -> None:
        subscription = self.subscriptions.get(_subscription_id(params) or -1)
        if subscription is not None:
            subscription.acknowledge(as_object(params.get("notifications")))
            if subscription.standing:
                self.missed(subscription.interest)

    def _cancelled(self, params: dict[str, Any]) -> None:
        request_id = params.get("requestId")
        if not isinstance(request_id, (int, str)):
            return
        task = self._answering.get(request_id)
        if task is not None:
            task.cancel()
        elif isinstance(request_id, int) and request_id in self.subscriptions:
            self.subscriptions[request_id].finish()

    # Questions.

    def _question(self, message: Message, call: int | None) -> None:
        request_id = message.id
        if not isinstance(request_id, (int, str)) or not isinstance(message.method, str):
            return
        if len(self._answering) == _MOST_QUESTIONS or request_id in self._answering:
            logger.warning("server %r: a question is dropped: there are too many, or two with one id", self._server)
            return
        work = self._answer(request_id, message.method, message.params_as(), call)
        task = asyncio.get_running_loop().create_task(work)
        self._answering[request_id] = task
        task.add_done_callback(lambda _done: self._answering.pop(request_id, None))

    async def _answer(self, request_id: int | str, method: str, params: dict[str, Any], call: int | None) -> None:
        channels = self._channels
        try:
            result = await self._handlers.answer(self.context(call), method, params)
            answer = jsonrpc.encode_result(request_id, result)
        except RPCError as error:
            answer = jsonrpc.encode_error(request_id, error.code, error.message)
        except Exception:
            logger.exception("server %r: the handler for %s failed", self._server, method)
            answer = jsonrpc.encode_error(request_id, RPCError.INTERNAL_ERROR, f"the handler for {method} failed")
        if self._channels != channels:
            return  # whoever asked is gone
        try:
            await self._reply(answer)
        except MCPClientError as error:
            logger.warning("server %r: the answer to %s could not be sent: %s", self._server, method, error)

    async def drop_channel(self) -> None:
        """The channel is gone: nobody waits for our answers any more, and what was listed may have changed."""
        self._cache.clear()
        self._channels += 1
        tasks = [task for task in self._answering.values() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:  # a handler that takes longer is left behind
            await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)

    async def close(self) -> None:
        """The client is closed: drop what handlers have not been told yet, too."""
        await self.drop_channel()
        await self._mailbox.close()


def _subscription_id(params: dict[str, Any]) -> int | None:
    value = as_object(params.get("_meta")).get(_SUBSCRIPTION_ID)
    if isinstance(value, str) and value.isdecimal() and len(value) < _LONGEST_ID:
        return int(value)
    return value if isinstance(value, int) else None
