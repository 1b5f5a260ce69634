"""What a pool does while nobody looks: closes what nobody uses, and replaces what does not answer."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable

from fastapi_server.mcp.admission import PoolLimits
from fastapi_server.mcp.clients.lifecycle import ConnectionState
from fastapi_server.mcp.config import CommonConfig
from fastapi_server.mcp.members import PoolMember, PoolMetrics
from fastapi_server.mcp.resilience import BreakerState

logger = logging.getLogger("fastapi_server.mcp")

_LEAST_SECONDS = 0.05


async def rounds(limits: PoolLimits, next_round: Callable[[], Awaitable[None] | None]) -> None:
    """Have rounds made, at intervals with jitter, until there is none to be made any more."""
    seconds = max(_LEAST_SECONDS, min(limits.probe_seconds, limits.idle_seconds))
    while True:
        await asyncio.sleep(seconds * random.uniform(0.25, 0.5))  # noqa: S311
        under_way = next_round()
        if under_way is None:
            return
        await under_way


class Supervisor:
    """Looks at the clients of a pool, one round at a time.

    Args:
        limits: What the pool keeps to.
        metrics: Of the pool.
        clock: Seconds, monotonic.
        rest: Told of a member that nobody has used for that long, and that is closed.
    """

    def __init__(
        self,
        limits: PoolLimits,
        metrics: PoolMetrics,
        clock: Callable[[], float],
        rest: Callable[[PoolMember], None],
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._rest = rest

    async def round(self, members: Iterable[PoolMember]) -> None:
        """Close those that nobody has used for `idle_seconds`, and probe the others that nobody is using now.

        What has no connection to be closed, and perhaps never had one, is not kept for longer than that, either.
        """
        now = self._clock()
        idle = [member for member in members if not member.busy]
        stale = {member for member in idle if now - member.last_used >= self._limits.idle_seconds}
        open_ = [member for member in idle if member.admitted and member not in stale]
        due = [member for member in open_ if now - member.last_probed >= self._limits.probe_seconds]
        work = [*(self._close_idle(member, now) for member in stale), *(self._probe(member) for member in due)]
        for outcome in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(outcome, Exception):
                logger.error("the supervisor of a pool failed; it goes on", exc_info=outcome)

    async def _close_idle(self, member: PoolMember, now: float) -> None:
        if member.admitted:
            self._metrics.idle_closed += 1
            logger.info("server %r: closed after %.0f s without a call", member.server, now - member.last_used)
            await member.client.park(drain=self._limits.drain_seconds)
        if not member.admitted:  # nobody has wanted it meanwhile
            self._rest(member)

    def _seconds_for(self, member: PoolMember) -> float:
        settings, seconds = member.client.config, self._limits.probe_timeout_seconds
        return min(seconds, settings.timeout / 1000) if isinstance(settings, CommonConfig) else seconds

    async def _probe(self, member: PoolMember) -> None:
        member.last_probed = self._clock()
        client, metrics = member.client, member.client.metrics
        if member.busy or member.probing or metrics.breaker_state != BreakerState.CLOSED:
            return  # calls find out whether it works
        if client.state is ConnectionState.CONNECTED:
            connections, received = metrics.connections, metrics.bytes_received
            member.probing = True
            try:
                alive = await client.health_check(timeout=self._seconds_for(member))
            finally:
                member.probing = False
            if alive or metrics.bytes_received > received or metrics.connections > connections:
                return
        if client.state in {ConnectionState.CONNECTED, ConnectionState.ERROR}:
            self._metrics.replaced += 1
            await client.replace_channel()
