"""The clients of a pool: whose each is, whether it is busy, and what its pool counts."""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from fastapi_server.mcp.clients.base_client import MCPClient
from fastapi_server.mcp.clients.handlers import Handlers
from fastapi_server.mcp.clients.lifecycle import ConnectionState
from fastapi_server.mcp.config import CommonConfig, ServerConfig
from fastapi_server.mcp.errors import ClientClosedError, Delivery
from fastapi_server.mcp.metrics import Histogram


class PoolKey(NamedTuple):
    """Whose client it is: nothing is shared between two keys.

    Attributes:
        server: Name of the server.
        fingerprint: Of its configuration, environment and headers included; a hash, so that it can be shown.
        principal: On whose behalf; `None` for nobody in particular.
        session: What of the principal's is kept apart from the rest; `None` for all that need not be.
        instance: Number of the process, where a server has several.
    """

    server: str
    fingerprint: str
    principal: str | None = None
    session: str | None = None
    instance: int = 0


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
        waited: How long those who had to wait for a place did.
    """

    created: int = 0
    hits: int = 0
    waits: int = 0
    evictions: int = 0
    idle_closed: int = 0
    replaced: int = 0
    waited: Histogram = field(default_factory=Histogram, repr=False)

    def counts(self) -> dict[str, int]:
        """The plain counters, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, times in seconds."""
        return {**self.counts(), "waited": self.waited.to_dict()}


class Queue(Protocol):
    """Before a pool.

    Attributes:
        waiting: Who waits for a place.
    """

    waiting: "dict[asyncio.Future[None], PoolMember]"

    def assign(self) -> None:
        """Give places to those who wait."""
        ...


@dataclass(eq=False, slots=True, weakref_slot=True)
class PoolMember:
    """One client of a pool, and each lease of it: as a context manager, which any number of tasks may be inside of.

    Attributes:
        key: Whose it is.
        client: The handle.
        last_used: When somebody used it last, on the clock of the pool.
        last_probed: When it was asked last whether it is alive.
        clock: Of the pool.
        queue: Before the pool.
        handlers: Given for its session; `None` where the pool gave them.
        leases: How many hold it.
        admitted: It has a place: it is connected, or may be.
        leaving: Nobody will get it any more; it finishes what is under way, and has its place until it is closed.
        closed: It is closed, or about to be.
        making_room: It has the place of others who are not closed yet.
        probing: It is being asked whether it is alive, which is no use.
        quiet: Set when, after it began to leave, the last use of it has ended.
    """

    key: PoolKey
    client: MCPClient
    last_used: float
    last_probed: float
    clock: Callable[[], float]
    queue: Queue
    handlers: Handlers | None = None
    leases: int = 0
    admitted: bool = False
    leaving: bool = False
    closed: bool = False
    probing: bool = False
    making_room: bool = False
    server: str = field(init=False)
    principal: str | None = field(init=False)
    quiet: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def __post_init__(self) -> None:
        self.server, self.principal = self.key.server, self.key.principal

    @property
    def load(self) -> int:
        """Who holds it, and what is in flight; a probe is nobody."""
        return max(0, self.leases + self.client.metrics.in_flight - self.probing)

    @property
    def busy(self) -> bool:
        """Whether anybody would notice if it were closed."""
        connecting = self.client.state in {ConnectionState.CONNECTING, ConnectionState.RECONNECTING}
        return self.load > 0 or self.leaving or self.making_room or connecting or self.client.listening

    def leave(self) -> None:
        """Nobody will get it any more, and who has it cannot begin another call."""
        self.leaving = True
        self.client.ask_pool()

    async def __aenter__(self) -> MCPClient:
        if self.leaving:
            raise gone()
        self.leases += 1
        if self.client.metrics.connected_at is None:
            try:
                await self.client.initialize()
            except BaseException:
                await self.__aexit__(None, None, None)
                raise
        return self.client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leases -= 1
        if not self.leases:
            self.last_used = self.clock()
            if self.leaving or self.queue.waiting:
                self.rested()

    def rested(self) -> None:
        """Nothing is under way any more, or only leases, whose end is noticed, too."""
        if self.leases:
            return
        if not self.probing:
            self.last_used = self.clock()
        if self.leaving:
            self.quiet.set()
        if self.queue.waiting:
            self.queue.assign()

    async def end(self, drain_seconds: float) -> None:
        """Disconnect for good, once leases and calls have had `drain_seconds` to end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_seconds):
                while self.load:
                    self.quiet.clear()
                    await self.quiet.wait()
        self.closed = True
        await self.client.disconnect()


def gone() -> ClientClosedError:
    """What somebody gets who wants to begin something with a client that is leaving."""
    return ClientClosedError(
        "its configuration has left the pool, or the pool was closed; ask for the client that there is now",
        delivery=Delivery.NOT_SENT,
    )
