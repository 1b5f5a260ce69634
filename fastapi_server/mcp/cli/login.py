"""`login` and `logout`: a person signs in with the browser, for all commands and programs that share the store."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fastapi_server.mcp import (
    ConfigError,
    HTTPConfig,
    MemoryTokenStore,
    OAuth,
    ServerConfig,
    SSEConfig,
    TokenStore,
)
from fastapi_server.mcp.auth.account import Account, Kept
from fastapi_server.mcp.auth.choose import oauth_authenticator
from fastapi_server.mcp.auth.holders import holder_of
from fastapi_server.mcp.auth.loopback import LoopbackRedirect
from fastapi_server.mcp.auth_config import OAuthSettings
from fastapi_server.mcp.cli import render
from fastapi_server.mcp.cli.run import Status, client_of
from fastapi_server.mcp.cli.target import Options, only
from fastapi_server.mcp.cli.token_store import oauth_of, place_of, token_store, with_auth

WAIT_SECONDS = 300.0


@dataclass(frozen=True)
class Granted:
    """What was granted, without the tokens.

    Attributes:
        issuer: The authorization server.
        scopes: What may be done.
        expires_in: Seconds from now; `None` where the authorization server does not say.
        renewable: Tokens are renewed without the person.
        place: Where they are kept.
    """

    issuer: str
    scopes: list[str]
    expires_in: float | None
    renewable: bool
    place: str


async def show_login(
    server: str, options: Options, desk: Callable[..., LoopbackRedirect] = LoopbackRedirect, *, again: bool = False
) -> int:
    """Sign in to a server, unless that has been done, and say what was granted.

    Args:
        server: A name, a URL or a command line.
        options: `timeout` is how long to wait for the person.
        desk: Where they sit.
        again: As if nothing were stored; once that has succeeded, what was stored is replaced.
    """
    config = only(server, replace(options, timeout=None))
    auth, store = _signed_in_with(config)
    used = MemoryTokenStore() if again else store
    kept = await _sign_in(config, replace(auth, store=used), used, options.timeout or WAIT_SECONDS, desk)
    if again and kept is not None:
        await _replace_all(_account_of(config, auth, store), kept)
    granted = None if kept is None else _granted(kept, store)
    if options.as_json:
        render.say_json({"name": config.name, "granted": None if granted is None else vars(granted)})
    elif granted is None:
        render.say(f"{config.name} asks for no sign-in, and names no authorization server (RFC 9728)")
    else:
        render.say("\n".join(_told(config.name, granted)))
    return Status.OK


async def show_logout(server: str, options: Options) -> int:
    """Delete all that the store holds of a server, however it was configured: tokens, clients, waiting sign-ins."""
    config = only(server, options)
    auth, store = _signed_in_with(config)
    was = False
    for account in await _account_of(config, auth, store).all_of_them():
        async with account.lock():
            was |= await account.forget()
    if options.as_json:
        render.say_json({"name": config.name, "was_signed_in": was, "place": place_of(store)})
    else:
        done = "signed out of" if was else "was not signed in to"
        render.say(f"{done} {config.name}; nothing of that is left in {place_of(store)}")
    return Status.OK


async def _replace_all(account: Account, kept: Kept) -> None:
    async with account.lock():
        await account.forget()
        await account.save(kept)


def _account_of(server: ServerConfig, auth: OAuthSettings, store: TokenStore) -> Account:
    return Account(store, server.config.endpoint, None, holder_of(auth))


def _signed_in_with(server: ServerConfig) -> tuple[OAuthSettings, TokenStore]:
    auth = oauth_of(server)
    if auth is None:
        if not isinstance(server.config, (HTTPConfig, SSEConfig)):
            raise ConfigError(f"server {server.name!r}: only servers that are reached by URL are signed in to")
        raise ConfigError(
            f"server {server.name!r}: there is nothing to sign in to; give it an entry in mcp.json "
            'with "auth": {"type": "oauth"}, and sign in by its name'
        )
    return auth, auth.store or token_store()


async def _sign_in(
    server: ServerConfig, auth: OAuthSettings, store: TokenStore, seconds: float, desk: Callable[..., LoopbackRedirect]
) -> Kept | None:
    """Get tokens into the store, with the browser where that is asked for."""
    if not isinstance(auth, OAuth):
        return await _connect(server, auth, store)
    async with desk(redirect_uri=auth.redirect_uri, timeout=seconds, insecure_origins=auth.insecure_origins) as handler:
        at_a_desk = replace(auth, interaction=handler, redirect_uri=handler.redirect_uri)
        return await _connect(_patient(server, seconds), at_a_desk, store)


async def _connect(server: ServerConfig, auth: OAuthSettings, store: TokenStore) -> Kept | None:
    """Connect, which signs in; and where everybody may connect, sign in where the server's metadata says."""
    await client_of(with_auth(server, auth)).initialize()
    authenticator = oauth_authenticator(server.config, auth, None)
    try:
        signed_in = await authenticator.sign_in()
    finally:
        await authenticator.close()
    return await _account_of(server, auth, store).load() if signed_in else None


def _patient(server: ServerConfig, seconds: float) -> ServerConfig:
    """The same server, with time for a person while it is connected to."""
    return replace(server, config=replace(server.config, timeout=server.config.timeout + round(seconds * 1000)))


def _granted(kept: Kept, store: TokenStore) -> Granted | None:
    tokens = kept.tokens
    if tokens is None:
        return None
    return Granted(
        issuer=kept.issuer or "",
        scopes=(tokens.scope or "").split(),
        expires_in=None if tokens.expires_at is None else round(tokens.expires_at - time.time()),
        renewable=tokens.refresh_token is not None,
        place=place_of(store),
    )


def _told(name: str, granted: Granted) -> list[str]:
    after = "then it is renewed by itself" if granted.renewable else "then sign in again"
    expires = (
        "the server does not say when" if granted.expires_in is None else f"in {_span(granted.expires_in)}; {after}"
    )
    rows: dict[str, Any] = {
        "by": granted.issuer or "(not said)",
        "scopes": ", ".join(granted.scopes) or "(not said)",
        "expires": expires,
        "kept in": granted.place,
    }
    return [f"signed in to {name}", *(f"  {label:<8} {value}" for label, value in rows.items())]


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{round(seconds / size)} {unit}"
    return f"{round(seconds)} s"
