"""Telling those who listen that a list or a resource has changed, in the way of their era."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, LoggingLevel, SubscriptionsListenRequestParams, SubscriptionsListenResult

from fastapi_server.gateway.directory import Kind, ListChange
from fastapi_server.gateway.endpoint.request import Context
from fastapi_server.gateway.endpoint.view import View
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.mcp import MCPClientError

logger = logging.getLogger("fastapi_server.gateway")

Told: TypeAlias = Callable[[ServerEvent], None]

_EVENTS: dict[Kind, ServerEvent] = {
    "tools": ToolsListChanged(),
    "prompts": PromptsListChanged(),
    "resources": ResourcesListChanged(),
}
_MOST_STREAMS = 1_000
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0


@dataclass(eq=False)
class Session:
    """One open session of the handshake era. While it has no standalone stream, what it is to be told waits."""

    view: View
    channel: ServerSession
    heard: bool
    level: LoggingLevel | None = None
    subscriptions: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, "asyncio.Task[None]"])
    _untold: dict[ServerEvent, None] = field(default_factory=dict[ServerEvent, None])
    _telling: asyncio.Task[None] | None = None

    def tell(self, event: ServerEvent) -> None:
        """Returns at once; what has not gone yet when it is told again goes once."""
        self._untold[event] = None
        self.go_on()

    def go_on(self) -> None:
        if self.heard and self._untold and (self._telling is None or self._telling.done()):
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        while self.heard and self._untold:
            event = next(iter(self._untold))
            del self._untold[event]
            match event:
                case ToolsListChanged():
                    await self.channel.send_tool_list_changed()
                case PromptsListChanged():
                    await self.channel.send_prompt_list_changed()
                case ResourcesListChanged():
                    await self.channel.send_resource_list_changed()
                case ResourceUpdated(uri=uri):
                    await self.channel.send_resource_updated(uri)

    def end(self) -> None:
        for task in (*self.subscriptions.values(), self._telling):
            if task is not None:
                task.cancel()


class _Stream:
    """One `subscriptions/listen` stream of the stateless era, and the bus that it hears."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.handler = ListenHandler(self)
        self._told: list[Told] = []

    def subscribe(self, listener: Told) -> Callable[[], None]:
        self._told.append(listener)
        return lambda: self._told.remove(listener)

    def tell(self, event: ServerEvent) -> None:
        for told in self._told:
            told(event)

    async def publish(self, event: ServerEvent) -> None:
        self.tell(event)


class Changes:
    """Hears of changes from the directory and from the servers, and passes them on to those who may see them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sessions: dict[str, Session] = {}
        self._heard: set[str] = set()
        self._streams: set[_Stream] = set()
        gateway.directory.changed.append(self._list_changed)

    def _list_changed(self, change: ListChange) -> None:
        for listener in (*self._sessions.values(), *self._streams):
            view = listener.view
            if view.shows(change.server) and self._gateway.concerns(change, view.caller):
                listener.tell(_EVENTS[change.kind])

    def _heed(self, view: View) -> None:
        """Somebody listens who may have listed before this process was there."""
        self._gateway.directory.follow(view.servers(self._gateway.pool), view.caller.principal)

    async def _follow(self, view: View, uri: str, told: Told, agreed: "asyncio.Future[None]") -> None:
        """Tell of each change to a resource, on one connection to its server after the other.

        Args:
            view: Whose `uri` it is.
            uri: As it reads there.
            told: Told.
            agreed: Done when the server has agreed; where it does not, that is all.
        """
        event, pause = ResourceUpdated(uri), _FIRST_PAUSE_SECONDS
        while True:
            try:
                server, original = view.resource(self._gateway.pool, uri)
                client = self._gateway.pool.client(server, view.caller.principal)
                async with await client.subscribe(original) as changes:
                    pause = _FIRST_PAUSE_SECONDS
                    if agreed.done():
                        told(event)  # it may have changed meanwhile
                    else:
                        agreed.set_result(None)
                    async for _ in changes:
                        told(event)
            except MCPClientError as error:
                if not agreed.done():
                    agreed.set_exception(error)
                    return
                logger.debug("no news of %s for now: %s", uri, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _following(self, view: View, uri: str, told: Told) -> "tuple[asyncio.Task[None], asyncio.Future[None]]":
        loop = asyncio.get_running_loop()
        agreed: asyncio.Future[None] = loop.create_future()
        return loop.create_task(self._follow(view, uri, told, agreed)), agreed

    # The handshake era.

    def has(self, session: str) -> bool:
        """Whether it is open."""
        return session in self._sessions

    def join(self, session: str, view: View, channel: ServerSession) -> Session:
        """The session of this id, which is open from now on if it was not."""
        if session not in self._sessions:
            self._sessions[session] = Session(view, channel, session in self._heard)
            if session in self._heard:
                self._heed(view)
        return self._sessions[session]

    def leave(self, session: str) -> None:
        """It is not any more."""
        gone = self._sessions.pop(session, None)
        if gone is not None:
            gone.end()

    def hear(self, session: str, heard: bool) -> None:
        """Whether a session has a standalone stream now."""
        (self._heard.add if heard else self._heard.discard)(session)
        here = self._sessions.get(session)
        if here is not None:
            here.heard = heard
            here.go_on()
            if heard:
                self._heed(here.view)

    def level(self, session: str) -> LoggingLevel | None:
        """From which on a session has asked for log messages, if it has."""
        return self._sessions[session].level if session in self._sessions else None

    async def subscribe(self, here: Session, uri: str) -> None:
        """Tell a session from now on when a resource changes.

        Raises:
            MCPClientError: The server refuses, or there is no such resource.
        """
        if uri in here.subscriptions:
            return
        task, agreed = self._following(here.view, uri, here.tell)
        here.subscriptions[uri] = task
        try:
            await asyncio.wait((task, agreed), return_when=asyncio.FIRST_COMPLETED)
            if agreed.done():  # or else the session has ended meanwhile
                agreed.result()
        except BaseException:
            self.unsubscribe(here, uri)
            raise

    def unsubscribe(self, here: Session, uri: str) -> None:
        """No more of it."""
        task = here.subscriptions.pop(uri, None)
        if task is not None:
            task.cancel()

    # The stateless era.

    async def listen(
        self, view: View, context: Context, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Serve one `subscriptions/listen` stream, for as long as the client wants it.

        Of the resources, those are agreed to whose servers agree within the patience that lists have, too.

        Raises:
            MCPError: The caller has too many of them open already.
        """
        if sum(stream.view.key == view.key for stream in self._streams) >= _MOST_STREAMS:
            raise MCPError(INTERNAL_ERROR, f"{_MOST_STREAMS} subscriptions of this caller are open already")
        stream = _Stream(view)
        self._streams.add(stream)
        self._heed(view)
        wanted = dict.fromkeys(params.notifications.resource_subscriptions or ())
        following = {uri: self._following(view, uri, stream.tell) for uri in wanted}
        try:
            if following:
                patience = self._gateway.settings.patience
                await asyncio.wait([agreed for _, agreed in following.values()], timeout=patience)
            there = [uri for uri, (_, agreed) in following.items() if agreed.done() and agreed.exception() is None]
            honoured = params.notifications.model_copy(update={"resource_subscriptions": there})
            return await stream.handler(context, params.model_copy(update={"notifications": honoured}))
        finally:
            self._streams.discard(stream)
            await _ended(task for task, _ in following.values())

    async def close(self) -> None:
        """End every stream with its result, so that clients know it is deliberate."""
        for stream in self._streams:
            stream.handler.close()
        for session in list(self._sessions):
            self.leave(session)


async def _ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
