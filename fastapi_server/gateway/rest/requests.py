"""Counts the requests to the gateway."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LABELS = ("method", "route")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class RequestMetrics:
    """ASGI middleware.

    The label `route` is a path as declared, never one as sent: there may be any number of those. For the same reason a
    method that nobody knows is `other`.

    Args:
        app: What answers.
        registry: Where the counters are registered.
    """

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter("mcp_gateway_requests", "Requests answered.", (*_LABELS, "status"), registry=registry)
        self._seconds = Histogram(
            "mcp_gateway_request_duration_seconds", "From a request to its whole answer.", _LABELS, registry=registry
        )
        self._open = Gauge("mcp_gateway_requests_open", "Requests not answered yet.", registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._open.track_inprogress():
            try:
                await self._app(scope, receive, sent)
            finally:
                method = scope["method"] if scope["method"] in _METHODS else "other"
                labels = (method, getattr(scope.get("route"), "path", "other"))
                self._requests.labels(*labels, status).inc()
                self._seconds.labels(*labels).observe(time.perf_counter() - started)
