"""On which processors a contender and its stub run."""

import contextlib
import os
from collections.abc import Generator, Iterable


@contextlib.contextmanager
def on_one_core() -> Generator[None]:
    """Keep this process, and those that it starts meanwhile, to one processor.

    Where client and server may be on two, the system decides from turn to turn whether they are; and to wake one that
    has fallen asleep between two calls costs more than what is measured.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def move_away(pids: Iterable[int]) -> None:
    """Have processes run on any processor but those of this one.

    Raises:
        OSError: There is no other.
    """
    others = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
    for pid in pids:
        os.sched_setaffinity(pid, others)
