"""Fixtures for everybody: nothing that a test opens outlives it, and servers to test against."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fastapi_server.mcp import MCPClientFactory
from fastapi_server.mcp.testing.authorization_server import (
    AuthorizationServer,
    GuardedPeer,
    authorization_server,
    guarded_peer,
)

_SETTLE_SECONDS = 5.0
_PROC = Path("/proc/self")


def _descriptors() -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in os.scandir(_PROC / "fd"):
        try:
            found[entry.name] = os.readlink(entry.path)
        except OSError:
            continue  # the one that scandir itself holds
    return {fd: target for fd, target in found.items() if "/fd" not in target}


def _children() -> set[str]:
    children: set[str] = set()
    for task in (_PROC / "task").iterdir():
        with suppress(OSError):  # a thread that has just ended
            children.update((task / "children").read_text().split())
    return children


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Every task, process, socket and descriptor that a test opens is gone when it ends."""
    if not sys.platform.startswith("linux"):
        yield
        return
    tasks, descriptors, children = asyncio.all_tasks(), _descriptors(), _children()
    yield
    await MCPClientFactory.shutdown_all()
    deadline = asyncio.get_running_loop().time() + _SETTLE_SECONDS
    while True:
        left = {
            "tasks": asyncio.all_tasks() - tasks - {asyncio.current_task()},
            "descriptors": {fd: target for fd, target in _descriptors().items() if fd not in descriptors},
            "processes": _children() - children,
        }
        if not any(left.values()):
            return
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"left behind: { {kind: what for kind, what in left.items() if what} }")
        await asyncio.sleep(0.01)


@contextmanager
def demo_server(transport: str) -> Generator[int]:
    """One of the bundled HTTP servers, in a process of its own; gives its port."""
    command = [sys.executable, "-m", "fastapi_server.mcp.demo.servers", transport]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def sse_server() -> Iterator[str]:
    """URL of an official SDK server over HTTP+SSE."""
    with demo_server("sse") as port:
        yield f"http://127.0.0.1:{port}/sse"


@pytest.fixture(scope="session")
def handshake_server() -> Iterator[str]:
    """URL of an official SDK server over Streamable HTTP, in the handshake era only."""
    with demo_server("handshake") as port:
        yield f"http://127.0.0.1:{port}/mcp"


@pytest.fixture(scope="session")
def stateless_server() -> Iterator[str]:
    """URL of an official SDK server over Streamable HTTP that speaks the stateless era."""
    with demo_server("stateless") as port:
        yield f"http://127.0.0.1:{port}/mcp"


@pytest.fixture(scope="session")
def stdio_server() -> dict[str, object]:
    """Configuration of an official SDK server over stdio."""
    return {"command": sys.executable, "args": ["-m", "fastapi_server.mcp.demo.servers", "stdio"]}


@pytest.fixture
async def issuer(nothing_left: None) -> AsyncIterator[AuthorizationServer]:
    """An authorization server."""
    async with authorization_server() as server:
        yield server


@pytest.fixture
async def peer(issuer: AuthorizationServer) -> AsyncIterator[GuardedPeer]:
    """An MCP server that takes the tokens of `issuer`."""
    async with guarded_peer(issuer) as server:
        yield server
