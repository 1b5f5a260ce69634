"""Reading a process's output where the event loop can watch descriptors: into one buffer that is used again."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable

WATCHABLE = sys.platform != "win32"
"""Whether the event loops of this platform can watch a pipe."""

_READ_BYTES = 64 * 1024
_PIPE_BYTES = 256 * 1024
"""A user has 64 MiB for all pipes together, on Linux: enough for 256 servers, where 64 KiB is what a pipe has."""


class _Buffer(threading.local):
    """Bytes are taken out of it before anything else runs in its thread, so all pipes of a thread can share it."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_READ_BYTES))


_BUFFER = _Buffer()


class PipeReader:
    """The reading end of a pipe whose writing end goes to a process. asyncio's own allocates 256 KiB for each read.

    Args:
        received: Given what was read.
        ended: Called once, when nobody has the writing end open any more.

    Attributes:
        writing_end: To hand to the process, and to close then; `close` does it, too.
    """

    def __init__(self, received: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._received = received
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._reading_end, self.writing_end = os.pipe()
        os.set_blocking(self._reading_end, False)
        _enlarge(self._reading_end)
        self._loop.add_reader(self._reading_end, self._read)

    def close_writing_end(self) -> None:
        """Only the process shall have it: otherwise nobody would hear that it ended."""
        if self.writing_end >= 0:
            os.close(self.writing_end)
            self.writing_end = -1

    def close(self) -> None:
        """Stop reading. Safe twice."""
        self.close_writing_end()
        if self._reading_end >= 0:
            self._loop.remove_reader(self._reading_end)
            os.close(self._reading_end)
            self._reading_end = -1

    def _read(self) -> None:
        view = _BUFFER.view
        try:
            count = os.readv(self._reading_end, (view,))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        if count:
            self._received(bytes(view[:count]))
        else:
            self.close()
            self._ended()


def _enlarge(pipe: int) -> None:
    """Room for a large message: fewer turns between the two processes. Without it all works, if more slowly."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - there is none on Windows

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
