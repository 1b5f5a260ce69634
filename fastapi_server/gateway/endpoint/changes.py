"""Telling those who listen that a list or a resource has changed, in the way of their era."""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp_types import LoggingLevel, SubscriptionsListenRequestParams, SubscriptionsListenResult

from fastapi_server.gateway.directory import Kind
from fastapi_server.gateway.endpoint.asking import Context
from fastapi_server.gateway.endpoint.view import View
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.mcp import MCPClientError, Subscription

logger = logging.getLogger("fastapi_server.gateway")

_MOST = 10_000


@dataclass(eq=False)
class _Session:
    """One open session of the handshake era."""

    view: View
    channel: ServerSession
    level: LoggingLevel | None = None
    subscriptions: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, "asyncio.Task[None]"])

    def end(self) -> None:
        for task in self.subscriptions.values():
            task.cancel()

    async def tell(self, event: ServerEvent) -> None:
        match event:
            case ToolsListChanged():
                await self.channel.send_tool_list_changed()
            case PromptsListChanged():
                await self.channel.send_prompt_list_changed()
            case ResourcesListChanged():
                await self.channel.send_resource_list_changed()
            case ResourceUpdated(uri=uri):
                await self.channel.send_resource_updated(uri)


@dataclass(eq=False)
class _Listeners:
    """The open `subscriptions/listen` streams of one view."""

    view: View
    bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)

    def __post_init__(self) -> None:
        self.handler = ListenHandler(self.bus)


class Changes:
    """Hears of changes from the directory and from the servers, and passes them on to those who may see them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sessions: dict[str, _Session] = {}
        self._listeners: dict[tuple[str, str | None, str | None], _Listeners] = {}
        self._telling: set[asyncio.Task[None]] = set()
        gateway.directory.changed.append(self._list_changed)

    # Lists.

    def _list_changed(self, server: str, kind: Kind) -> None:
        event: ServerEvent = {
            "tools": ToolsListChanged,
            "prompts": PromptsListChanged,
            "resources": ResourcesListChanged,
        }[kind]()
        task = asyncio.get_running_loop().create_task(self._tell(server, event))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, server: str, event: ServerEvent) -> None:
        for listeners in list(self._listeners.values()):
            if _sees(listeners.view, server):
                await listeners.bus.publish(event)
        for key, session in list(self._sessions.items()):
            if _sees(session.view, server):
                try:
                    await session.tell(event)
                except Exception:
                    logger.debug("session %s is told nothing any more", key[:8], exc_info=True)
                    self.leave(key)

    # The handshake era.

    def join(self, session: str, view: View, channel: ServerSession) -> None:
        """A session is open."""
        if len(self._sessions) >= _MOST:
            self.leave(next(iter(self._sessions)))
        self._sessions[session] = _Session(view, channel)

    def set_level(self, session: str, level: LoggingLevel) -> None:
        """Log messages below `level` are not for this session."""
        if session in self._sessions:
            self._sessions[session].level = level

    def level(self, session: str) -> LoggingLevel | None:
        """From which on a session has asked for log messages, if it has."""
        return self._sessions[session].level if session in self._sessions else None

    def leave(self, session: str) -> None:
        """It is not any more."""
        gone = self._sessions.pop(session, None)
        if gone is not None:
            gone.end()

    async def subscribe(self, session: str, uri: str) -> None:
        """Tell a session from now on when a resource changes.

        Raises:
            MCPClientError: The server refuses, or there is no such resource.
        """
        here = self._sessions.get(session)
        if here is None or uri in here.subscriptions:
            return
        server, original = here.view.resource(self._gateway.pool, uri)
        changes = await self._gateway.pool.client(server, here.view.caller.principal).subscribe(original)

        async def pass_on() -> None:
            async with changes:
                async for _ in changes:
                    await here.tell(ResourceUpdated(uri))

        here.subscriptions[uri] = asyncio.get_running_loop().create_task(pass_on())

    def unsubscribe(self, session: str, uri: str) -> None:
        """No more of it."""
        here = self._sessions.get(session)
        task = here.subscriptions.pop(uri, None) if here is not None else None
        if task is not None:
            task.cancel()

    # The stateless era.

    async def listen(
        self, view: View, context: Context, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Serve one `subscriptions/listen` stream, for as long as the client wants it."""
        listeners = self._listeners.setdefault(view.key, _Listeners(view))
        async with AsyncExitStack() as stack:
            for uri in params.notifications.resource_subscriptions or ():
                await self._follow(stack, view, listeners, uri)
            return await listeners.handler(context, params)

    async def _follow(self, stack: AsyncExitStack, view: View, listeners: _Listeners, uri: str) -> None:
        try:
            server, original = view.resource(self._gateway.pool, uri)
            changes = await self._gateway.pool.client(server, view.caller.principal).subscribe(original)
        except MCPClientError as error:
            logger.debug("no news of %s: %s", uri, error)
            return

        async def pass_on(changes: Subscription) -> None:
            async with changes:
                async for _ in changes:
                    await listeners.bus.publish(ResourceUpdated(uri))

        task = asyncio.get_running_loop().create_task(pass_on(changes))
        stack.callback(task.cancel)

    async def close(self) -> None:
        """End every stream with its result, so that clients know it is deliberate."""
        for listeners in self._listeners.values():
            listeners.handler.close()
        for session in list(self._sessions):
            self.leave(session)
        await _ended(self._telling)


def _sees(view: View, server: str) -> bool:
    return view.only in {None, server} and view.caller.may_use(server)


async def _ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
