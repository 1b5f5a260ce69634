"""A server as a process of our own: newline-delimited JSON-RPC on its standard input and output."""

import asyncio
import contextlib
import logging
import signal
import subprocess
from collections.abc import Awaitable, Set
from typing import IO, cast

from fastapi_server.mcp.clients.base_client import MCPClient
from fastapi_server.mcp.clients.channel import CorrelatingChannel
from fastapi_server.mcp.clients.flag import Flag
from fastapi_server.mcp.clients.pipe import WATCHABLE, PipeReader
from fastapi_server.mcp.clients.process import (
    GROUP_OPTIONS,
    ProcessGroup,
    command_line,
    kill_group,
    process_environment,
)
from fastapi_server.mcp.clients.redaction import process_secrets, redacted
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
                _stderr_logger.info("%s", redacted(line.decode("utf-8", "replace").rstrip("\r"), self._secrets))
            self._rest = self._rest[-_STDERR_KEPT:]

    def text(self, limit: int = _STDERR_SHOWN) -> str:
        """The end of what was written, `limit` characters at most."""
        text = redacted(self._kept.decode("utf-8", "replace"), self._secrets)
        return text[-limit:].strip()  # cut afterwards: half a secret would not be recognised

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class StdioChannel(CorrelatingChannel, asyncio.SubprocessProtocol):
    """One process, from start to reaped. asyncio feeds its output straight in: there is no reader task and no queue."""

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
        self._pipes_closed = Flag()
        self._writable: asyncio.Future[None] | None = None
        self._unsent: list[bytes] = []
        self._reader: PipeReader | None = None
        self._process: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.get_pid() if self._process else None

    async def _open(self) -> None:
        loop, output = asyncio.get_running_loop(), subprocess.PIPE
        if WATCHABLE:
            self._reader = PipeReader(self._output_received, self._output_over)
            output = self._reader.writing_end
        try:
            command = command_line(self._config, self._env)
            self._process, _ = await loop.subprocess_exec(
                lambda: self, *command, stdout=output, env=self._env, cwd=self._config.cwd, **GROUP_OPTIONS
            )
        except CommandNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise MCPConnectionError(
                f"cannot start {self._config.command}: {error}", delivery=Delivery.NOT_SENT
            ) from error
        if self._reader is not None:
            self._reader.close_writing_end()
        self._stdin = cast("asyncio.WriteTransport", self._process.get_pipe_transport(0))

    # What asyncio tells us of the process.

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self.stderr.feed(data)
        else:
            self._output_received(data)

    def _output_received(self, data: bytes) -> None:
        if self._lost is not None:
            return  # drained, so that a server that is flushing can get to its exit
        try:
            lines = self._framer.feed(data)
        except MessageTooLargeError as error:
            self._lose(error)
            return
        for line in lines:
            self._receive(line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        match fd:
            case 1:
                self._output_over()
            case 2:
                self._errors_ended.set()
            case _:
                self._end()

    def _output_over(self) -> None:
        self._output_ended.set()
        self._end()

    def process_exited(self) -> None:
        self._exited.set()
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pipes_closed.set()

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        self._resume()

    def _resume(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _end(self) -> None:
        if self._lost is None and not self._ending:
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
        code = self._process.get_returncode() if self._process else None
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
        return None if self._writable is None else self._until_writable()

    async def _until_writable(self) -> None:
        while self._writable is not None:
            await asyncio.shield(self._writable)

    def _send(self, data: bytes) -> Awaitable[None] | None:
        """Written at once; what many calls say at the same time, in one go when all have said it."""
        self._raise_if_lost()
        if self._stdin is None or self._stdin.is_closing():
            self._end()
            return self._until_over()
        self.metrics.bytes_sent += len(data)
        if self._unsent:
            self._unsent.append(data)
        elif len(self._table) > 1:
            self._unsent.append(data)
            asyncio.get_running_loop().call_soon(self._flush)
        else:
            self._stdin.write(data + b"\n")
        return None

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._stdin is not None:
            unsent.append(b"")
            self._stdin.write(b"\n".join(unsent))

    async def _until_over(self) -> None:
        await self._over.wait()
        self._raise_if_lost()

    def _lose(self, error: MCPClientError, *, notify: bool = True) -> None:
        super()._lose(error, notify=notify)
        self._over.set()
        self._resume()

    def redacted(self, text: str) -> str:
        return redacted(text, self._secrets)

    def abandon(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.get_returncode() is None:
            kill_group(process.get_pid())
        for pipe in (process.get_pipe_transport(fd) if process is not None else None for fd in (0, 2)):
            if pipe is not None:
                pipe.get_extra_info("pipe").close()
        if self._reader is not None:
            self._reader.close()
        self.stderr.close()

    async def _shut(self) -> None:
        if self._process is not None:
            if self._stdin is not None:
                self._stdin.close()
            step = self._config.shutdown_timeout / 1000
            await ProcessGroup(self._process, self._exited).end(step)
            self._process.close()
            with contextlib.suppress(TimeoutError):  # a process that not even SIGKILL ends keeps its pipes
                async with asyncio.timeout(step):
                    await self._pipes_closed.wait()
        if self._reader is not None:
            self._reader.close()
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
