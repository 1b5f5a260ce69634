"""`ClientPool`: owns clients, one for each configuration and principal; bounds, warms, watches and closes them."""

import asyncio
import contextlib
import logging
import time
import warnings
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from mcp_types import CallToolResult, Tool

from fastapi_server.mcp.admission import Admission, PoolLimits
from fastapi_server.mcp.auth.choose import signing_in
from fastapi_server.mcp.auth.stores import TokenStore
from fastapi_server.mcp.catalogue import Catalogue, catalogue_of, resolved, split
from fastapi_server.mcp.clients.base_client import MCPClient
from fastapi_server.mcp.clients.handlers import Handlers
from fastapi_server.mcp.clients.hooks import Hooks
from fastapi_server.mcp.clients.inbox import ProgressCallback
from fastapi_server.mcp.clients.lifecycle import ConnectionState
from fastapi_server.mcp.config import CommonConfig, HTTPConfig, ServerConfig, SSEConfig, StdioConfig, ToolRules
from fastapi_server.mcp.errors import ClientClosedError, ConfigError, Delivery, MCPClientError, MCPConnectionError
from fastapi_server.mcp.members import PoolKey, PoolMember, PoolMetrics, fingerprint_of, gone
from fastapi_server.mcp.resilience import CircuitBreaker
from fastapi_server.mcp.supervisor import Supervisor, rounds

logger = logging.getLogger("fastapi_server.mcp")

Credentials: TypeAlias = Callable[[str, str | None], Awaitable[Mapping[str, str]]]
"""Asked, before each HTTP request, for the headers of `(server, principal)`."""
HandlersFor: TypeAlias = Callable[[str, str | None], Handlers]
"""Gives the handlers for `(server, principal)`."""


class MakeClient(Protocol):
    """The factory, as the pool sees it."""

    def __call__(
        self, config: ServerConfig, /, *, handlers: Handlers | None, principal: str | None, hooks: Hooks | None
    ) -> MCPClient:
        """A client that is not connected."""
        ...


class ClientPool:
    """Clients of many servers, for many principals.

    A client belongs to one key: the configuration, the principal and the session. Headers, cookies, caches, sessions
    and handlers stay inside it. Handles stay valid: one whose client was closed for being idle connects again with its
    next call.

    Args:
        servers: Configurations, by name.
        make: Makes a client.
        limits: What the pool keeps to.
        handlers: Gives the handlers of a client.
        credentials: Gives the headers of a principal, asked before each request; they may rotate at will.
        hooks: Told what happens to every client.
        token_store: Keeps the tokens of those servers whose `auth` names no store.

    Attributes:
        limits: As given.
        metrics: What the pool counts.
    """

    def __init__(
        self,
        servers: Mapping[str, ServerConfig],
        make: MakeClient,
        *,
        limits: PoolLimits | None = None,
        handlers: HandlersFor | None = None,
        credentials: Credentials | None = None,
        hooks: Hooks | None = None,
        token_store: TokenStore | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits or PoolLimits()
        self.metrics = PoolMetrics()
        self._servers = dict(servers)
        self._fingerprints = {name: fingerprint_of(config) for name, config in servers.items()}
        self._make = make
        self._handlers = handlers
        self._credentials = credentials
        self._hooks = hooks
        self._token_store = token_store
        self._clock = clock
        self._given: dict[str, Handlers] = {}
        self._members: dict[tuple[str, str | None, str | None, str | None, int], PoolMember] = {}
        self._resting: weakref.WeakValueDictionary[PoolKey, PoolMember] = weakref.WeakValueDictionary()
        self._leaving: dict[PoolMember, asyncio.Task[None] | None] = {}
        self._admission = Admission(self.limits, self.metrics)
        self._supervisor = Supervisor(self.limits, self.metrics, clock, self._rest)
        self._breakers: weakref.WeakValueDictionary[tuple[str, str, int], CircuitBreaker] = (
            weakref.WeakValueDictionary()
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watching: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._unclosed: weakref.finalize[..., ClientPool] | None = None

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        servers, clients = len(self._servers), len(self._members)
        return f"<ClientPool {servers} servers, {len(self._admission)} of {clients} clients connected>"

    def _start(self) -> None:
        """From now on there is something to be watched, and to be closed.

        Raises:
            ClientClosedError: The pool was closed.
        """
        if self._closing is not None:
            raise ClientClosedError("the pool was closed; make another one", delivery=Delivery.NOT_SENT)
        self._own_loop()
        if self._unclosed is None:
            self._unclosed = weakref.finalize(self, _warn_of_abandoned, self._admission.taken)
        if self._watching is None or self._watching.done():
            pool = weakref.ref(self)  # so that whoever abandons the pool is told

            def next_round() -> Awaitable[None] | None:
                watched = pool()
                return None if watched is None else watched.supervise_once()

            self._watching = asyncio.get_running_loop().create_task(rounds(self.limits, next_round))

    def _own_loop(self) -> None:
        """A pool belongs to the event loop in which it is first used; when that is closed, to the next.

        Raises:
            MCPConnectionError: Another loop has it.
        """
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise MCPConnectionError(
                "the pool is in use by another event loop; make one for each", delivery=Delivery.NOT_SENT
            )
        self._loop, self._watching = loop, None
        self._admission.forget()

    async def close(self) -> None:
        """Close every client, after its leases and calls in flight have had `drain_seconds`.

        Safe twice; cancelled, it goes on by itself. A closed pool gives no more clients.
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
            self._retire(lambda _key: True)
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        endings = [self._ending(member) for member in self._leaving]
        outcomes = await asyncio.gather(*endings, return_exceptions=True)
        if self._unclosed is not None:
            self._unclosed.detach()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    # Who gets what.

    @property
    def servers(self) -> list[str]:
        """The names of the servers, in their order."""
        return list(self._servers)

    def config_of(self, name: str) -> ServerConfig | None:
        """The configuration of a server, if there is one of that name."""
        return self._servers.get(name)

    def put(self, config: ServerConfig, *, handlers: Handlers | None = None) -> None:
        """Add a server, or replace the one of that name, whose clients finish their calls and are closed.

        Args:
            config: Of the server.
            handlers: For all its clients, instead of those that the pool would give.
        """
        self._given.pop(config.name, None)
        if handlers is not None:
            self._given[config.name] = handlers
        self._servers[config.name] = config
        self._fingerprints[config.name] = fingerprint_of(config)
        self._retire(lambda key: key.server == config.name)

    def _retire(self, leaves: Callable[[PoolKey], bool]) -> None:
        """Close members that nobody will get any more: now, or where no event loop runs, with the pool."""
        there = (self._members, self._resting)
        going = [member for members in there for member in members.values() if leaves(member.key)]
        for member in going:
            self._members.pop(member.key, None)
            self._resting.pop(member.key, None)
            member.leave()
            self._leaving[member] = None
            with contextlib.suppress(RuntimeError):
                self._ending(member)

    def _ending(self, member: PoolMember) -> asyncio.Task[None]:
        """The task that ends a member, begun where it has not been.

        Raises:
            RuntimeError: No event loop runs.
        """
        ending = self._leaving[member]
        if ending is None:
            loop = asyncio.get_running_loop()
            ending = self._leaving[member] = loop.create_task(member.end(self.limits.drain_seconds))
            ending.add_done_callback(lambda _done: self._leaving.pop(member, None))
        return ending

    def members(self) -> list[PoolMember]:
        """The clients that there are now, connected or not. Safe to call from any thread; to look at, not to change."""
        return list(self._members.values())

    def client(
        self,
        name: str,
        principal: str | None = None,
        *,
        session: str | None = None,
        handlers: Handlers | None = None,
    ) -> MCPClient:
        """The client of a server for a principal. Opens nothing; it connects with its first call.

        Keep the handle as long as you like. Where the server has several processes, each of its calls goes to the
        least busy one; what belongs to a session, subscriptions say, stays with the first.

        Args:
            name: Of the server.
            principal: On whose behalf.
            session: Keeps apart what one principal does: each session has a client of its own.
            handlers: For a client that is made now, instead of those that the pool would give.

        Raises:
            ConfigError: There is no such server.
            ClientClosedError: The pool was closed.
        """
        member = self.lease(name, principal, session=session, handlers=handlers)
        member.last_used = self._clock()
        return member.client

    def lease(
        self,
        name: str,
        principal: str | None = None,
        *,
        session: str | None = None,
        handlers: Handlers | None = None,
    ) -> PoolMember:
        """The same client for an `async with` block: connected when that begins, and closed for nobody until it ends.

        Raises:
            ConfigError: There is no such server.
            ClientClosedError: The pool was closed.
            MCPConnectionError: When the block begins: the server cannot be reached, or no place became free in time.
        """
        fingerprint = self._fingerprints.get(name)
        member = self._members.get((name, fingerprint, principal, session, 0))  # equal to its key, and cheaper than one
        if member is None:
            return self._another_member(name, principal, session, handlers)
        self.metrics.hits += 1
        return member

    def _another_member(
        self, name: str, principal: str | None, session: str | None, handlers: Handlers | None
    ) -> PoolMember:
        """One that rests, or a new one."""
        if self._closing is not None:
            raise ClientClosedError("the pool was closed; make another one", delivery=Delivery.NOT_SENT)
        fingerprint = self._fingerprints.get(name)
        if fingerprint is None:
            raise ConfigError(f"there is no server {name!r}; known are {', '.join(self._servers) or 'none'}")
        key = PoolKey(name, fingerprint, principal, session)
        member = self._present(key)
        if member is None:
            return self._new_member(key, handlers)
        self.metrics.hits += 1
        return member

    def _present(self, key: PoolKey) -> PoolMember | None:
        """The member of a key, one that rests too."""
        member = self._members.get(key) or self._resting.pop(key, None)
        if member is not None:
            self._members[key] = member
        return member

    def _new_member(self, key: PoolKey, handlers: Handlers | None = None) -> PoolMember:
        config = self._with_credentials(self._servers[key.server], key.principal)
        answers = handlers or self._handlers_for(key)
        client = self._make(config, handlers=answers, principal=key.principal, hooks=self._hooks)
        now = self._clock()
        member = self._members[key] = PoolMember(key, client, now, now, self._clock, self._admission, handlers)
        client.join_pool(_Membership(self, member, several=self._instances(key.server) > 1))
        self.metrics.created += 1
        return member

    def _handlers_for(self, key: PoolKey) -> Handlers | None:
        given = self._given.get(key.server)
        if given is not None or self._handlers is None:
            return given
        try:
            return self._handlers(key.server, key.principal)
        except Exception as error:
            raise ConfigError(
                f"server {key.server!r}: the function that gives the handlers failed: {type(error).__name__}"
            ) from error

    def _with_credentials(self, config: ServerConfig, principal: str | None) -> ServerConfig:
        config = signing_in(config, None, self._token_store)
        settings, credentials = config.config, self._credentials
        if credentials is None or not isinstance(settings, (HTTPConfig, SSEConfig)):
            return config
        given = settings.headers

        async def headers() -> dict[str, str]:
            static = await given() if callable(given) else given
            return {**static, **await credentials(config.name, principal)}

        return replace(config, config=replace(settings, headers=headers))

    # What the members tell and ask.

    async def admit(self, member: PoolMember) -> None:
        """Wait for a place.

        Raises:
            ClientClosedError: The pool was closed, or has no use for the member any more.
            BusyError: No place became free in time.
        """
        if member.closed:
            raise gone()
        self._own_loop()
        if not member.leaving:
            self._start()
            self._resting.pop(member.key, None)
            self._members.setdefault(member.key, member)
        await self._admission.admit(member)

    def release(self, member: PoolMember) -> None:
        """A member is closed."""
        self._admission.release(member)

    async def choose(self, asked: PoolMember, deadline: float) -> PoolMember:
        """The process for the next call: the least busy one, or another one where all are busy and there is room.

        One that has to be started first, or again, and cannot be, is left out where there is another.

        Raises:
            ClientClosedError: The member is leaving.
        """
        if asked.leaving:
            if not asked.leases:
                raise gone()
            return asked
        tried: set[PoolMember] = set()
        while untried := [member for member in self._by_load(asked) if member not in tried]:
            if await self._works(untried[0], deadline):
                return untried[0]
            tried.add(untried[0])
        return asked

    def _by_load(self, asked: PoolMember) -> list[PoolMember]:
        """The processes, least busy first, with another one where all are busy and there is room."""
        there = self.processes(asked)
        room = len(there) < self._instances(asked.server) and self._admission.has_room(asked.server, asked.principal)
        if room and all(member.load for member in there):
            keys = (asked.key._replace(instance=number) for number in range(len(there) + 1))
            there.append(self._new_member(next(key for key in keys if key not in self._members), asked.handlers))
        return sorted(there, key=lambda member: (member.client.metrics.breaker_state != "closed", member.load))

    async def _works(self, member: PoolMember, deadline: float) -> bool:
        """Whether a process runs, which is started where it does not."""
        if member.client.state is ConnectionState.CONNECTED:
            return True
        if self._admission.has_room(member.server, member.principal):
            self._admission.seat(member)
        try:
            member.leases += 1
            try:
                await member.client.initialize(timeout=deadline - asyncio.get_running_loop().time())
            finally:
                member.leases -= 1
                member.rested()
        except MCPClientError as error:
            logger.debug("server %r: process %d is left out: %s", member.server, member.key.instance, error)
            if member.client.state in {ConnectionState.DISCONNECTED, ConnectionState.ERROR}:
                self._admission.release(member)  # otherwise it is still connecting, on behalf of others
            return False
        return True

    def processes(self, member: PoolMember) -> list[PoolMember]:
        """The members for all processes of its server and principal that there are, in the order of their numbers."""
        keys = (member.key._replace(instance=number) for number in range(self._instances(member.server)))
        return [found for key in keys if (found := self._present(key)) is not None] or [member]

    def breaker(self, key: PoolKey, own: CircuitBreaker) -> CircuitBreaker:
        """The circuit breaker that the clients of a server share, whoever they are for; `own` where it is the first."""
        return self._breakers.setdefault((key.server, key.fingerprint, key.instance), own)

    def _instances(self, name: str) -> int:
        config = self._servers.get(name)
        return config.config.instances if config is not None and isinstance(config.config, StdioConfig) else 1

    # Fleets.

    async def connect_all(
        self, *, principal: str | None = None, progress: Callable[[str, MCPClient | MCPClientError], None] | None = None
    ) -> dict[str, MCPClient | MCPClientError]:
        """Connect to every server, `parallel_connects` at a time; each server's clock starts when its turn comes.

        Args:
            principal: On whose behalf.
            progress: Told the name and the outcome of each, as it comes.

        Returns:
            For each name a connected client, or the error that stood in the way.

        Raises:
            MCPConnectionError: A server whose configuration says `required` cannot be reached.
        """
        turns = asyncio.Semaphore(self.limits.parallel_connects)

        async def connect(name: str) -> MCPClient | MCPClientError:
            async with turns:
                outcome = await self._connected(name, principal)
            if progress is not None:
                try:
                    progress(name, outcome)
                except Exception:
                    logger.exception("the callback for progress failed; connecting goes on")
            return outcome

        servers = dict(self._servers)
        outcomes = dict(zip(servers, await asyncio.gather(*map(connect, servers)), strict=True))
        for name, outcome in outcomes.items():
            settings = servers[name].config
            if isinstance(outcome, MCPClientError) and isinstance(settings, CommonConfig) and settings.required:
                raise outcome
        return outcomes

    async def _connected(self, name: str, principal: str | None) -> MCPClient | MCPClientError:
        try:
            client = self.client(name, principal)
            await client.initialize()
        except MCPClientError as error:
            return error
        return client

    # One catalogue over all servers.

    async def tools(
        self, *, principal: str | None = None, view: ToolRules | None = None, timeout: float | None = None
    ) -> Catalogue:
        """The tools of every server, as `server__tool`. A server that does not answer is a problem, not a failure.

        Args:
            principal: On whose behalf.
            view: Which names of the catalogue to show.
            timeout: Seconds for each server; left out, as configured.
        """

        async def listed(name: str) -> list[Tool] | MCPClientError:
            try:
                return await self.client(name, principal).list_tools(timeout=timeout)
            except MCPClientError as error:
                return error

        names = self.servers
        answers = await asyncio.gather(*map(listed, names))
        return self.catalogue(dict(zip(names, answers, strict=True)), view)

    def catalogue(
        self, listed: Mapping[str, Sequence[Tool] | MCPClientError], view: ToolRules | None = None
    ) -> Catalogue:
        """The same of tools that have been listed before; asks nobody.

        Args:
            listed: What each server listed, or why it did not.
            view: Which names of the catalogue to show.
        """
        rules = {name: self._rules(name) for name in listed if name in self._servers}
        return catalogue_of(listed, rules, view or ToolRules())

    def resolve(self, name: str, view: ToolRules | None = None) -> tuple[str, str]:
        """The server of a name in the catalogue, and the tool's own name there. The rules are kept to, listed or not.

        Raises:
            ConfigError: There is no such name, or the server's rules or the view hide it.
        """
        server, _ = split(name)
        rules = {server: self._rules(server)} if server in self._servers else {}
        return resolved(name, rules, view or ToolRules())

    async def call(
        self,
        name: str,
        args: Mapping[str, Any] | None = None,
        *,
        principal: str | None = None,
        view: ToolRules | None = None,
        timeout: float | None = None,
        progress: ProgressCallback | None = None,
        idempotent: bool = False,
    ) -> CallToolResult:
        """Call a tool by its name in the catalogue: `files__read`. The rules are kept to, listed or not.

        Raises:
            ConfigError: There is no such name, or the server's rules or the view hide it.
        """
        server, tool = self.resolve(name, view)
        client = self.client(server, principal)
        return await client.call_tool(tool, args, timeout=timeout, progress=progress, idempotent=idempotent)

    def _rules(self, name: str) -> ToolRules:
        settings = self._servers[name].config
        return settings.tools if isinstance(settings, CommonConfig) else ToolRules()

    async def reload(self, servers: Mapping[str, ServerConfig]) -> None:
        """Change to other configurations. What has not changed is not touched; what goes finishes its calls first."""
        self._servers = dict(servers)
        self._fingerprints = {name: fingerprint_of(config) for name, config in servers.items()}
        current = set(self._fingerprints.items())
        self._retire(lambda key: (key.server, key.fingerprint) not in current)

    # The supervisor.

    async def supervise_once(self) -> None:
        """One round of the supervisor."""
        await self._supervisor.round(self.members())

    def _rest(self, member: PoolMember) -> None:
        """It stays in the pool for as long as somebody has its handle."""
        if self._members.get(member.key) is member:
            self._resting[member.key] = self._members.pop(member.key)


@dataclass(frozen=True)
class _Membership:
    """The pool, as one of its clients sees it."""

    pool: ClientPool
    member: PoolMember
    several: bool

    async def admit(self) -> None:
        await self.pool.admit(self.member)

    def released(self) -> None:
        self.pool.release(self.member)

    @property
    def rested(self) -> Callable[[], None]:
        return self.member.rested

    async def choose(self, deadline: float) -> MCPClient:
        return (await self.pool.choose(self.member, deadline)).client

    def processes(self) -> Sequence[MCPClient]:
        return [member.client for member in self.pool.processes(self.member)]

    def breaker(self, own: CircuitBreaker) -> CircuitBreaker:
        return self.pool.breaker(self.member.key, own)


def _warn_of_abandoned(taken: Mapping[str, int]) -> None:
    servers = [name for name, count in taken.items() if count]
    if servers:
        message = f"a ClientPool of {', '.join(servers)} was abandoned without close()"
        warnings.warn(message, ResourceWarning, stacklevel=2)
