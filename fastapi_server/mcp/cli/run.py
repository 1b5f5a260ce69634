"""Running a command to its exit status: one line for an error, every connection closed, Ctrl-C obeyed."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, TypeAlias, TypeVar

import typer

from fastapi_server.mcp import (
    AutoMCPClient,
    CallTimeoutError,
    ConfigError,
    ConnectTimeoutError,
    MCPClient,
    MCPClientError,
    MCPClientFactory,
    MCPConnectionError,
    ServerConfig,
    ServerInfo,
)
from fastapi_server.mcp.cli.render import complain, show_warnings
from fastapi_server.mcp.cli.token_store import with_store

ResultT = TypeVar("ResultT")


class Status(IntEnum):
    """What the program exits with."""

    OK = 0
    SERVER = 1
    """The tool or the server answered with an error."""
    USAGE = 2
    """The command line or the configuration is wrong."""
    UNREACHABLE = 3
    """The server cannot be reached, refuses us, or the connection was lost."""
    TIMEOUT = 4
    INTERRUPTED = 130
    TERMINATED = 143


def status_of(error: MCPClientError) -> Status:
    """The exit status for an error."""
    match error:
        case ConfigError():
            return Status.USAGE
        case ConnectTimeoutError() | CallTimeoutError():
            return Status.TIMEOUT
        case MCPConnectionError():
            return Status.UNREACHABLE
        case _:
            return Status.SERVER


def run(command: Coroutine[Any, Any, int]) -> None:
    """Run a command and exit with its status."""
    show_warnings()
    try:
        status = asyncio.run(_to_the_end(command))
    except asyncio.CancelledError:
        status = Status.TERMINATED
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    raise typer.Exit(status)


async def _to_the_end(command: Coroutine[Any, Any, int]) -> int:
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await command
    except MCPClientError as error:
        complain(error)
        return status_of(error)
    finally:
        await MCPClientFactory.shutdown_all()


@dataclass(frozen=True)
class Reached(Generic[ResultT]):
    """A server that answered.

    Attributes:
        server: As configured.
        transport: As `transport_of` says.
        info: What was negotiated.
        connect_seconds: From nothing to the end of the handshake.
        result: Of the work done there.
    """

    server: ServerConfig
    transport: str
    info: ServerInfo
    connect_seconds: float
    result: ResultT


@dataclass(frozen=True)
class Missed:
    """A server that could not be reached, or failed at the work."""

    server: ServerConfig
    error: MCPClientError


Visit: TypeAlias = Reached[ResultT] | Missed


def client_of(server: ServerConfig) -> MCPClient:
    """A client for a server; its first use connects, once, without trying again: somebody is waiting."""
    return MCPClientFactory.create(with_store(server), reuse_existing=False)


async def visit(server: ServerConfig, work: Callable[[MCPClient], Awaitable[ResultT]]) -> Visit[ResultT]:
    """Connect, and do the work."""
    try:
        client = client_of(server)
        started = time.monotonic()
        info = await client.initialize()
        seconds = time.monotonic() - started
        return Reached(server, transport_of(client), info, seconds, await work(client))
    except MCPClientError as error:
        return Missed(server, error)


async def visit_all(
    servers: Sequence[ServerConfig], work: Callable[[MCPClient], Awaitable[ResultT]]
) -> list[Visit[ResultT]]:
    """All servers at the same time; what fails at one does not touch the others."""
    return await asyncio.gather(*(visit(server, work) for server in servers))


def transport_of(client: MCPClient) -> str:
    """The transport in use, or the dialect: `stdio`, `sse`, `http`, `rest`, `rpc`; for a URL the one that was found."""
    if isinstance(client, AutoMCPClient):
        return client.found or client.transport
    dialect: str = getattr(client.config, "dialect", "mcp")
    return client.transport if dialect == "mcp" else dialect
