"""How many requests somebody may make."""

import math
import threading
import time
from dataclasses import dataclass

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_server.gateway.audit import Audit
from fastapi_server.gateway.caller import SCOPE_KEY, Caller
from fastapi_server.gateway.front.path import path_within
from fastapi_server.gateway.problems import problem
from fastapi_server.mcp import ConfigError

_UNLIMITED = frozenset({"/health", "/ready"})
_SWEEP_SECONDS = 10.0


@dataclass(frozen=True)
class Allowance:
    """What somebody has left, as the header fields `RateLimit-…` say it.

    Attributes:
        granted: This request may pass.
        limit: Requests in a window.
        remaining: Those left.
        reset: Whole seconds until there is more.
    """

    granted: bool
    limit: int
    remaining: int
    reset: int

    @property
    def headers(self) -> dict[str, str]:
        """The fields of draft-ietf-httpapi-ratelimit-headers-03, which clients know."""
        fields = {"limit": self.limit, "remaining": self.remaining, "reset": self.reset}
        return {f"ratelimit-{name}": str(value) for name, value in fields.items()}

    def refusal(self) -> Response:
        """The answer to who has nothing left."""
        headers = {**self.headers, "retry-after": str(self.reset)}
        return problem(429, f"more than {self.limit} requests; again in {self.reset} s", headers)


class _NeverDue(threading.Timer):
    """In the place of the library's own, which is a thread of its own for almost every request."""

    def is_alive(self) -> bool:
        return True


class Rates:
    """Counts requests in a moving window, in this process.

    Args:
        limit: In the words of the library `limits`, such as `600/minute`.

    Raises:
        ConfigError: It is none.
    """

    def __init__(self, limit: str) -> None:
        try:
            self._item: RateLimitItem = parse(limit)
        except ValueError as error:
            raise ConfigError(f"rate_limit: {limit!r} is no limit such as '600/minute'") from error
        storage = MemoryStorage()
        self._sweep, self._swept_at = storage.timer.function, time.monotonic()
        storage.timer = _NeverDue(0, self._sweep)
        self._limiter = MovingWindowRateLimiter(storage)

    def ask(self, who: str) -> Allowance:
        """Count one request of somebody, where there is room for it."""
        if time.monotonic() - self._swept_at > _SWEEP_SECONDS:
            self._swept_at = time.monotonic()
            self._sweep()
        granted = self._limiter.hit(self._item, who)
        window = self._limiter.get_window_stats(self._item, who)
        reset = max(1, math.ceil(window.reset_time - time.time()))
        return Allowance(granted, self._item.amount, max(0, window.remaining), reset)


class RateLimit:
    """Refuses with 429 who asks too often: each principal, and each address of those who have not said who they are.

    What may have been a call is noted in the audit log, by its path: its body is not read.
    """

    def __init__(self, app: ASGIApp, rates: Rates) -> None:
        self._app = app
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http" or path_within(scope) in _UNLIMITED:
            await self._app(scope, receive, send)
            return
        caller: Caller = scope[SCOPE_KEY]
        allowance = self._rates.ask(address_of(scope) if caller.principal is None else f"principal {caller.principal}")
        if not allowance.granted:
            if scope["method"] == "POST":
                audit: Audit = scope["app"].state.audit
                audit.refused(caller, "", scope["method"], scope["path"])
            await allowance.refusal()(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(allowance.headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def address_of(scope: Scope) -> str:
    """Where a request comes from, to count those who have not said who they are."""
    client = scope.get("client")
    return f"address {client[0]}" if client else "address"
