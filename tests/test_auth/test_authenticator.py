"""Tokens that are simply there, callables, and flows in the way of httpx."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from aiohttp import web
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from fastapi_server.mcp import (
    AuthenticationError,
    BearerAuth,
    ConfigError,
    FlowAuth,
    HTTPConfig,
    HTTPMCPClient,
    MCPConnectionError,
)
from fastapi_server.mcp.auth.authenticator import CallableAuthenticator, Outgoing, Refusal, SingleFlight
from fastapi_server.mcp.auth.flow import FlowAuthenticator
from fastapi_server.mcp.errors import MCPClientError
from fastapi_server.mcp.testing.authorization_server import AuthorizationServer, GuardedPeer
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer


@pytest.fixture
async def plain(nothing_left: None) -> Any:
    async with http_peer(stateless=True) as peer:
        yield peer


def client_of(peer: HTTPPeer, auth: Any, **settings: Any) -> HTTPMCPClient:
    return HTTPMCPClient("plain", HTTPConfig(f"{peer.url}/mcp", auth=auth, retries=0, **settings))


def authorizations(peer: HTTPPeer) -> list[str | None]:
    return [seen.http.headers.get("Authorization") for seen in peer.seen]


async def test_a_token_in_a_file_may_change(plain: HTTPPeer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    auth: Any = {"type": "bearer", "token": {"file": str(file)}}
    async with client_of(plain, auth) as client:
        file.write_text("second\n")
        await client.list_tools()

    assert authorizations(plain) == ["Bearer first", "Bearer second"]


async def test_a_token_in_the_environment(plain: HTTPPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_TOKEN", "from-outside")
    auth: Any = {"type": "bearer", "token": {"env": "THE_TOKEN"}}
    async with client_of(plain, auth):
        pass
    assert authorizations(plain) == ["Bearer from-outside"]


@pytest.mark.parametrize("as_headers", [False, True])
async def test_a_callable_is_asked_for_each_request(plain: HTTPPeer, as_headers: bool) -> None:
    asked = 0

    async def token() -> Any:
        nonlocal asked
        asked += 1
        return {"Authorization": f"Bearer {asked}"} if as_headers else str(asked)

    async with client_of(plain, token) as client:
        await client.list_tools()

    assert authorizations(plain) == ["Bearer 1", "Bearer 2"]
    assert len(plain.connections) == 1  # rotated without reconnecting


async def test_a_callable_is_asked_again_when_its_token_is_refused(plain: HTTPPeer) -> None:
    tokens = iter(["old", "old", "new"])
    current = "old"

    @plain.on("tools/list")
    async def _(seen: Seen) -> web.StreamResponse:
        fine = seen.http.headers["Authorization"] == "Bearer new"
        return seen.json({"tools": []}) if fine else web.Response(status=401)

    async def token() -> str:
        return next(tokens, current)

    async with client_of(plain, token) as client:
        await client.list_tools()

    assert authorizations(plain) == ["Bearer old", "Bearer old", "Bearer new"]


async def test_a_callable_that_has_nothing_better_is_asked_no_more(plain: HTTPPeer) -> None:
    @plain.on("tools/list")
    async def _(seen: Seen) -> web.StreamResponse:
        return web.Response(status=401, text=f"you said {seen.http.headers['Authorization']}")

    async def token() -> str:
        return "always-this-one"

    async with client_of(plain, token) as client:
        with pytest.raises(AuthenticationError) as raised:
            await client.list_tools()

    assert len(plain.seen) == 2
    assert "always-this-one" not in str(raised.value) + raised.value.body


async def test_a_callable_that_fails(plain: HTTPPeer) -> None:
    async def token() -> str:
        raise LookupError("planted-secret")

    one = client_of(plain, token)
    assert not await one.connect(retry_count=1)
    assert "LookupError" in str(one.last_error)
    assert "planted-secret" not in str(one.last_error)
    await one.disconnect()


# Flows.


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_flow_that_knows_the_password(plain: HTTPPeer, library: Any) -> None:
    async with client_of(plain, library.BasicAuth("ann", "of-ann")):
        pass
    assert authorizations(plain) == ["Basic YW5uOm9mLWFubg=="]


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_flow_that_needs_the_challenge(plain: HTTPPeer, library: Any) -> None:
    def digest(*parts: str) -> str:
        return hashlib.md5(":".join(parts).encode()).hexdigest()

    @plain.on("tools/list")
    async def _(seen: Seen) -> web.StreamResponse:
        given = seen.http.headers.get("Authorization", "")
        if not given:
            challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        members = dict(part.strip().split("=", 1) for part in given.removeprefix("Digest ").split(","))
        value = {name: member.strip('"') for name, member in members.items()}
        one, two = digest("ann", "r", "of-ann"), digest("POST", "/mcp")
        expected = digest(one, "n", value["nc"], value["cnonce"], "auth", two)
        return seen.json({"tools": []}) if value["response"] == expected else web.Response(status=401)

    async with client_of(plain, library.DigestAuth("ann", "of-ann")) as client:
        await client.list_tools()
        await client.list_tools()
    assert [bool(given) for given in authorizations(plain)] == [False, False, True, True]


class Fetching(httpx.Auth):
    """Gets a token when it is refused, and reads the answer, as the documentation of httpx shows it."""

    requires_response_body = True

    def __init__(self, issuer: AuthorizationServer) -> None:
        self._issuer = issuer
        self._token = "none"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token}"
        refusal = yield request
        if refusal.status_code == 401:
            form = {"grant_type": "client_credentials", "scope": "read"}
            answer = yield httpx.Request("POST", f"{self._issuer.url}/token", data=form)
            self._token = answer.json()["access_token"]
            request.headers["Authorization"] = f"Bearer {self._token}"
            yield request


async def test_a_flow_of_httpx_that_fetches_a_token(issuer: AuthorizationServer, peer: GuardedPeer) -> None:
    async with client_of(peer, Fetching(issuer)) as client:
        await client.list_tools()
        issuer.revoke_all()
        await client.list_tools()
    assert issuer.grants() == ["client_credentials"] * 2
    assert peer.refused == [401, 401]


async def test_a_flow_goes_without_tls_where_the_configuration_names_the_origin(
    issuer: AuthorizationServer, peer: GuardedPeer, names: dict[str, str]
) -> None:
    """As in docker compose: `http://auth:8080`, on another host."""
    names["auth.test"] = "127.0.0.1"
    issuer.url = issuer.url.replace("127.0.0.1", "auth.test")
    one = client_of(peer, Fetching(issuer))
    assert not await one.connect()
    assert f"it is not https (config: auth.insecure_origins does not name {issuer.url})" in str(one.last_error)
    await one.disconnect()
    assert not issuer.forms

    async with client_of(peer, FlowAuth(Fetching(issuer), insecure_origins=[issuer.url])) as client:
        await client.list_tools()
    assert issuer.grants() == ["client_credentials"]


async def test_a_flow_goes_to_a_private_host_where_the_configuration_names_the_origin(
    nothing_left: None, names: dict[str, str]
) -> None:
    names |= {"mcp.test": "8.8.8.8", "login.test": "127.0.0.1"}
    outgoing = Outgoing("POST", "https://mcp.test/mcp")
    fetching = Fetching(AuthorizationServer("https://login.test:1"))
    refusal = Refusal(outgoing, {"Authorization": "Bearer none"}, 401, {})
    plain = FlowAuthenticator(fetching, outgoing.url)
    with pytest.raises(AuthenticationError, match=r"is loopback, .* does not name https://login\.test:1\)"):
        await plain.refused(refusal)
    named = FlowAuthenticator(FlowAuth(fetching, insecure_origins=["https://login.test:1"]), outgoing.url)
    with pytest.raises(MCPConnectionError, match="cannot be reached"):
        await named.refused(refusal)


class Awaiting(httpx.Auth):
    """Only the asynchronous generator is its own."""

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        await asyncio.sleep(0)
        request.headers["Authorization"] = "Bearer waited-for"
        yield request


async def test_a_flow_of_httpx_that_awaits(plain: HTTPPeer) -> None:
    async with client_of(plain, Awaiting()):
        pass
    assert authorizations(plain) == ["Bearer waited-for"]


class Signed:
    """A plain generator, which nothing says is one of httpx; it signs the body."""

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["X-Signature"] = hashlib.sha256(request.content).hexdigest()
        yield request


async def test_a_flow_that_signs_the_body(plain: HTTPPeer) -> None:
    async with client_of(plain, Signed()) as client:
        await client.list_tools()
    for seen in plain.seen:
        assert seen.http.headers["X-Signature"] == hashlib.sha256(await seen.http.read()).hexdigest()


class Locked:
    """Holds its lock while the request is on its way, as the official providers do."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        async with self.lock:
            request.headers["Authorization"] = "Bearer t"
            yield request


async def test_no_lock_of_a_flow_is_held_while_the_request_is_answered(plain: HTTPPeer) -> None:
    flow, arrived = Locked(), 0
    both = asyncio.Event()

    @plain.on("tools/list")
    async def _(seen: Seen) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        assert not flow.lock.locked()
        if arrived == 2:
            both.set()
        await both.wait()
        return seen.json({"tools": []})

    async with client_of(plain, flow) as client:
        await asyncio.gather(client.list_tools(), client.list_tools())


class Elsewhere:
    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.url = request.url.copy_with(query=b"key=1")
        yield request


class Broken:
    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        raise LookupError("planted-secret")
        yield request


@pytest.mark.parametrize(("flow", "says"), [(Elsewhere(), "changes the URL"), (Broken(), "failed: LookupError")])
async def test_a_flow_that_cannot_be_used(plain: HTTPPeer, flow: Any, says: str) -> None:
    one = client_of(plain, flow)
    assert not await one.connect()
    assert says in str(one.last_error)
    assert "planted-secret" not in str(one.last_error)
    await one.disconnect()


class Kept:
    """The SDK's token storage."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None: ...


async def test_a_provider_of_the_official_sdk_is_a_flow_too(issuer: AuthorizationServer, peer: GuardedPeer) -> None:
    issuer.headers = {"X-Served-By": "Café"}
    provider = ClientCredentialsOAuthProvider(
        f"{peer.url}/mcp", Kept(), client_id="ours", client_secret="s3cret-1", issuer=issuer.issuer
    )
    async with client_of(peer, provider) as client:
        await asyncio.gather(*(client.list_tools() for _ in range(10)))
    assert issuer.grants() == ["client_credentials"]


async def test_a_flow_gives_up(issuer: AuthorizationServer, peer: GuardedPeer) -> None:
    one = client_of(peer, httpx2.BasicAuth("ann", "of-ann"))
    assert not await one.connect()
    assert isinstance(one.last_error, AuthenticationError)
    assert peer.refused == [401]
    await one.disconnect()


# What they share.


async def test_each_waiter_gets_an_error_of_its_own() -> None:
    flight = SingleFlight()

    async def fail() -> None:
        raise AuthenticationError("no")

    outcomes = await asyncio.gather(flight.join(fail), flight.join(fail), return_exceptions=True)
    assert all(isinstance(outcome, MCPClientError) for outcome in outcomes)
    assert outcomes[0] is not outcomes[1]


async def test_closing_tells_those_who_wait() -> None:
    flight = SingleFlight()
    waiting = asyncio.create_task(flight.join(asyncio.Event().wait))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await flight.close()
    with pytest.raises(MCPConnectionError, match="closed while signing in"):
        await waiting
    assert not await flight.wait()


def test_what_is_shown_of_a_request() -> None:
    shown = repr(Outgoing("POST", "http://h/mcp", {"X-Key": "planted-secret"}, b"planted-secret"))
    assert "planted-secret" not in shown


def test_bearer_settings_show_no_token() -> None:
    assert "planted-secret" not in repr(BearerAuth("planted-secret"))


async def test_what_fails_in_code_of_the_users_is_the_cause() -> None:
    class Broken(httpx2.Auth):
        def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response]:
            raise KeyError("planted-secret")
            yield request

    with pytest.raises(AuthenticationError, match="the auth flow failed: KeyError") as raised:
        await FlowAuthenticator(Broken(), "http://localhost/mcp").headers(Outgoing("POST", "http://localhost/mcp"))
    assert isinstance(raised.value.__cause__, KeyError)


@pytest.mark.parametrize("given", [None, 5, b"token", ["Authorization"], {"Authorization": 5}, {5: "x"}])
async def test_a_callable_that_gives_something_else_is_told_so(given: Any) -> None:
    async def source() -> Any:
        return given

    with pytest.raises(ConfigError, match=r"the callable given as auth returned .*, not headers or a token"):
        await CallableAuthenticator(source).headers(Outgoing("POST", "http://localhost/mcp"))
