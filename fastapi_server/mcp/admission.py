"""Who may hold a connection: a plain decision, made anew each time somebody wants one, and the queue around it."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from fastapi_server.mcp.errors import BusyError
from fastapi_server.mcp.members import PoolMember, PoolMetrics


@dataclass(frozen=True)
class PoolLimits:
    """What a pool keeps to.

    Attributes:
        total: Clients connected at the same time.
        per_server: Of them, to one server.
        per_principal: Of them, on behalf of one principal (the anonymous one has no such bound).
        idle_seconds: A client that nobody has used for so long is closed; it comes back with its next call.
        wait_seconds: How long somebody waits for a place.
        drain_seconds: How long calls in flight get before their client is closed.
        parallel_connects: Servers that `connect_all` connects to at the same time.
        probe_seconds: Between two probes of a client that nobody uses.
    """

    total: int = 100
    per_server: int = 20
    per_principal: int = 50
    idle_seconds: float = 300.0
    wait_seconds: float = 10.0
    drain_seconds: float = 5.0
    parallel_connects: int = 8
    probe_seconds: float = 30.0


class Member(Protocol):
    """What the decision needs to know of a client."""

    server: str
    principal: str | None
    last_used: float

    @property
    def busy(self) -> bool:
        """Somebody holds it, or has calls in flight on it."""
        ...


MemberT = TypeVar("MemberT", bound=Member)


@dataclass(frozen=True, slots=True)
class Admit(Generic[MemberT]):
    """There is a place, once `evicted` have been closed; mostly nobody has to be."""

    evicted: tuple[MemberT, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Everybody who could make room is busy."""

    reason: str


def decide(wanting: MemberT, connected: Iterable[MemberT], limits: PoolLimits) -> Admit[MemberT] | Wait:
    """Whether `wanting` may connect now, and who has to go for it: those who were idle longest."""
    staying = [member for member in connected if member is not wanting]
    evicted: list[MemberT] = []
    scopes = [
        ("per_server", limits.per_server, [member for member in staying if member.server == wanting.server]),
        ("total", limits.total, staying),
    ]
    if wanting.principal is not None:
        mine = [member for member in staying if member.principal == wanting.principal]
        scopes.insert(0, ("per_principal", limits.per_principal, mine))
    for name, limit, members in scopes:
        remaining = [member for member in members if member not in evicted]
        if len(remaining) < limit:
            continue
        idle = sorted((member for member in remaining if not member.busy), key=lambda member: member.last_used)
        surplus = len(remaining) - limit + 1
        if len(idle) < surplus:
            return Wait(f"{name} = {limit} clients are connected, and all are busy")
        evicted += idle[:surplus]
    return Admit(tuple(evicted))


class Admission:
    """Gives the places of a pool, first come first served.

    A member that has to go for another gives its place at once, but the other waits until it is closed; one that is
    leaving the pool keeps its place until then. So there are never more connections than places.

    Args:
        limits: What the pool keeps to.
        metrics: Of the pool.

    Attributes:
        taken: Places taken, by server.
    """

    def __init__(self, limits: PoolLimits, metrics: PoolMetrics) -> None:
        self.taken: Counter[str] = Counter()
        self._limits = limits
        self._metrics = metrics
        self._holders: set[PoolMember] = set()
        self._waiting: dict[asyncio.Future[Admit[PoolMember]], PoolMember] = {}

    def __len__(self) -> int:
        """How many places are taken."""
        return len(self._holders)

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    def has_room(self, member: PoolMember) -> bool:
        """Whether it could have a place now, without waiting and without anybody having to go."""
        return decide(member, self._holders, self._limits) == Admit()

    async def admit(self, member: PoolMember) -> None:
        """Wait for a place, and for those who have to go for it to be closed.

        Raises:
            BusyError: There was none in time.
        """
        if member.admitted:
            return
        loop = asyncio.get_running_loop()
        place: asyncio.Future[Admit[PoolMember]] = loop.create_future()
        self._waiting[place] = member
        self.assign()
        try:
            if not place.done():
                await self._wait(place)
            admitted = place.result()
        except BaseException:
            self._take_back(member, place)
            raise
        finally:
            self._waiting.pop(place, None)
        for evicted in admitted.evicted:
            self._metrics.evictions += 1
            await evicted.client.park(drain=self._limits.drain_seconds)

    async def _wait(self, place: "asyncio.Future[Admit[PoolMember]]") -> None:
        self._metrics.waits += 1
        loop, seconds = asyncio.get_running_loop(), self._limits.wait_seconds
        started = loop.time()
        try:
            async with asyncio.timeout(seconds):
                await place
        except TimeoutError:
            raise BusyError(
                f"no place in the pool within {seconds:g} s: {len(self)} clients are connected, and all are busy"
            ) from None
        finally:
            self._metrics.waited.observe(loop.time() - started)

    def _take_back(self, member: PoolMember, place: "asyncio.Future[Admit[PoolMember]]") -> None:
        """The place came just when nobody waited for it any more: those who should have gone for it stay."""
        if not place.done() or place.cancelled():
            return
        for evicted in place.result().evicted:
            self._seat(evicted)
        self.release(member)

    def release(self, member: PoolMember) -> None:
        """It is closed, or could not be opened: its place is free."""
        self._unseat(member)
        self.assign()

    def assign(self) -> None:
        """Give places to those who wait; one who cannot have a place holds nobody up."""
        for place, member in self._waiting.items():
            if place.done():
                continue
            decision = decide(member, self._holders, self._limits)
            if isinstance(decision, Admit):
                for evicted in decision.evicted:
                    self._unseat(evicted)
                self._seat(member)
                place.set_result(decision)

    def _seat(self, member: PoolMember) -> None:
        if not member.admitted:
            member.admitted = True
            self._holders.add(member)
            self.taken[member.server] += 1

    def _unseat(self, member: PoolMember) -> None:
        if member.admitted:
            member.admitted = False
            self._holders.discard(member)
            self.taken[member.server] -= 1
