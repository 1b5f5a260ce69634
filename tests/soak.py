"""Calls for a while on servers that are killed at random: `make soak`, `python tests/soak.py --seconds 60`.

Afterwards every call has either its answer or an error; what was written down was written once; and there are as many
tasks, descriptors and processes as before.
"""

import argparse
import asyncio
import gc
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fastapi_server.mcp import HTTPConfig, MCPClientError, ServerConfig, StdioConfig, StdioMCPClient
from fastapi_server.mcp.client_factory import make_client
from fastapi_server.mcp.pool import ClientPool

LEDGER_SERVER = str(Path(__file__).parent / "servers" / "ledger.py")
CALLERS = 12


@dataclass
class Tally:
    """What the callers saw."""

    answered: set[str] = field(default_factory=set[str])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    reads: int = 0
    kills: int = 0


@dataclass
class Left:
    """What is open in this process."""

    tasks: int
    descriptors: int
    processes: int


def left() -> Left:
    gc.collect()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
    return Left(len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), len(children))


class HTTPLedger:
    """The HTTP server, which is killed and started again at the same port."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-S", LEDGER_SERVER, str(self._ledger), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


async def call_for_ever(pool: ClientPool, name: str, number: int, tally: Tally, deadline: float) -> None:
    count = 0
    while time.monotonic() < deadline:
        count += 1
        token = f"{name}-{number}-{count}"
        client = pool.client(name)
        try:
            if random.random() < 0.3:
                await client.list_tools(timeout=10)
                tally.reads += 1
                continue
            result = await client.call_tool("commit", {"token": token}, timeout=10)
            assert getattr(result.content[0], "text", None) == token, "an answer to another call"
            tally.answered.add(token)
        except MCPClientError as error:
            tally.failed[token] = f"{type(error).__name__} ({error.delivery})"
            await asyncio.sleep(0.01)


async def kill_for_ever(pool: ClientPool, http: HTTPLedger, tally: Tally, deadline: float) -> None:
    while time.monotonic() < deadline:
        await asyncio.sleep(random.uniform(0.2, 1.0))
        tally.kills += 1
        if random.random() < 0.3:
            http.kill()
            await asyncio.sleep(random.uniform(0.0, 0.3))
            await asyncio.to_thread(http.start)
            continue
        client = pool.client(random.choice(["pipe", "pipes"]))
        if isinstance(client, StdioMCPClient) and client.pid is not None:
            os.kill(client.pid, 9)


async def soak(seconds: float, folder: Path) -> tuple[Tally, list[str], Left, Left]:
    """Run it; returns what the callers saw, what was written down, and what was open before and after."""
    ledger = folder / "ledger"
    ledger.touch()
    await asyncio.to_thread(int)  # the thread that kills by is there from the start
    before = left()
    http = HTTPLedger(ledger)
    arguments = ["-S", LEDGER_SERVER, str(ledger)]
    quick: dict[str, Any] = {"breaker_threshold": 1000, "shutdown_timeout": 500}
    servers = {
        "pipe": ServerConfig("pipe", "stdio", StdioConfig(sys.executable, arguments, **quick)),
        "pipes": ServerConfig("pipes", "stdio", StdioConfig(sys.executable, arguments, instances=3, **quick)),
        "web": ServerConfig("web", "http", HTTPConfig(f"http://127.0.0.1:{http.port}/mcp", breaker_threshold=1000)),
    }
    tally = Tally()
    deadline = time.monotonic() + seconds
    async with ClientPool(servers, make_client) as pool:
        callers = [call_for_ever(pool, list(servers)[n % 3], n, tally, deadline) for n in range(CALLERS)]
        await asyncio.gather(kill_for_ever(pool, http, tally, deadline), *callers)
    http.kill()
    await asyncio.sleep(0.1)
    return tally, ledger.read_text(encoding="utf-8").split(), before, left()


def faults(tally: Tally, written: list[str], before: Left, after: Left) -> list[str]:
    """What must not be."""
    times = Counter(written)
    found = [f"{token} was written {count} times" for token, count in times.items() if count > 1]
    found += [f"{token} was answered and never written" for token in tally.answered if token not in times]
    known = tally.answered | tally.failed.keys()
    found += [
        f"{token} was written for a call that has neither answer nor error" for token in times if token not in known
    ]
    found += [
        f"{token} failed as {error} and was written"
        for token, error in tally.failed.items()
        if token in times and "unknown" not in error
    ]
    if after != before:
        found.append(f"left behind: before {before}, after {after}")
    return found


def main() -> int:
    """Print what happened; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    seconds: float = parser.parse_args().seconds
    console = Console()
    logging.getLogger("fastapi_server.mcp").setLevel(logging.ERROR)  # each kill is a warning
    with tempfile.TemporaryDirectory() as folder, console.status(f"soaking for {seconds:g} s"):
        tally, written, before, after = asyncio.run(soak(seconds, Path(folder)))
    table = Table("what", "how often")
    table.add_row("calls answered", str(len(tally.answered)))
    table.add_row("lists read", str(tally.reads))
    for error, count in Counter(tally.failed.values()).most_common():
        table.add_row(f"calls failed: {error}", str(count))
    table.add_row("servers killed", str(tally.kills))
    console.print(table)
    found = faults(tally, written, before, after)
    for fault in found[:20]:
        console.print(fault, style="red", markup=False)
    console.print("nothing lost, nothing done twice, nothing left" if not found else f"{len(found)} faults")
    return 1 if found or not tally.answered else 0


if __name__ == "__main__":
    sys.exit(main())
