"""What a client counts. One record for each event; the numbers are derived when somebody asks."""

import statistics
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_WINDOW = 1024


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One call that has ended.

    Attributes:
        method: Of the protocol, such as `tools/call`.
        seconds: From the call to its result or error, on the monotonic clock.
        error: Class name of the error, `None` for success.
    """

    method: str
    seconds: float
    error: str | None = None


@dataclass
class ClientMetrics:
    """Counters of one client, over its whole life and all its channels.

    Attributes:
        connections: Channels opened and agreed on.
        reconnects: Those that replaced a channel that had died.
        in_flight: Calls waiting for their result now.
        bytes_sent: Bytes of JSON-RPC messages written, framing and HTTP headers not counted.
        bytes_received: The same, read.
        calls: Calls ended, by method.
        errors_by_type: Calls failed, by class name of the error.
        retries: Requests sent again, by class name of the error that they had failed with.
        skipped_messages: What came on the stream and was no JSON-RPC message.
        unmatched_replies: Replies that nobody waited for.
        coerced_replies: Replies whose id came back in another type.
    """

    connections: int = 0
    reconnects: int = 0
    in_flight: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    skipped_messages: int = 0
    unmatched_replies: int = 0
    coerced_replies: int = 0
    calls: Counter[str] = field(default_factory=Counter[str])
    errors_by_type: Counter[str] = field(default_factory=Counter[str])
    retries: Counter[str] = field(default_factory=Counter[str])
    connected_at: float | None = None
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    _latencies: deque[float] = field(default_factory=lambda: deque[float](maxlen=_WINDOW), repr=False)
    _busy_seconds: float = field(default=0.0, repr=False)

    def record(self, event: CallEvent) -> None:
        """Count one call that has ended."""
        self.calls[event.method] += 1
        self._latencies.append(event.seconds)
        self._busy_seconds += event.seconds
        if event.error is not None:
            self.errors_by_type[event.error] += 1

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
        return self._busy_seconds / total if total else 0.0

    @property
    def uptime_seconds(self) -> float:
        """Since the present channel was agreed on; 0 while there is none."""
        return 0.0 if self.connected_at is None else self.clock() - self.connected_at

    def percentile(self, percent: int) -> float:
        """Seconds that `percent` per cent of the last 1,024 calls stayed within; 0 before the first."""
        if len(self._latencies) < 2:
            return self._latencies[0] if self._latencies else 0.0
        return statistics.quantiles(self._latencies, n=100, method="inclusive")[percent - 1]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, times in seconds."""
        return {
            "uptime_seconds": self.uptime_seconds,
            "connections": self.connections,
            "reconnects": self.reconnects,
            "errors": self.errors,
            "errors_by_type": dict(self.errors_by_type),
            "calls": dict(self.calls),
            "retries": dict(self.retries),
            "tool_calls": self.tool_calls,
            "resource_reads": self.resource_reads,
            "in_flight": self.in_flight,
            "avg_latency": self.avg_latency,
            "latency_p50": self.percentile(50),
            "latency_p95": self.percentile(95),
            "latency_p99": self.percentile(99),
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "skipped_messages": self.skipped_messages,
            "unmatched_replies": self.unmatched_replies,
            "coerced_replies": self.coerced_replies,
        }
