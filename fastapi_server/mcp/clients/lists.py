"""The lists of a server: every page of each, kept for as long as the server allows."""

from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar

from fastapi_server.mcp.clients.caller import NO_OPTIONS, Caller, CallOptions, PageT
from fastapi_server.mcp.protocol.caching import ListCache

ItemT = TypeVar("ItemT")


class Lists:
    """Fetches lists for one client.

    Args:
        cache: Of the client, so that nothing crosses from one principal to another.
    """

    def __init__(self, cache: ListCache) -> None:
        self._cache = cache

    async def get(
        self,
        caller: Caller,
        model: type[PageT],
        method: str,
        items_of: Callable[[PageT], list[ItemT]],
        deadline: float,
        learn: Callable[[list[ItemT]], list[ItemT]] = list,
        options: CallOptions = NO_OPTIONS,
    ) -> list[ItemT]:
        """The whole of a list, from the cache while it is fresh.

        Args:
            caller: Makes the calls.
            model: Of a page.
            method: That gives it.
            items_of: Its items.
            deadline: On the clock of the event loop, for all pages together.
            learn: Told the whole list when it has come; returns what of it is to be used.
            options: For each call.
        """
        cached: list[Any] | None = self._cache.get(method)
        if cached is not None:
            return cached
        ticket = self._cache.ticket()
        pages = await caller.pages(model, method, deadline, options)
        items = learn(list(chain.from_iterable(map(items_of, pages))))
        self._cache.put(method, items, min(page.ttl_ms for page in pages), ticket)
        return items
