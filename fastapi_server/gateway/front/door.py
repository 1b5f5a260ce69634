"""The way in: the middlewares, in the order in which a request passes them."""

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from fastapi_server.gateway.draining import Draining
from fastapi_server.gateway.front.admission import Admission
from fastapi_server.gateway.front.guard import Guard, SecurityHeaders
from fastapi_server.gateway.front.keys import KeyRing
from fastapi_server.gateway.front.oidc import TokenVerifier
from fastapi_server.gateway.front.rates import RateLimit, Rates
from fastapi_server.gateway.front.size import SizeLimit
from fastapi_server.gateway.front.stay import Stay
from fastapi_server.gateway.settings import Settings

_READABLE = [
    *("Mcp-Session-Id", "MCP-Protocol-Version", "WWW-Authenticate", "Retry-After"),
    *("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
]
"""What pages of other origins may read of an answer, where they may read it at all."""
_REFUSALS = "60/minute"


def front_door(settings: Settings, key_ring: KeyRing, draining: Draining) -> list[Middleware]:
    """The outermost first.

    Raises:
        ConfigError: The rate limit is none.
    """
    middlewares = [Middleware(SecurityHeaders), Middleware(Guard, settings)]
    if settings.cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_READABLE,
        )
        middlewares.append(cors)
    admission = Middleware(
        Admission,
        key_ring=key_ring,
        verifier=_verifier(settings),
        must_identify=settings.must_identify,
        refusals=Rates(_REFUSALS),
    )
    rates, size = Middleware(RateLimit, Rates(settings.rate_limit)), Middleware(SizeLimit, settings.max_request_bytes)
    return [*middlewares, admission, Middleware(Stay, draining), rates, size]


def _verifier(settings: Settings) -> TokenVerifier | None:
    if settings.oidc_issuer is None or settings.oidc_audience is None:
        return None
    return TokenVerifier(settings.oidc_issuer, settings.oidc_audience)
