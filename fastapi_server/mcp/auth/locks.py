"""Locks by key, for tasks of any event loop of this process; and work that cancelling does not leave half done."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

ResultT = TypeVar("ResultT")


class KeyedLocks:
    """One lock for each key, granted in the order of asking. Not reentrant."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._queues: dict[str, deque[Future[None]]] = {}  # the first of a queue holds the lock

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncGenerator[None]:
        """Exclude all others who hold `key`."""
        await self._wait_for_turn(key)
        try:
            yield
        finally:
            self._pass_on(key)

    async def _wait_for_turn(self, key: str) -> None:
        turn = Future[None]()
        with self._mutex:
            queue = self._queues.setdefault(key, deque())
            queue.append(turn)
            if queue[0] is turn:
                turn.set_result(None)
        try:
            await asyncio.wrap_future(turn)
        except BaseException:
            if not turn.cancel():  # its turn had come already
                self._pass_on(key)
            raise

    def _pass_on(self, key: str) -> None:
        with self._mutex:
            queue = self._queues[key]
            queue.popleft()
            while queue and not queue[0].set_running_or_notify_cancel():
                queue.popleft()
            if queue:
                queue[0].set_result(None)
            else:
                del self._queues[key]


async def to_the_end(work: Awaitable[ResultT]) -> ResultT:
    """Await `work` to its end even where the caller is cancelled: nothing of it happens once the lock is given up."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen, and less important than being cancelled
        raise
