"""Which reply belongs to which call, where all replies come back on one stream (stdio, HTTP+SSE)."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from fastapi_server.mcp.protocol.jsonrpc import Message

WaiterT = TypeVar("WaiterT")

_LONGEST_ID = 20


@dataclass(slots=True)
class CorrelationCounts:
    """What came back other than expected. None of it is fatal; all of it is worth seeing."""

    unmatched: int = 0
    """Replies that nobody waits for: late after a cancel, twice, or to an id never sent."""
    coerced: int = 0
    """Replies whose id came back in another type, `"7"` or `7.0` for `7`."""
    without_id: int = 0
    """Replies with no id at all, given to the only call in flight."""


class CorrelationTable(Generic[WaiterT]):
    """Ids of the calls in flight, each with whoever waits for it; replies may come in any order.

    We number our requests with integers; what comes back as `"7"` or `7.0` is taken for `7`.
    """

    def __init__(self) -> None:
        self._waiters: dict[int, WaiterT] = {}
        self.counts = CorrelationCounts()

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, request_id: int, waiter: WaiterT) -> None:
        """Wait for the reply to `request_id`."""
        self._waiters[request_id] = waiter

    def discard(self, request_id: int) -> None:
        """Stop waiting; a reply that still comes is counted as unmatched."""
        self._waiters.pop(request_id, None)

    def take(self, reply: Message) -> WaiterT | None:
        """Whoever waits for this reply, who then waits no more; `None` where nobody does."""
        reply_id = self._resolve(reply)
        waiter = self._waiters.pop(reply_id, None) if reply_id is not None else None
        if waiter is None:
            self.counts.unmatched += 1
        return waiter

    def drain(self) -> list[WaiterT]:
        """Everybody who still waits, oldest first; the table is empty afterwards."""
        waiters = list(self._waiters.values())
        self._waiters.clear()
        return waiters

    def _resolve(self, reply: Message) -> int | None:
        match reply.id:
            case int(exact):
                return exact
            case float(number) if number.is_integer():
                self.counts.coerced += 1
                return int(number)
            case str(text) if text.isdecimal() and len(text) < _LONGEST_ID:
                self.counts.coerced += 1
                return int(text)
            case str() | float():
                return None
            case _ if len(self._waiters) == 1:
                self.counts.without_id += 1
                return next(iter(self._waiters))
            case _:
                return None
