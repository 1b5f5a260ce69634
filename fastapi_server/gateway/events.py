"""What happens in the gateway, for those who watch it live."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from fastapi_server.gateway.directory import ListChange

_BACKLOG = 1_000


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: `server` (added, changed, removed), `state`, `call`, `log`, `lists`, or `config` (the file has been read
            again; `problems` says what is wrong there, and nothing has changed where there are any).
        server: Which server it is about; empty where it is none.
        data: What more there is to say, as plain values.
        principal: Whose connection it was on, of what happens on one.
        change: What `lists` is about.
    """

    kind: str
    server: str
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    principal: str | None = None
    change: ListChange | None = None


class EventBus:
    """Tells every watcher every event. One who does not keep up loses the oldest."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Queue[Event]] = set()

    def tell(self, event: Event) -> None:
        """Tell all who watch now; returns at once."""
        for queue in self._watchers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    @contextlib.asynccontextmanager
    async def watch(self) -> AsyncGenerator[AsyncGenerator[Event]]:
        """All events from now on."""
        queue = asyncio.Queue[Event](_BACKLOG)
        self._watchers.add(queue)

        async def events() -> AsyncGenerator[Event]:
            while True:
                yield await queue.get()

        try:
            yield events()
        finally:
            self._watchers.discard(queue)
