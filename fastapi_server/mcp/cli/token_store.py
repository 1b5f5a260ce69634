"""Where the program keeps tokens: one place for all its commands, so that a sign-in serves them all."""

import os
from dataclasses import replace

from fastapi_server.mcp import FileTokenStore, HTTPConfig, KeyringTokenStore, ServerConfig, SSEConfig, TokenStore
from fastapi_server.mcp.auth.choose import OAUTH_SETTINGS
from fastapi_server.mcp.auth.places import state_folder
from fastapi_server.mcp.auth_config import OAuthSettings

STORE_VARIABLE = "MCP_TOKEN_STORE"
KEYRING = "keyring"


def token_store() -> FileTokenStore | KeyringTokenStore:
    """The store that `$MCP_TOKEN_STORE` names: `keyring`, or a file; left out, a file in the state folder.

    Raises:
        ConfigError: An extra is missing, or the key in `$MCP_TOKEN_KEY` is wrong.
    """
    named = os.environ.get(STORE_VARIABLE)
    if named == KEYRING:
        return KeyringTokenStore()
    return FileTokenStore(named or state_folder() / "tokens")


def place_of(store: TokenStore) -> str:
    """Where a store keeps things, for people."""
    match store:
        case FileTokenStore():
            return f"the file {store.path}"
        case KeyringTokenStore():
            return f"the keyring, as {store.service}"
        case _:
            return repr(store)


def oauth_of(server: ServerConfig) -> OAuthSettings | None:
    """How a server is signed in to, where an authorization server gives the tokens."""
    config = server.config
    auth = config.auth if isinstance(config, (HTTPConfig, SSEConfig)) else None
    return auth if isinstance(auth, OAUTH_SETTINGS) else None


def with_auth(server: ServerConfig, auth: OAuthSettings) -> ServerConfig:
    """The same server, signed in to in another way."""
    return replace(server, config=replace(server.config, auth=auth))


def with_store(server: ServerConfig) -> ServerConfig:
    """The same server, its tokens in the program's store, unless its configuration names one or it needs none."""
    auth = oauth_of(server)
    if auth is None or auth.store is not None:
        return server
    return with_auth(server, replace(auth, store=token_store()))
