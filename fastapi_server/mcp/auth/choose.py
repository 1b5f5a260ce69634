"""From the settings of a configuration to who knows the credentials."""

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fastapi_server.mcp.auth.account import Account, default_store
from fastapi_server.mcp.auth.authenticator import Authenticator, BearerAuthenticator, CallableAuthenticator
from fastapi_server.mcp.auth.holders import holder_of
from fastapi_server.mcp.auth.stores import TokenStore
from fastapi_server.mcp.auth_config import (
    AsyncAuthFlow,
    AuthSetting,
    BearerAuth,
    ClientCredentials,
    EnterpriseManaged,
    FlowAuth,
    OAuth,
    OAuthSettings,
    SyncAuthFlow,
    WorkloadIdentity,
)
from fastapi_server.mcp.config import HTTPConfig, ServerConfig, SSEConfig, wrong_settings
from fastapi_server.mcp.errors import ConfigError

if TYPE_CHECKING:
    from fastapi_server.mcp.auth.oauth import OAuthAuthenticator

OAUTH_SETTINGS = (OAuth, ClientCredentials, WorkloadIdentity, EnterpriseManaged)


def signing_in(config: ServerConfig, auth: AuthSetting | None, store: TokenStore | None) -> ServerConfig:
    """The configuration with another way to sign in, and with a place to keep tokens where it names none.

    Raises:
        ConfigError: The transport knows no `auth`, this one is none, or there is an `api_key` as well.
    """
    settings = config.config
    if not isinstance(settings, (HTTPConfig, SSEConfig)):
        if auth is not None:
            raise ConfigError(f"server {config.name!r}: config.auth: transport {config.transport!r} takes none")
        return config
    auth = settings.auth if auth is None else auth
    if isinstance(auth, OAUTH_SETTINGS) and auth.store is None and store is not None:
        auth = replace(auth, store=store)
    if auth is settings.auth:
        return config
    try:
        return replace(config, config=replace(settings, auth=auth))
    except ValidationError as error:
        raise wrong_settings(config.name, error) from None


def authenticator_for(config: HTTPConfig | SSEConfig, principal: str | None) -> Authenticator | None:
    """The authenticator of one client; `None` where there is nothing to do but to send its headers.

    Raises:
        ConfigError: The configuration needs the extra `oauth`, which is not installed.
    """
    match config.auth:
        case None:
            return None
        case BearerAuth():
            return BearerAuthenticator(config.auth)
        case OAuth() | ClientCredentials() | WorkloadIdentity() | EnterpriseManaged():
            return oauth_authenticator(config, config.auth, principal)
        case FlowAuth() | AsyncAuthFlow() | SyncAuthFlow():
            from fastapi_server.mcp.auth.flow import FlowAuthenticator  # noqa: PLC0415 - brings aiohttp, which is slow

            return FlowAuthenticator(config.auth, config.endpoint, config.ca_file)
        case source:
            return CallableAuthenticator(source)


def oauth_authenticator(
    config: HTTPConfig | SSEConfig, settings: OAuthSettings, principal: str | None
) -> "OAuthAuthenticator":
    """The authenticator that gets tokens.

    Raises:
        ConfigError: The extra `oauth` is not installed.
    """
    missing = [name for name in ("mcp", "httpx2", "jwt", "cryptography") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"config.auth: type {settings.type!r} needs the extra oauth, which is not installed "
            "(pip install 'mcp-client-factory[oauth]')"
        )
    from fastapi_server.mcp.auth.oauth import OAuthAuthenticator  # noqa: PLC0415 - brings the SDK, which is slow

    account = Account(settings.store or default_store(), config.endpoint, principal, holder_of(settings))
    return OAuthAuthenticator(settings, account, config.ca_file)
