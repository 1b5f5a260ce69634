"""A server's process on POSIX: its pipes are watched by the event loop, and so is its end where the system lets us.

asyncio's own machinery keeps a thread for each process, to wait for its end, and sets up three transports.
"""

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import threading
from functools import partial
from typing import Self, cast

from fastapi_server.mcp.clients.pipe import PipeReader, PipeWriter, enlarge
from fastapi_server.mcp.clients.process import kill_group
from fastapi_server.mcp.clients.server_process import Command, Observer, Part, ServerProcess

_REAP_SECONDS = 1.0


class PosixProcess(ServerProcess):
    """`subprocess.Popen`, with its pipes and its end given to an observer."""

    def __init__(self, process: subprocess.Popen[bytes], observer: Observer) -> None:
        self._process = process
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        stdin, stdout, stderr = (cast("io.FileIO", pipe) for pipe in (process.stdin, process.stdout, process.stderr))
        enlarge(stdout)
        self.input = PipeWriter(stdin, partial(observer.ended, Part.INPUT))
        self._outputs = (
            PipeReader(stdout, observer.output_received, partial(observer.ended, Part.OUTPUT)),
            PipeReader(stderr, observer.errors_received, partial(observer.ended, Part.ERRORS)),
        )
        self._descriptor = _descriptor_of(process.pid)
        self._watch_for_end()

    @classmethod
    async def start(cls, command: Command, observer: Observer) -> Self:
        # It returns when the program has begun, and so does asyncio's.
        process = subprocess.Popen(  # noqa: ASYNC220, S603
            command.line,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=command.env,
            cwd=command.cwd,
            start_new_session=True,
        )
        try:
            return cls(process, observer)
        except BaseException:  # the event loop can watch no more
            with process:  # which closes its pipes and waits for it
                kill_group(process.pid)
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def terminate(self) -> None:
        self._process.terminate()

    async def close(self, seconds: float) -> None:
        self._close_pipes()

    def abandon(self) -> None:
        if self._process.returncode is None:
            kill_group(self._process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_REAP_SECONDS)
        if self._descriptor is not None:
            self._descriptor.close()
        self._close_pipes()

    def _close_pipes(self) -> None:
        self.input.close()
        for output in self._outputs:
            output.close()

    # Its end.

    def _watch_for_end(self) -> None:
        if self._descriptor is None:
            threading.Thread(target=self._wait, name=f"waits for {self.pid}", daemon=True).start()
        else:
            self._loop.add_reader(self._descriptor.fileno(), self._reap, self._descriptor)

    def _reap(self, descriptor: io.FileIO) -> None:
        if self._process.poll() is not None:
            self._loop.remove_reader(descriptor.fileno())
            descriptor.close()
            self._observer.ended(Part.PROCESS)

    def _wait(self) -> None:
        self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody wants to know any more
            self._loop.call_soon_threadsafe(self._observer.ended, Part.PROCESS)


def _descriptor_of(pid: int) -> io.FileIO | None:
    """Becomes readable when the process has ended; `None` where the system has no such thing, or none left."""
    if sys.platform != "linux":
        return None
    try:
        return io.FileIO(os.pidfd_open(pid))
    except OSError:
        return None
