"""API keys: `mcpgw_<id>_<secret>`. The id finds the key, the secret proves it, and only its hash is kept.

A secret has 256 bits from the operating system, so that a plain SHA-256 is enough: there is nothing to guess.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.store import APIKey, Store, StoreUnavailable
from fastapi_server.mcp import ToolRules

PREFIX = "mcpgw_"
_NOT_GOOD = (
    "this API key is not good: it is none of this gateway's, was revoked, or has expired; "
    "send one that is as Authorization: Bearer … or as X-API-Key: …"
)
_ID_BYTES = 8
_REMEMBERED_SECONDS = 1.0
_MOST = 10_000


class KeyRefused(Exception):
    """It is no key of ours, or it is not good any more; which of these is not told."""

    def __init__(self, why: str = _NOT_GOOD) -> None:
        super().__init__(why)


@dataclass(frozen=True)
class KeyGrant:
    """What a new key is for.

    Attributes:
        name: What the audit log calls its holder.
        principal: On whose behalf its calls are made; left out, the key is a principal of its own.
        admin: It may change servers and keys, and read the audit log.
        expires: Seconds since the epoch; `None` for never.
        servers: Patterns of the servers that it opens; `None` for all.
        tools: Which tools it may call; `rename` has no meaning here.
        metrics: It may read `/metrics`.
    """

    name: str
    principal: str | None = None
    admin: bool = False
    expires: float | None = None
    servers: list[str] | None = None
    tools: ToolRules = field(default_factory=ToolRules)
    metrics: bool = False


class KeyRing:
    """Makes keys, and tells whose one is.

    A key that was looked up is remembered for 1 s: so long it may go on after another process has revoked it. While the
    database is away, keys that were seen before are good as they were last seen.

    Args:
        store: Keeps them.
        clock: Seconds since the epoch.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._remembered: dict[str, tuple[float, APIKey]] = {}

    def _new(self, grant: KeyGrant) -> tuple[str, APIKey]:
        key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(32)
        kept = APIKey(
            id=key_id,
            name=grant.name,
            hash=_hash(secret),
            prefix=f"{PREFIX}{key_id}_{secret[:4]}",
            principal=grant.principal or f"key:{key_id}",
            admin=grant.admin,
            created=self._clock(),
            expires=grant.expires,
            servers=grant.servers,
            allow=grant.tools.allow,
            deny=grant.tools.deny,
            metrics=grant.metrics,
        )
        return f"{PREFIX}{key_id}_{secret}", kept

    async def make(self, grant: KeyGrant) -> tuple[str, APIKey]:
        """A new key, and what is kept of it. The key itself cannot be had again."""
        key, kept = self._new(grant)
        await self._store.add_key(kept)
        return key, kept

    async def make_first(self, grant: KeyGrant) -> str | None:
        """A new key where there was none before, whichever process of the gateway comes first."""
        key, kept = self._new(grant)
        return key if await self._store.add_first_key(kept) else None

    async def caller(self, key: str) -> Caller:
        """Whose key it is.

        Raises:
            KeyRefused: Nobody's, or it is revoked or has expired.
        """
        key_id, _, secret = key.removeprefix(PREFIX).partition("_")
        kept = await self._kept(key_id) if key.startswith(PREFIX) else None
        right = hmac.compare_digest(_hash(secret), kept.hash if kept is not None else _hash(""))
        if kept is None or not right or kept.revoked is not None:
            raise KeyRefused
        if kept.expires is not None and kept.expires <= self._clock():
            raise KeyRefused
        rules = ToolRules(allow=kept.allow, deny=kept.deny)
        return Caller(kept.name, kept.principal, kept.admin, kept.servers, rules, kept.metrics)

    async def revoke(self, key_id: str) -> APIKey | None:
        """The key, which opens nothing any more; `None` where there is none of that id."""
        revoked = await self._store.revoke_key(key_id, self._clock())
        self._remembered.pop(key_id, None)
        return revoked

    async def _kept(self, key_id: str) -> APIKey | None:
        now = asyncio.get_running_loop().time()
        seen = self._remembered.get(key_id)
        if seen is not None:
            if now < seen[0]:
                return seen[1]
            seen = self._remembered[key_id] = (now + _REMEMBERED_SECONDS, seen[1])  # others need not ask, too
        try:
            kept = await self._store.key(key_id)
        except StoreUnavailable:
            if seen is None:
                raise
            return seen[1]
        if self._remembered.get(key_id) is not seen:
            return kept  # revoked meanwhile, or looked up by somebody else
        self._remembered.pop(key_id, None)
        if kept is not None:
            if len(self._remembered) >= _MOST:
                self._remembered.pop(next(iter(self._remembered)))
            self._remembered[key_id] = (now + _REMEMBERED_SECONDS, kept)
        return kept


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
