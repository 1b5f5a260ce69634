"""How the calls to each server went, second by second, for as long as a plot shows."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

_KEPT_SECONDS = 900
_RATE_SECONDS = 10
_WINDOW = 1024

CALLS = frozenset({"tools/call", "resources/read", "prompts/get", "completion/complete"})
"""The methods that somebody waits for; lists, pings and handshakes are the gateway's own business."""


@dataclass(frozen=True)
class Percentiles:
    """How long calls took, in seconds; 0 where there was none."""

    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True)
class Sample:
    """One second in which there were calls.

    Attributes:
        at: Seconds since the epoch.
        calls: That ended in it.
        errors: Those of them that failed.
        latency: Of all of them.
    """

    at: int
    calls: int
    errors: int
    latency: Percentiles


@dataclass
class Tally:
    """The calls that ended in a span of time, and how long each took."""

    seconds: list[float] = field(default_factory=list[float])
    errors: int = 0

    def record(self, seconds: float, *, failed: bool) -> None:
        """Count one."""
        self.seconds.append(seconds)
        self.errors += failed

    @property
    def calls(self) -> int:
        """How many there were."""
        return len(self.seconds)


class Recent:
    """What became of the calls to one server, whoever made them.

    Attributes:
        calls: Ended since the gateway started.
        errors: Those of them that failed; calls that were given up are none.
        restarts: Connections that replaced one that had died.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.calls = 0
        self.errors = 0
        self.restarts = 0
        self._clock = clock
        self._recent = deque[float](maxlen=_WINDOW)
        self._samples = deque[Sample]()
        self._second = 0
        self._of_second, self._of_minute = Tally(), Tally()

    def record(self, seconds: float, *, failed: bool) -> None:
        """Count one call that has ended."""
        self._turn_to(int(self._clock()))
        self.calls += 1
        self.errors += failed
        self._of_second.record(seconds, failed=failed)
        self._of_minute.record(seconds, failed=failed)
        self._recent.append(seconds)

    @property
    def latency(self) -> Percentiles:
        """Of the last 1,024 calls."""
        return percentiles(self._recent)

    @property
    def rate(self) -> float:
        """Calls per second, over the last ten whole seconds."""
        now = int(self._clock())
        self._turn_to(now)
        return sum(sample.calls for sample in self._samples if now - sample.at <= _RATE_SECONDS) / _RATE_SECONDS

    def samples(self) -> list[Sample]:
        """Of the last 15 minutes, oldest first; a second without calls has none."""
        self._turn_to(int(self._clock()))
        return list(self._samples)

    def take_minute(self) -> Tally:
        """What has come since it was taken the last time."""
        taken, self._of_minute = self._of_minute, Tally()
        return taken

    def _turn_to(self, second: int) -> None:
        """Close the second that was open, if it is over."""
        if second == self._second:
            return
        ended = self._of_second
        if ended.calls:
            self._samples.append(Sample(self._second, ended.calls, ended.errors, percentiles(ended.seconds)))
        while self._samples and self._samples[0].at < second - _KEPT_SECONDS:
            self._samples.popleft()
        self._second, self._of_second = second, Tally()


def percentiles(latencies: Sequence[float]) -> Percentiles:
    """The three that are shown."""
    if not latencies:
        return Percentiles()
    ordered = sorted(latencies)
    last = len(ordered) - 1
    return Percentiles(*(ordered[round(last * percent / 100)] for percent in (50, 95, 99)))
