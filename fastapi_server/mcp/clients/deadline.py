"""Deadlines that cost next to nothing, because most calls are answered long before theirs."""

import asyncio
import weakref
from types import TracebackType
from typing import Self

_TICK = 0.05
_SOON = 1.0
_NEVER = 1e12


class Deadline:
    """A block that is given up at a certain time: what it awaits is cancelled, and the block raises `TimeoutError`.

    What `asyncio.timeout_at` does, for calls by the thousand: a deadline more than a second away shares its timer with
    those of the same 50 ms, and is up to so much late.

    Args:
        when: On the clock of the event loop; `None` for never, unless somebody calls `expire`.
        loop: That runs, for callers who know it: to find it out takes a fifth of what all of this does.

    Attributes:
        expired: It has passed, and the block is on its way out.
    """

    __slots__ = ("__weakref__", "_cancelling", "_loop", "_task", "_watch", "_when", "expired")

    def __init__(self, when: float | None, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._when = when
        self._loop = loop or asyncio.get_running_loop()
        self._watch: set[Deadline] | asyncio.Handle | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self.expired = False

    def __enter__(self) -> Self:
        self._task = task = asyncio.current_task(self._loop)
        assert task is not None, "only a task can be given up"
        self._cancelling = task.cancelling()
        if self._when is not None:
            self._begin(self._when)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()
        task, self._task = self._task, None
        if not self.expired or task is None:
            return
        ours_alone = task.uncancel() <= self._cancelling
        if ours_alone and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def expire(self) -> None:
        """Give the block up at the next turn of the event loop, unless it has ended by then."""
        if self._task is not None and not self.expired:
            self._end()
            self._watch = self._loop.call_soon(self.give_up)

    def give_up(self) -> None:
        """What a timer does, in a turn of the event loop of its own."""
        if self._task is not None and not self.expired:
            self.expired = True
            self._task.cancel()

    def move(self, when: float) -> None:
        """Have another time from now on."""
        if self._task is not None and not self.expired:
            self._end()
            self._begin(when)

    def _begin(self, when: float) -> None:
        loop = self._loop
        if when - loop.time() < _SOON:
            self._watch = loop.call_at(when, self.give_up)
        elif when < _NEVER:
            ticks = _OF_LOOPS.get(id(loop)) or _ticks_of(loop)
            self._watch = ticks[int(when / _TICK) + 1]
            self._watch.add(self)

    def _end(self) -> None:
        watch, self._watch = self._watch, None
        if isinstance(watch, set):
            watch.discard(self)
        elif watch is not None:
            watch.cancel()


class _Ticks(dict[int, set[Deadline]]):
    """The deadlines of one event loop by the tick at which they pass; each tick that has any has one timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)

    def __missing__(self, tick: int) -> set[Deadline]:
        loop = self._loop()
        assert loop is not None, "it runs"
        loop.call_at(tick * _TICK, self._over, tick)
        return self.setdefault(tick, set())

    def _over(self, tick: int) -> None:
        for deadline in self.pop(tick):
            deadline.give_up()


_OF_LOOPS: dict[int, _Ticks] = {}
"""By the identity of a loop that lives."""


def _ticks_of(loop: asyncio.AbstractEventLoop) -> _Ticks:
    if id(loop) not in _OF_LOOPS:
        _OF_LOOPS[id(loop)] = _Ticks(loop)
        weakref.finalize(loop, _OF_LOOPS.pop, id(loop), None).atexit = False
    return _OF_LOOPS[id(loop)]
