"""Bearer tokens of an OpenID provider.

A token must be signed by a key of the issuer, be meant for us and not have expired. What its claims give:

| claim | gives |
|---|---|
| `iss`, `sub` | the principal `iss#sub`; the same person is the same principal in every session |
| `preferred_username`, else `sub` | what the audit log calls them |
| `scope` (words in a string, or a list) or `scp` | `mcp:admin` makes an admin, `mcp:metrics` opens the metrics |
| `mcp_servers` (a list of patterns) | the servers that they may use; without it all |
| `mcp_tools`, `mcp_tools_denied` (lists of patterns) | the tools that they may call, and may not |
"""

from typing import Any

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.front.issuer_keys import IssuerKeys
from fastapi_server.mcp import ToolRules

ADMIN_SCOPE = "mcp:admin"
METRICS_SCOPE = "mcp:metrics"

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""None that signs with a secret that the verifier has, too, and never `none`."""
_LEEWAY_SECONDS = 30
_KEYS_SECONDS = 300


class TokenRefused(Exception):
    """The token is not good; the message says why, and nothing of the token."""


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

    Args:
        issuer: As in `iss`.
        audience: What `aud` must hold.
        cooldown: Seconds between two times of asking the issuer for its keys, which are otherwise kept for 5 minutes.
    """

    def __init__(self, issuer: str, audience: str, *, cooldown: float = 30.0) -> None:
        self._audience = audience
        self._keys = IssuerKeys(issuer, fresh_seconds=_KEYS_SECONDS, cooldown=cooldown)

    async def caller(self, token: str) -> Caller:
        """Whose token it is.

        Raises:
            TokenRefused: It is not good.
            IssuerUnavailable: The issuer's keys cannot be had.
        """
        header = _checked_header(token)
        key = await self._keys.key(header.get("kid"))
        if key is None:
            raise TokenRefused("the token is signed by no key of the issuer")
        try:
            return _caller_of(_Claims.model_validate(self._verified(key, token, header["alg"])))
        except ValidationError:
            raise TokenRefused("the token's claims are not what they should be") from None
        except (jwt.PyJWTError, TypeError) as error:
            raise TokenRefused(_reason(error)) from None

    def _verified(self, key: jwt.PyJWK, token: str, algorithm: str) -> dict[str, Any]:
        return jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            audience=self._audience,
            issuer=self._keys.issuer,
            leeway=_LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "sub", "aud"]},
        )


def _checked_header(token: str) -> dict[str, Any]:
    """Before anybody is asked for keys."""
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise TokenRefused("this is neither an API key nor a token") from None
    if header.get("alg") not in _ALGORITHMS:
        raise TokenRefused("the token's algorithm is not accepted")
    return header


def _reason(error: Exception) -> str:
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
        metrics=METRICS_SCOPE in claims.scopes,
    )
