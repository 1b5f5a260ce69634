"""How the gateway ends: no more requests are taken, and those that are open may end first."""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

logger = logging.getLogger("fastapi_server.gateway")

_LOOK_SECONDS = 0.2


class Draining:
    """What is open, and whether more is taken.

    Attributes:
        begun: Set when no more is.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """The application starts, perhaps once more, and in another event loop."""
        self.begun = asyncio.Event()
        self._open = set[asyncio.Task[Any]]()
        self._over = asyncio.Event()

    @contextmanager
    def open(self) -> Generator[None]:
        """A block, in a task of its own, that has to end first: a request, or a call that waits between two."""
        task = asyncio.current_task()
        assert task is not None, "requests are answered by tasks"
        self._open.add(task)
        try:
            yield
        finally:
            self._open.discard(task)
            if self.begun.is_set() and not self._open:
                self._over.set()

    async def drain(self, seconds: float) -> None:
        """Take no more requests, and let what is open end; what goes on for longer is given up."""
        self.begun.set()
        if self._open:
            logger.info("takes no more requests; still open: %d, which have %g s to end", len(self._open), seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._over.wait()
        for task in self._open:
            task.cancel()

    def hurry(self) -> None:
        """Give up at once what is still open."""
        self._over.set()


@contextmanager
def draining_first(draining: Draining, seconds: float) -> Generator[None]:
    """A block during which uvicorn, where it runs us, ends only after what is open has.

    It would cut off every stream, those of calls too. So its signals are heard here first: it hears of one when all is
    answered, or given up after so many seconds; until then it still listens, and whoever asks is told to go elsewhere.
    A SIGINT after the first signal gives up at once; further ones are uvicorn's own. (SIGTERM is often sent twice: to
    the group, and by the parent of several workers.) Where uvicorn is told to end in another way, it listens no more,
    but streams end all the same. Other servers end in their own way.
    """
    server = _uvicorn()
    if server is None:
        yield
        return
    ending = _Ending(draining, seconds, server)
    try:
        yield
    finally:
        ending.stop()


class _Ending:
    def __init__(self, draining: Draining, seconds: float, server: uvicorn.Server) -> None:
        self._draining = draining
        self._seconds = seconds
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._tasks = [self._loop.create_task(self._look())]
        self._heard = False
        self._interrupts = 0
        self._theirs = {number: signal.signal(number, self._hear) for number in HANDLED_SIGNALS}

    def stop(self) -> None:
        for number, handler in self._theirs.items():
            signal.signal(number, handler)
        for task in self._tasks:
            task.cancel()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """In the midst of anything."""
        if not self._heard:
            self._heard = True
            self._loop.call_soon_threadsafe(self._begin, number)
        elif number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts == 1:
                self._loop.call_soon_threadsafe(self._draining.hurry)
            else:
                self._server.handle_exit(number, frame)

    def _begin(self, number: int) -> None:
        self._tasks.append(self._loop.create_task(self._drain(number)))

    async def _drain(self, number: int) -> None:
        await self._draining.drain(self._seconds)
        self._server.handle_exit(number, None)

    async def _look(self) -> None:
        while not self._server.should_exit:  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(_LOOK_SECONDS)
        if not self._draining.begun.is_set():
            await self._draining.drain(self._seconds)


def _uvicorn() -> uvicorn.Server | None:
    """The server that runs us, if signals are its own: in a thread, those of the main thread are another's."""
    if threading.current_thread() is not threading.main_thread():
        return None
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, uvicorn.Server) else None
