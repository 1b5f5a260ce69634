"""What a token store holds for one server, one principal and one holder."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import msgspec
from pydantic import ValidationError

from fastapi_server.mcp.auth.back_off import BackOff
from fastapi_server.mcp.auth.keys import Kind, store_key
from fastapi_server.mcp.auth.quiet import alone
from fastapi_server.mcp.auth.quoting import faulty_members
from fastapi_server.mcp.auth.stores import MemoryTokenStore, TokenStore
from fastapi_server.mcp.errors import TokenStoreError
from fastapi_server.mcp.protocol.jsonrpc import as_object

DocumentT = TypeVar("DocumentT")

_EARLY_SECONDS = 30.0
_EARLY_PART = 0.1

_default_store = MemoryTokenStore()


def default_store() -> TokenStore:
    """The store of those who name none: in memory, one for the process."""
    return _default_store


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What the authorization server gave.

    Attributes:
        token_type: `Bearer` or `DPoP`.
        scope: What was granted, separated by spaces.
        expires_at: Seconds since the epoch; `None` where the server does not say.
        lifetime: Seconds that it lasts from the day it was given.
        proof_key: PEM of the key that a DPoP token is bound to.
        identity: Whom the assertion was about that it was given for, where the account's holder does not say that.
    """

    access_token: str = field(repr=False)
    token_type: str = "Bearer"  # noqa: S105 - a kind of token
    refresh_token: str | None = field(default=None, repr=False)
    scope: str | None = None
    expires_at: float | None = None
    lifetime: float | None = None
    proof_key: str | None = field(default=None, repr=False)
    identity: str | None = field(default=None, repr=False)

    def expired(self, now: float) -> bool:
        """Whether the server will refuse it."""
        return self.expires_at is not None and now >= self.expires_at

    def expires_soon(self, now: float) -> bool:
        """Whether to get the next one while this one still works: in the last tenth, at most half a minute, of it."""
        if self.expires_at is None or self.lifetime is None:
            return False
        return now >= self.expires_at - min(_EARLY_SECONDS, self.lifetime * _EARLY_PART)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A sign-in that waits for a person.

    Attributes:
        state: Names it.
        url: Where the person goes.
        aim: What it is for.
        expires_at: Seconds since the epoch.
    """

    state: str = field(repr=False)
    url: str = field(repr=False)
    aim: list[str | None]
    expires_at: float


@dataclass(kw_only=True)
class Kept:
    """All of it.

    Attributes:
        tokens: The present ones.
        client: The registration (RFC 7591), as the SDK's model dumps it.
        issuer: Of the authorization server that tokens and client belong to.
        auth_server_url: As the server's metadata names it (RFC 9728).
        metadata: Of the authorization server (RFC 8414).
        resource_metadata: Of the MCP server (RFC 9728).
        resource_metadata_url: Where that was.
        pending: The sign-in that waits for a person.
        busy_until: Seconds since the epoch: before, the token endpoint is left alone, since it failed in passing.
        back_off: For how long no token is asked for, since the MCP server takes none.
    """

    tokens: Tokens | None = None
    client: dict[str, Any] | None = field(default=None, repr=False)
    issuer: str | None = None
    auth_server_url: str | None = None
    metadata: dict[str, Any] | None = None
    resource_metadata: dict[str, Any] | None = None
    resource_metadata_url: str | None = None
    pending: Waiting | None = None
    busy_until: float | None = None
    back_off: BackOff = field(default_factory=BackOff)


async def read_document(store: TokenStore, key: str, kind: type[DocumentT]) -> DocumentT | None:
    """A document, where there is one; what a later version has added is passed over.

    Raises:
        TokenStoreError: It is damaged.
    """
    document = await store.get(key)
    if document is None:
        return None
    with intact(key):
        return msgspec.convert(document, kind)


@contextmanager
def intact(key: str) -> Generator[None]:
    """Around what makes sense of a document.

    Raises:
        TokenStoreError: There is none in it. The document is named, and nothing of it is quoted.
    """
    with alone(), _damage_named(key):
        yield


@contextmanager
def _damage_named(key: str) -> Generator[None]:
    try:
        yield
    except (ValueError, msgspec.ValidationError) as error:
        raise TokenStoreError(
            f"the token store's document {key} is damaged: {_fault(error)}; sign out and in again"
        ) from None


def _fault(error: Exception) -> str:
    match error:
        case ValidationError():
            return faulty_members(error)
        case msgspec.ValidationError():
            return str(error)
        case _:
            return type(error).__name__


@dataclass(frozen=True)
class Holders:
    """Those of a server and a principal that something is kept of."""

    holders: list[list[str | None]] = field(default_factory=list[list[str | None]])


_ON_THEIR_OWN = frozenset({"tokens", "client"})
"""What has documents of its own, by issuer."""


class Account:
    """One server, one principal and one holder in a token store.

    Args:
        store: Where it is kept.
        server: URL of the MCP server.
        principal: On whose behalf.
        holder: Which of the clients and accounts that are configured for them.
        clock: Seconds since the epoch.

    Attributes:
        unsaved: What the store has not taken.
    """

    def __init__(
        self,
        store: TokenStore,
        server: str,
        principal: str | None,
        holder: Sequence[str | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.server = server
        self.principal = principal
        self.holder = list(holder)
        self.clock = clock
        self.unsaved: Kept | None = None
        self._replaced: Tokens | None = None  # what the store holds in the place of `unsaved`
        self._about = store_key("issuer", server=server, principal=principal, holder=holder)
        self._holders = store_key("holders", server=server, principal=principal)

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Held while tokens are fetched: nobody else fetches them meanwhile, in any process."""
        return self.store.lock(self._about)

    def desk(self) -> AbstractAsyncContextManager[None]:
        """Held from before `lock` until a person has signed in: others who have a person wait, and nobody else."""
        return self.store.lock(f"{self._about}-desk")

    async def load(self) -> Kept:
        """What there is."""
        kept = await read_document(self.store, self._about, Kept) or Kept()
        kept.tokens = await read_document(self.store, self._key("tokens", kept.issuer), Tokens)
        kept.client = await read_document(self.store, self._key("client", kept.issuer), dict[str, Any])
        return kept

    def intact(self, kind: Kind, kept: Kept) -> AbstractContextManager[None]:
        """Around what makes sense of a part of what was loaded, as `intact` is."""
        return intact(self._about if kind == "issuer" else self._key(kind, kept.issuer))

    async def recover(self) -> Kept:
        """What there is. The lock is held: what the store has not taken is saved, unless others have saved since."""
        kept = await self.load()
        if self.unsaved is not None and kept.tokens in (self._replaced, self.unsaved.tokens):
            kept = self.unsaved
            await self.save(kept)
        self.unsaved, self._replaced = None, kept.tokens
        return kept

    async def save(self, kept: Kept) -> None:
        """Keep all of it; what belonged to another issuer goes."""
        self.unsaved = kept
        await self._enlist()
        before = as_object(await self.store.get(self._about))
        if before and before.get("issuer") != kept.issuer:
            for kind in ("tokens", "client"):
                await self.store.set(self._key(kind, before.get("issuer")), None)
        await self.store.set(self._key("client", kept.issuer), kept.client)
        await self.store.set(self._key("tokens", kept.issuer), None if kept.tokens is None else asdict(kept.tokens))
        about = {name: value for name, value in asdict(kept).items() if name not in _ON_THEIR_OWN}
        await self.store.set(self._about, about)
        self.unsaved, self._replaced = None, kept.tokens

    async def _enlist(self) -> None:
        """Be found by who signs out, however the server is configured then."""
        if self.holder not in await self._listed():
            async with self.store.lock(self._holders):
                await self.store.set(self._holders, asdict(Holders([*await self._listed(), self.holder])))

    async def _listed(self) -> list[list[str | None]]:
        """Nobody where the list is damaged: it is made anew, and never in the way of who signs in or out."""
        try:
            return msgspec.convert(await self.store.get(self._holders) or {}, Holders).holders
        except msgspec.ValidationError:
            return []

    async def all_of_them(self) -> "list[Account]":
        """This one, and those of the other holders that anything is kept of for the server and principal."""
        others = [holder for holder in await self._listed() if holder != self.holder]
        return [self, *(Account(self.store, self.server, self.principal, holder, self.clock) for holder in others)]

    async def forget(self) -> bool:
        """Delete all of it, damaged or not. Whether there were tokens."""
        about = as_object(await self.store.get(self._about))
        issuer, state = about.get("issuer"), as_object(about.get("pending")).get("state")
        keys = [self._key("tokens", issuer), self._key("client", issuer), self._about]
        had_tokens = await self.store.get(keys[0]) is not None
        if state is not None:
            keys.append(store_key("pending", server=state))
        for key in keys:
            await self.store.set(key, None)
        await self._delist()
        return had_tokens

    async def _delist(self) -> None:
        async with self.store.lock(self._holders):
            left = [holder for holder in await self._listed() if holder != self.holder]
            await self.store.set(self._holders, asdict(Holders(left)) if left else None)

    def _key(self, kind: Kind, issuer: str | None) -> str:
        return store_key(kind, server=self.server, principal=self.principal, holder=self.holder, issuer=issuer)
