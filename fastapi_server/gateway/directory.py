"""What each server lists, as last heard: nobody who asks for a list waits for a server that is slow or dead."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from mcp_types import Prompt, Resource, ResourceTemplate, Tool

from fastapi_server.gateway.problems import cause_of
from fastapi_server.gateway.writable import DEEPEST_LIST, writable
from fastapi_server.mcp import (
    AuthenticationError,
    ClientPool,
    ConnectionState,
    HandlerContext,
    MCPClient,
    MCPClientError,
    ProtocolError,
    RPCError,
    ServerInfo,
    StateEvent,
)

logger = logging.getLogger("fastapi_server.gateway")

Kind: TypeAlias = Literal["tools", "resources", "prompts"]
_List: TypeAlias = Kind | Literal["templates"]
_KINDS: tuple[Kind, ...] = ("tools", "resources", "prompts")
_ANSWERS = (AuthenticationError, ProtocolError, RPCError)
"""What a server says that is not silent, if perhaps not to others."""
_FRESH_SECONDS = 30.0
_NOTICE_SECONDS = 1.0
"""Between two askings of which a server says that there is something new: it may say so whenever it is asked."""
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 30.0
_MOST_RETRIES = 20
"""For a principal, who may not come back; together some eight minutes."""
_MOST = 10_000


@dataclass(frozen=True)
class ListChange:
    """A list that is not what it was.

    Attributes:
        server: Whose it is.
        kind: Which.
        principal: For whom it is another one.
        everybody: It is for all principals: the server has come, gone, or become another one.
        tools: Those of a list of tools that are not what they were; empty where any may be.
    """

    server: str
    kind: Kind
    principal: str | None = None
    everybody: bool = False
    tools: Sequence[Tool] = field(default=(), compare=False)


@dataclass
class Listing:
    """What one server lists for one principal.

    Attributes:
        info: Who the server says it is; `None` before it was first heard of.
        complete: Each of its lists has been heard.
        error: Why it, or one of its lists, could not be had the last time; what that would have said is as before.
        wanted_at: When somebody wanted it first.
        owed: Somebody was left without some of it, and is to be told when that has been heard.
    """

    info: ServerInfo | None = None
    tools: list[Tool] = field(default_factory=list[Tool])
    resources: list[Resource] = field(default_factory=list[Resource])
    templates: list[ResourceTemplate] = field(default_factory=list[ResourceTemplate])
    prompts: list[Prompt] = field(default_factory=list[Prompt])
    complete: bool = False
    error: MCPClientError | None = None
    asked_at: float = -_NOTICE_SECONDS
    heard_at: float = -_FRESH_SECONDS
    failures: int = 0
    wanted_at: float = field(default_factory=time.monotonic)
    owed: bool = False


@dataclass(frozen=True)
class _Key:
    server: str
    principal: str | None


class Directory:
    """The lists of all servers, refreshed when a server says that they have changed, when it is back, and now and then.

    Args:
        pool: Has the clients.
        patience: Seconds that somebody waits for lists that they have never seen, from when they are first wanted;
            or from when the server was asked, by whomever, if it has answered nobody since.

    Attributes:
        changed: Each is told of a list that is not what it was.
    """

    def __init__(self, pool: ClientPool, *, patience: float) -> None:
        self._pool = pool
        self._patience = patience
        self._listings: dict[_Key, Listing] = {}
        self._refreshing: dict[_Key, asyncio.Task[None]] = {}
        self._again: set[_Key] = set()
        self._silent_since: dict[str, float] = {}
        self._later: dict[_Key, asyncio.TimerHandle] = {}
        self.changed: list[Callable[[ListChange], None]] = []

    async def listings(self, servers: Iterable[str], principal: str | None) -> dict[str, Listing]:
        """The listing of each server, after a moment for those never heard of, all at the same time."""
        keys = [_Key(server, principal) for server in servers]
        now = time.monotonic()
        unknown: list[asyncio.Task[None]] = []
        patience = 0.0
        for key in keys:
            listing = self._listing(key)
            if now - listing.heard_at <= _FRESH_SECONDS:
                continue
            asking = self._refreshing.get(key) or self._refresh(key)
            wanted_at = min(listing.wanted_at, self._silent_since.get(key.server, now))
            left = wanted_at + self._patience - now
            if left > 0 and not listing.complete and listing.error is None:
                unknown.append(asking)
                patience = max(patience, left)
        if unknown:
            await asyncio.wait(unknown, timeout=patience)
        listings = {key.server: self._listing(key) for key in keys}
        for listing in listings.values():
            listing.owed |= not listing.complete
        return listings

    def follow(self, servers: Iterable[str], principal: str | None) -> None:
        """Have what they list known from now on: somebody who may have listed it elsewhere wants to hear of changes."""
        for key in [_Key(server, principal) for server in servers]:
            if key not in self._listings:
                self._listing(key).owed = True
                self._refresh(key)

    async def refresh(self, server: str, principal: str | None = None) -> Listing:
        """Ask a server now, and wait for what it says."""
        key = _Key(server, principal)
        self._listing(key)  # what nobody keeps is not kept
        await asyncio.wait([self._refresh(key)])
        if key in self._refreshing:  # what was waited for had been asked before
            await asyncio.wait([self._refreshing[key]])
        return self._listing(key)

    async def rest(self, server: str, seconds: float) -> None:
        """Ask a server nothing until somebody wants its lists, or it is connected again.

        Args:
            server: Which is about to be disconnected.
            seconds: How long what is being asked now may take.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while asking := [task for key, task in self._refreshing.items() if key.server == server]:
                    await asyncio.wait(asking)
                    await asyncio.sleep(0)  # what is to be asked once more is by now
        for key in [key for key in self._later if key.server == server]:
            self._not_later(key)

    def known(self, server: str, principal: str | None = None) -> Listing:
        """What is known now."""
        listing = self._listings.get(_Key(server, principal))
        if listing is None:
            return Listing()
        listing.owed |= not listing.complete
        return listing

    def schema_of(self, server: str, principal: str | None, tool: str) -> dict[str, Any] | None:
        """The schema of a tool's arguments, where the tool is known now."""
        tools = self.known(server, principal).tools
        return next((one.input_schema for one in tools if one.name == tool), None)

    def _listing(self, key: _Key) -> Listing:
        if key not in self._listings and len(self._listings) >= _MOST:
            self._listings.pop(next(iter(self._listings)))
        return self._listings.setdefault(key, Listing())

    def forget(self, server: str) -> None:
        """The server is gone, or another one; whoever listed it is told."""
        for key in self._keys(server):
            del self._listings[key]
        self._silent_since.pop(server, None)
        for kind in _KINDS:
            self._tell(ListChange(server, kind, everybody=True))

    # When to ask.

    def list_changed(self, context: HandlerContext, _kind: Kind) -> None:
        """A handler for the clients: the server says that a list has changed."""
        for key in self._keys(context.server):
            left = self._listings[key].asked_at + _NOTICE_SECONDS - time.monotonic()
            if left <= 0:
                self._refresh(key)
            else:
                self._refresh_in(key, left)

    def state_changed(self, event: StateEvent) -> None:
        """A hook for the clients: what a server that is back lists may be something else."""
        if event.after is ConnectionState.CONNECTED and event.before is not ConnectionState.CONNECTED:
            for key in self._keys(event.server):
                self._refresh(key)

    def _keys(self, server: str) -> list[_Key]:
        return [key for key in self._listings if key.server == server]

    def _refresh(self, key: _Key) -> asyncio.Task[None]:
        """Ask in the background; what has been asked already by then is asked once more afterwards."""
        task = self._refreshing.get(key)
        if task is not None:
            self._again.add(key)
            return task
        self._silent_since.setdefault(key.server, time.monotonic())
        task = self._refreshing[key] = asyncio.get_running_loop().create_task(self._ask(key))
        task.add_done_callback(lambda _done: self._asked(key))
        return task

    def _asked(self, key: _Key) -> None:
        self._refreshing.pop(key, None)
        again = key in self._again
        self._again.discard(key)
        if again and key in self._listings:
            self._refresh(key)

    async def _ask(self, key: _Key) -> None:
        self._not_later(key)
        listing = self._listings.get(key)
        if listing is None:
            return  # the server has left meanwhile
        try:
            client = self._pool.client(key.server, key.principal)
            listing.info = await client.initialize()
        except MCPClientError as error:
            self._failed(key, error)
            return
        self._again.discard(key)  # what was told up to here is in the answers; that we have connected, too
        self._not_later(key)
        listing.asked_at = time.monotonic()
        errors = await asyncio.gather(
            self._fetch(key, listing, "tools", client, client.list_tools),
            self._fetch(key, listing, "resources", client, client.list_resources),
            self._fetch(key, listing, "templates", client, client.list_resource_templates),
            self._fetch(key, listing, "prompts", client, client.list_prompts),
        )
        listing.heard_at = time.monotonic()
        error = next((error for error in errors if error is not None), None)
        if error is not None:
            self._failed(key, error)
            return
        listing.complete, listing.error, listing.failures = True, None, 0
        self._silent_since.pop(key.server, None)

    async def _fetch(
        self, key: _Key, listing: Listing, name: _List, client: MCPClient, fetch: Callable[[], Awaitable[list[Any]]]
    ) -> MCPClientError | None:
        """Have one list known as soon as it is there, whatever becomes of the others; returns why it is not."""
        kind: Kind = "resources" if name == "templates" else name
        offers = listing.info.capabilities if listing.info is not None else None
        try:
            items = await _or_none(fetch, offers is None or getattr(offers, kind) is not None)
            before = getattr(listing, name)
            if items == before:
                return None
            writable(client, items, DEEPEST_LIST)  # or nobody could be told what the others list
        except MCPClientError as error:
            return error
        if self._listings.get(key) is listing:
            setattr(listing, name, items)
            if listing.complete or listing.owed:  # or else whoever wants it waits for it
                tools = _differing(before, items) if kind == "tools" else ()
                self._tell(ListChange(key.server, kind, key.principal, tools=tools))
        return None

    def _failed(self, key: _Key, error: MCPClientError) -> None:
        listing = self._listings.get(key)
        if listing is None or key.server not in self._pool.servers:
            return
        if isinstance(error, _ANSWERS):
            self._silent_since.pop(key.server, None)
        self._again.discard(key)  # a server that dies of being asked is given a pause
        listing.error, listing.failures = error, listing.failures + 1
        if listing.failures == 1 and key.principal is None:
            logger.warning("server %r does not say what it has: %s", key.server, cause_of(error))
        if key.principal is not None and listing.failures > _MOST_RETRIES:
            return  # until somebody wants it, or the server is back for others
        pause = min(_FIRST_RETRY_SECONDS * 2 ** min(listing.failures - 1, 10), _LAST_RETRY_SECONDS)
        self._not_later(key)
        self._refresh_in(key, pause)

    def _refresh_in(self, key: _Key, seconds: float) -> None:
        """Ask then, if it is not to be asked sooner."""
        loop = asyncio.get_running_loop()
        if key not in self._later or self._later[key].when() > loop.time() + seconds:
            self._not_later(key)
            self._later[key] = loop.call_later(seconds, self._refresh_now, key)

    def _refresh_now(self, key: _Key) -> None:
        self._not_later(key)
        if key in self._listings:
            self._refresh(key)

    def _not_later(self, key: _Key) -> None:
        timer = self._later.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _tell(self, change: ListChange) -> None:
        for told in list(self.changed):
            told(change)

    async def close(self) -> None:
        """Ask nobody any more."""
        self._listings.clear()
        for timer in self._later.values():
            timer.cancel()
        tasks = list(self._refreshing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _or_none(fetch: Callable[[], Awaitable[list[Any]]], offered: bool) -> list[Any]:
    """A list, empty where the server does not offer it, or says now that it does not."""
    if not offered:
        return []
    try:
        return await fetch()
    except RPCError as error:
        if error.code != RPCError.METHOD_NOT_FOUND:
            raise
        return []


def _differing(before: Iterable[Tool], after: Iterable[Tool]) -> list[Tool]:
    """The tools that have come, gone, or changed."""
    were, are = ({tool.name: tool for tool in tools} for tools in (before, after))
    return [tool for name, tool in (were | are).items() if were.get(name) != are.get(name)]
