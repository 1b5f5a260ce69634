"""A server's process as asyncio runs it: for Windows, whose event loops cannot watch pipes."""

import asyncio
import contextlib
from typing import Self, cast

from fastapi_server.mcp.clients.flag import Flag
from fastapi_server.mcp.clients.process import GROUP_OPTIONS, kill_group
from fastapi_server.mcp.clients.server_process import Command, Input, Observer, Part, ServerProcess

_PIPES = {0: Part.INPUT, 1: Part.OUTPUT, 2: Part.ERRORS}


class _StandardInput(Input):
    """A transport of asyncio's."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport

    @property
    def closed(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._transport.is_closing()

    def send(self, message: bytes, *, soon: bool) -> None:
        self._transport.write(message + b"\n")

    def withdraw(self, message: bytes) -> bool:
        return False  # who knows

    def close(self) -> None:
        self._transport.close()

    def pause(self) -> None:
        """It is full."""
        self.room = asyncio.get_running_loop().create_future()

    def resume(self) -> None:
        """It has room, or nobody will ever take what is in it."""
        room, self.room = self.room, None
        if room is not None:
            room.set_result(None)


class AsyncioProcess(ServerProcess, asyncio.SubprocessProtocol):
    """`loop.subprocess_exec`, with what its protocol hears given to an observer."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._pipes_closed = Flag()

    @classmethod
    async def start(cls, command: Command, observer: Observer) -> Self:
        loop = asyncio.get_running_loop()
        _, process = await loop.subprocess_exec(
            lambda: cls(observer), *command.line, env=command.env, cwd=command.cwd, **GROUP_OPTIONS
        )
        return process

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._stdin = _StandardInput(cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0)))
        self.input = self._stdin

    @property
    def pid(self) -> int:
        return self._transport.get_pid()

    @property
    def returncode(self) -> int | None:
        return self._transport.get_returncode()

    def terminate(self) -> None:
        self._transport.terminate()

    async def close(self, seconds: float) -> None:
        self._transport.close()
        with contextlib.suppress(TimeoutError):  # a process that not even SIGKILL ends keeps its pipes
            async with asyncio.timeout(seconds):
                await self._pipes_closed.wait()

    def abandon(self) -> None:
        if self.returncode is None:
            kill_group(self.pid)
        for number in _PIPES:
            pipe = self._transport.get_pipe_transport(number)
            if pipe is not None:
                pipe.get_extra_info("pipe").close()

    # What asyncio tells.

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._observer.output_received(data)
        else:
            self._observer.errors_received(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._observer.ended(_PIPES[fd])

    def process_exited(self) -> None:
        self._stdin.resume()
        self._observer.ended(Part.PROCESS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pipes_closed.set()

    def pause_writing(self) -> None:
        self._stdin.pause()

    def resume_writing(self) -> None:
        self._stdin.resume()
