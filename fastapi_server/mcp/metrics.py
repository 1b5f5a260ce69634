"""What a client counts. A call costs one record; the numbers are derived when somebody asks."""

import bisect
import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_WINDOW = 1024

LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds that the histograms tell apart; a call of exactly so many is within."""


_EDGES = (-math.inf, *LATENCY_BOUNDS, math.inf)


class Histogram:
    """How long things took, by the bound that each stayed within.

    Attributes:
        counts: Things by bound, not cumulative; the last are those beyond all of `LATENCY_BOUNDS`.
        seconds: Of all of them together.
        bucket: Of the latest; the next one mostly belongs there, too.
        above, within: Its edges, in seconds.
    """

    __slots__ = ("above", "bucket", "counts", "seconds", "within")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self.seconds = 0.0
        self.find(0.0)

    def observe(self, seconds: float) -> None:
        """Count one thing."""
        if not self.above < seconds <= self.within:
            self.find(seconds)
        self.counts[self.bucket] += 1
        self.seconds += seconds

    def find(self, seconds: float) -> None:
        """Have the bucket for so long."""
        self.bucket = bucket = bisect.bisect_left(LATENCY_BOUNDS, seconds)
        self.above, self.within = _EDGES[bucket], _EDGES[bucket + 1]

    def add(self, other: "Histogram") -> None:
        """Count what another has counted."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds

    @property
    def total(self) -> int:
        """How many."""
        return sum(self.counts)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {"count": self.total, "seconds": self.seconds, "within": self.cumulative()}

    def cumulative(self) -> dict[str, int]:
        """Calls that stayed within each bound, as Prometheus wants it: the last bound is `+Inf`."""
        bounds = [*map(repr, LATENCY_BOUNDS), "+Inf"]
        return dict(zip(bounds, itertools.accumulate(self.counts), strict=True))


_SUMMED = (
    *("connections", "reconnects", "failed_connects", "in_flight", "bytes_sent", "bytes_received"),
    *("skipped_messages", "unmatched_replies", "coerced_replies"),
)
_COUNTED = ("errors_by_type", "retries", "breaker_moves")
_TIMED = ("connecting", "queued")


@dataclass
class ClientMetrics:
    """Counters of one client, over its whole life and all its channels.

    Attributes:
        connections: Channels opened and agreed on.
        reconnects: Those that replaced a channel that had died.
        failed_connects: Attempts that gave no channel.
        in_flight: Calls waiting for their result now.
        bytes_sent: Bytes of JSON-RPC messages written, framing and HTTP headers not counted.
        bytes_received: The same, read.
        errors_by_type: Calls failed, by class name of the error.
        retries: Requests sent again, by class name of the error that they had failed with.
        skipped_messages: What came on the stream and was no JSON-RPC message.
        unmatched_replies: Replies that nobody waited for.
        coerced_replies: Replies whose id came back in another type.
        breaker_moves: Times that the circuit breaker went to a state, by state.
        latency: How long calls took, by method; failed ones too.
        connecting: How long it took to open a channel and agree on an era, where that went well.
        queued: How long calls waited for their turn (`max_in_flight`), where they had to.
        breaker: Asked for the state of the circuit breaker.
    """

    connections: int = 0
    reconnects: int = 0
    failed_connects: int = 0
    in_flight: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    skipped_messages: int = 0
    unmatched_replies: int = 0
    coerced_replies: int = 0
    errors_by_type: Counter[str] = field(default_factory=Counter[str])
    retries: Counter[str] = field(default_factory=Counter[str])
    breaker_moves: Counter[str] = field(default_factory=Counter[str])
    connecting: Histogram = field(default_factory=Histogram, repr=False)
    queued: Histogram = field(default_factory=Histogram, repr=False)
    latency: dict[str, Histogram] = field(default_factory=dict[str, Histogram])
    connected_at: float | None = None
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    breaker: Callable[[], str] = field(default=lambda: "closed", repr=False)
    _latencies: deque[float] = field(default_factory=lambda: deque[float](maxlen=_WINDOW), repr=False)

    def record(self, method: str, seconds: float, error: str | None = None) -> None:
        """Count one call that has ended.

        Args:
            method: Of the protocol, such as `tools/call`.
            seconds: From the call to its result or error, on the monotonic clock.
            error: Class name of the error, `None` for success.
        """
        self._latencies.append(seconds)
        histogram = self.latency.get(method)
        if histogram is None:
            histogram = self.latency[method] = Histogram()
        if not histogram.above < seconds <= histogram.within:  # as `observe` does; to call it takes as long again
            histogram.find(seconds)
        histogram.counts[histogram.bucket] += 1
        histogram.seconds += seconds
        if error is not None:
            self.errors_by_type[error] += 1

    def add(self, other: "ClientMetrics") -> None:
        """Count what another client has counted, which may go on counting in another thread meanwhile.

        The window of percentiles, the uptime and the breaker stay this one's.
        """
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _COUNTED:
            getattr(self, name).update(dict(getattr(other, name)))
        for name in _TIMED:
            getattr(self, name).add(getattr(other, name))
        for method, histogram in dict(other.latency).items():
            self.latency.setdefault(method, Histogram()).add(histogram)

    @property
    def calls(self) -> Counter[str]:
        """Calls ended, by method."""
        return Counter({method: histogram.total for method, histogram in dict(self.latency).items()})

    @property
    def errors(self) -> int:
        """Calls and connection attempts that failed."""
        return self.errors_by_type.total()

    @property
    def tool_calls(self) -> int:
        """`tools/call` requests ended."""
        return self.calls["tools/call"]

    @property
    def resource_reads(self) -> int:
        """`resources/read` requests ended."""
        return self.calls["resources/read"]

    @property
    def avg_latency(self) -> float:
        """Seconds per call, over all calls; 0 before the first."""
        total = self.calls.total()
        return sum(one.seconds for one in self.latency.values()) / total if total else 0.0

    @property
    def breaker_state(self) -> str:
        """`closed`, `half_open` or `open`."""
        return str(self.breaker())

    @property
    def uptime_seconds(self) -> float:
        """Since the present channel was agreed on; 0 while there is none."""
        return 0.0 if self.connected_at is None else self.clock() - self.connected_at

    def percentile(self, percent: int) -> float:
        """Seconds that `percent` per cent of the last 1,024 calls stayed within; 0 before the first."""
        if len(self._latencies) < 2:
            return self._latencies[0] if self._latencies else 0.0
        ordered = sorted(self._latencies)
        whole, part = divmod((len(ordered) - 1) * percent, 100)
        below, above = ordered[whole], ordered[min(whole + 1, len(ordered) - 1)]
        return below + (above - below) * part / 100

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, times in seconds."""
        return {
            "uptime_seconds": self.uptime_seconds,
            "connections": self.connections,
            "reconnects": self.reconnects,
            "failed_connects": self.failed_connects,
            "errors": self.errors,
            "errors_by_type": dict(self.errors_by_type),
            "calls": dict(self.calls),
            "retries": dict(self.retries),
            "tool_calls": self.tool_calls,
            "resource_reads": self.resource_reads,
            "in_flight": self.in_flight,
            "breaker_state": self.breaker_state,
            "breaker_moves": dict(self.breaker_moves),
            "avg_latency": self.avg_latency,
            "latency_p50": self.percentile(50),
            "latency_p95": self.percentile(95),
            "latency_p99": self.percentile(99),
            "latency_by_method": {method: one.to_dict() for method, one in self.latency.items()},
            "connecting": self.connecting.to_dict(),
            "queued": self.queued.to_dict(),
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "skipped_messages": self.skipped_messages,
            "unmatched_replies": self.unmatched_replies,
            "coerced_replies": self.coerced_replies,
        }
