"""How many calls one client makes at the same time."""

import asyncio
from collections.abc import Callable

from fastapi_server.mcp.errors import BusyError


class Slots:
    """So many calls at the same time; the others wait in the order they came.

    Args:
        limit: How many.
        wait_seconds: How long one of the others waits.
        waited: Told for how long one has.
    """

    def __init__(self, limit: int, wait_seconds: float, waited: Callable[[float], None]) -> None:
        self._limit = limit
        self._wait_seconds = wait_seconds
        self._waited = waited
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free = asyncio.Semaphore(0)

    async def take(self) -> None:
        """Wait for a turn.

        Raises:
            BusyError: None came in time.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # of the one before, with the calls that were in flight there, nothing is left
            self._loop, self._free = loop, asyncio.Semaphore(self._limit)
        if not self._free.locked():
            await self._free.acquire()
            return
        started = loop.time()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise BusyError(
                f"no turn within {self._wait_seconds:g} s: {self._limit} calls are in flight (config: max_in_flight)"
            ) from None
        finally:
            self._waited(loop.time() - started)

    def give_back(self) -> None:
        """The turn is over."""
        self._free.release()
