"""The authorization code grant: at a desk in one go, on a server in two steps with a person between them."""

import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx2
from mcp.client.auth import PKCEParameters
from mcp.shared.auth import OAuthClientInformationFull

from fastapi_server.mcp.auth.account import Account, Kept, Tokens, default_store
from fastapi_server.mcp.auth.backchannel import Backchannel
from fastapi_server.mcp.auth.dpop import ProofKey
from fastapi_server.mcp.auth.exchange import CLIENT_UNKNOWN, Exchange
from fastapi_server.mcp.auth.grants import configured_urls, metadata_of
from fastapi_server.mcp.auth.keys import store_key
from fastapi_server.mcp.auth.locks import KeyedLocks, to_the_end
from fastapi_server.mcp.auth.sdk import Provider, in_our_words
from fastapi_server.mcp.auth.stores import TokenStore
from fastapi_server.mcp.auth_config import AuthorizationResponse, Interaction, OAuth
from fastapi_server.mcp.errors import AuthenticationError, AuthorizationRequired, Delivery, MCPClientError

PENDING_SECONDS = 600.0
"""How long a person has."""

_CODE = re.compile(r"[\x20-\x7e]+")
"""RFC 6749, A.11."""

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
                    await account.store.set(store_key("pending", server=waiting["state"]), None)
                waiting = kept.pending = await _begin(config, provider, account, proof_key, ca_file, extra)
            raise AuthorizationRequired(
                "a person has to sign in first; this error's `url` says where",
                url=waiting["url"],
                state=waiting["state"],
            )
        return await _at_a_desk(config.interaction, provider, extra, meanwhile)

    return request


async def _still_waits(waiting: dict[str, Any], provider: Provider, account: Account) -> bool:
    """Whether to send the person to the same page again: it is for the same, not too old, and nobody has come back."""
    if waiting["expires_at"] <= account.clock() or waiting["aim"] != _aim(provider):
        return False
    return await account.store.get(store_key("pending", server=waiting["state"])) is not None


async def _at_a_desk(
    interaction: Interaction,
    provider: Provider,
    extra: dict[str, str],
    meanwhile: Callable[[Provider], AbstractAsyncContextManager[None]],
) -> httpx2.Request:
    pkce, state = PKCEParameters.generate(), secrets.token_urlsafe(32)
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
    _check_code(response.code)
    provider.check_response_issuer(response.iss)


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
) -> dict[str, Any]:
    """Keep all that whoever completes it needs; returns what `Kept.pending` holds of it."""
    pkce, state, now = PKCEParameters.generate(), secrets.token_urlsafe(32), account.clock()
    url = provider.authorization_url(pkce, state, extra)
    found = Kept()
    provider.keep(found)
    client = provider.context.client_info
    document = {
        "state": state,
        "server": account.server,
        "principal": account.principal,
        "code_verifier": pkce.code_verifier,
        "redirect_uri": provider.redirect_uri,
        "resource": provider.resource,
        "issuer": found.issuer,
        "token_endpoint": provider.token_endpoint,
        "client": None if client is None else client.model_dump(mode="json", exclude_none=True),
        "registered": found.client is not None,
        "auth_server_url": found.auth_server_url,
        "metadata": found.metadata,
        "resource_metadata": found.resource_metadata,
        "resource_metadata_url": found.resource_metadata_url,
        "protocol_version": provider.context.protocol_version,
        "scope": provider.scope,
        "proof_key": None if proof_key is None else proof_key.pem,
        "ca_file": None if ca_file is None else str(ca_file),
        "configured": configured_urls(config),
        "holder": account.holder,
        "created_at": now,
        "expires_at": now + PENDING_SECONDS,
    }
    await account.store.set(store_key("pending", server=state), document)
    return {"state": state, "url": url, "aim": _aim(provider), "expires_at": now + PENDING_SECONDS}


def _aim(provider: Provider) -> list[str | None]:
    """What a sign-in is for: another one for the same need not be begun."""
    client = provider.context.client_info
    return [provider.audience, provider.scope, client.client_id if client else None, provider.redirect_uri]


async def complete(state: str, code: str, iss: str | None, store: TokenStore | None, principal: str | None) -> None:
    """What `complete_authorization` says."""
    _check_code(code)
    store = store or default_store()
    key = store_key("pending", server=state)
    pending = await _pending(store, key)
    if pending["principal"] != principal:
        raise AuthenticationError("this sign-in was begun for another principal")
    account = Account(store, pending["server"], principal, pending["holder"])
    async with account.lock():  # not one of the state's own: whoever guesses states would have locks made
        pending = await _pending(store, key)
        await store.set(key, None)
    if account.clock() >= pending["expires_at"]:
        raise AuthenticationError("this sign-in is more than ten minutes old; begin another one")
    await to_the_end(_finish(pending, code, iss, account))


async def _pending(store: TokenStore, key: str) -> dict[str, Any]:
    pending = await store.get(key)
    if pending is None:
        raise AuthenticationError("there is no sign-in with this state: it was completed, or never begun here")
    return pending


async def _finish(pending: dict[str, Any], code: str, iss: str | None, account: Account) -> None:
    """Where the authorization server could not be asked, it may be tried again."""
    kept = _found(pending)
    try:
        kept.tokens = await _exchange(pending, kept, code, iss, account)
    except MCPClientError as error:
        if error.delivery is Delivery.NOT_SENT:
            await account.store.set(store_key("pending", server=pending["state"]), pending)
        raise
    async with account.lock():
        kept.back_off = (await account.load()).back_off
        kept.back_off.has_tried("sign-in", account.clock())
        await account.save(kept)


def _found(pending: dict[str, Any]) -> Kept:
    return Kept(
        client=pending["client"] if pending["registered"] else None,
        issuer=pending["issuer"],
        auth_server_url=pending["auth_server_url"],
        metadata=pending["metadata"],
        resource_metadata=pending["resource_metadata"],
        resource_metadata_url=pending.get("resource_metadata_url"),
    )


async def _forget_client(account: Account, pending: dict[str, Any]) -> None:
    """The server does not know it any more; the next sign-in registers another."""
    async with account.lock():
        kept = await account.load()
        if kept.client is not None and kept.client.get("client_id") == pending["client"]["client_id"]:
            kept.client = kept.pending = None
            await account.save(kept)


async def _exchange(pending: dict[str, Any], kept: Kept, code: str, iss: str | None, account: Account) -> Tokens | None:
    proof_key = ProofKey(pending["proof_key"]) if pending["proof_key"] else None
    ca_file = Path(pending["ca_file"]) if pending["ca_file"] else None
    provider = Provider(
        account.server,
        metadata_of(OAuth(redirect_uri=pending["redirect_uri"])),
        _no_grant,
        fixed_client=OAuthClientInformationFull.model_validate(pending["client"]),
    )
    provider.restore(kept, None, account.clock())
    provider.context.protocol_version = pending["protocol_version"]
    provider.context.client_metadata.scope = pending["scope"]
    with in_our_words():
        provider.check_response_issuer(iss)
        async with Backchannel(account.server, ca_file, pending["configured"]) as channel:
            exchange = Exchange(channel, proof_key, {}, lambda _secret: None)
            try:
                answer = await exchange.send(await provider.code_request(code, pending["code_verifier"]))
            except AuthenticationError:
                if exchange.error == CLIENT_UNKNOWN:
                    await _forget_client(account, pending)
                raise
            await provider.take_token_response(answer)
    return provider.tokens(account.clock(), exchange)


async def _no_grant(provider: Provider) -> httpx2.Request:
    raise AssertionError(f"{provider} is only used to exchange a code")
