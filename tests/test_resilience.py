"""How long to wait before trying again."""

from collections.abc import Callable
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_server.mcp.resilience import backoff_delays


def dice(*numbers: float) -> Callable[[], float]:
    """These, in turn, instead of chance."""
    return iter(numbers).__next__


def longest(attempts: int, **limits: float) -> list[float]:
    """The delays with all of their jitter."""
    return list(backoff_delays(attempts, dice=lambda: 1.0, **limits))


def test_delays_double_up_to_the_cap() -> None:
    assert longest(7) == [1, 2, 4, 8, 16, 30, 30]


def test_base_and_cap_may_be_chosen() -> None:
    assert longest(4, base=0.5, cap=1.5) == [0.5, 1, 1.5, 1.5]
    assert longest(2, base=10, cap=3) == [3, 3]


def test_half_of_each_delay_is_fixed_and_half_is_chance() -> None:
    assert list(backoff_delays(4, dice=dice(0.0, 0.5, 0.25, 0.75))) == [0.5, 1.5, 2.5, 7.0]


@pytest.mark.parametrize("attempts", [0, 1, 3])
def test_as_many_delays_as_attempts(attempts: int) -> None:
    assert len(longest(attempts)) == attempts


@pytest.mark.parametrize("attempts", [-1, 0])
def test_no_attempts_no_delays(attempts: int) -> None:
    assert longest(attempts) == []


def test_a_client_that_never_gives_up_waits_for_the_cap_for_ever() -> None:
    assert set(islice(backoff_delays(10_000, dice=lambda: 1.0), 10, None)) == {30.0}


def test_each_delay_throws_the_dice_once_and_only_when_asked_for() -> None:
    thrown: list[float] = []

    def throw() -> float:
        thrown.append(0.0)
        return 0.0

    delays = backoff_delays(5, dice=throw)
    assert thrown == []
    next(delays)
    next(delays)
    assert len(thrown) == 2


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 40), st.floats(0.001, 100), st.floats(0.001, 1000))
def test_chance_keeps_within_its_bounds(attempts: int, base: float, cap: float) -> None:
    for delay, most in zip(
        backoff_delays(attempts, base=base, cap=cap), longest(attempts, base=base, cap=cap), strict=True
    ):
        assert most / 2 <= delay <= most <= cap
