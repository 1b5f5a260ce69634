"""Results that the server allows us to keep for a while (2026-07-28, server/utilities/caching)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DROPPED_BY = {
    "notifications/tools/list_changed": ("tools/list",),
    "notifications/prompts/list_changed": ("prompts/list",),
    "notifications/resources/list_changed": ("resources/list", "resources/templates/list"),
}
"""Which lists a notice makes stale."""

_LONGEST_TTL_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Ticket:
    """Taken before a list is asked for: freshness counts from then, and a notice that comes meanwhile voids it."""

    taken_at: float
    generation: int


class ListCache:
    """Complete lists, each fresh until its `ttlMs` is over or a notice drops it.

    One cache belongs to one client and so to one principal: nothing is ever shared, whatever `cacheScope` allows.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[str, tuple[float, list[Any]]] = {}
        self._wanted: set[str] = set()
        self._generation = 0

    def ticket(self) -> Ticket:
        """What `put` wants to see when the list has come."""
        return Ticket(self._clock(), self._generation)

    def get(self, method: str) -> list[Any] | None:
        """A copy of the list while it is fresh."""
        self._wanted.add(method)
        entry = self._entries.get(method)
        if entry is None or self._clock() >= entry[0]:
            return None
        return list(entry[1])

    def put(self, method: str, items: list[Any], ttl_ms: int, ticket: Ticket) -> None:
        """Keep a list for `ttl_ms`, at most a day; zero or less keeps nothing."""
        self._entries.pop(method, None)
        if ttl_ms > 0 and ticket.generation == self._generation:
            self._entries[method] = (ticket.taken_at + min(ttl_ms, _LONGEST_TTL_MS) / 1000, list(items))

    def drop(self, notice: str) -> None:
        """Forget what the notification `notice` makes stale."""
        for method in DROPPED_BY.get(notice, ()):
            self._generation += 1
            self._entries.pop(method, None)

    def was_wanted(self, notice: str) -> bool:
        """Whether somebody has ever asked for a list that the notification `notice` makes stale."""
        return not self._wanted.isdisjoint(DROPPED_BY[notice])

    def clear(self) -> None:
        """Forget everything."""
        self._generation += 1
        self._entries.clear()
