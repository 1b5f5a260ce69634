"""One's turn at an account: what the store holds, made better by a refresh or a sign-in, and saved."""

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import httpx2
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER

from fastapi_server.mcp.auth.account import Account, Kept, Tokens
from fastapi_server.mcp.auth.authenticator import Outgoing, Refusal
from fastapi_server.mcp.auth.authorization import code_grant
from fastapi_server.mcp.auth.backchannel import Backchannel
from fastapi_server.mcp.auth.challenge import Challenge
from fastapi_server.mcp.auth.discovery import authorization_servers
from fastapi_server.mcp.auth.dpop import ProofKey
from fastapi_server.mcp.auth.exchange import CLIENT_UNKNOWN, Exchange
from fastapi_server.mcp.auth.grants import (
    configured_urls,
    fixed_client_of,
    grant_of,
    metadata_of,
)
from fastapi_server.mcp.auth.holders import identity_of, tokens_for
from fastapi_server.mcp.auth.keys import Kind
from fastapi_server.mcp.auth.locks import to_the_end
from fastapi_server.mcp.auth.sdk import Provider, in_our_words
from fastapi_server.mcp.auth_config import OAuth, OAuthSettings
from fastapi_server.mcp.errors import AuthenticationError, Delivery, HTTPStatusError, MCPConnectionError

PAUSE_SECONDS = 2.0
"""For how long an authorization server is left alone that failed in passing and did not say (`Retry-After`)."""
_LONGEST_PAUSE = 300.0


@dataclass(frozen=True)
class Means:
    """What every turn of one client needs.

    Attributes:
        config: How to sign in.
        account: What the token store holds.
        ca_file: Trust the authorities in this PEM file, and no others.
        clock: Seconds since the epoch.
        keep_secret: Told every secret, so that none is ever shown.
        vital: Around what must not be left half done: from a token request until what it gave is saved.
        nonces: For proofs, the last one of each origin.
        own: Tells this client from every other, in every process.
    """

    config: OAuthSettings
    account: Account
    ca_file: Path | None
    clock: Callable[[], float]
    keep_secret: Callable[[str], None]
    vital: Callable[[], AbstractContextManager[None]]
    nonces: dict[str, str] = field(default_factory=dict[str, str])
    own: str = field(default_factory=lambda: secrets.token_hex(16))

    def channel(self) -> Backchannel:
        """To the servers that are led to while signing in."""
        return Backchannel(self.account.server, self.ca_file, configured_urls(self.config))


class Turn:
    """An `async with` in which the store's lock is held: nobody else gets tokens for the account, in any process.

    Args:
        means: Of the client.
        proof_key: What new tokens will be bound to; left out where the configuration wants it, there is a new one.
        desk: A person may be asked, so wait for those whose person is being asked.
    """

    kept: Kept

    def __init__(self, means: Means, proof_key: ProofKey | None, *, desk: bool) -> None:
        self._means = means
        self._proof_key = proof_key
        self._at_desk = desk
        self._desk = AsyncExitStack()
        self._lock = AsyncExitStack()
        self._held = False

    async def __aenter__(self) -> Self:
        try:
            if self._at_desk:
                await self._desk.enter_async_context(self._means.account.desk())
            await self._take()
            self.kept = await self._means.account.recover()
        except BaseException:
            await self._give_up()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._give_up()

    async def _take(self) -> None:
        await self._lock.enter_async_context(self._means.account.lock())
        self._held = True

    async def _give_up(self) -> None:
        self._held = False
        await to_the_end(self._unlock())

    async def _unlock(self) -> None:
        try:
            await self._lock.aclose()
        finally:
            await self._desk.aclose()

    @asynccontextmanager
    async def _meanwhile(self, provider: Provider) -> AsyncGenerator[None]:
        """Others have their turn while a person thinks. Where the person does not come back, it is not taken again."""
        provider.keep(self.kept)
        await self._means.account.save(self.kept)
        self._held = False
        await to_the_end(self._lock.aclose())
        yield
        await self._take()
        fresh = await self._means.account.recover()  # others may have refreshed, or signed in
        self.kept.tokens, self.kept.pending, self.kept.back_off = fresh.tokens, fresh.pending, fresh.back_off

    @property
    def tokens(self) -> Tokens | None:
        """The ones to use."""
        return tokens_for(self._means.config, self.kept, self._means.own)

    async def refresh(self, outgoing: Outgoing | None = None) -> bool:
        """Exchange the refresh token (RFC 6749, 6). Whether that gave tokens: where it is dead, there is none any more.

        Args:
            outgoing: The request that was refused.

        Raises:
            MCPClientError: It failed in passing, and nothing has changed.
        """
        tokens = self.tokens
        if tokens is None or tokens.refresh_token is None:
            return False
        self._check_busy()
        async with self._means.channel() as channel:
            exchange = self._exchange(channel, self._key_of(tokens))
            provider = self._provider(exchange, Challenge())
            provider.context.protocol_version = _version(outgoing)
            with self._means.vital(), in_our_words():
                provider.restore(self.kept, self.tokens, self._means.clock(), self._intact, browser=False)
                async with self._saved(exchange):
                    refreshed = await self._refreshed(provider, exchange, channel)
                    if refreshed:
                        self.kept.tokens = self._tokens_of(provider, exchange)
                        if outgoing is not None:
                            self.kept.back_off.has_tried("refresh", self._means.clock())
                    else:
                        self._forget_refresh_token(tokens, exchange)
        return refreshed

    async def _refreshed(self, provider: Provider, exchange: Exchange, channel: Backchannel) -> bool:
        """Where that fails, the server may have left the authorization server, or that one its token endpoint."""
        try:
            return await provider.refresh(exchange.send)
        except MCPConnectionError:
            if provider.is_left(await self._advertised(channel)):
                return False
            if not (exchange.gone and await provider.finds_another_token_endpoint(exchange.send)):
                raise
        provider.keep(self.kept)
        return await provider.refresh(exchange.send)

    async def _advertised(self, channel: Backchannel) -> list[str]:
        try:
            return await authorization_servers(self._means.account.server, channel, self.kept.resource_metadata_url)
        except MCPConnectionError:
            return []

    def _tokens_of(self, provider: Provider, exchange: Exchange) -> Tokens | None:
        return provider.tokens(self._means.clock(), exchange, identity_of(self._means.config, self._means.own))

    def _forget_refresh_token(self, tokens: Tokens, exchange: Exchange) -> None:
        """The access token may work yet."""
        expired = tokens.expired(self._means.clock())
        self.kept.tokens = None if expired else replace(tokens, refresh_token=None)
        if exchange.error == CLIENT_UNKNOWN:
            self.kept.client = None

    async def sign_in(self, refusal: Refusal, challenge: Challenge) -> None:
        """Get a token that the server may accept.

        Raises:
            AuthorizationRequired: A person has to do it, and nobody is here.
            MCPClientError: It failed.
        """
        self._check_busy()
        async with self._means.channel() as channel:
            exchange = self._exchange(channel, self._key_for_new_tokens())
            try:
                await self._sign_in(exchange, refusal, challenge)
            except AuthenticationError:
                if exchange.error != CLIENT_UNKNOWN or self.kept.client is None:
                    raise
                self.kept.client = None  # the server has forgotten it: register once more
                await self._sign_in(exchange, refusal, challenge)

    async def _sign_in(self, exchange: Exchange, refusal: Refusal, challenge: Challenge) -> None:
        provider = self._provider(exchange, challenge)
        with ExitStack() as vital, in_our_words():
            provider.restore(self.kept, self.tokens, self._means.clock(), self._intact)
            async with self._saved(exchange):
                try:
                    await _drive(
                        provider, exchange, refusal, challenge, lambda: vital.enter_context(self._means.vital())
                    )
                finally:
                    provider.keep(self.kept)
                self.kept.tokens = self._tokens_of(provider, exchange)
                self.kept.back_off.has_tried("sign-in", self._means.clock())

    @asynccontextmanager
    async def _saved(self, exchange: Exchange) -> AsyncGenerator[None]:
        """What is kept is saved however it ends; who comes next leaves a server alone that failed in passing."""
        try:
            yield
            self.kept.busy_until = None
        except MCPConnectionError:
            error = exchange.failed_in_passing
            if error is not None:
                said = error.retry_after if isinstance(error, HTTPStatusError) else None
                self.kept.busy_until = self._means.clock() + min(said or PAUSE_SECONDS, _LONGEST_PAUSE)
            raise
        finally:
            if self._held:
                await self._means.account.save(self.kept)

    def _check_busy(self) -> None:
        wait = (self.kept.busy_until or 0.0) - self._means.clock()
        if wait > 0:
            raise HTTPStatusError(
                f"the authorization server is busy; it is asked again in {wait:.1f} s",
                status=503,
                retry_after=wait,
                delivery=Delivery.NOT_SENT,
            )

    def _key_for_new_tokens(self) -> ProofKey | None:
        """Unlike a refresh, which goes by the key that the tokens are bound to, it goes by the configuration."""
        if not self._means.config.dpop:
            return None
        if self._proof_key is None:
            self._proof_key = (self._key_of(self.tokens) if self.tokens else None) or ProofKey()
        return self._proof_key

    def _key_of(self, tokens: Tokens) -> ProofKey | None:
        with self._intact("tokens"):
            return None if tokens.proof_key is None else ProofKey(tokens.proof_key)

    def _intact(self, kind: Kind) -> AbstractContextManager[None]:
        return self._means.account.intact(kind, self.kept)

    def _exchange(self, channel: Backchannel, proof_key: ProofKey | None) -> Exchange:
        return Exchange(channel, proof_key, self._means.nonces, self._means.keep_secret)

    def _provider(self, exchange: Exchange, challenge: Challenge) -> Provider:
        config = self._means.config
        if isinstance(config, OAuth):
            account, ca_file = self._means.account, self._means.ca_file
            grant = code_grant(config, account, self.kept, exchange.proof_key, ca_file, self._meanwhile)
        else:
            grant = grant_of(config, exchange.send)
        return Provider(
            self._means.account.server,
            metadata_of(config),
            grant,
            client_metadata_url=config.client_metadata_url if isinstance(config, OAuth) else None,
            fixed_client=fixed_client_of(config),
            issuer=config.issuer,
            scopes=None if config.scopes is None else " ".join(config.scopes),
            challenged=" ".join(challenge.scopes) or None,
            configured=configured_urls(config),
        )


async def _drive(
    provider: Provider, exchange: Exchange, refusal: Refusal, challenge: Challenge, begin: Callable[[], object]
) -> None:
    """Run the SDK's flow without ever sending the request that it is for: its answer is here already.

    The flow hands out the original request, and then those of the sign-in; when it hands out the original a second
    time, it has what we want.

    Args:
        provider: Of the flow.
        exchange: Sends the requests.
        refusal: Of the request.
        challenge: What it said.
        begin: Called before the token request.
    """
    original = httpx2.Request(refusal.outgoing.method, refusal.outgoing.url)
    version = _version(refusal.outgoing)
    if version is not None:
        original.headers[MCP_PROTOCOL_VERSION_HEADER] = version
    flow = provider.async_auth_flow(original)
    try:
        await anext(flow)
        answer = httpx2.Response(refusal.status, headers={"WWW-Authenticate": challenge.header}, request=original)
        wanted = await flow.asend(answer)
        while wanted is not original:
            if wanted.method != "GET":
                provider.check_metadata()
            if provider.authorized:
                begin()
            answer = await exchange.send(wanted)
            provider.note(answer)
            wanted = await flow.asend(answer)
    finally:
        await flow.aclose()


def _version(outgoing: Outgoing | None) -> str | None:
    """The revision of the protocol that a request speaks."""
    named = {} if outgoing is None else {name.lower(): value for name, value in outgoing.headers.items()}
    return named.get(MCP_PROTOCOL_VERSION_HEADER.lower())
