"""Pipes to and from a process, where the event loop can watch descriptors. POSIX only."""

import asyncio
import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable

from fastapi_server.mcp.clients.server_process import Input

_READ_BYTES = 64 * 1024
_PIPE_BYTES = 256 * 1024
"""A user has 64 MiB for all pipes together, on Linux: enough for 256 servers, where 64 KiB is what a pipe has."""
_BATCH_BYTES = 256 * 1024


class _Buffer(threading.local):
    """Bytes are taken out of it before anything else runs in its thread, so all pipes of a thread can share it."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_READ_BYTES))


_BUFFER = _Buffer()


class PipeReader:
    """Reads into one buffer that is used again. asyncio's own allocates 256 KiB for each read.

    Args:
        pipe: Unbuffered; closed with this.
        received: Given what was read.
        ended: Called once, when nobody has the writing end open any more.
    """

    def __init__(self, pipe: io.FileIO, received: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._pipe = pipe
        self._received = received
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read)

    def close(self) -> None:
        """Stop reading. Safe twice, and when the event loop is gone."""
        if not self._pipe.closed:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()

    def _read(self) -> None:
        view = _BUFFER.view
        try:
            count = os.readv(self._pipe.fileno(), (view,))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        if count:
            self._received(bytes(view[:count]))
        else:
            self.close()
            self._ended()


class PipeWriter(Input):
    """Writes at once where the pipe has room, and as it gets room.

    Args:
        pipe: Unbuffered; closed with this.
        broken: Called once, when nobody has the reading end open any more.
    """

    def __init__(self, pipe: io.FileIO, broken: Callable[[], None]) -> None:
        self._pipe = pipe
        self._broken = broken
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, bytes] = {}
        self._begun: memoryview | None = None
        self.closed = False
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._break)  # there is nothing to read but that the other end is closed

    def send(self, message: bytes, *, soon: bool) -> None:
        first = not self._waiting
        self._waiting[id(message)] = message
        if first and self.room is None:
            if soon:
                self._loop.call_soon(self._flush)
            else:
                self._flush()

    def withdraw(self, message: bytes) -> bool:
        return self._waiting.pop(id(message), None) is not None

    def close(self) -> None:
        """The same when the event loop is gone, which writes nothing."""
        if self.closed:
            return
        if not self._loop.is_closed():
            self._flush()
        if not self.closed:  # the last thing written found out that it was
            self._let_go()

    def _flush(self) -> None:
        while not self.closed and (self._begun or self._waiting):
            batch = [] if self._begun else self._batch()
            data = self._begun or memoryview(b"\n".join((*batch, b"")))
            try:
                count = os.write(self._pipe.fileno(), data)
            except (BlockingIOError, InterruptedError):
                count = 0
            except OSError:
                self._break()
                return
            self._advance(batch, data, count)
            if count < len(data):
                self._wait_for_room()
                return
        self._has_room()

    def _batch(self) -> list[bytes]:
        """As many messages as are worth a copy."""
        batch: list[bytes] = []
        size = 0
        for message in self._waiting.values():
            batch.append(message)
            size += len(message)
            if size >= _BATCH_BYTES:
                break
        return batch

    def _advance(self, batch: list[bytes], data: memoryview, count: int) -> None:
        """So many bytes are written: what has begun can be withdrawn no more, and its rest comes first."""
        end = 0 if batch else len(data)
        for message in batch:
            if end >= count:
                break
            del self._waiting[id(message)]
            end += len(message) + 1
        self._begun = data[count:end] if count < end else None

    def _wait_for_room(self) -> None:
        if self.room is None:
            self.room = self._loop.create_future()
            self._loop.add_writer(self._pipe.fileno(), self._flush)

    def _has_room(self) -> None:
        if self.room is not None:
            if not self.closed:
                self._loop.remove_writer(self._pipe.fileno())
            self.room.set_result(None)
            self.room = None

    def _break(self) -> None:
        self._let_go()
        self._broken()

    def _let_go(self) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(self._pipe.fileno())
            self._has_room()
        self.closed = True
        self._pipe.close()


def enlarge(pipe: io.FileIO) -> None:
    """Room for a large message: fewer turns between the two processes. Without it all works, if more slowly."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - there is none on Windows

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
