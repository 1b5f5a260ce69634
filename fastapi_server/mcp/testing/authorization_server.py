"""A small but real authorization server, and an MCP server that takes its tokens. Both listen on sockets.

The person at `/authorize` agrees at once. What the server offers and how it misbehaves are attributes, to be changed
while it runs; everything that arrives is in `seen`.
"""

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

import jwt
from aiohttp import web

from fastapi_server.mcp.testing.http_peer import HTTPPeer, http_peer
from fastapi_server.mcp.testing.listening import listening

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
PLANTED = "planted-secret"
"""Part of every secret that the server gives."""


def digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def thumbprint(jwk: dict[str, str]) -> str:
    return digest(json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":")))


def proof_in(request: web.Request, token: str | None = None) -> dict[str, Any]:
    """The claims of a DPoP proof that is right (RFC 9449, 4.3), and `jkt`; an `AssertionError` for any other."""
    (proof,) = request.headers.getall("DPoP")
    header = jwt.get_unverified_header(proof)
    assert header["typ"] == "dpop+jwt"
    assert "d" not in header["jwk"]
    claims = jwt.decode(proof, jwt.PyJWK(header["jwk"], "ES256"), algorithms=["ES256"])
    assert claims["htm"] == request.method
    assert claims["htu"] == str(request.url.with_query(None))
    assert abs(claims["iat"] - time.time()) < 60
    assert claims.get("ath") == (digest(token) if token else None)
    return {**claims, "jkt": thumbprint(header["jwk"])}


@dataclass
class Form:
    """One token request."""

    fields: dict[str, str]
    headers: dict[str, str]

    @property
    def grant(self) -> str:
        return self.fields["grant_type"]


@dataclass
class AuthorizationServer:
    """Issues opaque tokens; `granted` says what each is good for.

    Attributes:
        expires_in: Seconds that the next tokens last, or what is no such thing; `None` says nothing.
        scopes: What is granted, whatever is asked for; `None` for just that.
        refreshes: Refresh tokens are given.
        gate: Token requests wait for it.
        fail: Answer the next token requests with these, `(status, body)`.
        fail_headers: With these, too.
        nonce: Token requests must carry it in their proof.
        nonce_lasts: After so many of them, there is another `nonce`.
        checks_clients: Token requests of clients that have not registered are refused.
        registration_changes: Laid over what the next clients are told of their registration.
        metadata_changes: Laid over the metadata; `None` removes a member.
        echo: Token requests are refused, and quoted.
        malformed: The answer to a token request is none, and holds what was sent.
        redirects: Where these paths are said to have moved.
        headers: What every answer carries besides.
        statuses: What these paths answer with, and nothing else.
        answers: Scope of what is given for further grant types.
        callback_changes: Laid over what the browser brings back.
        path: Where the metadata is.
    """

    url: str = ""
    expires_in: float | str | None = 3600
    scopes: str | None = None
    refreshes: bool = True
    dpop: bool = False
    nonce: str | None = None
    nonce_lasts: int | None = None
    path: str = "/.well-known/oauth-authorization-server"
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fail: list[tuple[int, dict[str, str]]] = field(default_factory=list[tuple[int, dict[str, str]]])
    fail_headers: dict[str, str] = field(default_factory=dict[str, str])
    checks_clients: bool = False
    registration_changes: dict[str, Any] = field(default_factory=dict[str, Any])
    metadata_changes: dict[str, Any] = field(default_factory=dict[str, Any])
    callback_changes: dict[str, str | None] = field(default_factory=dict[str, str | None])
    echo: bool = False
    malformed: bool = False
    redirects: dict[str, str] = field(default_factory=dict[str, str])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    answers: dict[str, str] = field(default_factory=dict[str, str])
    clients: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    codes: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    refresh_tokens: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    granted: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    authorizations: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    registrations: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    forms: list[Form] = field(default_factory=list[Form])
    paths: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def issuer(self) -> str:
        return self.url

    def grants(self) -> list[str]:
        """The grant types of the token requests, in order."""
        return [form.grant for form in self.forms]

    def metadata(self) -> dict[str, Any]:
        whole = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "registration_endpoint": f"{self.url}/register",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            **self.metadata_changes,
        }
        return {name: value for name, value in whole.items() if value is not None}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        answer = await self._page(request)
        answer.headers.update(self.headers)
        return answer

    async def _page(self, request: web.Request) -> web.Response:
        if request.path in self.redirects:
            return web.Response(status=307, headers={"Location": self.redirects[request.path]})
        if request.path in self.statuses:
            return web.Response(status=self.statuses[request.path])
        match request.path:
            case self.path:
                return web.json_response(self.metadata())
            case "/register":
                return await self._register(request)
            case "/authorize":
                return self._authorize(dict(request.query))
            case "/token":
                return await self._token(request)
            case _:
                return web.Response(status=404)

    async def _register(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.registrations.append(asked)
        client = {**asked, "client_id": f"client-{len(self.registrations)}", **self.registration_changes}
        self.clients[client["client_id"]] = client
        return web.json_response(client, status=201)

    def _authorize(self, query: dict[str, str]) -> web.Response:
        self.authorizations.append(query)
        code = f"{PLANTED}-code-{secrets.token_hex(8)}"
        self.codes[code] = query
        back: dict[str, str | None] = {"code": code, "state": query["state"], "iss": self.issuer}
        back |= self.callback_changes
        brought = {name: value for name, value in back.items() if value is not None}
        return web.Response(status=302, headers={"Location": f"{query['redirect_uri']}?{urlencode(brought)}"})

    async def _token(self, request: web.Request) -> web.Response:
        form = Form({name: str(value) for name, value in (await request.post()).items()}, dict(request.headers))
        self.forms.append(form)
        await self.gate.wait()
        if self.malformed:
            return web.json_response({"access_token": [f"{PLANTED}-access"], "sent": form.fields})
        if self.echo:
            quoted = {"error": "invalid_grant", "error_description": f"you sent {form.fields} with {form.headers}"}
            return web.json_response(quoted, status=400)
        if self.fail:
            status, body = self.fail.pop(0)
            return web.json_response(body, status=status, headers=self.fail_headers)
        if self.checks_clients and form.fields.get("client_id") not in self.clients:
            return web.json_response({"error": "invalid_client"}, status=401)
        bound = ""
        if self.dpop:
            proof, expected = proof_in(request), self.nonce
            if self.nonce_lasts is not None and len(self.forms) % self.nonce_lasts == 0:
                self.nonce = secrets.token_hex(8)
            if self.nonce is not None and proof.get("nonce") != expected:
                headers = {"DPoP-Nonce": self.nonce}
                return web.json_response({"error": "use_dpop_nonce"}, status=400, headers=headers)
            bound = proof["jkt"]
        return self._answer(form, bound)

    def _answer(self, form: Form, bound: str) -> web.Response:
        fields = form.fields
        match form.grant:
            case "authorization_code":
                query = self.codes.pop(fields["code"], None)
                if query is None or digest(fields["code_verifier"]) != query["code_challenge"]:
                    return web.json_response({"error": "invalid_grant"}, status=400)
                assert not bound or query["dpop_jkt"] == bound
                scope = query.get("scope", "")
            case "refresh_token":
                known = self.refresh_tokens.pop(fields["refresh_token"], None)
                if known is None:
                    return web.json_response({"error": "invalid_grant"}, status=400)
                scope = known["scope"]
            case "client_credentials":
                scope = fields.get("scope", "")
            case other if other == JWT_BEARER:
                scope = fields.get("scope", "")
            case other if other in self.answers:
                scope = self.answers[other]
            case _:
                return web.json_response({"error": "unsupported_grant_type"}, status=400)
        return self.issue(scope if self.scopes is None else self.scopes, bound)

    def issue(self, scope: str, bound: str = "") -> web.Response:
        """New tokens."""
        token = f"{PLANTED}-access-{secrets.token_hex(8)}"
        self.granted[token] = {"scope": scope, "jkt": bound}
        answer: dict[str, Any] = {"access_token": token, "token_type": "DPoP" if bound else "bearer"}
        if self.expires_in is not None:
            answer["expires_in"] = self.expires_in
        if scope:
            answer["scope"] = scope
        if self.refreshes:
            answer["refresh_token"] = f"{PLANTED}-refresh-{secrets.token_hex(8)}"
            self.refresh_tokens[answer["refresh_token"]] = {"scope": scope}
        return web.json_response(answer)

    def revoke_all(self) -> None:
        """Every access token is worth nothing any more."""
        self.granted.clear()


def basic_credentials(form: Form) -> tuple[str, str]:
    """Who the client says it is (RFC 6749, 2.3.1)."""
    decoded = base64.b64decode(form.headers["Authorization"].removeprefix("Basic ")).decode()
    name, _, secret = decoded.partition(":")
    return unquote(name), unquote(secret)


@dataclass
class GuardedPeer(HTTPPeer):
    """An MCP server that wants a token.

    Attributes:
        issuers: The authorization servers; the first one is advertised.
        needs: Scopes, by JSON-RPC method; 403 names them.
        for_all: JSON-RPC methods that need no token.
        nonce: Proofs must carry it.
        nonce_lasts: After so many requests, there is another `nonce`.
        single_use_nonces: Proofs must carry one of these, which is then used up; refusals give new ones.
        challenges_before: Lines of `WWW-Authenticate` that stand before the one that matters.
        refused: Answers with status 401 or 403 so far.
        tokens: The `Authorization` headers that came.
        realm: What its metadata says; `resource` left out is the URL of the endpoint.
    """

    issuers: list[AuthorizationServer] = field(default_factory=list[AuthorizationServer])
    needs: dict[str, str] = field(default_factory=dict[str, str])
    for_all: set[str] = field(default_factory=set[str])
    nonce: str | None = None
    nonce_lasts: int | None = None
    single_use_nonces: set[str] | None = None
    challenges_before: list[str] = field(default_factory=list[str])
    challenge_scope: str | None = None
    refused: list[int] = field(default_factory=list[int])
    tokens: list[str] = field(default_factory=list[str])
    proofs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    realm: dict[str, Any] = field(default_factory=dict[str, Any])
    has_metadata: bool = True

    async def handle(self, http: web.Request) -> web.StreamResponse:
        if http.path.startswith("/.well-known/oauth-protected-resource") and self.has_metadata:
            servers = [issuer.issuer for issuer in self.issuers]
            return web.json_response({"resource": f"{self.url}/mcp", "authorization_servers": servers, **self.realm})
        if http.path != "/mcp":
            return await self.elsewhere(http)
        refusal = await self._refusal(http)
        if refusal is not None:
            self.refused.append(refusal.status)
            last = refusal.headers.popone("WWW-Authenticate")
            for line in (*self.challenges_before, last):
                refusal.headers.add("WWW-Authenticate", line)
            return refusal
        return await super().handle(http)

    async def elsewhere(self, http: web.Request) -> web.StreamResponse:
        """A server of 2025-03-26 is its own authorization server."""
        if self.has_metadata:
            return web.Response(status=404)
        return await self.issuers[0].handle(http)

    async def _refusal(self, http: web.Request) -> web.Response | None:
        scheme, _, token = http.headers.get("Authorization", "").partition(" ")
        self.tokens.append(token)
        data = await http.read()
        method = json.loads(data).get("method", "") if data else ""
        known = self.issuers[0].granted.get(token)
        if known is None and method in self.for_all:
            return None
        if known is None:
            scope = f', scope="{self.challenge_scope}"' if self.challenge_scope else ""
            return _refuse(401, f'Bearer resource_metadata="{self._metadata}"{scope}')
        if known["jkt"]:
            assert scheme == "DPoP"
            proof = proof_in(http, token)
            assert proof["jkt"] == known["jkt"]
            assert proof["jti"] not in {before["jti"] for before in self.proofs}
            self.proofs.append(proof)
            expected = self.nonce
            if self.nonce_lasts is not None and len(self.proofs) % self.nonce_lasts == 0:
                self.nonce = secrets.token_hex(8)
            if self.nonce is not None and proof.get("nonce") != expected:
                return _refuse(401, 'DPoP error="use_dpop_nonce"', {"DPoP-Nonce": self.nonce})
            if self.single_use_nonces is not None and proof.get("nonce") not in self.single_use_nonces:
                self.single_use_nonces.add(nonce := secrets.token_hex(8))
                return _refuse(401, 'DPoP error="use_dpop_nonce"', {"DPoP-Nonce": nonce})
            if self.single_use_nonces is not None:
                self.single_use_nonces.remove(proof["nonce"])
        needed = self.needs.get(method, "")
        if not set(needed.split()) <= set(known["scope"].split()):
            return _refuse(403, f'Bearer error="insufficient_scope", scope="{needed}"')
        return None

    @property
    def _metadata(self) -> str:
        return f"{self.url}/.well-known/oauth-protected-resource/mcp"


def _refuse(status: int, challenge: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, headers={"WWW-Authenticate": challenge, **(headers or {})})


@asynccontextmanager
async def authorization_server() -> AsyncGenerator[AuthorizationServer]:
    """One that listens."""
    server = AuthorizationServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    async with listening(app) as server.url:
        yield server


@asynccontextmanager
async def guarded_peer(*issuers: AuthorizationServer, stateless: bool = True) -> AsyncGenerator[GuardedPeer]:
    """An MCP server that listens and takes the tokens of the first of `issuers`."""
    peer = GuardedPeer(issuers=list(issuers), stateless=stateless)
    async with http_peer(peer):
        yield peer
