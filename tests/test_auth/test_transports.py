"""Every request of every transport carries the credentials, and none leaves for another origin with them."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from fastapi_server.mcp import (
    AuthenticationError,
    BearerAuth,
    ClientPool,
    ConfigError,
    ConnectTimeoutError,
    HTTPConfig,
    HTTPMCPClient,
    HTTPStatusError,
    MCPClientFactory,
    MemoryTokenStore,
    OAuth,
    ServerConfig,
    SSEConfig,
    SSEMCPClient,
    make_client,
)
from fastapi_server.mcp.auth.loopback import LoopbackRedirect
from fastapi_server.mcp.pool import fingerprint_of
from fastapi_server.mcp.testing.authorization_server import AuthorizationServer, GuardedPeer, guarded_peer
from fastapi_server.mcp.testing.http_peer import Seen, event, http_peer
from tests.test_auth.conftest import Person

Make = Callable[..., HTTPMCPClient]


async def test_get_stream_and_delete_of_the_session_carry_the_token(
    issuer: AuthorizationServer, person: Person, store: MemoryTokenStore
) -> None:
    async with guarded_peer(issuer, stateless=False) as peer:
        listening = asyncio.Event()

        @peer.on("GET")
        async def _(seen: Seen) -> web.StreamResponse:
            response = await seen.stream()
            listening.set()
            await asyncio.Event().wait()
            return response

        auth = OAuth(interaction=person, store=store)
        async with HTTPMCPClient("old", HTTPConfig(f"{peer.url}/mcp", auth=auth)) as client:
            await listening.wait()
            await client.call_tool("echo", {})

        assert {"GET", "DELETE", "tools/call"} <= set(peer.methods())
    assert issuer.grants() == ["authorization_code"]


async def test_a_token_is_renewed_while_a_stream_is_open(
    issuer: AuthorizationServer, person: Person, store: MemoryTokenStore
) -> None:
    """No lock is held by the open stream, nor by the call whose answer is being streamed."""
    async with guarded_peer(issuer, stateless=False) as peer:
        listening, streaming, finish = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @peer.on("GET")
        async def _(seen: Seen) -> web.StreamResponse:
            response = await seen.stream()
            listening.set()
            await asyncio.Event().wait()
            return response

        @peer.on("tools/call")
        async def _(seen: Seen) -> web.StreamResponse:
            response = await seen.stream()
            streaming.set()
            await finish.wait()
            await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": {"content": []}}))
            return response

        auth = OAuth(interaction=person, store=store)
        async with HTTPMCPClient("old", HTTPConfig(f"{peer.url}/mcp", auth=auth)) as client:
            await listening.wait()
            slow = asyncio.create_task(client.call_tool("slow", {}))
            await streaming.wait()
            issuer.revoke_all()
            await client.list_tools()
            finish.set()
            await slow

    assert issuer.grants() == ["authorization_code", "refresh_token"]


async def test_http_and_sse_signs_in_for_its_stream_and_its_posts(
    issuer: AuthorizationServer, person: Person, store: MemoryTokenStore
) -> None:
    async with guarded_peer(issuer, stateless=False) as peer:
        streams: list[web.StreamResponse] = []

        @peer.on("GET")
        async def _(seen: Seen) -> web.StreamResponse:
            response = await seen.stream()
            streams.append(response)
            await response.write(b"event: endpoint\ndata: /mcp?session=1\n\n")
            await asyncio.Event().wait()
            return response

        async def accept(seen: Seen) -> web.StreamResponse:
            results: dict[str, Any] = {
                "initialize": {
                    "protocolVersion": "2024-11-05",
                    "capabilities": {},
                    "serverInfo": {"name": "old", "version": "0"},
                },
                "tools/list": {"tools": []},
            }
            if seen.method in results:
                reply = {"jsonrpc": "2.0", "id": seen.id, "result": results[seen.method]}
                await streams[-1].write(event(reply, name="message"))
            return web.Response(status=202)

        for method in ("initialize", "notifications/initialized", "tools/list"):
            peer.handlers[method] = accept
        auth = OAuth(interaction=person, store=store)
        async with SSEMCPClient("old", SSEConfig(f"{peer.url}/mcp", auth=auth)) as client:
            await client.list_tools()
            issuer.revoke_all()
            await client.list_tools()

    assert issuer.grants() == ["authorization_code", "refresh_token"]
    assert peer.refused == [401, 401]


async def test_who_is_not_signed_in_to_a_dialect_is_not_connected(
    issuer: AuthorizationServer, peer: GuardedPeer, store: MemoryTokenStore
) -> None:
    """Its health is for everybody, and whatever it says to `initialize`, it would be spoken to."""

    async def elsewhere(http: web.Request) -> web.StreamResponse:
        if http.path == "/health":
            return web.json_response({"status": "ok"})
        return web.Response(status=401)

    peer.elsewhere, peer.realm["resource"] = elsewhere, peer.url  # type: ignore[method-assign]
    async with LoopbackRedirect(timeout=0.05, open_browser=lambda url: False, tell=lambda url: None) as nobody:
        auth = OAuth(interaction=nobody, redirect_uri=nobody.redirect_uri, store=store)
        client = HTTPMCPClient("rest", HTTPConfig(peer.url, dialect="rest", auth=auth))
        assert not await client.connect()
        assert isinstance(client.last_error, ConnectTimeoutError)
        assert "nobody has signed in" in str(client.last_error)
        await client.disconnect()


async def test_a_redirect_within_the_origin_takes_the_credentials_along(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    """A proof is made for each hop: it names the URL."""
    issuer.dpop = True
    original = peer.elsewhere

    async def moved(http: web.Request) -> web.StreamResponse:
        if http.path == "/moved":
            return web.Response(status=307, headers={"Location": "/mcp"})
        return await original(http)

    peer.elsewhere = moved  # type: ignore[method-assign]
    one = client(dpop=True)
    one.config = HTTPConfig(f"{peer.url}/moved", auth=one.config.auth)
    peer.realm["resource"] = peer.url
    async with one:
        await one.list_tools()
    assert peer.proofs


async def test_a_redirect_to_another_origin_gets_nothing(client: Make, peer: GuardedPeer) -> None:
    async with client() as one, http_peer() as thief:

        @peer.on("tools/call")
        async def _(seen: Seen) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"{thief.url}/mcp"})

        with pytest.raises(HTTPStatusError, match="another origin"):
            await one.call_tool("echo", {})
        assert not thief.seen


async def test_authorization_servers_see_neither_headers_nor_token_of_the_server(
    issuer: AuthorizationServer, peer: GuardedPeer, person: Person
) -> None:
    auth = OAuth(interaction=person, store=MemoryTokenStore())
    config = HTTPConfig(f"{peer.url}/mcp", headers={"X-Key": "for-the-server-only"}, auth=auth)
    async with HTTPMCPClient("guarded", config) as client:
        issuer.revoke_all()
        await client.list_tools()
    for form in issuer.forms:
        assert "for-the-server-only" not in str(form.headers)
        assert "Authorization" not in form.headers


async def test_a_redirect_of_the_token_endpoint_is_not_followed(client: Make, issuer: AuthorizationServer) -> None:
    async with http_peer() as thief:
        issuer.metadata_changes = {"token_endpoint": f"{issuer.url}/moved"}
        issuer.redirects["/moved"] = f"{thief.url}/token"
        one = client()
        assert not await one.connect()
        assert isinstance(one.last_error, AuthenticationError)
        await one.disconnect()
        assert not thief.seen


# Configuration, factory, pool.


def test_the_factory_takes_another_way_to_sign_in() -> None:
    config = ServerConfig("search", "http", {"endpoint": "https://mcp.example.com/mcp"})
    client = MCPClientFactory.create(config, auth=BearerAuth("one"))
    assert client.config.auth == BearerAuth("one")
    assert MCPClientFactory.create(config, auth=BearerAuth("one")) is client
    with pytest.raises(ConfigError, match="another configuration"):
        MCPClientFactory.create(config, auth=BearerAuth("two"))


@pytest.mark.parametrize(
    ("settings", "auth", "problem"),
    [
        ({"api_key": "s3cret"}, BearerAuth("one"), "config.auth: excludes api_key: give one of the two"),
        ({}, {"type": "bearer", "tokens": "s3cret"}, "config.auth.tokens: there is no such setting"),
        ({}, "s3cret", "config.auth: needs a type"),
    ],
)
def test_another_way_to_sign_in_that_is_wrong(settings: dict[str, Any], auth: Any, problem: str) -> None:
    config = ServerConfig("search", "http", {"endpoint": "https://mcp.example.com/mcp", **settings})
    for make in (MCPClientFactory.create, make_client):
        with pytest.raises(ConfigError, match=r"^server 'search': ") as raised:
            make(config, auth=auth)
        assert problem in str(raised.value)
        assert "s3cret" not in str(raised.value)


def test_a_transport_without_http_takes_none() -> None:
    with pytest.raises(ConfigError, match=r"config\.auth: transport 'stdio' takes none"):
        make_client(ServerConfig("files", "stdio", {"command": "x"}), auth=BearerAuth("one"))


async def test_the_pool_gives_its_store_to_those_who_name_none(
    issuer: AuthorizationServer, peer: GuardedPeer, person: Person, store: MemoryTokenStore
) -> None:
    config = ServerConfig("guarded", "http", HTTPConfig(f"{peer.url}/mcp", auth=OAuth(interaction=person)))
    async with ClientPool({"guarded": config}, make_client, token_store=store) as pool:
        for principal in ("ann", "bob", "ann"):
            await pool.client("guarded", principal).list_tools()

    assert issuer.grants() == ["authorization_code"] * 2
    assert len([key for key in store._kept if key.startswith("tokens")]) == 2


def test_different_secrets_are_different_configurations() -> None:
    def fingerprint(**auth: Any) -> str:
        return fingerprint_of(ServerConfig("x", "http", {"endpoint": "http://h/mcp", "auth": auth}))

    assert fingerprint(type="bearer", token="one") == fingerprint(type="bearer", token="one")
    assert fingerprint(type="bearer", token="one") != fingerprint(type="bearer", token="two")
