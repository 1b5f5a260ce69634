"""Whether and when to try again."""

from collections.abc import Callable
from contextlib import suppress
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_server.mcp.errors import (
    AuthenticationError,
    BusyError,
    CallTimeoutError,
    CircuitOpenError,
    ClientClosedError,
    CommandNotFoundError,
    ConfigError,
    ConnectTimeoutError,
    Delivery,
    HandshakeError,
    HTTPStatusError,
    InputRequiredError,
    InvalidResultError,
    MCPClientError,
    MCPConnectionError,
    MessageTooLargeError,
    OutcomeUnknownError,
    ProcessExitedError,
    ProtocolError,
    RateLimitError,
    RPCError,
    SessionExpiredError,
    StructuredOutputError,
)
from fastapi_server.mcp.resilience import (
    BreakerState,
    CircuitBreaker,
    RetryPolicy,
    backoff_delays,
    is_passing,
    is_permanent,
)


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


def test_all_of_each_delay_is_chance() -> None:
    assert list(backoff_delays(4, dice=dice(0.0, 0.5, 0.25, 0.75))) == [0.0, 1.0, 1.0, 6.0]


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
        assert 0 <= delay <= most <= cap


# Which errors pass.

STATUSES = {408: True, 429: True, 502: True, 503: True, 504: True} | dict.fromkeys(
    (300, 400, 401, 403, 404, 405, 409, 410, 413, 422, 500, 501, 505), False
)
PASSING = [MCPConnectionError, ProcessExitedError, ConnectTimeoutError, RateLimitError, SessionExpiredError]
LASTING = [
    CommandNotFoundError,
    AuthenticationError,
    HandshakeError,
    ClientClosedError,
    CircuitOpenError,
    BusyError,
]
NOT_OF_THE_CONNECTION = [
    MCPClientError,
    ConfigError,
    CallTimeoutError,
    RPCError,
    ProtocolError,
    MessageTooLargeError,
    InvalidResultError,
    StructuredOutputError,
    InputRequiredError,
]


@pytest.mark.parametrize(
    ("kind", "passing"),
    [*((kind, True) for kind in PASSING), *((kind, False) for kind in (*LASTING, *NOT_OF_THE_CONNECTION))],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_which_errors_pass(kind: type[MCPClientError], passing: bool) -> None:
    assert is_passing(kind("it broke")) is passing


@pytest.mark.parametrize(("status", "passing"), STATUSES.items())
def test_which_statuses_pass(status: int, passing: bool) -> None:
    assert is_passing(HTTPStatusError(status=status)) is passing


@pytest.mark.parametrize("status", [0, 404, 410])
def test_an_expired_session_passes_whatever_its_status(status: int) -> None:
    assert is_passing(SessionExpiredError(status=status))


@pytest.mark.parametrize(
    ("kind", "permanent"),
    [
        *((kind, True) for kind in LASTING),
        *((kind, False) for kind in (MCPConnectionError, ProcessExitedError, ConnectTimeoutError, RateLimitError)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_which_errors_make_another_attempt_to_connect_useless(kind: type[MCPConnectionError], permanent: bool) -> None:
    assert is_permanent(kind("it broke")) is permanent


@pytest.mark.parametrize(
    ("status", "permanent"),
    [*((status, not passing and status < 500) for status, passing in STATUSES.items()), (599, False)],
)
def test_which_statuses_make_another_attempt_to_connect_useless(status: int, permanent: bool) -> None:
    assert is_permanent(HTTPStatusError(status=status)) is permanent


# Repeating a call.


def policy(retries: int = 2, *, base: float = 0.2, cap: float = 5.0, thrown: float = 1.0) -> RetryPolicy:
    return RetryPolicy(retries, base, cap, lambda: thrown)


def broke(delivery: Delivery) -> MCPConnectionError:
    return MCPConnectionError("it broke", delivery=delivery)


def test_a_call_is_repeated_twice_unless_said_otherwise() -> None:
    assert RetryPolicy().retries == 2


@pytest.mark.parametrize("delivery", list(Delivery))
@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("tried", [1, 2, 3])
def test_what_passes_is_repeated_by_its_delivery(delivery: Delivery, repeatable: bool, tried: int) -> None:
    error = broke(delivery)
    if delivery is Delivery.UNKNOWN and not repeatable:
        with pytest.raises(OutcomeUnknownError, match="may or may not have been carried out: it broke") as caught:
            policy().wait_before_retry(error, tried, repeatable=repeatable)
        assert caught.value.__cause__ is error
        assert caught.value.delivery is Delivery.UNKNOWN
    elif tried == 3:
        with pytest.raises(MCPConnectionError) as caught:
            policy().wait_before_retry(error, tried, repeatable=repeatable)
        assert caught.value is error
    else:
        assert policy().wait_before_retry(error, tried, repeatable=repeatable) == 0.2 * tried


@pytest.mark.parametrize("delivery", list(Delivery))
@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("kind", [*LASTING, RPCError, CallTimeoutError, ProtocolError], ids=lambda kind: kind.__name__)
def test_what_does_not_pass_is_never_repeated(kind: type[MCPClientError], delivery: Delivery, repeatable: bool) -> None:
    error = kind("no")
    error.delivery = delivery
    with pytest.raises(kind) as caught:
        policy().wait_before_retry(error, 1, repeatable=repeatable)
    assert caught.value is error


@pytest.mark.parametrize(("status", "passing"), STATUSES.items())
def test_a_status_that_does_not_pass_is_itself_and_not_an_unknown_outcome(status: int, passing: bool) -> None:
    error = HTTPStatusError("no", status=status, delivery=Delivery.UNKNOWN)
    with pytest.raises(OutcomeUnknownError if passing else HTTPStatusError):
        policy().wait_before_retry(error, 1, repeatable=False)


@pytest.mark.parametrize("delivery", list(Delivery))
def test_no_retries_is_no_retries(delivery: Delivery) -> None:
    with pytest.raises(MCPConnectionError, match=r"^it broke$"):
        policy(0).wait_before_retry(broke(delivery), 1, repeatable=True)


def test_waits_double_up_to_the_cap() -> None:
    waits = [
        policy(9, base=1, cap=10).wait_before_retry(broke(Delivery.NOT_SENT), n, repeatable=False) for n in range(1, 7)
    ]
    assert waits == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(("thrown", "wait"), [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0)])
def test_all_of_a_wait_is_chance(thrown: float, wait: float) -> None:
    chosen = policy(5, base=1, thrown=thrown).wait_before_retry(broke(Delivery.NOT_SENT), 2, repeatable=False)
    assert chosen == wait


@pytest.mark.parametrize(("retry_after", "wait"), [(0.0, 0.0), (1.5, 1.5), (3600.0, 3600.0), (None, 0.2)])
def test_what_the_server_asks_for_comes_before_chance(retry_after: float | None, wait: float) -> None:
    for error in (RateLimitError, HTTPStatusError):
        refusal = error("slow down", status=429, retry_after=retry_after, delivery=Delivery.REJECTED)
        assert policy().wait_before_retry(refusal, 1, repeatable=False) == wait


def test_a_server_that_asks_for_a_wait_is_not_asked_for_ever() -> None:
    error = RateLimitError("slow down", retry_after=1)
    with pytest.raises(RateLimitError):
        policy(2).wait_before_retry(error, 3, repeatable=True)


# The circuit breaker.


class Breaker(CircuitBreaker):
    """One with a clock that is set by hand."""

    def __init__(self, threshold: int = 3) -> None:
        self.now = 100.0
        super().__init__(threshold, 10.0, lambda: self.now)

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.failed()


def opened() -> Breaker:
    breaker = Breaker()
    breaker.fail(3)
    return breaker


def half_open() -> Breaker:
    breaker = opened()
    breaker.now += 10
    breaker.check()
    return breaker


def test_a_breaker_lets_calls_through_at_first() -> None:
    breaker = Breaker()
    breaker.check()
    breaker.check()
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("threshold", "failures", "state"), [(3, 2, "closed"), (3, 3, "open"), (3, 4, "open"), (1, 1, "open")]
)
def test_as_many_failures_in_a_row_as_the_threshold_open_it(threshold: int, failures: int, state: str) -> None:
    breaker = Breaker(threshold)
    breaker.fail(failures)
    assert breaker.state == state


def test_a_success_in_between_begins_the_count_again() -> None:
    breaker = Breaker()
    breaker.fail(2)
    breaker.succeeded()
    breaker.fail(2)
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize(("seconds", "left"), [(0, 10), (4, 6), (9.5, 0.5)])
def test_an_open_one_says_when_to_come_again(seconds: float, left: float) -> None:
    breaker = opened()
    breaker.now += seconds
    with pytest.raises(CircuitOpenError, match=f"3 failures in a row; the next try is in {left:.1f} s") as caught:
        breaker.check()
    assert caught.value.retry_after == left
    assert caught.value.delivery is Delivery.NOT_SENT
    assert breaker.state is BreakerState.OPEN


def test_when_the_time_is_over_one_call_finds_out_and_the_others_are_refused() -> None:
    breaker = half_open()
    assert breaker.state is BreakerState.HALF_OPEN
    for _ in range(3):
        with pytest.raises(CircuitOpenError, match=r"another call is finding out whether it works again") as caught:
            breaker.check()
        assert caught.value.retry_after == 1


def test_it_closes_when_that_call_is_answered() -> None:
    breaker = half_open()
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    breaker.fail(2)
    breaker.check()


def test_it_opens_for_as_long_again_when_that_call_fails() -> None:
    breaker = half_open()
    breaker.failed()
    assert breaker.state is BreakerState.OPEN
    breaker.now += 9
    with pytest.raises(CircuitOpenError, match="4 failures in a row"):
        breaker.check()
    breaker.now += 1
    breaker.check()


def test_another_call_finds_out_when_that_one_is_given_up() -> None:
    breaker = opened()
    breaker.now += 10
    breaker.abandoned(breaker.check())
    assert breaker.state is BreakerState.OPEN
    breaker.check()
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_call_that_is_given_up_says_nothing_about_the_server() -> None:
    breaker = Breaker()
    breaker.fail(2)
    breaker.abandoned(breaker.check())
    assert breaker.state is BreakerState.CLOSED
    breaker.failed()
    assert breaker.state is BreakerState.OPEN


def test_a_call_from_before_it_opened_is_not_the_one_that_finds_out() -> None:
    breaker = Breaker()
    early = breaker.check()
    breaker.fail(3)
    breaker.now += 10
    finding_out = breaker.check()
    breaker.abandoned(early)
    breaker.failed(early)
    assert breaker.state is BreakerState.HALF_OPEN
    with pytest.raises(CircuitOpenError):
        breaker.check()
    breaker.failed(finding_out)
    assert breaker.state is BreakerState.OPEN


def test_each_move_is_told_once() -> None:
    told: list[BreakerState] = []
    now = 0.0
    breaker = CircuitBreaker(1, 10.0, lambda: now, told.append)
    breaker.succeeded()
    breaker.failed()
    breaker.failed()
    now = 10.0
    breaker.check()
    breaker.succeeded()
    breaker.failed()
    breaker.reconnected()
    assert told == ["open", "half_open", "closed", "open", "closed"]


def test_calls_that_fail_together_are_one_failure() -> None:
    breaker = Breaker()
    tickets = [breaker.check() for _ in range(50)]
    for ticket in tickets:
        breaker.failed(ticket)
    assert breaker.state is BreakerState.CLOSED
    for _ in range(2):
        breaker.failed(breaker.check())
    assert breaker.state is BreakerState.OPEN


@settings(deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["check", "succeeded", "failed", "abandoned", "wait"])), st.integers(1, 5))
def test_a_breaker_never_locks_up(steps: list[str], threshold: int) -> None:
    breaker = Breaker(threshold)
    ticket = 0
    for step in steps:
        match step:
            case "wait":
                breaker.now += 10
            case "check":
                with suppress(CircuitOpenError):
                    ticket = breaker.check()
            case "abandoned":
                breaker.abandoned(ticket)
            case _:
                getattr(breaker, step)()
    breaker.abandoned(ticket)
    breaker.now += 10
    breaker.check()
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
