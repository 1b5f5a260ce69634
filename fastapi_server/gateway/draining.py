"""How the gateway ends: no more requests are taken, and those that are open may end first."""

import asyncio
import logging
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

logger = logging.getLogger("fastapi_server.gateway")


class Draining:
    """The requests that are open, and whether more are taken.

    Attributes:
        begun: Set when no more are.
    """

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self._open = set[asyncio.Task[Any]]()
        self._over = asyncio.Event()

    @contextmanager
    def request(self) -> Generator[None]:
        """A block that answers a request, in whatever task."""
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
        """Take no more requests, and let those that are open end; what goes on for longer is given up."""
        self.begun.set()
        if self._open:
            logger.info("takes no more requests; still open: %d, which have %g s to end", len(self._open), seconds)
            try:
                async with asyncio.timeout(seconds):
                    await self._over.wait()
            except TimeoutError:
                pass
        for task in self._open:
            task.cancel()

    def hurry(self) -> None:
        """Give up at once what is still open."""
        self._over.set()


@contextmanager
def draining_first(draining: Draining, seconds: float) -> Generator[None]:
    """A block during which the server that runs us drains before it ends.

    That is uvicorn, which would cut off every stream, those of calls too. It hears of the first signal when all
    requests are answered, or given up after so many seconds; a second signal gives them up at once; from the third on,
    signals are uvicorn's own. While calls go on, it still listens, so that whoever asks is told to go elsewhere. Other
    servers end in their own way.
    """
    theirs = {number: signal.getsignal(number) for number in HANDLED_SIGNALS}
    if not all(isinstance(getattr(handler, "__self__", None), uvicorn.Server) for handler in theirs.values()):
        yield
        return
    loop, heard, tasks = asyncio.get_running_loop(), 0, set[asyncio.Task[None]]()

    async def drain(number: int) -> None:
        await draining.drain(seconds)
        pass_on(number, None)

    def pass_on(number: int, frame: FrameType | None) -> None:
        handler = theirs[signal.Signals(number)]
        assert callable(handler)
        handler(number, frame)

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        heard += 1
        if heard == 1:
            loop.call_soon_threadsafe(lambda: tasks.add(loop.create_task(drain(number))))
        elif heard == 2:
            loop.call_soon_threadsafe(draining.hurry)
        else:
            pass_on(number, frame)

    for number in theirs:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in theirs.items():
            signal.signal(number, handler)
