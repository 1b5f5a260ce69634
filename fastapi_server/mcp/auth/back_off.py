"""How long to get no token for a server that takes none, however fresh: kept with the account, for all who share it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Way: TypeAlias = Literal["refresh", "sign-in"]

_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 3600.0
"""Seconds without a sign-in after one has led to no token that the server takes; doubled each time."""
_MOST_REFUSED = 256


@dataclass
class BackOff:
    """What was tried since the server has last taken a token for what it had refused.

    Attributes:
        until: When each way may be tried again: seconds since the epoch.
        fruitless: Sign-ins.
        refused: For what it refused the token of the time; a digest of each.
    """

    until: dict[Way, float] = field(default_factory=dict[Way, float])
    fruitless: int = 0
    refused: list[str] = field(default_factory=list[str])

    def again(self, way: Way) -> float:
        """When it may be tried; at any time where nothing was refused since: a person may sign in at will."""
        return self.until.get(way, 0.0) if self.refused else 0.0

    def has_tried(self, way: Way, now: float) -> None:
        """Note that it has led to a token, which may be no better."""
        self.fruitless += way == "sign-in"
        pause = min(_FIRST_PAUSE * 2 ** max(self.fruitless - 1, 0), _LONGEST_PAUSE)
        self.until[way] = now + pause

    def note(self, refused: Iterable[str]) -> None:
        """Note for what a token is wanted that is taken."""
        self.refused = list(dict.fromkeys((*self.refused, *refused)))[-_MOST_REFUSED:]
