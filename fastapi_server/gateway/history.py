"""How each server fared, minute by minute, kept for as long as the settings say."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isinf

from fastapi_server.gateway.background import is_over
from fastapi_server.gateway.store import MetricsPoint, Store, StoreUnavailable
from fastapi_server.mcp import ClientMetrics, ClientPool, PoolKey

logger = logging.getLogger("fastapi_server.gateway")

_MINUTE = 60.0
_DAY = 86_400.0


@dataclass
class Tally:
    """What is counted of calls: how many ended within each bound, in seconds, and how many failed."""

    within: dict[float, int] = field(default_factory=dict[float, int])
    errors: int = 0

    @classmethod
    def of(cls, metrics: ClientMetrics) -> "Tally":
        """All that a client has counted so far."""
        tally = cls(errors=metrics.errors)
        for histogram in list(metrics.latency.values()):
            tally.add(cls({float(bound): count for bound, count in histogram.cumulative().items()}))
        return tally

    @property
    def calls(self) -> int:
        """How many ended."""
        return self.within.get(float("inf"), 0)

    def since(self, before: "Tally") -> "Tally":
        """What has come to it since then; a client that counts from zero again is another one."""
        if before.calls > self.calls or before.errors > self.errors:
            return self
        within = {bound: count - before.within.get(bound, 0) for bound, count in self.within.items()}
        return Tally(within, self.errors - before.errors)

    def add(self, other: "Tally") -> None:
        """Count what another has counted."""
        for bound, count in other.within.items():
            self.within[bound] = self.within.get(bound, 0) + count
        self.errors += other.errors

    def quantile(self, part: float) -> float:
        """Seconds that this part of the calls stayed within, by a straight line between two bounds.

        Beyond the last finite bound it is that one; 0 without calls.
        """
        rank = part * self.calls
        lower, counted = 0.0, 0
        for bound, count in sorted(self.within.items()):
            if count >= rank and count > counted:
                return lower if isinf(bound) else lower + (bound - lower) * (rank - counted) / (count - counted)
            lower, counted = bound, count
        return 0.0


class History:
    """Writes once a minute what the clients have counted, and deletes what is too old.

    Args:
        pool: Has the clients.
        store: Keeps the history, and the audit log, which is as old at most.
        days: How long.
    """

    def __init__(self, pool: ClientPool, store: Store, *, days: float) -> None:
        self._pool = pool
        self._store = store
        self._days = days
        self._before: dict[PoolKey, Tally] = {}

    async def keep_minutes(self, over: asyncio.Event) -> None:
        """Write at the end of each minute, and of the last one what there is."""
        while not await is_over(over, within=_MINUTE - time.time() % _MINUTE):
            await self.keep(time.time())
        await self.keep(time.time())

    async def keep(self, now: float) -> None:
        """Write what has happened since the last time, and delete what is too old at this time."""
        points = [
            _point(now, server, tally) for server, tally in self._tallies().items() if tally.calls or tally.errors
        ]
        try:
            await self._store.add_history(points)
            await self._store.forget_before(now - self._days * _DAY)
        except StoreUnavailable as error:
            logger.warning("the history of metrics cannot be written: %s", error)

    def _tallies(self) -> Mapping[str, Tally]:
        """What each server has done since the last time, all its clients together."""
        now = {member.key: Tally.of(member.client.metrics) for member in self._pool.members()}
        servers: dict[str, Tally] = {}
        for key, tally in now.items():
            servers.setdefault(key.server, Tally()).add(tally.since(self._before.get(key, Tally())))
        self._before = now
        return servers


def _point(now: float, server: str, tally: Tally) -> MetricsPoint:
    """Of the minute that ends at this time; who wakes up a little late means that one, too."""
    minute = (now - 1) // _MINUTE * _MINUTE
    p50, p95, p99 = (tally.quantile(part) for part in (0.5, 0.95, 0.99))
    return MetricsPoint(minute, server, tally.calls, tally.errors, p50, p95, p99)
