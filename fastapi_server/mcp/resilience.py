"""Whether and when to try again: plain decisions, with the clock and the dice injected."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from fastapi_server.mcp.errors import (
    AuthenticationError,
    BusyError,
    CircuitOpenError,
    ClientClosedError,
    CommandNotFoundError,
    Delivery,
    HandshakeError,
    HTTPStatusError,
    MCPClientError,
    MCPConnectionError,
    OutcomeUnknownError,
    RateLimitError,
    SessionExpiredError,
)

PERMANENT = (CommandNotFoundError, AuthenticationError, HandshakeError, ClientClosedError, CircuitOpenError, BusyError)
"""Trying again changes nothing about these, or not soon."""

_MOST_DOUBLINGS = 60
_PASSING_STATUSES = frozenset({408, 429, 502, 503, 504})


def backoff_delays(
    attempts: int, *, base: float = 1.0, cap: float = 30.0, dice: Callable[[], float] = random.random
) -> Iterator[float]:
    """Seconds to wait before each of `attempts` retries: 1, 2, 4, … up to `cap`, each with jitter.

    Half of each delay is fixed and half is random, so that many clients of one server do not come back in step and
    yet none hammers it.

    Args:
        attempts: How many delays to give.
        base: The first delay, before jitter.
        cap: No delay is longer.
        dice: Gives a number in [0, 1).
    """
    ceiling = min(cap, base)
    for _ in range(attempts):
        yield ceiling * (0.5 + dice() / 2)
        ceiling = min(cap, ceiling * 2)


def is_permanent(error: MCPConnectionError) -> bool:
    """Whether to try connecting again changes nothing."""
    if isinstance(error, HTTPStatusError) and error.status < 500:
        return error.status not in _PASSING_STATUSES
    return isinstance(error, PERMANENT)


def is_passing(error: MCPClientError) -> bool:
    """Whether the same request may fare better on another try: the connection broke, the server was busy."""
    match error:
        case SessionExpiredError():
            return True
        case HTTPStatusError(status=status):
            return status in _PASSING_STATUSES
        case OutcomeUnknownError():
            return False
        case MCPConnectionError():
            return not isinstance(error, PERMANENT)
        case _:
            return False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What to do about a call that failed, by its delivery.

    Attributes:
        retries: How often a call is repeated at most; 0 never.
        base: Seconds before the first repeat, at most: full jitter takes a random part of it. Doubles each time.
        cap: No wait is longer.
        dice: Gives a number in [0, 1).
    """

    retries: int = 2
    base: float = 0.2
    cap: float = 5.0
    dice: Callable[[], float] = random.random

    def wait_before_retry(self, error: MCPClientError, tried: int, *, repeatable: bool) -> float:
        """Seconds to wait before the call is repeated.

        Args:
            error: What it failed with.
            tried: How often it has been tried, at least once.
            repeatable: To do it twice does no harm.

        Raises:
            MCPClientError: The error itself, where a repeat is not allowed, not promised to help, or one too many.
            OutcomeUnknownError: The server may have acted, and to do it twice might do harm.
        """
        if not is_passing(error):
            raise error
        if error.delivery is Delivery.UNKNOWN and not repeatable:
            raise OutcomeUnknownError(f"the request may or may not have been carried out: {error.message}") from error
        if tried > self.retries:
            raise error
        if isinstance(error, RateLimitError) and error.retry_after is not None:
            return error.retry_after
        return min(self.cap, self.base * 2 ** min(tried - 1, _MOST_DOUBLINGS)) * self.dice()


class BreakerState(StrEnum):
    """Where a circuit breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    """The time is over, and one call is finding out."""


class CircuitBreaker:
    """Stops calling a server that does not work, and lets one call find out when it works again.

    Args:
        threshold: Failures in a row that open it.
        reset_seconds: How long it stays open.
        clock: Seconds, monotonic.
    """

    def __init__(self, threshold: int, reset_seconds: float, clock: Callable[[], float]) -> None:
        self._threshold = threshold
        self._reset_seconds = reset_seconds
        self._clock = clock
        self._failures = 0
        self._counted = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """Where it stands now."""
        if self._opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self._probing else BreakerState.OPEN

    def check(self) -> int:
        """Ask to call. Returns a ticket for `failed`.

        Raises:
            CircuitOpenError: It is open, or somebody else is finding out; says when to try again.
        """
        if self._opened_at is None:
            return self._counted
        wait = self._opened_at + self._reset_seconds - self._clock()
        if wait > 0 or self._probing:
            wait = max(wait, 0.0)
            raise CircuitOpenError(
                f"not tried: {self._failures} failures in a row; the next try is in {wait:.1f} s", retry_after=wait
            )
        self._probing = True
        return self._counted

    def succeeded(self) -> None:
        """The server answered, whatever it said."""
        self._failures = 0
        self._opened_at = None
        self._probing = False

    def failed(self, ticket: int | None = None) -> None:
        """The server could not be reached, or the connection broke.

        Args:
            ticket: Of the call. Calls that were under way together and fail together are one failure, not many in a
                row: a restart with fifty callers is no reason to give up the server.
        """
        if ticket is not None and ticket != self._counted:
            return
        self._counted += 1
        self._failures += 1
        self._probing = False
        if self._failures >= self._threshold:
            self._opened_at = self._clock()

    def reconnected(self) -> None:
        """There is a connection again: calls may be tried, but one more failure opens the breaker again."""
        if self._opened_at is not None:
            self._failures = self._threshold - 1
            self._opened_at = None
            self._probing = False

    def abandoned(self) -> None:
        """The call that was finding out ended without an answer either way."""
        self._probing = False
