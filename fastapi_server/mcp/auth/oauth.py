"""OAuth for one client: the token at hand for each request, and one sign-in or refresh for all who need a new one."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path

import httpx2
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from yarl import URL

from fastapi_server.mcp.auth.account import Account, Kept, Tokens
from fastapi_server.mcp.auth.authenticator import Authenticator, Outgoing, Refusal, SingleFlight
from fastapi_server.mcp.auth.authorization import code_grant
from fastapi_server.mcp.auth.backchannel import Backchannel
from fastapi_server.mcp.auth.challenge import Challenge, read_challenge
from fastapi_server.mcp.auth.dpop import ProofKey
from fastapi_server.mcp.auth.exchange import Exchange
from fastapi_server.mcp.auth.grants import configured_urls, fixed_client_of, grant_of, metadata_of
from fastapi_server.mcp.auth.sdk import Provider, in_our_words
from fastapi_server.mcp.auth_config import OAuth, OAuthSettings
from fastapi_server.mcp.errors import Delivery, MCPClientError, MCPConnectionError

_NONCE_WANTED = "use_dpop_nonce"
_MORE_SCOPE = "insufficient_scope"


class OAuthAuthenticator(Authenticator):
    """Tokens of one server and principal.

    While a token is fresh, `headers` takes no lock and waits for nothing. Getting one is a single flight, in this
    process by a task that all share, and across processes by the store's lock: who gets it looks into the store first.

    Args:
        config: How to sign in.
        account: What the token store holds.
        ca_file: Trust the authorities in this PEM file, and no others.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        config: OAuthSettings,
        account: Account,
        ca_file: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._config = config
        self._account = account
        self._ca_file = ca_file
        self._clock = clock
        self._flight = SingleFlight()
        self._tokens: Tokens | None = None
        self._proof_key: ProofKey | None = None
        self._nonces: dict[str, str] = {}
        self._asked: set[str] = set()
        self._signed_in = False
        self._refreshed = False
        self._accepted = True
        self._useless: str | None = None

    async def headers(self, outgoing: Outgoing) -> Mapping[str, str]:
        """The token, and a proof where it is bound to a key; nothing where there is none yet."""
        if self._tokens is None:
            await _in_one_word(self._look())
        tokens = self._tokens
        if tokens is not None and tokens.refresh_token is not None:
            now = self._clock()
            if tokens.expired(now):
                await self._flight.join(lambda: _in_one_word(self._refresh()))
            elif tokens.expires_soon(now):
                self._flight.start(lambda: _in_one_word(self._refresh()))
        return self._credentials(outgoing)

    async def _look(self) -> None:
        """Another process may have signed in, or this one before."""
        self._adopt((await self._account.load()).tokens)

    def _credentials(self, outgoing: Outgoing) -> Mapping[str, str]:
        tokens, key = self._tokens, self._proof_key
        if tokens is None:
            return {}
        if tokens.token_type != "DPoP" or key is None:  # noqa: S105 - a kind of token
            return {"Authorization": f"Bearer {tokens.access_token}"}
        nonce = self._nonces.get(str(URL(outgoing.url).origin()))
        proof = key.proof(outgoing.method, outgoing.url, nonce=nonce, token=tokens.access_token)
        return {"Authorization": f"DPoP {tokens.access_token}", "DPoP": proof}

    def answered(self, outgoing: Outgoing, sent: Mapping[str, str], status: int, headers: Mapping[str, str]) -> None:
        """Note a new nonce (RFC 9449, 8.2), and that the token is good."""
        if "DPoP-Nonce" in headers:
            self._nonces[str(URL(outgoing.url).origin())] = headers["DPoP-Nonce"]
        if status != 401 and self._tokens is not None and _token_in(sent) == self._tokens.access_token:
            self._accepted = True

    async def refused(self, refusal: Refusal) -> Mapping[str, str] | None:
        """The credentials to try next: with a nonce, with somebody else's new token, or after signing in."""
        challenge = read_challenge(refusal.headers)
        if challenge.error == _NONCE_WANTED and challenge.nonce is not None:
            return self._credentials(refusal.outgoing)
        used, current = _token_in(refusal.sent), self._tokens
        if current is not None and current.access_token != used:
            return await self.headers(refusal.outgoing)
        if (used and used == self._useless) or not self._can_help(refusal, challenge):
            return None
        await self._flight.join(lambda: _in_one_word(self._sign_in(refusal, challenge, used)))
        return await self.headers(refusal.outgoing)

    def _can_help(self, refusal: Refusal, challenge: Challenge) -> bool:
        """Whether another token may be accepted where this one was not."""
        if self._flight.task is not None:
            return True
        if refusal.status == 403:
            if challenge.error != _MORE_SCOPE:
                return False
            granted = set((self._tokens.scope if self._tokens and self._tokens.scope else "").split())
            wanted = " ".join(sorted(challenge.scopes))
            return wanted not in self._asked and not (challenge.scopes and set(challenge.scopes) <= granted)
        if self._tokens is not None and self._signed_in and not self._accepted:
            self._useless, self._tokens = self._tokens.access_token, None  # the next request begins anew
            return False
        return True

    async def settled(self) -> bool:
        """Wait until nobody is signing in. Whether somebody was."""
        return await self._flight.wait()

    async def close(self) -> None:
        """Stop signing in."""
        await self._flight.close()

    # The single flight.

    async def _refresh(self) -> None:
        """Exchange the refresh token, unless another process has done it."""
        used = self._tokens
        async with self._account.lock():
            kept = await self._account.load()
            if kept.tokens is None or used is None or kept.tokens.access_token != used.access_token:
                self._adopt(kept.tokens)
                return
            async with self._channel() as channel:
                await self._run(kept, channel, Outgoing("POST", self._account.server), None, Challenge())
            await self._account.save(kept)
        self._adopt(kept.tokens, refreshed=True)

    async def _sign_in(self, refusal: Refusal, challenge: Challenge, used: str) -> None:
        """Get a token that the server may accept, unless another process has done it."""
        async with self._account.lock():
            kept = await self._account.load()
            before = kept.tokens
            if before is not None and before.access_token != used:
                self._adopt(before)
                return
            self._keep_secret(used)
            try:
                async with self._channel() as channel:
                    refreshed = await self._run(kept, channel, refusal.outgoing, refusal, challenge)
            finally:
                await self._account.save(kept)
        if refusal.status == 403:
            self._asked.add(" ".join(sorted(challenge.scopes)))
        else:
            self._asked.clear()
        self._adopt(kept.tokens, refreshed=refreshed, signed_in=not refreshed)

    def _adopt(self, tokens: Tokens | None, *, refreshed: bool = False, signed_in: bool = False) -> None:
        self._tokens, self._refreshed, self._signed_in = tokens, refreshed, signed_in
        self._accepted = not (refreshed or signed_in)
        if tokens is None:
            return
        self._keep_secret(tokens.access_token, tokens.refresh_token)
        if tokens.proof_key is not None and (self._proof_key is None or self._proof_key.pem != tokens.proof_key):
            self._proof_key = ProofKey(tokens.proof_key)

    async def _run(
        self, kept: Kept, channel: Backchannel, outgoing: Outgoing, refusal: Refusal | None, challenge: Challenge
    ) -> bool:
        """One run of the SDK's flow; changes `kept`. Whether a refresh was enough.

        Args:
            kept: What there is, and then what there is to keep.
            channel: To the authorization server.
            outgoing: The request for which the token is wanted.
            refusal: Of it; `None` for nothing but a refresh.
            challenge: What the refusal said.
        """
        if self._config.dpop and self._proof_key is None:
            self._proof_key = ProofKey(kept.tokens.proof_key if kept.tokens else None)
        exchange = Exchange(channel, self._proof_key if self._config.dpop else None, self._nonces, self._keep_secret)
        provider = self._provider(kept, exchange, challenge)
        step_up = refusal is not None and refusal.status == 403
        provider.restore(kept, expired=not step_up and not (self._refreshed and not self._accepted))
        before = provider.held
        try:
            with in_our_words():
                await _drive(provider, exchange, outgoing, refusal)
        finally:
            provider.keep(kept)
        if provider.held is not before:
            kept.tokens = provider.tokens(self._clock(), exchange)
        return not provider.authorized

    def _channel(self) -> Backchannel:
        return Backchannel(self._account.server, self._ca_file, configured_urls(self._config))

    def _provider(self, kept: Kept, exchange: Exchange, challenge: Challenge) -> Provider:
        config = self._config
        if isinstance(config, OAuth):
            grant = code_grant(config, self._account, kept, exchange.proof_key, self._ca_file)
        else:
            grant = grant_of(config, exchange.send)
        return Provider(
            self._account.server,
            metadata_of(config),
            grant,
            client_metadata_url=config.client_metadata_url if isinstance(config, OAuth) else None,
            fixed_client=fixed_client_of(config),
            issuer=config.issuer,
            scopes=None if config.scopes is None else " ".join(config.scopes),
            challenged=" ".join(challenge.scopes) or None,
        )


async def _in_one_word(work: Awaitable[None]) -> None:
    """What fails in a token store or an interaction of the user's is named, and not quoted: it may hold a secret."""
    try:
        await work
    except MCPClientError:
        raise
    except Exception as error:
        raise MCPConnectionError(f"signing in failed: {type(error).__name__}", delivery=Delivery.NOT_SENT) from None


async def _drive(provider: Provider, exchange: Exchange, outgoing: Outgoing, refusal: Refusal | None) -> None:
    """Run the SDK's flow without ever sending the request that it is for: its answer is here already.

    The flow hands out the request for a refresh, then the original one, and once that was refused those of the sign-in;
    when it hands out the original a second time, it has what we want.
    """
    versions = {name: value for name, value in outgoing.headers.items() if name.lower() == MCP_PROTOCOL_VERSION_HEADER}
    original = httpx2.Request(outgoing.method, outgoing.url, headers=versions)
    held = provider.held
    flow = provider.async_auth_flow(original)
    try:
        await _up_to(original, flow, await anext(flow), exchange)
        refreshed = provider.held is not None and provider.held is not held
        if refusal is None or refreshed:
            return
        answer = httpx2.Response(refusal.status, headers=list(refusal.headers.items()), request=original)
        await _up_to(original, flow, await flow.asend(answer), exchange)
    finally:
        await flow.aclose()


async def _up_to(
    original: httpx2.Request,
    flow: AsyncGenerator[httpx2.Request, httpx2.Response],
    wanted: httpx2.Request,
    exchange: Exchange,
) -> None:
    while wanted is not original:
        wanted = await flow.asend(await exchange.send(wanted))


def _token_in(sent: Mapping[str, str]) -> str:
    return sent.get("Authorization", "").partition(" ")[2]
