"""The keys that an OpenID provider signs with: found by discovery, kept, and asked for again with restraint."""

import asyncio
from collections.abc import Mapping
from typing import TypeVar

import aiohttp
import jwt
from pydantic import BaseModel, HttpUrl, ValidationError

_TIMEOUT = aiohttp.ClientTimeout(total=10)
_MOST_BYTES = 1024 * 1024
_FAILURE_SECONDS = 5.0

ModelT = TypeVar("ModelT", bound=BaseModel)


class IssuerUnavailable(Exception):
    """The issuer cannot be asked for its keys, so nobody knows whether the token is good."""


def discovery_url(issuer: str) -> str:
    """Where an issuer has its metadata (OpenID Connect Discovery 1.0, 4)."""
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


class _Metadata(BaseModel):
    issuer: str
    jwks_uri: HttpUrl


class _KeySet(BaseModel):
    keys: list[dict[str, object]]


class IssuerKeys:
    """Keeps the keys of an issuer.

    They are fetched when first needed, again when they are old, and for a key that is not among them: a provider may
    rotate its keys at any time. Whatever the reason, the issuer is asked once in a cooldown at most, and once in 5 s
    while it does not answer; the keys that are there then stay good.

    Args:
        issuer: As in `iss`; its metadata is at `/.well-known/openid-configuration` below it.
        fresh_seconds: How old the keys may be.
        cooldown: Seconds between two times of asking.
    """

    def __init__(self, issuer: str, *, fresh_seconds: float, cooldown: float) -> None:
        self.issuer = issuer
        self._fresh_seconds = fresh_seconds
        self._cooldown = cooldown
        self._keys: Mapping[str, jwt.PyJWK] | None = None
        self._fresh_until = self._rest_until = float("-inf")
        self._problem = ""
        self._asking = asyncio.Lock()

    async def key(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of that id, or the only one where a token names none; `None` where there is none.

        Raises:
            IssuerUnavailable: It was never heard of.
        """
        here = self._chosen(kid)
        if here is not None and self._asking.locked():
            return here  # somebody sees to it that it stays fresh
        if self._is_due(kid):
            async with self._asking:
                if self._is_due(kid):  # still, after whoever was asking before
                    await self._ask()
        if self._keys is None:
            raise IssuerUnavailable(self._problem)
        return self._chosen(kid)

    def _is_due(self, kid: str | None) -> bool:
        now = asyncio.get_running_loop().time()
        return now >= self._rest_until and (now >= self._fresh_until or self._chosen(kid) is None)

    def _chosen(self, kid: str | None) -> jwt.PyJWK | None:
        keys = self._keys or {}
        return keys.get(kid) if kid is not None else next(iter(keys.values())) if len(keys) == 1 else None

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._keys = await self._fetched()
        except IssuerUnavailable as error:
            self._problem = str(error)
            self._rest_until = loop.time() + min(self._cooldown, _FAILURE_SECONDS)
        else:
            self._rest_until = loop.time() + self._cooldown
            self._fresh_until = loop.time() + self._fresh_seconds

    async def _fetched(self) -> Mapping[str, jwt.PyJWK]:
        async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True) as http:
            metadata = await self._got(http, discovery_url(self.issuer), _Metadata, "metadata")
            if metadata.issuer != self.issuer:  # OpenID Connect Discovery 1.0, 4.3
                raise IssuerUnavailable(f"{self.issuer} says that it is {metadata.issuer}")
            if self.issuer.startswith("https:") and metadata.jwks_uri.scheme != "https":
                raise IssuerUnavailable(f"the keys of {self.issuer} are not to be had over https")
            key_set = await self._got(http, str(metadata.jwks_uri), _KeySet, "keys")
        try:
            return {key.key_id or "": key for key in jwt.PyJWKSet(key_set.keys) if _signs(key)}
        except jwt.PyJWTError as error:
            raise IssuerUnavailable(f"the keys of {self.issuer} are none that can be used") from error

    async def _got(self, http: aiohttp.ClientSession, url: str, model: type[ModelT], what: str) -> ModelT:
        try:
            async with http.get(url, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise IssuerUnavailable(f"the {what} of {self.issuer} cannot be had: it answers {answer.status}")
                body = bytearray()
                async for chunk in answer.content.iter_any():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        raise IssuerUnavailable(f"the {what} of {self.issuer} are more than {_MOST_BYTES} bytes")
            return model.model_validate_json(bytes(body))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise IssuerUnavailable(f"the {what} of {self.issuer} cannot be had: {reason}") from error
        except ValidationError as error:
            raise IssuerUnavailable(f"the {what} of {self.issuer} are not what they should be") from error


def _signs(key: jwt.PyJWK) -> bool:
    """Not for encryption, and not a secret that we would share with the issuer."""
    return key.public_key_use in {None, "sig"} and key.key_type in {"RSA", "EC", "OKP"}
