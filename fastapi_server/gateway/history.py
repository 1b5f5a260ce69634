"""How each server fared, minute by minute, kept for as long as the settings say."""

import asyncio
import logging
import time
from collections.abc import Mapping

from fastapi_server.gateway.background import is_over
from fastapi_server.gateway.recent import Recent, Tally, percentiles
from fastapi_server.gateway.store import MetricsPoint, Store, StoreRefused, StoreUnavailable

logger = logging.getLogger("fastapi_server.gateway")

_MINUTE = 60.0
_DAY = 86_400.0
_MOST_UNWRITTEN = 10_000


class History:
    """Writes once a minute how the calls to each server went, and deletes what is too old.

    Args:
        recent: Of each server that there is.
        store: Keeps the history, and the audit log, which is as old at most.
        days: How long.
    """

    def __init__(self, recent: Mapping[str, Recent], store: Store, *, days: float) -> None:
        self._recent = recent
        self._store = store
        self._days = days
        self._unwritten: list[MetricsPoint] = []

    async def keep_minutes(self, over: asyncio.Event) -> None:
        """Write at the end of each minute, and of the last one what there is."""
        while not await is_over(over, within=_MINUTE - time.time() % _MINUTE):
            await self.keep(time.time())
        await self.keep(time.time())

    async def keep(self, now: float) -> None:
        """Write what has happened since the last time, and delete what is too old at this time."""
        tallies = {server: recent.take_minute() for server, recent in self._recent.items()}
        points = [_point(now, server, tally) for server, tally in tallies.items() if tally.calls]
        self._unwritten = [*self._unwritten, *points][-_MOST_UNWRITTEN:]
        try:
            await self._store.add_history(self._unwritten)
            self._unwritten = []
            await self._store.forget_before(now - self._days * _DAY)
        except StoreUnavailable as error:
            logger.warning("the history of metrics cannot be written, and waits: %s", error)
        except StoreRefused as error:
            self._unwritten = []  # now and for ever
            logger.error("minutes of the history of metrics are lost: %s", error)


def _point(now: float, server: str, tally: Tally) -> MetricsPoint:
    """Of the minute that ends at this time; who wakes up a little late means that one, too."""
    minute = (now - 1) // _MINUTE * _MINUTE
    took = percentiles(tally.seconds)
    return MetricsPoint(minute, server, tally.calls, tally.errors, took.p50, took.p95, took.p99)
