"""Which reply belongs to which call, where all replies come back on one stream (stdio, HTTP+SSE)."""

from typing import Generic, TypeVar

from fastapi_server.mcp.protocol.jsonrpc import Message

WaiterT = TypeVar("WaiterT")

_LONGEST_ID = 20


class CorrelationTable(dict[int, WaiterT], Generic[WaiterT]):
    """Ids of the calls in flight, each with whoever waits for it; replies may come in any order.

    We number our requests with integers; what comes back as `"7"` or `7.0` is taken for `7`, and what comes back with
    no id at all for the reply to the only call in flight.
    """

    def take(self, reply: Message) -> WaiterT | None:
        """Whoever waits for this reply, who then waits no more; `None` where nobody does."""
        reply_id = reply.id
        if not isinstance(reply_id, int):
            reply_id = self._resolved(reply_id)
        return None if reply_id is None else self.pop(reply_id, None)

    def drain(self) -> list[WaiterT]:
        """Everybody who still waits, oldest first; the table is empty afterwards."""
        waiters = list(self.values())
        self.clear()
        return waiters

    def _resolved(self, reply_id: object) -> int | None:
        match reply_id:
            case float(number) if number.is_integer():
                return int(number)
            case str(text) if text.isdecimal() and len(text) < _LONGEST_ID:
                return int(text)
            case str() | float():
                return None
            case _:
                return next(iter(self)) if len(self) == 1 else None
