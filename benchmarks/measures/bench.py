"""What every measure works with: repeating an operation, and the figures of so many of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import psutil

from benchmarks.contenders import Contender
from benchmarks.sample import Sample, Spent, spending
from benchmarks.stub import Server


class WrongReplyError(Exception):
    """A contender did not return what the server had been asked for: its figure is refused."""


@dataclass
class Bench:
    """What a measure works with.

    Attributes:
        contender: Who is measured.
        server: The stub.
        seconds: For how long to measure, about.
    """

    contender: Contender
    server: Server
    seconds: float

    @property
    def server_pids(self) -> list[int]:
        """The processes of the stub, which over stdio are ours."""
        return [self.server.pid] if self.server.pid else [child.pid for child in psutil.Process().children()]

    def server_cpu(self) -> float:
        """Seconds that the stub has used."""
        return sum(map(_cpu_of, self.server_pids))


def _cpu_of(pid: int) -> float:
    """Seconds that a process has used; Linux counts them in nanoseconds, everybody else in ticks of the clock."""
    precise = Path(f"/proc/{pid}/schedstat")
    if precise.exists():
        return int(precise.read_text().split()[0]) / 1e9
    return sum(psutil.Process(pid).cpu_times()[:2])


Operation: TypeAlias = Callable[[], Awaitable[None]]


def expect(got: object, wanted: object) -> None:
    """Refuse a wrong reply.

    Raises:
        WrongReplyError: It is one.
    """
    if got != wanted:
        raise WrongReplyError(f"wanted {wanted!r:.60}, got {got!r:.60}")


async def _repeated(operation: Operation, rounds: Iterator[int], latencies: list[float]) -> None:
    """One caller, who calls again as soon as there is a reply."""
    clock = time.perf_counter
    for _ in rounds:
        started = clock()
        await operation()
        latencies.append(clock() - started)


async def _crowd(operation: Operation, calls: int, concurrency: int) -> list[float]:
    latencies: list[float] = []
    rounds = iter(range(calls))
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(_repeated(operation, rounds, latencies))
    return latencies


async def measured(bench: Bench, operation: Operation, concurrency: int = 1, least: int = 64) -> Sample:
    """Warm up, find out how many operations fill the time, and measure those.

    Args:
        bench: Of the contender.
        operation: What is measured.
        concurrency: How many callers there are, each of whom goes on as soon as there is a reply.
        least: Operations to measure, however long they take.
    """
    warm_up = max(least // 4, concurrency)
    with spending() as trial:
        await _crowd(operation, warm_up, concurrency)
    calls = max(least, concurrency, int(warm_up * bench.seconds / max(trial.wall, 1e-6)))
    server = bench.server_cpu()
    with spending() as spent:
        latencies = await _crowd(operation, calls, concurrency)
    return _sample(spent, latencies, bench.server_cpu() - server)


def _sample(spent: Spent, latencies: list[float], server_cpu: float) -> Sample:
    """The figures of so many operations."""
    ordered = sorted(latencies)
    return Sample(
        value=spent.cpu / len(ordered) * 1e6,
        per_second=len(ordered) / spent.wall,
        p50=ordered[len(ordered) // 2] * 1e6,
        p99=ordered[len(ordered) * 99 // 100] * 1e6,
        server_share=server_cpu / spent.cpu,
    )
