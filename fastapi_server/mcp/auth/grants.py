"""How a program gets its token request, once the SDK has discovered the authorization server: no person is asked."""

import time
import uuid

import httpx2
import jwt
from mcp.shared.auth import JWT_BEARER_GRANT_TYPE, OAuthClientInformationFull, OAuthClientMetadata
from mcp.shared.auth import TokenEndpointAuthMethod as Method
from pydantic import AnyUrl

from fastapi_server.mcp.auth.quoting import object_in
from fastapi_server.mcp.auth.sdk import GrantRequest, Provider, Send
from fastapi_server.mcp.auth_config import (
    AssertionSource,
    ClientCredentials,
    EnterpriseManaged,
    OAuth,
    OAuthSettings,
    Secret,
    WorkloadIdentity,
    revealed,
)
from fastapi_server.mcp.errors import AuthenticationError, ConfigError, MCPClientError

_ASSERTION_SECONDS = 300
_CLIENT_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - the name of a grant
_ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - the name of a kind
_ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
_NOBODY = "-"
"""Never sent: the SDK registers a client that has no id, and a workload may have none."""


def metadata_of(config: OAuthSettings) -> OAuthClientMetadata:
    """What the client says of itself when it registers."""
    if isinstance(config, OAuth):
        return OAuthClientMetadata(redirect_uris=[AnyUrl(config.redirect_uri)], client_name=config.client_name)
    grant = "client_credentials" if isinstance(config, ClientCredentials) else JWT_BEARER_GRANT_TYPE
    return OAuthClientMetadata(redirect_uris=None, grant_types=[grant])


def fixed_client_of(config: OAuthSettings) -> OAuthClientInformationFull | None:
    """The client registered beforehand; `None` where the client is to introduce itself."""
    if isinstance(config, OAuth) and config.client_id is None:
        return None
    secret = None if isinstance(config, WorkloadIdentity) else config.client_secret
    return OAuthClientInformationFull(
        client_id=config.client_id or _NOBODY,
        client_secret=None if secret is None else revealed(secret, "client_secret"),
        token_endpoint_auth_method=_method_of(config),
    )


def configured_urls(config: OAuthSettings) -> list[str]:
    """On the origins that the configuration names itself: they may be reached wherever they are."""
    idp = config.idp_token_endpoint if isinstance(config, EnterpriseManaged) else None
    return [*config.insecure_origins, *(url for url in (config.issuer, idp) if url is not None)]


def _method_of(config: OAuthSettings) -> Method:
    match config:
        case WorkloadIdentity():
            return "none"
        case ClientCredentials(private_key=key) if key is not None:
            return "private_key_jwt"
        case OAuth(client_secret=None):
            return "none"
        case _:
            return config.token_endpoint_auth_method


def grant_of(config: ClientCredentials | WorkloadIdentity | EnterpriseManaged, send: Send) -> GrantRequest:
    """What makes the token request."""

    async def request(provider: Provider) -> httpx2.Request:
        match config:
            case ClientCredentials():
                return _client_credentials(config, provider)
            case WorkloadIdentity():
                return await _workload(config, provider)
            case EnterpriseManaged():
                return await _enterprise(config, provider, send)

    return request


def _client_credentials(config: ClientCredentials, provider: Provider) -> httpx2.Request:
    parameters = {"grant_type": "client_credentials"}
    if config.private_key is not None:
        parameters["client_assertion_type"] = _CLIENT_ASSERTION
        parameters["client_assertion"] = _client_assertion(config, config.private_key, provider.audience)
    return provider.grant_request(parameters)


def _client_assertion(config: ClientCredentials, key: Secret | str, audience: str) -> str:
    """The client, by its signature (RFC 7523, 3)."""
    now = int(time.time())
    claims = {
        "iss": config.client_id,
        "sub": config.client_id,
        "aud": audience,
        "iat": now,
        "exp": now + _ASSERTION_SECONDS,
        "jti": str(uuid.uuid4()),
    }
    pem = revealed(key, "private_key")
    try:
        return jwt.encode(claims, pem, algorithm=config.algorithm)
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise AuthenticationError(
            f"config.auth.private_key: is no key that signs with {config.algorithm} ({type(error).__name__})"
        ) from None


async def _workload(config: WorkloadIdentity, provider: Provider) -> httpx2.Request:
    parameters = {
        "grant_type": JWT_BEARER_GRANT_TYPE,
        "assertion": await _from(config.assertion, provider.audience, "assertion"),
    }
    if config.client_id is not None:
        parameters["client_id"] = config.client_id
    return provider.grant_request(parameters)


async def _enterprise(config: EnterpriseManaged, provider: Provider, send: Send) -> httpx2.Request:
    """An ID-JAG from the identity provider (RFC 8693), and with it a token request."""
    exchange = {
        "grant_type": _TOKEN_EXCHANGE,
        "requested_token_type": _ID_JAG,
        "audience": provider.audience,
        "resource": provider.resource,
        "subject_token": await _from(config.id_token, provider.audience, "id_token"),
        "subject_token_type": _ID_TOKEN,
        "client_id": config.idp_client_id,
    }
    if config.idp_client_secret is not None:
        exchange["client_secret"] = revealed(config.idp_client_secret, "idp_client_secret")
    if provider.scope:
        exchange["scope"] = provider.scope
    answer = object_in((await send(httpx2.Request("POST", config.idp_token_endpoint, data=exchange))).content)
    if answer.get("issued_token_type") != _ID_JAG or not isinstance(answer.get("access_token"), str):
        raise AuthenticationError("the identity provider gave something else than an ID-JAG")
    return provider.grant_request({"grant_type": JWT_BEARER_GRANT_TYPE, "assertion": answer["access_token"]})


async def _from(source: Secret | str | AssertionSource, audience: str, field: str) -> str:
    if isinstance(source, (Secret, str)):
        return revealed(source, field)
    try:
        given = await source(audience)
    except MCPClientError:
        raise
    except Exception as error:
        raise AuthenticationError(f"the callable given as auth.{field} failed: {type(error).__name__}") from error
    if not isinstance(given, str) or not given:  # pyright: ignore[reportUnnecessaryIsInstance] - it is the user's
        raise ConfigError(f"the callable given as auth.{field} returned {type(given).__name__}, not a JWT")
    return given
