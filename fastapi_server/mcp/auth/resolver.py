"""Names of special addresses: found out when a connection is made, from the addresses that it is made to."""

import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from fastapi_server.mcp.auth.reach import Reach, Special, special_of


class OutOfReachError(Exception):
    """A host has an address of a kind that the server has not."""

    def __init__(self, special: Special) -> None:
        super().__init__(special)
        self.special: Special = special


class ReachResolver(AbstractResolver):
    """Gives the addresses of a host only where all of them may be followed.

    Args:
        reach: Says what the configuration names. Its server counts as special where one of its addresses is.

    Raises:
        OutOfReachError: By `resolve`.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._system = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """What the system says."""
        found = await self._system.resolve(host, port, family)
        specials = _specials(found)
        if specials and not self._reach.names(host, port):
            foreign = specials - await self._of_server(family)
            if foreign:
                raise OutOfReachError(foreign.pop())
        return found

    async def _of_server(self, family: socket.AddressFamily) -> set[Special]:
        host = self._reach.server.host or ""
        special = special_of(host)
        return {special} if special else _specials(await self._system.resolve(host, family=family))

    async def close(self) -> None:
        """Nothing more is asked."""
        await self._system.close()


def _specials(found: list[ResolveResult]) -> set[Special]:
    return {special for one in found if (special := special_of(one["host"])) is not None}
