"""The authorization code grant: at a desk in one go, on a server in two steps with a person between them."""

import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from mcp.client.auth import PKCEParameters
from mcp.shared.auth import OAuthClientInformationFull

from fastapi_server.mcp.auth.account import Account, Kept, Tokens, Waiting, default_store, intact, read_document
from fastapi_server.mcp.auth.backchannel import Backchannel
from fastapi_server.mcp.auth.dpop import ProofKey
from fastapi_server.mcp.auth.exchange import CLIENT_UNKNOWN, Exchange
from fastapi_server.mcp.auth.grants import configured_urls, metadata_of
from fastapi_server.mcp.auth.keys import store_key
from fastapi_server.mcp.auth.locks import KeyedLocks, to_the_end
from fastapi_server.mcp.auth.quoting import quoted
from fastapi_server.mcp.auth.sdk import Provider, in_our_words
from fastapi_server.mcp.auth.stores import TokenStore
from fastapi_server.mcp.auth_config import AuthorizationResponse, Interaction, OAuth
from fastapi_server.mcp.errors import AuthenticationError, AuthorizationRequired, Delivery, MCPClientError
from fastapi_server.mcp.redaction import carry

PENDING_SECONDS = 600.0
"""How long a person has."""

_CODE = re.compile(r"[\x20-\x7e]+")
"""RFC 6749, A.11."""


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """One that waits for a person elsewhere: what whoever completes it needs.

    Attributes:
        state: Names it.
        server: URL of the MCP server.
        principal: On whose behalf.
        holder: See `Account`.
        code_verifier: Of PKCE.
        redirect_uri: Where the person comes back to.
        client: The client, as the SDK's model dumps it.
        found: About the authorization server, and the client if it has registered itself.
        protocol_version: Of the request that was refused.
        scope: What was asked for.
        proof_key: PEM of the key that the tokens will be bound to.
        ca_file: Trust the authorities in this file, and no others.
        configured: URLs on further origins that may be followed.
        expires_at: Seconds since the epoch.
    """

    state: str = field(repr=False)
    server: str
    principal: str | None
    holder: list[str | None]
    code_verifier: str = field(repr=False)
    redirect_uri: str
    client: dict[str, Any] = field(repr=False)
    found: Kept
    protocol_version: str | None
    scope: str | None
    proof_key: str | None = field(repr=False)
    ca_file: str | None
    configured: list[str]
    expires_at: float


_desks = KeyedLocks()
"""An interaction knows of one sign-in only, and clients of several principals may have the same one."""


def code_grant(
    config: OAuth,
    account: Account,
    kept: Kept,
    proof_key: ProofKey | None,
    ca_file: Path | None,
    meanwhile: Callable[[Provider], AbstractAsyncContextManager[None]],
) -> Callable[[Provider], Awaitable[httpx2.Request]]:
    """Have a person sign in.

    Args:
        config: Says who talks to the person, if anybody does.
        account: Where a sign-in waits for a person who is elsewhere.
        kept: Holds the sign-in that waits already.
        proof_key: What the tokens will be bound to (RFC 9449, 10).
        ca_file: For whoever completes it.
        meanwhile: Around the time in which a person at a desk thinks: the account is not locked.
    """

    async def request(provider: Provider) -> httpx2.Request:
        extra = {} if proof_key is None else {"dpop_jkt": proof_key.thumbprint}
        if config.interaction is None:
            waiting = kept.pending
            if waiting is None or not await _still_waits(waiting, provider, account):
                if waiting is not None:
                    await account.store.set(store_key("pending", server=waiting.state), None)
                waiting = kept.pending = await _begin(config, provider, account, proof_key, ca_file, extra)
            raise AuthorizationRequired(
                "a person has to sign in first; this error's `url` says where",
                url=waiting.url,
                state=waiting.state,
            )
        return await _at_a_desk(config.interaction, provider, extra, meanwhile)

    return request


async def _still_waits(waiting: Waiting, provider: Provider, account: Account) -> bool:
    """Whether to send the person to the same page again: it is for the same, not too old, and nobody has come back."""
    if waiting.expires_at <= account.clock() or waiting.aim != _aim(provider):
        return False
    return await account.store.get(store_key("pending", server=waiting.state)) is not None


async def _at_a_desk(
    interaction: Interaction,
    provider: Provider,
    extra: dict[str, str],
    meanwhile: Callable[[Provider], AbstractAsyncContextManager[None]],
) -> httpx2.Request:
    pkce, state = PKCEParameters.generate(), secrets.token_urlsafe(32)
    carry(state, pkce.code_verifier)
    url = provider.authorization_url(pkce, state, extra)
    async with meanwhile(provider), _desks.hold(str(id(interaction))):
        await interaction.redirect(url)
        response = await interaction.callback()
    _check(response, state, provider)
    return await provider.code_request(response.code, pkce.code_verifier)


def _check(response: AuthorizationResponse, state: str, provider: Provider) -> None:
    came_back = (response.state or "").encode(errors="surrogatepass")
    if not secrets.compare_digest(came_back, state.encode()):
        raise AuthenticationError("signing in failed: the state that came back is not the one that was sent")
    carry(response.code)
    provider.check_response_issuer(response.iss)
    if response.error is not None:
        raise _refusal(response.error, response.error_description)
    _check_code(response.code)


def _refusal(error: str, description: str | None) -> AuthenticationError:
    said = quoted(error if description is None else f"{error}: {description}")
    if error == "access_denied":
        return AuthenticationError(f"access was denied in the browser ({said})")
    return AuthenticationError(f"the authorization server refused ({said})")


def _check_code(code: str) -> None:
    if not _CODE.fullmatch(code):
        raise AuthenticationError("signing in failed: what came back is no authorization code")


async def _begin(
    config: OAuth,
    provider: Provider,
    account: Account,
    proof_key: ProofKey | None,
    ca_file: Path | None,
    extra: dict[str, str],
) -> Waiting:
    """Keep all that whoever completes it needs."""
    pkce, state, now = PKCEParameters.generate(), secrets.token_urlsafe(32), account.clock()
    url = provider.authorization_url(pkce, state, extra)
    found, client = Kept(), provider.context.client_info
    provider.keep(found)
    assert client is not None
    sign_in = SignIn(
        state=state,
        server=account.server,
        principal=account.principal,
        holder=list(account.holder),
        code_verifier=pkce.code_verifier,
        redirect_uri=provider.redirect_uri,
        client=client.model_dump(mode="json", exclude_none=True),
        found=found,
        protocol_version=provider.context.protocol_version,
        scope=provider.scope,
        proof_key=None if proof_key is None else proof_key.pem,
        ca_file=None if ca_file is None else str(ca_file),
        configured=configured_urls(config),
        expires_at=now + PENDING_SECONDS,
    )
    await account.store.set(store_key("pending", server=state), asdict(sign_in))
    return Waiting(state=state, url=url, aim=_aim(provider), expires_at=sign_in.expires_at)


def _aim(provider: Provider) -> list[str | None]:
    """What a sign-in is for: another one for the same need not be begun."""
    client = provider.context.client_info
    return [provider.audience, provider.scope, client.client_id if client else None, provider.redirect_uri]


async def complete(state: str, code: str, iss: str | None, store: TokenStore | None, principal: str | None) -> None:
    """What `complete_authorization` says."""
    carry(state, code)
    _check_code(code)
    store = store or default_store()
    key = store_key("pending", server=state)
    sign_in = await _sign_in_of(store, key)
    if sign_in.principal != principal:
        raise AuthenticationError("this sign-in was begun for another principal")
    account = Account(store, sign_in.server, principal, sign_in.holder)
    async with account.lock():  # not one of the state's own: whoever guesses states would have locks made
        sign_in = await _sign_in_of(store, key)
        await store.set(key, None)
    if account.clock() >= sign_in.expires_at:
        raise AuthenticationError("this sign-in is more than ten minutes old; begin another one")
    await to_the_end(_finish(sign_in, key, code, iss, account))


async def _sign_in_of(store: TokenStore, key: str) -> SignIn:
    sign_in = await read_document(store, key, SignIn)
    if sign_in is None:
        raise AuthenticationError("there is no sign-in with this state: it was completed, or never begun here")
    return sign_in


async def _finish(sign_in: SignIn, key: str, code: str, iss: str | None, account: Account) -> None:
    """Where the authorization server could not be asked, it may be tried again."""
    kept = sign_in.found
    try:
        kept.tokens = await _exchange(sign_in, key, code, iss, account)
    except MCPClientError as error:
        if error.delivery is Delivery.NOT_SENT:
            await account.store.set(key, asdict(sign_in))
        raise
    async with account.lock():
        kept.back_off = (await account.load()).back_off
        kept.back_off.has_tried("sign-in", account.clock())
        await account.save(kept)


async def _forget_client(account: Account, sign_in: SignIn) -> None:
    """The server does not know it any more; the next sign-in registers another."""
    async with account.lock():
        kept = await account.load()
        if kept.client is not None and kept.client.get("client_id") == sign_in.client["client_id"]:
            kept.client = kept.pending = None
            await account.save(kept)


async def _exchange(sign_in: SignIn, key: str, code: str, iss: str | None, account: Account) -> Tokens | None:
    ca_file = Path(sign_in.ca_file) if sign_in.ca_file else None
    with in_our_words():
        with intact(key):
            proof_key = ProofKey(sign_in.proof_key) if sign_in.proof_key else None
            client = OAuthClientInformationFull.model_validate(sign_in.client)
        metadata = metadata_of(OAuth(redirect_uri=sign_in.redirect_uri))
        provider = Provider(account.server, metadata, _no_grant, fixed_client=client)
        provider.restore(sign_in.found, None, account.clock(), lambda _kind: intact(key))
        provider.context.protocol_version = sign_in.protocol_version
        provider.context.client_metadata.scope = sign_in.scope
        provider.check_response_issuer(iss)
        async with Backchannel(account.server, ca_file, sign_in.configured) as channel:
            exchange = Exchange(channel, proof_key, {}, carry)
            try:
                answer = await exchange.send(await provider.code_request(code, sign_in.code_verifier))
            except AuthenticationError:
                if exchange.error == CLIENT_UNKNOWN:
                    await _forget_client(account, sign_in)
                raise
            await provider.take_token_response(answer)
    return provider.tokens(account.clock(), exchange)


async def _no_grant(provider: Provider) -> httpx2.Request:
    raise AssertionError(f"{provider} is only used to exchange a code")
