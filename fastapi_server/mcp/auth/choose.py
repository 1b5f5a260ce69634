"""From the settings of a configuration to who knows the credentials."""

from importlib.util import find_spec

from fastapi_server.mcp.auth.account import Account, default_store
from fastapi_server.mcp.auth.authenticator import Authenticator, BearerAuthenticator, CallableAuthenticator
from fastapi_server.mcp.auth.flow import FlowAuthenticator
from fastapi_server.mcp.auth_config import AsyncAuthFlow, BearerAuth, OAuthCommon, OAuthSettings, SyncAuthFlow
from fastapi_server.mcp.config import HTTPConfig, SSEConfig
from fastapi_server.mcp.errors import ConfigError


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
        case OAuthCommon():
            return _oauth(config, config.auth, principal)
        case AsyncAuthFlow() | SyncAuthFlow():
            return FlowAuthenticator(config.auth, config.endpoint, config.ca_file)
        case source:
            return CallableAuthenticator(source)


def _oauth(config: HTTPConfig | SSEConfig, settings: OAuthSettings, principal: str | None) -> Authenticator:
    missing = [name for name in ("mcp", "httpx2", "jwt", "cryptography") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"config.auth: type {settings.type!r} needs the extra oauth, which is not installed "
            "(pip install 'mcp-client-factory[oauth]')"
        )
    from fastapi_server.mcp.auth.oauth import OAuthAuthenticator  # noqa: PLC0415 - brings the SDK, which is slow

    account = Account(settings.store or default_store(), config.endpoint, principal)
    return OAuthAuthenticator(settings, account, config.ca_file)
