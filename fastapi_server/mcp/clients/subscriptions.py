"""Change notices, asked for in the way of each era and delivered in one."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from mcp_types import ServerCapabilities

from fastapi_server.mcp.errors import MCPClientError


@dataclass(frozen=True, slots=True)
class Change:
    """Something on the server is no longer what it was.

    Attributes:
        kind: The list of `tools`, `prompts` or `resources`; or one `resource`.
        uri: Of that resource; `None` for a list.
    """

    kind: Literal["tools", "prompts", "resources", "resource"]
    uri: str | None = None


LIST_NOTICES: dict[str, Change] = {
    "notifications/tools/list_changed": Change("tools"),
    "notifications/prompts/list_changed": Change("prompts"),
    "notifications/resources/list_changed": Change("resources"),
}


def change_in(method: str, params: dict[str, Any]) -> Change | None:
    """The change that a notification tells, or `None` where it tells none."""
    if method == "notifications/resources/updated" and isinstance(params.get("uri"), str):
        return Change("resource", params["uri"])
    return LIST_NOTICES.get(method)


@dataclass(frozen=True, slots=True)
class Interest:
    """What a subscription wants to hear of."""

    tools: bool = False
    prompts: bool = False
    resources: bool = False
    uris: frozenset[str] = frozenset()

    def covers(self, change: Change) -> bool:
        """Whether `change` is meant."""
        match change.kind:
            case "tools":
                return self.tools
            case "prompts":
                return self.prompts
            case "resources":
                return self.resources
            case "resource":
                return change.uri in self.uris

    def to_filter(self) -> dict[str, Any]:
        """Wire form of the `SubscriptionFilter` (2026-07-28, basic/patterns/subscriptions)."""
        wanted: dict[str, Any] = {
            "toolsListChanged": self.tools,
            "promptsListChanged": self.prompts,
            "resourcesListChanged": self.resources,
            "resourceSubscriptions": sorted(self.uris),
        }
        return {key: value for key, value in wanted.items() if value}


def list_changes(offers: ServerCapabilities | None) -> Interest:
    """Every list whose changes a server tells; all three where it has not said what it offers."""
    if offers is None:
        return Interest(tools=True, prompts=True, resources=True)
    return Interest(
        tools=bool(offers.tools and offers.tools.list_changed),
        prompts=bool(offers.prompts and offers.prompts.list_changed),
        resources=bool(offers.resources and offers.resources.list_changed),
    )


class Subscription:
    """An async iterator of changes, and an async context manager that ends it.

    A change that is told again before it was read is one change: nothing piles up behind a slow reader. When the
    connection was lost and is there again, everything asked for is told as changed, because it may be. Iteration ends
    when the server ends the subscription, and raises where the connection cannot be had again.

    Attributes:
        interest: What was asked for.
        honoured: What the server agreed to: a `SubscriptionFilter` in wire form.
        acknowledged: Done when it has.
        acknowledgements: How often it has: once for each connection that carried it.
        standing: It is there for the client's `list_changed` handler.
    """

    def __init__(self, interest: Interest, *, standing: bool = False) -> None:
        self.interest = interest
        self.standing = standing
        self.acknowledgements = 0
        self.honoured: dict[str, Any] = interest.to_filter()
        self.acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._end: Callable[[], Awaitable[None]] | None = None
        self._unread: dict[Change, None] = {}
        self._news = asyncio.Event()
        self._over = False
        self._error: MCPClientError | None = None

    def ends_with(self, end: Callable[[], Awaitable[None]]) -> None:
        """What `close` has to do beside."""
        self._end = end

    def tell(self, change: Change) -> None:
        """Note a change for whoever reads."""
        if self.interest.covers(change):
            self._unread[change] = None
            self._news.set()

    def tell_everything(self) -> None:
        """Changes may have been missed."""
        for change in (*LIST_NOTICES.values(), *(Change("resource", uri) for uri in sorted(self.interest.uris))):
            self.tell(change)

    def acknowledge(self, honoured: dict[str, Any]) -> None:
        """The server has agreed."""
        self.honoured = honoured
        self.acknowledgements += 1
        if not self.acknowledged.done():
            self.acknowledged.set_result(None)
        else:
            self.tell_everything()

    def finish(self, error: MCPClientError | None = None) -> None:
        """No more will come; `error` says why, where it was not meant to end."""
        if self._over:
            return
        self._over, self._error = True, error
        self._news.set()
        if not self.acknowledged.done():
            if error is None:
                self.acknowledged.set_result(None)
            else:
                self.acknowledged.set_exception(error)
                self.acknowledged.exception()

    async def close(self) -> None:
        """End the subscription and tell the server. Safe twice."""
        end, self._end = self._end, None
        self.finish()
        if end is not None:
            await end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while not self._unread:
            if self._over:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        change = next(iter(self._unread))
        del self._unread[change]
        return change
