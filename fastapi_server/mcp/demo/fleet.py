"""The demo servers, all started, and one `mcp.json` that reaches them."""

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi_server.mcp import ConfigError, ProcessExitedError, StdioConfig
from fastapi_server.mcp.clients.process import GROUP_OPTIONS, command_line

_SERVERS = ["-m", "fastapi_server.mcp.demo.servers"]
_HTTP = {"sse": "/sse", "handshake": "/mcp", "stateless": "/mcp"}
_END_SECONDS = 3.0


@asynccontextmanager
async def demo_fleet() -> AsyncGenerator[Path]:
    """Start the three HTTP servers side by side, and give an `mcp.json` that names them and the one over stdio.

    It says no more of each than a command or a URL. When the context ends, no process is left.

    Raises:
        ConfigError: The extra `demo` is not installed.
        ProcessExitedError: A server did not start.
    """
    if not all(importlib.util.find_spec(module) for module in ("mcp", "uvicorn")):
        raise ConfigError('the demo servers need mcp and uvicorn: install "mcp-client-factory[cli,demo]"')
    processes: list[Process] = []
    with tempfile.TemporaryDirectory(prefix="mcp-demo-") as folder:
        try:
            for kind in _HTTP:
                processes.append(await _start(kind))  # noqa: PERF401 (those that have started must end)
            ports = [await _port(process) for process in processes]
            yield _write_config(Path(folder, "mcp.json"), dict(zip(_HTTP, ports, strict=True)))
        finally:
            await _end(processes)


async def _start(kind: str) -> Process:
    command = command_line(StdioConfig(command=sys.executable, args=[*_SERVERS, kind]), os.environ)
    return await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, **GROUP_OPTIONS)


async def _port(process: Process) -> int:
    """The first line that a server prints, once it listens."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    if line:
        return int(line)
    _, stderr = await process.communicate()
    said = stderr.decode("utf-8", "replace").strip()
    raise ProcessExitedError(f"a demo server did not start:\n{said}", exit_code=process.returncode, stderr=said)


def _write_config(path: Path, ports: Mapping[str, int]) -> Path:
    servers: dict[str, Any] = {"stdio": {"command": sys.executable, "args": [*_SERVERS, "stdio"]}}
    for kind, port in ports.items():
        servers[kind] = {"url": f"http://127.0.0.1:{port}{_HTTP[kind]}"}
    path.write_text(json.dumps({"mcpServers": servers}, indent=2), encoding="utf-8")
    return path


async def _end(processes: Iterable[Process]) -> None:
    await asyncio.gather(*(_end_one(process) for process in processes))


async def _end_one(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_END_SECONDS):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
