"""The first attempt to reach every server, after which the gateway is ready."""

import asyncio
import contextlib

from fastapi_server.gateway.gateway import Gateway
from fastapi_server.mcp import MCPConnectionError


class FirstRound:
    """Connects to every server once, in the background.

    Attributes:
        over: Each server has been tried.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.over = False
        self._gateway = gateway
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        with contextlib.suppress(MCPConnectionError):  # of a server that is required: its state says so
            await self._gateway.pool.connect_all()
        self.over = True
        await self._gateway.directory.listings(self._gateway.pool.servers, None)

    async def close(self) -> None:
        """Try no further."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
