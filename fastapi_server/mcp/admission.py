"""Who may hold a connection: a plain decision, made anew each time somebody wants one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


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
