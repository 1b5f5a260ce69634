"""What a pool is to the clients in it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from fastapi_server.mcp.resilience import CircuitBreaker

if TYPE_CHECKING:
    from fastapi_server.mcp.clients.base_client import MCPClient


class Membership(Protocol):
    """A pool, as one of its clients sees it."""

    @property
    def several(self) -> bool:
        """Whether the server may have several processes, so that the pool has to choose one for each call."""
        ...

    async def admit(self) -> None:
        """Wait for leave to open a channel."""
        ...

    def released(self) -> None:
        """Hear that the channel is closed, or could not be opened."""
        ...

    @property
    def rested(self) -> Callable[[], None]:
        """Told when nothing is under way any more: the last call in flight has ended, or connecting, or listening."""
        ...

    async def choose(self, deadline: float) -> "MCPClient":
        """Give the client for the next call: another one, where the server has several processes.

        Args:
            deadline: Of the call, on the clock of the event loop.

        Raises:
            ClientClosedError: The pool has no use for the client any more.
        """
        ...

    def processes(self) -> "Sequence[MCPClient]":
        """Give the clients of all processes of the server, one mostly."""
        ...

    def breaker(self, own: CircuitBreaker) -> CircuitBreaker:
        """Give the circuit breaker that all clients of the server share."""
        ...
