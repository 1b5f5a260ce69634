"""`ClientPool`: owns clients, one for each configuration and principal; bounds, warms, watches and closes them."""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import logging
import random
import time
import warnings
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from mcp_types import CallToolResult, Tool

from fastapi_server.mcp.admission import Admit, PoolLimits, decide
from fastapi_server.mcp.auth.choose import signing_in
from fastapi_server.mcp.auth.stores import TokenStore
from fastapi_server.mcp.catalogue import Catalogue, catalogue_of, is_allowed, original_name, split
from fastapi_server.mcp.clients.base_client import MCPClient
from fastapi_server.mcp.clients.handlers import Handlers
from fastapi_server.mcp.clients.hooks import Hooks
from fastapi_server.mcp.clients.inbox import ProgressCallback
from fastapi_server.mcp.clients.lifecycle import ConnectionState
from fastapi_server.mcp.config import CommonConfig, HTTPConfig, ServerConfig, SSEConfig, StdioConfig, ToolRules
from fastapi_server.mcp.errors import BusyError, ConfigError, MCPClientError
from fastapi_server.mcp.resilience import BreakerState

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


@dataclass(frozen=True)
class PoolKey:
    """Whose client it is: nothing is shared between two keys.

    Attributes:
        server: Name of the server.
        fingerprint: Of its configuration, environment and headers included; a hash, so that it can be shown.
        principal: On whose behalf; `None` for nobody in particular.
        instance: Number of the process, where a server has several.
    """

    server: str
    fingerprint: str
    principal: str | None = None
    instance: int = 0


@dataclass(eq=False)
class PoolMember:
    """One client of the pool."""

    key: PoolKey
    client: MCPClient
    last_used: float
    last_probed: float
    leases: int = 0
    probing: bool = False
    admitted: bool = False
    server: str = field(init=False)
    principal: str | None = field(init=False)

    def __post_init__(self) -> None:
        self.server, self.principal = self.key.server, self.key.principal

    @property
    def load(self) -> int:
        """Who holds it, and what is in flight."""
        return self.leases + self.client.metrics.in_flight

    @property
    def busy(self) -> bool:
        """Whether anybody would notice if it were closed."""
        connecting = self.client.state in {ConnectionState.CONNECTING, ConnectionState.RECONNECTING}
        return self.load > 0 or connecting or self.client.listening


@dataclass
class PoolMetrics:
    """Counters of a pool.

    Attributes:
        created: Clients made.
        hits: Times that a client was there already.
        waits: Times that somebody had to wait for a place.
        evictions: Clients closed to make room.
        idle_closed: Clients closed because nobody used them.
        replaced: Clients whose channel did not answer a probe.
    """

    created: int = 0
    hits: int = 0
    waits: int = 0
    evictions: int = 0
    idle_closed: int = 0
    replaced: int = 0

    def to_dict(self) -> dict[str, int]:
        """Everything as plain values."""
        return dataclasses.asdict(self)


class ClientPool:
    """Clients of many servers, for many principals.

    A client belongs to one key: the configuration and the principal. Headers, cookies, caches, sessions and handlers
    stay inside it. Handles stay valid: one whose client was closed for being idle connects again with its next call.

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
        self._members: dict[PoolKey, PoolMember] = {}
        self._resting: weakref.WeakValueDictionary[PoolKey, PoolMember] = weakref.WeakValueDictionary()
        self._retired: list[PoolMember] = []
        self._waiting: list[tuple[PoolMember, asyncio.Future[Admit[PoolMember]]]] = []
        self._supervisor: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._unclosed: weakref.finalize[..., ClientPool] | None = None

    async def __aenter__(self) -> Self:
        self._unclosed = weakref.finalize(self, _warn_of_abandoned, self._servers)
        self._supervisor = asyncio.get_running_loop().create_task(self._supervise())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        connected = sum(member.admitted for member in self._members.values())
        return f"<ClientPool {len(self._servers)} servers, {connected} of {len(self._members)} clients connected>"

    async def close(self) -> None:
        """Close every client, after its calls in flight have had `drain_seconds`. Safe twice."""
        if self._unclosed is not None:
            self._unclosed.detach()
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        members = [*self._members.values(), *self._resting.values(), *self._retired]
        self._members.clear()
        self._retired.clear()
        ended = (self._end(member) for member in members)
        outcomes = await asyncio.gather(*ended, *self._closing, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _end(self, member: PoolMember) -> None:
        await member.client.park(drain=self.limits.drain_seconds)
        await member.client.disconnect()

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
        leaving = [members.pop(key) for members in there for key in list(members) if leaves(key)]
        for member in leaving:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self._retired.append(member)
                continue
            closing = loop.create_task(self._end(member))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def members(self) -> list[PoolMember]:
        """The clients that there are now, connected or not. Safe to call from any thread; to look at, not to change."""
        return list(self._members.values())

    def client(self, name: str, principal: str | None = None) -> MCPClient:
        """The client of a server for a principal: the least busy one, where there are several processes.

        Opens nothing; the client connects with its first call. Keep the handle as long as you like.

        Raises:
            ConfigError: There is no such server.
        """
        return self._member(name, principal).client

    @contextlib.asynccontextmanager
    async def lease(self, name: str, principal: str | None = None) -> AsyncGenerator[MCPClient]:
        """The same client, and nobody closes it to make room until the block ends.

        Raises:
            ConfigError: There is no such server.
            MCPConnectionError: It cannot be reached, or no place became free in time.
        """
        member = self._member(name, principal)
        member.leases += 1
        try:
            await member.client.initialize()
            yield member.client
        finally:
            member.leases -= 1
            member.last_used = self._clock()
            self._assign()

    def _member(self, name: str, principal: str | None) -> PoolMember:
        config = self._servers.get(name)
        if config is None:
            raise ConfigError(f"there is no server {name!r}; known are {', '.join(self._servers) or 'none'}")
        fingerprint = self._fingerprints[name]
        instances = config.config.instances if isinstance(config.config, StdioConfig) else 1
        keys = [PoolKey(name, fingerprint, principal, instance) for instance in range(instances)]
        for key in keys:
            if key in self._resting and key not in self._members:
                self._members[key] = self._resting.pop(key)
        there = [self._members[key] for key in keys if key in self._members]
        least = min(there, key=lambda member: (member.load, -member.last_used), default=None)
        if least is not None and (least.load == 0 or len(there) == instances):
            self.metrics.hits += 1
        else:
            key = next(key for key in keys if key not in self._members)
            least = self._members[key] = self._new_member(key, config)
        least.last_used = self._clock()
        return least

    def _new_member(self, key: PoolKey, config: ServerConfig) -> PoolMember:
        handlers = self._given.get(key.server)
        if handlers is None and self._handlers is not None:
            handlers = self._handlers(key.server, key.principal)
        config = self._with_credentials(config, key.principal)
        client = self._make(config, handlers=handlers, principal=key.principal, hooks=self._hooks)
        now = self._clock()
        member = PoolMember(key, client, now, now)
        client.join_pool(lambda: self._admit(member), lambda: self._released(member), lambda: self._rested(member))
        self.metrics.created += 1
        return member

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

    # Admission.

    async def _admit(self, member: PoolMember) -> None:
        """Wait for a place, in the order of asking, and close those who have to go for it."""
        if member.admitted:
            return
        self._members.setdefault(member.key, member)
        place: asyncio.Future[Admit[PoolMember]] = asyncio.get_running_loop().create_future()
        self._waiting.append((member, place))
        self._assign()
        if not place.done():
            self.metrics.waits += 1
        try:
            async with asyncio.timeout(self.limits.wait_seconds):
                admitted = await place
        except asyncio.CancelledError:
            self._take_back(member, place)
            raise
        except TimeoutError:
            self._take_back(member, place)
            raise BusyError(f"no place in the pool within {self.limits.wait_seconds:g} s ({self!r})") from None
        finally:
            self._waiting = [waiting for waiting in self._waiting if waiting[1] is not place]
        for evicted in admitted.evicted:
            self.metrics.evictions += 1
            await evicted.client.park(drain=self.limits.drain_seconds)

    def _take_back(self, member: PoolMember, place: "asyncio.Future[Admit[PoolMember]]") -> None:
        """The place came just when nobody waited for it any more: those who should have gone for it stay."""
        if place.done() and not place.cancelled():
            member.admitted = False
            for evicted in place.result().evicted:
                evicted.admitted = True
            self._assign()

    def _assign(self) -> None:
        """Give places to those who wait, first come first served; one who cannot have a place holds nobody up."""
        for member, place in self._waiting:
            if place.done():
                continue
            connected = [other for other in self._members.values() if other.admitted]
            decision = decide(member, connected, self.limits)
            if isinstance(decision, Admit):
                for evicted in decision.evicted:
                    evicted.admitted = False
                member.admitted = True
                place.set_result(decision)

    def _rested(self, member: PoolMember) -> None:
        if not member.probing:
            member.last_used = self._clock()
        self._assign()

    def _released(self, member: PoolMember) -> None:
        member.admitted = False
        self._assign()

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
                progress(name, outcome)
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
        rules = {name: self._rules(name) for name in names}
        answers = await asyncio.gather(*map(listed, names))
        return catalogue_of(dict(zip(names, answers, strict=True)), rules, view or ToolRules())

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
        server, shown = split(name)
        rules = self._rules(server) if server in self._servers else ToolRules()
        original = original_name(shown, rules)
        hidden = shown in rules.rename and shown not in rules.rename.values()
        if (
            server not in self._servers
            or hidden
            or not is_allowed(original, rules)
            or not is_allowed(name, view or ToolRules())
        ):
            raise ConfigError(f"there is no tool {name!r} in this catalogue")
        client = self.client(server, principal)
        return await client.call_tool(original, args, timeout=timeout, progress=progress, idempotent=idempotent)

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

    async def _supervise(self) -> None:
        """Close what nobody uses, and probe what nobody is using now."""
        while True:
            await asyncio.sleep(min(self.limits.probe_seconds, self.limits.idle_seconds) * random.uniform(0.25, 0.5))  # noqa: S311
            try:
                await self.supervise_once()
            except Exception:
                logger.exception("the supervisor of a pool failed; it goes on")

    async def supervise_once(self) -> None:
        """One round of the supervisor."""
        now = self._clock()
        idle = [member for member in self._members.values() if member.admitted and not member.busy]
        stale = [member for member in idle if now - member.last_used >= self.limits.idle_seconds]
        for member in stale:
            if member.busy:  # since the one before was closed
                continue
            self.metrics.idle_closed += 1
            logger.info("server %r: closed after %.0f s without a call", member.server, now - member.last_used)
            await member.client.park(drain=self.limits.drain_seconds)
            if not member.admitted and self._members.get(member.key) is member:
                self._resting[member.key] = self._members.pop(member.key)  # for as long as somebody has its handle
        due = [m for m in idle if m not in stale and now - m.last_probed >= self.limits.probe_seconds]
        await asyncio.gather(*(self._probe(member) for member in due))

    async def _probe(self, member: PoolMember) -> None:
        member.last_probed = self._clock()
        client = member.client
        if client.state is not ConnectionState.CONNECTED:
            return
        if client.metrics.breaker_state != BreakerState.CLOSED:
            return  # calls find out when it works again
        probed = client.metrics.connections
        member.probing = True
        try:
            alive = await client.health_check()
        finally:
            member.probing = False
        unchanged = client.state is ConnectionState.CONNECTED and client.metrics.connections == probed
        if not alive and unchanged:  # otherwise somebody else has noticed, and perhaps replaced it already
            self.metrics.replaced += 1
            await client.replace_channel()


def _warn_of_abandoned(servers: Mapping[str, ServerConfig]) -> None:
    message = f"a ClientPool of {', '.join(servers) or 'no servers'} was abandoned without close()"
    warnings.warn(message, ResourceWarning, stacklevel=2)


def fingerprint_of(config: ServerConfig) -> str:
    """A hash over everything in a configuration. A callable for headers counts as itself, not by what it returns."""
    settings = config.config
    is_typed = isinstance(settings, CommonConfig)
    plain = {one.name: getattr(settings, one.name) for one in dataclasses.fields(settings)} if is_typed else settings
    text = json.dumps([config.transport, plain], sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Settings within settings by their fields: what does not show in their `repr` counts, too."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    return repr(value)
