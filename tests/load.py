"""200 callers at once through a gateway: `make load`.

The gateway and the server over HTTP are processes of their own, the server over stdio one of the gateway's. Half of the
callers speak each era, each calls one server after the other, and every answer is looked at. The same calls go to the
same servers directly before that, for as long, and both once more from one caller alone: what the gateway costs.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from mcp_types import TextContent

from fastapi_server.mcp import HTTPConfig, MCPClient, MCPClientError, ServerConfig, make_client, parse_config
from tests.conformance.run_server import process

ERAS = ("2025-11-25", "2026-07-28")
STDIO = {"command": sys.executable, "args": ["-m", "tests.servers.everything", "stdio"]}


@dataclass
class Figures:
    """What was measured: the seconds of each call, and what went wrong."""

    seconds: list[float] = field(default_factory=list[float])
    errors: list[str] = field(default_factory=list[str])

    def line(self, name: str, lasted: float) -> str:
        ordered = sorted(self.seconds) or [0.0]
        p50, p99 = (1000 * ordered[int(len(ordered) * part)] for part in (0.5, 0.99))
        rate = len(self.seconds) / lasted
        return f"{name:24} {rate:8.0f} calls/s   p50 {p50:7.1f} ms   p99 {p99:7.1f} ms   {len(self.errors)} errors"


Caller: TypeAlias = Sequence[tuple[MCPClient, str]]
"""The tools that one caller calls, one after the other."""


async def call_until(caller: Caller, end: float, figures: Figures) -> None:
    for number in itertools.count():
        started = time.perf_counter()
        if started > end:
            return
        client, tool = caller[number % len(caller)]
        try:
            result = await client.call_tool(tool, {"text": str(number)})
            if result.content != [TextContent(text=str(number))]:
                figures.errors.append(f"{number} is answered with {result.content}")
        except MCPClientError as error:
            figures.errors.append(str(error))
        figures.seconds.append(time.perf_counter() - started)


async def measured(name: str, callers: Sequence[Caller], seconds: float) -> Figures:
    """All of them at once."""
    figures = Figures()
    async with contextlib.AsyncExitStack() as stack:
        for client in dict.fromkeys(client for caller in callers for client, _ in caller):
            await stack.enter_async_context(client)
        started = time.perf_counter()
        calls = (call_until(caller, started + seconds, figures) for caller in callers)
        await asyncio.gather(*calls)
        print(figures.line(name, time.perf_counter() - started), flush=True)
    return figures


@contextlib.contextmanager
def started() -> Generator[tuple[dict[str, Any], str]]:
    """The servers, as an `mcp.json` has them, and the gateway's URL."""
    with process("tests.servers.everything", "http") as port, tempfile.TemporaryDirectory() as folder:
        servers = {"stdio": STDIO, "http": {"url": f"http://127.0.0.1:{port}/mcp"}}
        config = Path(folder, "mcp.json")
        config.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
        with process("tests.servers.gateway", str(config)) as front:
            yield servers, f"http://127.0.0.1:{front}/mcp"


async def main() -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--callers", type=int, default=200)
    given = parser.parse_args()
    found: list[Figures] = []
    with started() as (servers, url):
        configs = list(parse_config({"mcpServers": servers}).servers.values())
        for count, seconds in ((1, given.seconds / 6), (given.callers, given.seconds)):
            direct = [(make_client(config), "echo") for config in configs]
            found.append(await measured(f"{count} direct", [direct] * count, seconds))
            fronts = [_in_front(url, ERAS[number % len(ERAS)]) for number in range(count)]
            through = [[(front, f"{name}__echo") for name in servers] for front in fronts]
            found.append(await measured(f"{count} through the gateway", through, seconds))
    errors = [error for figures in found for error in figures.errors]
    for error in errors[:20]:
        print(error)
    return 1 if errors or not all(figures.seconds for figures in found) else 0


def _in_front(url: str, era: str) -> MCPClient:
    return make_client(ServerConfig("gateway", "http", HTTPConfig(url, protocol_version=era)))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
