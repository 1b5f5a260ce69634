"""Requests to authorization servers: to whom, how much, and what their failures are called."""

import pytest
from aiohttp import web

from fastapi_server.mcp import AuthenticationError, MCPConnectionError
from fastapi_server.mcp.auth.backchannel import Backchannel
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer


async def test_a_reply_and_its_headers(nothing_left: None) -> None:
    async def answer(seen: Seen) -> web.StreamResponse:
        response = web.Response(body=b"x" * 100, headers={"X-More": "1"})
        response.enable_compression()
        return response

    async with http_peer(HTTPPeer({"GET": answer})) as peer, Backchannel(peer.url) as channel:
        reply = await channel.send("GET", f"{peer.url}/a?b=%2F", {}, None)

    assert (reply.status, reply.body, reply.headers["x-more"]) == (200, b"x" * 100, "1")
    assert "Content-Encoding" not in reply.headers
    assert peer.seen[0].http.raw_path == "/a?b=%2F"


async def test_cookies_are_not_kept(nothing_left: None) -> None:
    async def answer(seen: Seen) -> web.StreamResponse:
        response = web.Response()
        response.set_cookie("session", "of-somebody")
        return response

    async with http_peer(HTTPPeer({"GET": answer})) as peer, Backchannel(peer.url) as channel:
        for _ in range(2):
            await channel.send("GET", peer.url, {}, None)
    assert not peer.seen[1].http.cookies


async def test_more_than_a_mebibyte_is_not_read(nothing_left: None) -> None:
    async def answer(seen: Seen) -> web.StreamResponse:
        return web.Response(body=b"x" * (1024 * 1024 + 1))

    async with http_peer(HTTPPeer({"GET": answer})) as peer, Backchannel(peer.url) as channel:
        with pytest.raises(AuthenticationError, match="is larger than 1,048,576 bytes") as raised:
            await channel.send("GET", f"{peer.url}/path?secret=planted", {}, None)
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1/", "http://example.com/", "http://localhost.example.com/", "ftp://localhost/", "http://[::2]/"],
)
async def test_where_nothing_is_sent(nothing_left: None, url: str) -> None:
    async with Backchannel("https://mcp.example.com/mcp") as channel:
        with pytest.raises(AuthenticationError, match="must not lead us"):
            await channel.send("GET", url, {}, None)


@pytest.mark.parametrize("url", ["https://h:99999/", "https://h:abc/", "https://[::1/", "https://xn--/"])
async def test_what_is_no_url(nothing_left: None, url: str) -> None:
    async with Backchannel("https://mcp.example.com/mcp") as channel:
        with pytest.raises(AuthenticationError, match="no URL"):
            await channel.send("GET", url, {}, None)


@pytest.mark.parametrize(
    "url", ["http://localhost:1/", "http://127.0.0.1:1/", "http://[::1]:1/", "https://127.0.0.1:1/"]
)
async def test_where_it_is_tried(nothing_left: None, url: str) -> None:
    async with Backchannel("http://127.0.0.1:2/mcp") as channel:
        with pytest.raises(MCPConnectionError, match="cannot be reached"):
            await channel.send("GET", url, {}, None)


async def test_what_the_configuration_names_may_be_plain(nothing_left: None) -> None:
    configured = ["http://login.invalid:8080/realm"]
    async with Backchannel("https://mcp.example.com/mcp", configured=configured) as channel:
        with pytest.raises(MCPConnectionError, match="cannot be reached"):
            await channel.send("GET", "http://login.invalid:8080/other", {}, None)
        with pytest.raises(AuthenticationError, match="must not lead us"):
            await channel.send("GET", "http://login.invalid/other", {}, None)


@pytest.mark.parametrize("address", ["10.1.2.3", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "64:ff9b::7f00:1"])
async def test_a_name_of_a_special_address_is_found_out(
    nothing_left: None, names: dict[str, str], address: str
) -> None:
    names |= {"mcp.test": "8.8.8.8", "login.test": address}
    async with Backchannel("https://mcp.test/mcp") as channel:
        with pytest.raises(AuthenticationError, match=r"https://login\.test/token, .*its address is"):
            await channel.send("GET", "https://login.test/token", {}, None)


async def test_a_name_of_a_special_address_is_followed_from_a_server_that_has_one(
    nothing_left: None, names: dict[str, str]
) -> None:
    names |= {"mcp.test": "127.0.0.2", "login.test": "127.0.0.1"}
    for server in ("https://mcp.test/mcp", "https://127.0.0.3/mcp"):
        async with Backchannel(server) as channel:
            with pytest.raises(MCPConnectionError, match="cannot be reached"):
                await channel.send("GET", "https://login.test:1/token", {}, None)


async def test_a_name_of_a_special_address_is_followed_where_it_is_configured(
    nothing_left: None, names: dict[str, str]
) -> None:
    names |= {"mcp.test": "8.8.8.8", "login.test": "127.0.0.1"}
    async with Backchannel("https://mcp.test/mcp", configured=["https://login.test:1"]) as channel:
        with pytest.raises(MCPConnectionError, match="cannot be reached"):
            await channel.send("GET", "https://login.test:1/token", {}, None)
        with pytest.raises(AuthenticationError, match="its address is loopback"):
            await channel.send("GET", "https://login.test:2/token", {}, None)


async def test_user_information_of_a_url_is_not_shown(nothing_left: None) -> None:
    async with Backchannel("https://mcp.example.com/mcp") as channel:
        for url in ("http://ann:planted@10.0.0.1/", "https://ann:planted@127.0.0.1:1/?key=planted"):
            with pytest.raises(AuthenticationError) as raised:
                await channel.send("GET", url, {}, None)
            assert "planted" not in str(raised.value)
