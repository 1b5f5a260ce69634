"""A server as a process of our own: newline-delimited JSON-RPC on its standard input and output."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Awaitable, Set
from typing import IO

from fastapi_server.mcp.clients.base_client import MCPClient
from fastapi_server.mcp.clients.channel import CorrelatingChannel
from fastapi_server.mcp.clients.flag import Flag
from fastapi_server.mcp.clients.process import ProcessGroup, command_line, process_environment
from fastapi_server.mcp.clients.server_process import Command, Part, ServerProcess
from fastapi_server.mcp.config import StdioConfig
from fastapi_server.mcp.errors import (
    CommandNotFoundError,
    Delivery,
    MCPClientError,
    MCPConnectionError,
    MessageTooLargeError,
    ProcessExitedError,
)
from fastapi_server.mcp.metrics import ClientMetrics
from fastapi_server.mcp.protocol.framing import LineFramer
from fastapi_server.mcp.redaction import process_secrets, redacted

if sys.platform == "win32":
    from fastapi_server.mcp.clients.asyncio_process import AsyncioProcess as RunningProcess
else:
    from fastapi_server.mcp.clients.posix_process import PosixProcess as RunningProcess

_STDERR_KEPT = 16 * 1024
_STDERR_SHOWN = 2_000
_STDERR_TAIL = 8_000
_END_SECONDS = 0.8

_stderr_logger = logging.getLogger("fastapi_server.mcp.stderr")


class StderrTail:
    """Drains standard error into a bounded tail, and further where the configuration says so.

    What is shown or logged is without `secrets`; `stderr_file` gets every byte as it is.
    """

    def __init__(self, config: StdioConfig, secrets: Set[str]) -> None:
        self._secrets = secrets
        self._kept = b""
        self._log = config.stderr_log
        self._rest = b""
        self._file: IO[bytes] | None = None
        if config.stderr_file is not None:
            try:
                self._file = config.stderr_file.open("ab", buffering=0)
            except OSError as error:
                raise MCPConnectionError(
                    f"stderr_file cannot be written: {config.stderr_file}: {error.strerror}",
                    delivery=Delivery.NOT_SENT,
                ) from error

    def feed(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-_STDERR_KEPT:]
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk is no reason to stop draining
                self._file.write(data)
        if self._log:
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                _stderr_logger.info("%s", self._redacted(line).rstrip("\r"))
            if len(self._rest) > _STDERR_KEPT:
                self._rest = self._redacted(self._rest).encode()[-_STDERR_KEPT:]

    def text(self, limit: int = _STDERR_SHOWN) -> str:
        """The end of what was written, `limit` characters at most."""
        return self._redacted(self._kept)[-limit:].strip()

    def _redacted(self, data: bytes) -> str:
        """As text, to be cut afterwards: half a secret would not be recognised."""
        return redacted(data.decode("utf-8", "replace"), self._secrets)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class StdioChannel(CorrelatingChannel):
    """One process, from start to reaped. Its output is fed straight in: there is no reader task and no queue."""

    transport = "stdio"

    def __init__(self, config: StdioConfig, metrics: ClientMetrics) -> None:
        super().__init__(metrics)
        self._config = config
        self._env = process_environment(config)
        self._secrets = process_secrets(config.args, self._env)
        self._framer = LineFramer(config.max_message_bytes)
        self.stderr = StderrTail(config, self._secrets)
        self.bare = not config.handshake
        self._ending = False
        self._exited = Flag()
        self._output_ended = Flag()
        self._errors_ended = Flag()
        self._over = Flag()
        self._process: ServerProcess | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process else None

    async def _open(self) -> None:
        try:
            command = Command(command_line(self._config, self._env), self._env, self._config.cwd)
            self._process = await RunningProcess.start(command, self)
        except CommandNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise MCPConnectionError(
                f"cannot start {self._config.command}: {error}", delivery=Delivery.NOT_SENT
            ) from error

    # What becomes of the process.

    def errors_received(self, data: bytes) -> None:
        self.stderr.feed(data)

    def output_received(self, data: bytes) -> None:
        if self.lost is not None:
            return  # drained, so that a server that is flushing can get to its exit
        try:
            lines = self._framer.feed(data)
        except MessageTooLargeError as error:
            self._lose(error)
            return
        for line in lines:
            self._receive(line)

    def ended(self, part: Part) -> None:
        match part:
            case Part.ERRORS:
                self._errors_ended.set()
                return  # a server may do without
            case Part.OUTPUT:
                self._output_ended.set()
            case Part.PROCESS:
                self._exited.set()
            case Part.INPUT:
                pass
        self._end()

    def _end(self) -> None:
        if self.lost is None and not self._ending:
            self._ending = True
            self._spawn(self._report_end())

    async def _report_end(self) -> None:
        """Wait a moment, so that what was written last is read and the exit code known; then fail the calls."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._exited.wait()
                await self._output_ended.wait()
                await self._errors_ended.wait()
        self._lose(self._end_error())

    def _end_error(self) -> ProcessExitedError:
        code = self._process.returncode if self._process else None
        if code is None:
            what = "the process closed its standard input or output, but lives on"
        elif code < 0:
            what = f"the process was killed by {_signal_name(-code)}"
        else:
            what = f"the process exited with code {code}"
        stderr = self.stderr.text()
        shown = f"; its stderr ends:\n{stderr}" if stderr else "; it wrote nothing to stderr"
        return ProcessExitedError(f"{what}{shown}", exit_code=code, stderr=stderr)

    # The channel.

    def _ready(self) -> Awaitable[None] | None:
        process = self._process
        return None if process is None or process.input.room is None else process.input.until_room()

    def _send(self, data: bytes) -> Awaitable[None] | None:
        """Written at once; what many calls say at the same time, in one go when all have said it."""
        process = self._process
        if process is None or process.input.closed:
            self._end()
            return self._until_over()
        self.metrics.bytes_sent += len(data)
        process.input.send(data, soon=len(self._table) > 1)
        return None

    def _withdraw(self, data: bytes) -> bool:
        return self._process is not None and self._process.input.withdraw(data)

    async def _until_over(self) -> None:
        await self._over.wait()
        self._raise_if_lost()

    def _lose(self, error: MCPClientError, *, notify: bool = True) -> None:
        super()._lose(error, notify=notify)
        self._over.set()

    def redacted(self, text: str) -> str:
        return redacted(text, self._secrets)

    def abandon(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.abandon()
        self.stderr.close()

    async def _shut(self) -> None:
        process = self._process
        if process is not None:
            process.input.close()
            step = self._config.shutdown_timeout / 1000
            await ProcessGroup(process.pid, self._exited, process.terminate).end(step)
            await process.close(step)
        self.stderr.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class StdioMCPClient(MCPClient):
    """A client of a server that it starts itself. `config` is a `StdioConfig` or a mapping of its fields."""

    transport = "stdio"
    config: StdioConfig
    _tail: StderrTail | None = None

    @property
    def stderr(self) -> str:
        """The end of what the process wrote to its standard error, without secrets; of the last one, if it ended."""
        return "" if self._tail is None else self._tail.text(_STDERR_TAIL)

    @property
    def pid(self) -> int | None:
        """Of the server's process, while there is one."""
        return self._connector.channel.pid if isinstance(self._connector.channel, StdioChannel) else None

    async def _establish_connection(self) -> StdioChannel:
        channel = StdioChannel(self.config, self.metrics)
        self._tail = channel.stderr
        await channel.open()
        return channel
