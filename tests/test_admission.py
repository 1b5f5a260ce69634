"""Who gets a place and who has to go for it, as a plain function."""

from dataclasses import dataclass

import pytest

from fastapi_server.mcp.admission import Admit, PoolLimits, Wait, decide


@dataclass(eq=False)
class Fake:
    server: str = "a"
    principal: str | None = None
    last_used: float = 0.0
    busy: bool = False


def test_there_is_a_place() -> None:
    assert decide(Fake(), [], PoolLimits(total=1)) == Admit()
    assert decide(Fake(), [Fake()], PoolLimits(total=2)) == Admit()


def test_who_is_connected_already_takes_no_second_place() -> None:
    me = Fake()
    assert decide(me, [me], PoolLimits(total=1)) == Admit()


def test_who_was_idle_longest_goes() -> None:
    old, young, busy = Fake(last_used=1), Fake(last_used=2), Fake(last_used=0, busy=True)
    assert decide(Fake(), [young, busy, old], PoolLimits(total=3)) == Admit((old,))


@pytest.mark.parametrize(
    ("limits", "name"),
    [(PoolLimits(total=2), "total"), (PoolLimits(per_server=2), "per_server"), (PoolLimits(per_principal=2), "per_p")],
)
def test_nobody_busy_has_to_go(limits: PoolLimits, name: str) -> None:
    decision = decide(Fake(principal="p"), [Fake(principal="p", busy=True) for _ in range(2)], limits)
    assert isinstance(decision, Wait)
    assert name in decision.reason


def test_a_place_is_made_where_it_is_missing() -> None:
    other = Fake("b", "q", last_used=0)
    same_server = Fake("a", "q", last_used=5)
    mine = Fake("b", "p", last_used=9)
    connected = [other, same_server, mine]
    assert decide(Fake("a", "p"), connected, PoolLimits(per_server=1)) == Admit((same_server,))
    assert decide(Fake("a", "p"), connected, PoolLimits(per_principal=1)) == Admit((mine,))
    assert decide(Fake("a", "p"), connected, PoolLimits(total=3)) == Admit((other,))
    assert decide(Fake("a", "p"), connected, PoolLimits(total=3, per_server=1)) == Admit((same_server,))


def test_the_anonymous_have_no_bound_of_their_own() -> None:
    assert decide(Fake(), [Fake() for _ in range(5)], PoolLimits(per_principal=1)) == Admit()


def test_more_than_one_goes_where_limits_have_shrunk() -> None:
    connected = [Fake(last_used=n) for n in range(5)]
    decision = decide(Fake(), connected, PoolLimits(total=3))
    assert decision == Admit(tuple(connected[:3]))
