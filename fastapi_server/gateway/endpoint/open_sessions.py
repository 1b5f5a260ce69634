"""Which sessions are open in this process, by the ids that clients have, and which ids have ended."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

_MOST_OF_ONE = 1_000
_MOST = 100_000


@dataclass(frozen=True)
class _Open:
    owner: Hashable
    inner: str


class OpenSessions:
    """Knows neither sockets nor clocks. Nobody's sessions make way for those of somebody else.

    Args:
        seconds: How long an id is good for.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._open: dict[str, _Open] = {}
        self._ended: dict[str, float] = {}

    def inner(self, sealed: str) -> str | None:
        """The manager's id of a session, where it is open here; it is in use now."""
        session = self._open.pop(sealed, None)
        if session is None:
            return None
        self._open[sealed] = session
        return session.inner

    def opened(self, sealed: str, owner: Hashable, inner: str) -> str | None:
        """One more is open; returns the manager's id of one to close, the owner's unused for longest, if any."""
        own = [other for other, session in self._open.items() if session.owner == owner]
        closed = self._open.pop(own[0]).inner if len(own) >= _MOST_OF_ONE else None
        _make_room(self._open)
        self._open[sealed] = _Open(owner, inner)
        return closed

    def lost(self, sealed: str, inner: str) -> None:
        """The manager does not know it any more; where it has been opened again since, that one stays."""
        session = self._open.get(sealed)
        if session is not None and session.inner == inner:
            del self._open[sealed]

    def end(self, sealed: str, now: float) -> None:
        """The client has ended it, at `now` in seconds: until it expires, its id is not to be used again."""
        self._open.pop(sealed, None)
        while self._ended and next(iter(self._ended.values())) <= now:
            _drop_oldest(self._ended)
        _make_room(self._ended)
        self._ended[sealed] = now + self._seconds

    def has_ended(self, sealed: str) -> bool:
        """Whether the client has ended it, as far as this process was told."""
        return sealed in self._ended


def _make_room(entries: dict[str, Any]) -> None:
    if len(entries) >= _MOST:
        _drop_oldest(entries)


def _drop_oldest(entries: dict[str, Any]) -> None:
    del entries[next(iter(entries))]
