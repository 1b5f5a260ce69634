"""What one process found out, and how it measures: CPU of its own, without its children's."""

import gc
import resource
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Sample:
    """One measurement.

    Attributes:
        value: In the unit of the measure; for most, microseconds of client CPU for one operation.
        per_second: Operations per second of wall clock.
        p50: Microseconds that half of the operations stayed within.
        p99: The same for 99 of 100.
        server_share: CPU of the stub server for each second of the client's.
        counts: Whatever else was counted, by name.
    """

    value: float
    per_second: float | None = None
    p50: float | None = None
    p99: float | None = None
    server_share: float | None = None
    counts: dict[str, float] | None = None


def cpu_seconds() -> float:
    """User and system time of this process, all its threads, without its children."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@dataclass(slots=True)
class Spent:
    """Seconds that a block took."""

    cpu: float = 0.0
    wall: float = 0.0


@contextmanager
def spending() -> Generator[Spent]:
    """Measure a block, which begins without garbage."""
    gc.collect()
    spent = Spent()
    wall, cpu = time.perf_counter(), cpu_seconds()
    yield spent
    spent.cpu, spent.wall = cpu_seconds() - cpu, time.perf_counter() - wall
