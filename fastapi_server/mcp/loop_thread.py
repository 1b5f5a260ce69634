"""An event loop in a thread of its own, for other threads to run coroutines in."""

import asyncio
import atexit
import contextlib
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeAlias, TypeVar

from fastapi_server.mcp.errors import ClientClosedError

_CANCEL_SECONDS = 5.0
_POLL_SECONDS = 0.2 if sys.platform == "win32" else None  # there Ctrl-C does not wake a thread that waits for a lock

T = TypeVar("T")
End: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class _Call(Generic[T]):
    """A coroutine in the loop thread, and the thread that waits for it. `outcome` is settled whatever happens."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.outcome: Future[T] = Future()
        self._work = work
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._task.add_done_callback(self._settle)

    def cancel(self) -> None:
        if self._task is None:
            self.abort()
        else:
            self._task.cancel()

    def _settle(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.abort()
        elif (error := task.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())

    def abort(self) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(ClientClosedError("the loop thread was shut down"))

    def wait(self) -> None:
        while not wait((self.outcome,), _POLL_SECONDS).done:
            pass


class LoopThread:
    """An event loop in a daemon thread, for any number of threads to run coroutines in.

    `loop_thread()` gives the one that everybody shares; make your own to keep clients apart.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._stop = asyncio.Event()
        self._closed = False
        self._lock = threading.RLock()  # a finalizer may interrupt the thread that holds it
        self._calls: set[_Call[Any]] = set()
        self._ends: dict[End, asyncio.Task[None] | None] = {}
        self._thread = threading.Thread(target=self._serve, name="mcp-sync", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it takes calls: not closed, and not left behind by a fork."""
        return not self._closed and self._thread.is_alive()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run the coroutine of `work` in the loop thread, under the context variables of the caller, and wait for it.

        What interrupts the waiting (Ctrl-C) cancels the coroutine, and is raised when that has ended, after 5 s at
        the latest.

        Raises:
            RuntimeError: Called in the loop thread.
            ClientClosedError: The loop thread was shut down.
        """
        self._refuse_inside()
        call = _Call(work)
        self._calls.add(call)
        try:
            self._post(call.start)
            call.wait()
            return call.outcome.result()
        except BaseException:
            if not call.outcome.done():
                with contextlib.suppress(ClientClosedError):
                    self._post(call.cancel)
                    wait((call.outcome,), _CANCEL_SECONDS)
            raise
        finally:
            self._calls.discard(call)

    def owns(self, handle: object, end: End) -> None:
        """Have `end` run when the thread is closed, or before, when nobody refers to `handle` any more."""
        self._ends[end] = None
        weakref.finalize(handle, self._abandoned, end).atexit = False

    def close(self) -> None:
        """Disconnect all clients, end the loop and the thread, and wait for that. Safe twice.

        Raises:
            RuntimeError: Called in the loop thread.
        """
        self._refuse_inside()
        with self._lock:
            if self.alive:
                self._closed = True
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _refuse_inside(self) -> None:
        if threading.get_ident() == self._thread.ident:
            raise RuntimeError(
                "a blocking call in the loop thread would wait for itself for ever; "
                "a handler, hook or progress callback awaits the asynchronous client instead"
            )

    def _post(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self.alive:
                raise ClientClosedError("the loop thread was shut down")
            self._loop.call_soon_threadsafe(callback)

    def _abandoned(self, end: End) -> None:
        def begin() -> None:
            task = self._ends[end] = self._loop.create_task(end())
            task.add_done_callback(lambda _done: self._ends.pop(end, None))

        with contextlib.suppress(ClientClosedError):
            self._post(begin)

    def _serve(self) -> None:
        try:
            # At the exit of the interpreter, from Python 3.12, the executor's end can't have a thread to wait in.
            with contextlib.suppress(RuntimeError), self._runner:
                self._runner.run(self._main())
        finally:
            with self._lock:
                self._closed = True
            for call in list(self._calls):
                call.abort()

    async def _main(self) -> None:
        try:
            await self._stop.wait()
        finally:
            self._closed = True
            await asyncio.gather(*(end() for end in list(self._ends)), return_exceptions=True)


_shared: LoopThread | None = None
_shared_lock = threading.Lock()


def loop_thread() -> LoopThread:
    """The loop thread of this process, started when it is first needed, or needed again."""
    global _shared  # noqa: PLW0603
    with _shared_lock:
        if _shared is None or not _shared.alive:
            _shared = LoopThread()
        return _shared


def shutdown() -> None:
    """Disconnect all clients of the shared loop thread and end it; done at the exit of the interpreter, too."""
    global _shared
    with _shared_lock:
        thread, _shared = _shared, None
    if thread is not None:
        thread.close()


atexit.register(shutdown)
