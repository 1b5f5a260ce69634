"""A small but real OpenID issuer: its metadata and keys over HTTP, its tokens signed with them."""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from fastapi_server.mcp.testing.listening import listening

AUDIENCE = "https://gateway.example"


class Issuer:
    """Attributes: `fetches` counts requests for the keys; `down` answers them with 503; `elsewhere` sends them there;
    `padding` is added to them; `more_keys` are among them."""

    def __init__(self) -> None:
        self.url = ""
        self.fetches = 0
        self.down = False
        self.says: str | None = None
        self.elsewhere = ""
        self.padding = 0
        self.more_keys: list[dict[str, Any]] = []
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.rotate("first")

    def rotate(self, kid: str) -> None:
        self.keys = {kid: ec.generate_private_key(ec.SECP256R1())}

    def token(self, **changes: Any) -> str:
        """A token that is good, but for the changes; `None` leaves a claim out."""
        claims = {"iss": self.url, "sub": "ann", "aud": AUDIENCE, "exp": time.time() + 600, **changes}
        kept = {name: value for name, value in claims.items() if value is not None}
        ((kid, key),) = self.keys.items()
        return jwt.encode(kept, key, "ES256", headers={"kid": kid})

    async def metadata(self, _request: web.Request) -> web.Response:
        return web.json_response({"issuer": self.says or self.url, "jwks_uri": f"{self.url}/keys"})

    async def key_set(self, _request: web.Request) -> web.Response:
        self.fetches += 1
        if self.down:
            return web.Response(status=503)
        if self.elsewhere:
            raise web.HTTPFound(self.elsewhere)
        jwks = [
            *self.more_keys,
            *(
                {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"}
                for kid, key in self.keys.items()
            ),
        ]
        return web.json_response({"keys": jwks, "padding": "x" * self.padding})


@asynccontextmanager
async def issuer() -> AsyncGenerator[Issuer]:
    served = Issuer()
    app = web.Application()
    app.add_routes([web.get("/.well-known/openid-configuration", served.metadata), web.get("/keys", served.key_set)])
    async with listening(app, shutdown_timeout=1) as served.url:
        yield served
