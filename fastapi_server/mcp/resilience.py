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
    ConfigError,
    Delivery,
    HandshakeError,
    HTTPStatusError,
    MCPClientError,
    MCPConnectionError,
    OutcomeUnknownError,
    SessionExpiredError,
    TokenStoreError,
)

OUR_FAULTS = (ConfigError, TokenStoreError)
"""Not the server's fault: a secret that the configuration names is missing, or the place for tokens does not work."""

PERMANENT = (
    CommandNotFoundError,
    AuthenticationError,
    HandshakeError,
    ClientClosedError,
    CircuitOpenError,
    BusyError,
    *OUR_FAULTS,
)
"""Trying again changes nothing about these, or not soon."""

_MOST_DOUBLINGS = 60
_FINDING_OUT_SECONDS = 1.0
_PASSING_STATUSES = frozenset({408, 429, 502, 503, 504})


def backoff_delays(
    attempts: int, *, base: float = 1.0, cap: float = 30.0, dice: Callable[[], float] = random.random
) -> Iterator[float]:
    """Seconds to wait before each of `attempts` retries: at random up to 1, 2, 4, … and never more than `cap`.

    Full jitter: the clients of a server that comes back do not all come back to it at once.

    Args:
        attempts: How many delays to give.
        base: The longest first delay.
        cap: No delay is longer.
        dice: Gives a number in [0, 1).
    """
    for tried in range(attempts):
        yield min(cap, base * 2 ** min(tried, _MOST_DOUBLINGS)) * dice()


def is_permanent(error: MCPClientError) -> bool:
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
        if isinstance(error, HTTPStatusError) and error.retry_after is not None:
            return error.retry_after
        return min(self.cap, self.base * 2 ** min(tried - 1, _MOST_DOUBLINGS)) * self.dice()


class BreakerState(StrEnum):
    """Where a circuit breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    """The time is over, and one call is finding out."""


_CLOSED = BreakerState.CLOSED  # asked in every call; in its class Python 3.11 finds it six times as slowly


class CircuitBreaker:
    """Stops calling a server that does not work, and lets one call find out when it works again.

    Who calls gets a ticket from `check` and hands it back with the outcome, so that the outcome of a call that began
    before the breaker opened is not taken for that of the call that finds out.

    Args:
        threshold: Failures in a row that open it.
        reset_seconds: How long it stays open.
        clock: Seconds, monotonic.
        moved: Told each new state.

    Attributes:
        state: Whether calls are made.
        failures: In a row; while there are none it is closed, and `succeeded` need not be called.
        ticket: What `check` returns while it is closed.
    """

    def __init__(
        self,
        threshold: int,
        reset_seconds: float,
        clock: Callable[[], float],
        moved: Callable[[BreakerState], None] = lambda _state: None,
    ) -> None:
        self._threshold = threshold
        self._reset_seconds = reset_seconds
        self._clock = clock
        self._moved = moved
        self.failures = 0
        self.ticket = 0
        self._opened_at = 0.0
        self.state = BreakerState.CLOSED

    def check(self, failure: MCPClientError | None = None) -> int:
        """Ask to call. Returns the ticket.

        Args:
            failure: What the last try of the same call failed with; raised where it has opened the breaker.

        Raises:
            CircuitOpenError: It is open, or somebody else is finding out; says when to try again.
        """
        if self.state is not _CLOSED:
            try:
                self.refuse()
            except CircuitOpenError:
                if failure is not None:
                    raise failure from failure.__cause__
                raise
            self.ticket += 1
            self._move(BreakerState.HALF_OPEN)
        return self.ticket

    def refuse(self) -> None:
        """Raise where `check` would, without asking to call.

        Raises:
            CircuitOpenError: It is open, or somebody else is finding out; says when to try again.
        """
        if self.state is BreakerState.HALF_OPEN:
            raise CircuitOpenError(
                f"not tried: {self.failures} failures in a row; another call is finding out whether it works again",
                retry_after=min(_FINDING_OUT_SECONDS, self._reset_seconds),
            )
        wait = self._opened_at + self._reset_seconds - self._clock()
        if self.state is BreakerState.OPEN and wait > 0:
            raise CircuitOpenError(
                f"not tried: {self.failures} failures in a row; the next try is in {wait:.1f} s", retry_after=wait
            )

    def succeeded(self) -> None:
        """The server answered, whatever it said."""
        self.failures = 0
        if self.state is not _CLOSED:
            self._move(_CLOSED)

    def failed(self, ticket: int | None = None) -> None:
        """The server could not be reached, or the connection broke.

        Args:
            ticket: Of the call. Calls that were under way together and fail together are one failure, not many in a
                row: a restart with fifty callers is no reason to give up the server.
        """
        if ticket is not None and ticket != self.ticket:
            return
        self.ticket += 1
        self.failures += 1
        if self.failures >= self._threshold:
            self._opened_at = self._clock()
            self._move(BreakerState.OPEN)

    def reconnected(self) -> None:
        """There is a connection again: calls may be tried, but one more failure opens the breaker again."""
        if self.state is not BreakerState.CLOSED:
            self.failures = self._threshold - 1
            self._move(BreakerState.CLOSED)

    def abandoned(self, ticket: int) -> None:
        """A call ended without an answer either way; where it was finding out, the next one does."""
        if self.state is BreakerState.HALF_OPEN and ticket == self.ticket:
            self._move(BreakerState.OPEN)

    def _move(self, state: BreakerState) -> None:
        if state is not self.state:
            self.state = state
            self._moved(state)
