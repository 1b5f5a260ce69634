"""How each kind of measure is taken, inside the process of one contender."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import psutil

from benchmarks.contenders import Contender, Session
from benchmarks.sample import Sample, Spent, spending
from benchmarks.stub import Server

_LEAST_CALLS = 64


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

    def server_cpu(self) -> float:
        """Seconds that the stub has used."""
        pids = [self.server.pid] if self.server.pid else [child.pid for child in psutil.Process().children()]
        return sum(_cpu_of(pid) for pid in pids)


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


def echoes(session: Session) -> Operation:
    """Small calls, each with a text of its own."""
    numbers = itertools.count()

    async def call() -> None:
        text = f"hello {next(numbers)}"
        expect(await session.echo(text), text)

    return call


async def repeated(operation: Operation, rounds: Iterator[int], latencies: list[float]) -> None:
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
            group.create_task(repeated(operation, rounds, latencies))
    return latencies


async def measured(bench: Bench, operation: Operation, concurrency: int = 1, least: int = _LEAST_CALLS) -> Sample:
    """Warm up, find out how many calls fill the time, and measure those."""
    warm_up = max(least // 4, concurrency)
    with spending() as trial:
        await _crowd(operation, warm_up, concurrency)
    calls = max(least, concurrency, int(warm_up * bench.seconds / max(trial.wall, 1e-6)))
    server = bench.server_cpu()
    with spending() as spent:
        latencies = await _crowd(operation, calls, concurrency)
    return sample(spent, latencies, bench.server_cpu() - server)


def sample(spent: Spent, latencies: list[float], server_cpu: float) -> Sample:
    """The figures of so many operations."""
    ordered = sorted(latencies)
    return Sample(
        value=spent.cpu / len(ordered) * 1e6,
        per_second=len(ordered) / spent.wall,
        p50=ordered[len(ordered) // 2] * 1e6,
        p99=ordered[len(ordered) * 99 // 100] * 1e6,
        server_share=server_cpu / spent.cpu,
    )


async def small_calls(bench: Bench, *, concurrency: int) -> Sample:
    async with bench.contender.opened(bench.server) as session:
        return await measured(bench, echoes(session), concurrency, least=max(_LEAST_CALLS, 4 * concurrency))


KINDS: dict[str, Callable[..., Awaitable[Sample]]] = {"small_calls": small_calls}
