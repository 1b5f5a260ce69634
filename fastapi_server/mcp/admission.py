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
        probe_timeout_seconds: How long a probe waits for its answer.
    """

    total: int = 100
    per_server: int = 20
    per_principal: int = 50
    idle_seconds: float = 300.0
    wait_seconds: float = 10.0
    drain_seconds: float = 5.0
    parallel_connects: int = 8
    probe_seconds: float = 30.0
    probe_timeout_seconds: float = 5.0


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


def decide(wanting: Member, connected: Iterable[MemberT], limits: PoolLimits) -> Admit[MemberT] | Wait:
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


@dataclass
class _Newcomer:
    """A client that there is not yet."""

    server: str
    principal: str | None
    last_used: float = 0.0
    busy: bool = True


class Admission:
    """Gives the places of a pool, first come first served.

    A member that has to go for another gives its place at once, and the other waits until it is closed, or keeps the
    place for so long where it gives up; one that is leaving the pool keeps its place until it is closed. So there are
    never more connections than places.

    Args:
        limits: What the pool keeps to.
        metrics: Of the pool.

    Attributes:
        taken: Places taken, by server.
        waiting: Who waits for one, first come first.
    """

    def __init__(self, limits: PoolLimits, metrics: PoolMetrics) -> None:
        self.taken: Counter[str] = Counter()
        self.waiting: dict[asyncio.Future[None], PoolMember] = {}
        self._limits = limits
        self._metrics = metrics
        self._holders: set[PoolMember] = set()
        self._making_room: dict[PoolMember, list[asyncio.Task[None]]] = {}
        self._given_up: set[PoolMember] = set()
        self._closing: dict[asyncio.Task[None], PoolMember] = {}

    def __len__(self) -> int:
        """How many places are taken."""
        return len(self._holders)

    def has_room(self, server: str, principal: str | None) -> bool:
        """Whether another client could have a place now, without waiting and without anybody having to go."""
        return decide(_Newcomer(server, principal), self._holders, self._limits) == Admit()

    def seat(self, member: PoolMember) -> None:
        """Give a place that there is room for."""
        if not member.admitted:
            member.admitted = True
            self._holders.add(member)
            self.taken[member.server] += 1

    def forget(self) -> None:
        """The event loop of those who had places, or waited for them, is gone."""
        for member in list(self._holders):
            self._unseat(member)
        self.waiting.clear()
        self._making_room.clear()
        self._given_up.clear()
        self._closing.clear()

    async def admit(self, member: PoolMember) -> None:
        """Wait for a place, and for those who have to go for it to be closed.

        Raises:
            BusyError: There was none in time.
        """
        self._given_up.discard(member)
        if not member.admitted:
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting[place] = member
            self.assign()
            try:
                if not place.done():
                    await self._wait(place)
            finally:
                self.waiting.pop(place, None)
        await asyncio.gather(*map(asyncio.shield, self._making_room.get(member, ())))
        self._room_is_made(member)

    async def _wait(self, place: asyncio.Future[None]) -> None:
        self._metrics.waits += 1
        loop, seconds = asyncio.get_running_loop(), self._limits.wait_seconds
        started = loop.time()
        try:
            async with asyncio.timeout(seconds):
                await place
        except TimeoutError:
            raise BusyError(
                f"no place in the pool within {seconds:g} s: clients connected: {len(self)}, all of them busy"
            ) from None
        finally:
            self._metrics.waited.observe(loop.time() - started)

    def release(self, member: PoolMember) -> None:
        """It is closed, or could not be opened: its place is free, once those who had to go for it are closed."""
        closing = [task for task in self._making_room.get(member, ()) if not task.done()]
        if closing:
            self._given_up.add(member)
            closing[0].add_done_callback(lambda _done: member in self._given_up and self.release(member))
            return
        self._given_up.discard(member)
        self._room_is_made(member)
        self._unseat(member)
        self.assign()

    def assign(self) -> None:
        """Give places to those who wait; one who cannot have a place holds nobody up."""
        for place, member in self.waiting.items():
            if place.done():
                continue
            decision = decide(member, self._holders, self._limits)
            if isinstance(decision, Admit):
                for other in decision.evicted:
                    self._evict(other)
                in_the_way = self._in_the_way_of(member)
                if in_the_way:
                    member.making_room = True
                    self._making_room[member] = in_the_way
                self.seat(member)
                place.set_result(None)

    def _room_is_made(self, member: PoolMember) -> None:
        self._making_room.pop(member, None)
        member.making_room = False

    def _evict(self, member: PoolMember) -> None:
        """It has to go: in this very moment, or it would be busy again before it is closed."""
        self._metrics.evictions += 1
        self._unseat(member)
        closing = member.client.begin_park(self._limits.drain_seconds)
        self._closing[closing] = member
        closing.add_done_callback(lambda done: self._closing.pop(done, None))

    def _in_the_way_of(self, member: PoolMember) -> list[asyncio.Task[None]]:
        """Those who are still being closed and count under a limit that the member counts under."""
        if len(self._holders) + len(self._closing) >= self._limits.total:
            return list(self._closing)
        return [
            closing
            for closing, other in self._closing.items()
            if other.server == member.server or (other.principal is not None and other.principal == member.principal)
        ]

    def _unseat(self, member: PoolMember) -> None:
        if member.admitted:
            member.admitted = False
            self._holders.discard(member)
            self.taken[member.server] -= 1
