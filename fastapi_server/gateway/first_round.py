"""The first attempt to reach every server, after which the gateway is ready."""

import asyncio
import contextlib

from fastapi_server.gateway.background import unless
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.mcp import MCPConnectionError


class FirstRound:
    """Connects to every server once.

    Attributes:
        over: Each server has been tried.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.over = False
        self._gateway = gateway

    async def go(self, over: asyncio.Event) -> None:
        """Try each server, and ask it for its lists."""
        await unless(over, self._connect())

    async def _connect(self) -> None:
        with contextlib.suppress(MCPConnectionError):  # of a server that is required: its state says so
            await self._gateway.pool.connect_all()
        self.over = True
        await self._gateway.directory.listings(self._gateway.pool.servers, None)
