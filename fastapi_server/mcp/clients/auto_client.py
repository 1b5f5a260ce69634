"""A URL whose transport is found out by asking the server: Streamable HTTP, then HTTP+SSE, then the REST dialect."""

from typing import Any

from yarl import URL

from fastapi_server.mcp.clients.channel import Channel
from fastapi_server.mcp.clients.http_client import HTTPMCPClient, StreamableHTTPChannel
from fastapi_server.mcp.clients.rest_dialect import RESTChannel
from fastapi_server.mcp.clients.sse_client import SSEChannel
from fastapi_server.mcp.detection import HTTP, REST, SSE, candidate_transports
from fastapi_server.mcp.errors import (
    AuthenticationError,
    Delivery,
    HandshakeError,
    HTTPStatusError,
    MCPConnectionError,
    RateLimitError,
)

_KINDS = {HTTP: StreamableHTTPChannel, SSE: SSEChannel}


class AutoMCPClient(HTTPMCPClient):
    """A client of a server at a URL of unknown kind. What it finds out is kept for as long as it works."""

    transport = "auto"

    def __init__(self, name: str, config: Any, **options: Any) -> None:
        super().__init__(name, config, **options)
        self._candidates = candidate_transports(self.config.endpoint)
        self._candidate = 0
        self._refusals: list[str] = []

    @property
    def found(self) -> str | None:
        """The transport in use, `http`, `sse` or `rest`; `None` before the first connection."""
        return self._tried if self.metrics.connections else None

    @property
    def _tried(self) -> str:
        return self._candidates[self._candidate]

    async def _establish_connection(self) -> Channel:
        if self._tried == REST:
            channel: Channel = RESTChannel(self.config, self.metrics, self.identity, health_is_json=True)
        else:
            channel = _KINDS[self._tried](self.config, self.metrics, self.identity)
        await channel.open()
        return channel

    def _next_transport(self, error: MCPConnectionError) -> MCPConnectionError | None:
        """The next candidate, where the error means that the present one is not spoken at this URL."""
        if not self._is_another_transport(error):
            self._refusals.clear()
            return error
        self._refusals.append(f"{self._tried}: {error.message}")
        self._candidate = (self._candidate + 1) % len(self._candidates)
        if self._candidate:
            return None
        refusals, self._refusals = "; ".join(self._refusals), []
        where = URL(self.config.endpoint).with_query(None)  # a query may hold a key
        return HandshakeError(f"no MCP server was found at {where} ({refusals})")

    def _is_another_transport(self, error: MCPConnectionError) -> bool:
        """Whether a refusal may mean that the server is there, but is spoken to in another way."""
        match error:
            case AuthenticationError() | RateLimitError():
                return False
            case HTTPStatusError(delivery=Delivery.NOT_SENT) if self._tried != SSE:
                return False  # of an authorization server; before an event stream is open, nothing can be sent
            case HTTPStatusError(status=status):
                return status < 500
            case _:
                return isinstance(error, HandshakeError)
