"""Bearer tokens of an OpenID provider.

A token must be signed by a key of the issuer, be meant for us and not have expired. What its claims give:

| claim | gives |
|---|---|
| `iss`, `sub` | the principal `iss#sub`; the same person is the same principal in every session |
| `preferred_username`, else `sub` | what the audit log calls them |
| `scope` (words in a string, or a list) or `scp` | an admin, where `mcp:admin` is among them |
| `mcp_servers` (a list of patterns) | the servers that they may use; without it all |
| `mcp_tools`, `mcp_tools_denied` (lists of patterns) | the tools that they may call, and may not |
"""

import asyncio
from typing import Any

import aiohttp
import jwt
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError

from fastapi_server.gateway.caller import Caller
from fastapi_server.mcp import ToolRules

ADMIN_SCOPE = "mcp:admin"

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""None that signs with a secret that the verifier has, too, and never `none`."""
_LEEWAY_SECONDS = 30
_KEYS_SECONDS = 300
_DISCOVERY = aiohttp.ClientTimeout(total=10)
_MOST_BYTES = 1024 * 1024


class TokenRefused(Exception):
    """The token is not good; the message says why, and nothing of the token."""


class IssuerUnavailable(Exception):
    """The issuer cannot be asked for its keys, so nobody knows whether the token is good."""


class _Metadata(BaseModel):
    issuer: str
    jwks_uri: HttpUrl


class _Claims(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    iss: str
    sub: str = Field(min_length=1)
    preferred_username: str | None = None
    scope: str | list[str] = ""
    scp: str | list[str] = ""
    mcp_servers: list[str] | None = None
    mcp_tools: list[str] | None = None
    mcp_tools_denied: list[str] = Field(default_factory=list[str])

    @property
    def scopes(self) -> set[str]:
        """Those of both claims."""
        given = (self.scope, self.scp)
        return {word for one in given for word in (one.split() if isinstance(one, str) else one)}


class TokenVerifier:
    """Tells whose a bearer token is.

    The issuer's keys are fetched when first needed, and again every 5 minutes, or earlier for a key that is not among
    them: a provider may rotate its keys at any time. Unknown keys make us ask no more often than the cooldown.

    Args:
        issuer: As in `iss`; its metadata is at `/.well-known/openid-configuration` below it.
        audience: What `aud` must hold.
        cooldown: Seconds between two times of asking for a key that is not there.
    """

    def __init__(self, issuer: str, audience: str, *, cooldown: float = 30.0) -> None:
        self.issuer = issuer
        self._audience = audience
        self._cooldown = cooldown
        self._keys: jwt.PyJWKClient | None = None
        self._discovering = asyncio.Lock()

    async def caller(self, token: str) -> Caller:
        """Whose token it is.

        Raises:
            TokenRefused: It is not good.
            IssuerUnavailable: The issuer's keys cannot be had.
        """
        _checked_header(token)
        keys = await self._key_client()
        try:
            claims = await asyncio.to_thread(self._verified, keys, token)
            return _caller_of(_Claims.model_validate(claims))
        except jwt.PyJWKClientConnectionError as error:
            raise IssuerUnavailable(f"the keys of {self.issuer} cannot be had") from error
        except ValidationError:
            raise TokenRefused("the token's claims are not what they should be") from None
        except jwt.PyJWTError as error:
            raise TokenRefused(_reason(error)) from None

    def _verified(self, keys: jwt.PyJWKClient, token: str) -> dict[str, Any]:
        """In a thread: it may fetch keys."""
        return jwt.decode(
            token,
            keys.get_signing_key_from_jwt(token),
            algorithms=_ALGORITHMS,
            audience=self._audience,
            issuer=self.issuer,
            leeway=_LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "sub", "aud"]},
        )

    async def _key_client(self) -> jwt.PyJWKClient:
        async with self._discovering:
            if self._keys is None:
                url = str((await self._discovered()).jwks_uri)
                self._keys = jwt.PyJWKClient(url, lifespan=_KEYS_SECONDS, timeout=10, cooldown_duration=self._cooldown)
            return self._keys

    async def _discovered(self) -> _Metadata:
        url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            async with aiohttp.ClientSession(timeout=_DISCOVERY, trust_env=True) as session, session.get(url) as answer:
                answer.raise_for_status()
                metadata = _Metadata.model_validate_json(await answer.content.read(_MOST_BYTES))
        except (aiohttp.ClientError, TimeoutError, ValidationError) as error:
            raise IssuerUnavailable(f"the metadata of {self.issuer} cannot be had") from error
        if metadata.issuer != self.issuer:  # OpenID Connect Discovery 1.0, 4.3
            raise IssuerUnavailable(f"{self.issuer} says that it is {metadata.issuer}")
        return metadata


def _checked_header(token: str) -> None:
    """Before anybody is asked for keys."""
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise TokenRefused("this is neither an API key nor a token") from None
    if header.get("alg") not in _ALGORITHMS:
        raise TokenRefused("the token's algorithm is not accepted")


def _reason(error: jwt.PyJWTError) -> str:
    match error:
        case jwt.ExpiredSignatureError():
            return "the token has expired"
        case jwt.InvalidAudienceError():
            return "the token is not meant for this server"
        case jwt.InvalidIssuerError():
            return "the token is of another issuer"
        case jwt.MissingRequiredClaimError():
            return f"the token has no {error.claim}"
        case _:
            return "the token is not good"


def _caller_of(claims: _Claims) -> Caller:
    return Caller(
        name=claims.preferred_username or claims.sub,
        principal=f"{claims.iss}#{claims.sub}",
        admin=ADMIN_SCOPE in claims.scopes,
        servers=claims.mcp_servers,
        tools=ToolRules(allow=claims.mcp_tools, deny=claims.mcp_tools_denied),
    )
