"""What clients cost that do nothing: memory, idle CPU, the time to import them."""

import asyncio
import contextlib
import gc
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import psutil

from benchmarks.contenders import LINE
from benchmarks.measures.bench import Bench, expect
from benchmarks.sample import Sample, cpu_seconds, spending
from benchmarks.stub import Counters

_IDLE_FACTOR = 4
_SETTLE_SECONDS = 0.5
_IMPORT = """
import resource
before = resource.getrusage(resource.RUSAGE_SELF)
{statement}
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
"""


@contextlib.asynccontextmanager
async def _many(bench: Bench, clients: int) -> AsyncGenerator[None]:
    """So many open clients, each of which has made a call."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(clients):
            session = await stack.enter_async_context(bench.contender.opened(bench.server))
            expect(await session.echo("here"), "here")
        yield


def _kibibytes() -> tuple[float, float]:
    """Memory that is this process's alone, and all that is resident."""
    gc.collect()
    info = psutil.Process().memory_full_info()
    return info.uss / 1024, info.rss / 1024


async def memory(bench: Bench, *, clients: int) -> Sample:
    """For each of so many open clients."""
    async with _many(bench, 2):  # what the first one leaves is not theirs
        pass
    unique, resident = _kibibytes()
    async with _many(bench, clients):
        unique_then, resident_then = _kibibytes()
    return Sample((unique_then - unique) / clients, counts={"rss": (resident_then - resident) / clients})


async def idle(bench: Bench, *, clients: int) -> Sample:
    """Milliseconds of CPU that so many open clients take in a second."""
    async with _many(bench, clients):
        await asyncio.sleep(_SETTLE_SECONDS)
        gc.collect()
        seconds, before = bench.seconds * _IDLE_FACTOR, cpu_seconds()
        await asyncio.sleep(seconds)
        return Sample((cpu_seconds() - before) / seconds * 1e3)


def _status(name: str) -> int:
    """A line of `/proc/self/status`, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _forget_peak() -> int:
    """Have the high-water mark begin anew; returns where it stands, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmHWM")


async def peak(bench: Bench, *, size: int) -> Sample:
    """What the process grows by at most while it takes a large result, as a multiple of its size on the wire.

    Linux only.
    """
    wanted = LINE * (size // len(LINE))
    async with bench.contender.opened(bench.server) as session:
        expect(await session.echo("small"), "small")
        gc.collect()
        counters = Counters(bench.server.counters)
        sent, before = counters.read(), _forget_peak()
        if await session.large(size) != wanted:
            expect("another text", "the large one")
        return Sample((_status("VmHWM") - before) / counters.read().since(sent).bytes_out)


async def imports(bench: Bench, *, of: str) -> Sample:
    """Milliseconds of CPU that a program spends on the import, in an interpreter that has imported nothing yet."""
    program = _IMPORT.format(statement=bench.contender.IMPORTS[of])
    seconds: list[float] = []
    with spending():
        for _ in range(2):
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=True
            )
            seconds.append(float(done.stdout))
    return Sample(min(seconds) * 1e3)
