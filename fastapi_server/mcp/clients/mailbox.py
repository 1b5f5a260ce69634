"""Calling the callbacks of a host in order, without ever making the reader of a channel wait for them."""

import asyncio
import collections
import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, TypeVar

logger = logging.getLogger("fastapi_server.mcp")

EventT = TypeVar("EventT")

_MOST_WAITING = 100_000
_CANCEL_SECONDS = 1.0


class Mailbox:
    """Plain functions are called at once; coroutines one after the other, in a task that lives while there are any.

    What a callback raises is logged and harmless. Behind a slow one at most 100,000 wait; then the oldest is dropped.

    Attributes:
        dropped: How many were.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    @cached_property
    def _waiting(self) -> collections.deque[tuple[Callable[[Any], Any], Any]]:
        """Made when something has to wait, which in most clients never happens."""
        return collections.deque()

    def post(self, callback: Callable[[EventT], Awaitable[None] | None], event: EventT) -> None:
        """Have `callback(event)` run after everything posted before."""
        if self._task is not None:
            if len(self._waiting) == _MOST_WAITING:
                self._waiting.popleft()
                self.dropped += 1
                if self.dropped == 1:
                    logger.warning("a callback is too slow for what it is told: the oldest is dropped")
            self._waiting.append((callback, event))
            return
        try:  # what `_called` does, too: going through it takes longer than most callbacks do
            outcome = callback(event)
        except (Exception, asyncio.CancelledError):
            _log_failure()
            return
        if outcome is not None and inspect.isawaitable(outcome):
            self._task = asyncio.get_running_loop().create_task(self._work(outcome))

    async def _work(self, outcome: Awaitable[None] | None) -> None:
        try:
            while True:
                if outcome is not None:
                    await _finished(outcome)
                if not self._waiting:
                    return
                outcome = _called(*self._waiting.popleft())
        finally:
            self._waiting.clear()
            self._task = None

    async def flush(self) -> None:
        """Wait until everything posted so far has run. A callback that asks for it does not wait for itself."""
        while (task := self._working()) is not None:
            await asyncio.wait((task,))

    async def close(self) -> None:
        """Cancel the callback that runs, drop those that wait. One that does not end within 1 s is left behind."""
        task = self._working()
        if task is not None:
            self._waiting.clear()
            await asyncio.sleep(0)  # it has at least begun: a coroutine that is never awaited is a warning
            task.cancel()
            await asyncio.wait((task,), timeout=_CANCEL_SECONDS)

    def _working(self) -> asyncio.Task[None] | None:
        """The task to wait for, if any: not for the one that asks."""
        task = self._task
        return None if task is None or task.done() or task is asyncio.current_task() else task


def _called(callback: Callable[[Any], Any], event: Any) -> Awaitable[None] | None:
    try:
        outcome = callback(event)
    except (Exception, asyncio.CancelledError):
        _log_failure()
        return None
    return outcome if outcome is not None and inspect.isawaitable(outcome) else None


async def _finished(outcome: Awaitable[None]) -> None:
    try:
        await outcome
    except asyncio.CancelledError:
        if _is_being_cancelled():
            raise
        _log_failure()  # something that the callback waited for was cancelled
    except Exception:
        _log_failure()


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _log_failure() -> None:
    logger.exception("a callback failed; the connection goes on")
