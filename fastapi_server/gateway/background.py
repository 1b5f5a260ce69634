"""Work beside the requests: how it is started, watched and ended."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

logger = logging.getLogger("fastapi_server.gateway")

ResultT = TypeVar("ResultT")

Work: TypeAlias = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Is told by the event when it is over, and ends by itself then."""


@asynccontextmanager
async def running(work: Work) -> AsyncGenerator[None]:
    """A block during which something works. A failure of it is logged."""
    over = asyncio.Event()
    task = asyncio.get_running_loop().create_task(work(over))
    task.add_done_callback(_say_if_failed)
    try:
        yield
    finally:
        over.set()
        await asyncio.wait([task])


def _say_if_failed(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        logger.error("%s failed, and does not go on", task.get_coro(), exc_info=error)


async def is_over(over: asyncio.Event, *, within: float) -> bool:
    """Wait until it is over, for so many seconds at most; whether it is."""
    try:
        async with asyncio.timeout(within):
            return await over.wait()
    except TimeoutError:
        return False


async def unless(over: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do something that may be cancelled, which it is when it is over."""
    await first(work, over.wait())


async def first(*ways: Coroutine[Any, Any, ResultT]) -> ResultT:
    """What comes of the one that ends first, or of the foremost of those; the others are given up, and waited for."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
