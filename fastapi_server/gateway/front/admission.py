"""Who calls: found out before anything else is done with a request."""

import re
from functools import partial

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_server.gateway.caller import ANYONE, SCOPE_KEY, Caller
from fastapi_server.gateway.front.guard import is_loopback
from fastapi_server.gateway.front.issuer_keys import IssuerUnavailable
from fastapi_server.gateway.front.keys import PREFIX, KeyRefused, KeyRing
from fastapi_server.gateway.front.oidc import TokenRefused, TokenVerifier
from fastapi_server.gateway.front.path import path_within
from fastapi_server.gateway.front.rates import Rates, address_of
from fastapi_server.gateway.front.resource_metadata import metadata_url
from fastapi_server.gateway.front.stay import STILL_WELCOME
from fastapi_server.gateway.problems import problem
from fastapi_server.gateway.store import StoreUnavailable

NOBODY = Caller(servers=())
"""Somebody who brings no key where one is required: open pages are served to them, and no server is."""

_OPEN = re.compile(
    r"/(?:|health|ready|openapi\.json|dashboard/.*"
    r"|\.well-known/oauth-protected-resource(?:/.*)?)"
)
"""What everybody may see. The dashboard is a page like any other: what it shows, it asks for with a key."""
_MCP = re.compile(r"/mcp(?:/.*)?")


def is_open(method: str, path: str) -> bool:
    """Whether everybody may ask for it, even where a key is required."""
    return method in {"GET", "HEAD"} and _OPEN.fullmatch(path) is not None


class Admission:
    """Sets who calls at `scope[SCOPE_KEY]`, or refuses with 401. What is brought is always checked, needed or not.

    Whether it is still good can be asked at `scope[STILL_WELCOME]`, for as long as the answer lasts.

    An application around this one that knows who calls may have set it already.

    Args:
        app: What is served.
        key_ring: Knows the API keys.
        verifier: Knows bearer tokens; `None` where no OpenID provider is configured.
        must_identify: Who brings nothing is refused, but for the open pages.
        refusals: Counts who was refused, by address; too many are answered with 429.
    """

    def __init__(
        self, app: ASGIApp, *, key_ring: KeyRing, verifier: TokenVerifier | None, must_identify: bool, refusals: Rates
    ) -> None:
        self._app = app
        self._key_ring = key_ring
        self._verifier = verifier
        self._must_identify = must_identify
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        answer: ASGIApp = self._app
        if scope["type"] == "http" and SCOPE_KEY not in scope:
            try:
                scope[SCOPE_KEY] = await self._admitted(scope)
            except (KeyRefused, TokenRefused) as error:
                answer = self._refused(scope, str(error))
            except (IssuerUnavailable, StoreUnavailable) as error:
                answer = problem(503, str(error), {"retry-after": "5"})
        await answer(scope, receive, send)

    async def _admitted(self, scope: Scope) -> Caller:
        credential = _credential(Headers(scope=scope))
        if credential is None:
            return self._without_credential(scope)
        caller = await self._caller(credential)
        scope[STILL_WELCOME] = partial(self._still_good, credential)
        return caller

    async def _still_good(self, credential: str) -> bool:
        try:
            await self._caller(credential)
        except (KeyRefused, TokenRefused):
            return False
        except (IssuerUnavailable, StoreUnavailable):
            pass  # nobody says that it is not
        return True

    async def _caller(self, credential: str) -> Caller:
        if self._verifier is None or credential.startswith(PREFIX):
            return await self._key_ring.caller(credential)
        return await self._verifier.caller(credential)

    def _without_credential(self, scope: Scope) -> Caller:
        if not self._must_identify and _is_local(scope):
            return ANYONE
        if is_open(scope["method"], path_within(scope)):
            return NOBODY
        raise KeyRefused("an API key is required, as Authorization: Bearer or X-API-Key")

    def _refused(self, scope: Scope, why: str) -> Response:
        """With the challenge of RFC 6750, 3; for MCP, that of RFC 9728, 5.1, too."""
        allowance = self._refusals.ask(address_of(scope))
        if not allowance.granted:
            return allowance.refusal()
        challenge = ["Bearer"]
        if _credential(Headers(scope=scope)) is not None:
            challenge.append('error="invalid_token"')
        if self._verifier is not None and _MCP.fullmatch(path_within(scope)):
            challenge.append(f'resource_metadata="{metadata_url(scope)}"')
        return problem(401, why, {"www-authenticate": f"{challenge[0]} {', '.join(challenge[1:])}".strip()})


def _credential(headers: Headers) -> str | None:
    """The key or token that came; one of a scheme that we do not know is none of ours, and refused as such."""
    if (key := headers.get("x-api-key")) is not None:
        return key.strip()
    authorization = headers.get("authorization")
    if authorization is None:
        return None
    scheme, _, credential = authorization.partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""


def _is_local(scope: Scope) -> bool:
    """Whether a request comes from this machine: a Unix socket has no address."""
    client = scope.get("client")
    return client is None or is_loopback(client[0])
