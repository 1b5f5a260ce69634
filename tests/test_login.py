"""`mcp-clients login` and `logout`, against a real authorization server; a thread is the browser."""

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fastapi_server.mcp import (
    AuthenticationError,
    ConfigError,
    ConnectTimeoutError,
    FileTokenStore,
    HTTPConfig,
    HTTPMCPClient,
    HTTPStatusError,
    KeyringTokenStore,
    MCPClientFactory,
    MemoryTokenStore,
    OAuth,
)
from fastapi_server.mcp.auth.loopback import LoopbackRedirect
from fastapi_server.mcp.cli import login, overview, token_store
from fastapi_server.mcp.cli.target import Options
from fastapi_server.mcp.testing.authorization_server import (
    PLANTED,
    AuthorizationServer,
    GuardedPeer,
)

Capture = pytest.CaptureFixture[str]
Desk = Callable[..., LoopbackRedirect]


def browse(url: str) -> bool:
    with suppress(urllib.error.HTTPError), urllib.request.urlopen(url) as page:  # it follows the redirect to us
        page.read()
    return True


def desk(**settings: Any) -> LoopbackRedirect:
    """Where somebody sits who agrees to everything."""
    return LoopbackRedirect(open_browser=browse, tell=lambda url: None, **settings)


def empty_desk(**settings: Any) -> LoopbackRedirect:
    return LoopbackRedirect(open_browser=lambda url: False, tell=lambda url: None, **settings)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("MCP_TOKEN_STORE", raising=False)
    monkeypatch.delenv("MCP_TOKEN_KEY", raising=False)
    return tmp_path / "state" / "mcp-client-factory" / "tokens"


@pytest.fixture
def options(peer: GuardedPeer, tmp_path: Path) -> Options:
    return options_for(peer, tmp_path)


def options_for(peer: GuardedPeer, folder: Path, **settings: Any) -> Options:
    auth = {"type": "oauth", "redirect_uri": "http://127.0.0.1/callback"}
    server = {"url": f"{peer.url}/mcp", "auth": auth, **settings}
    path = folder / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {"guarded": server, "open": {"url": f"{peer.url}/mcp"}}}))
    return Options(config=path)


async def signed_in(options: Options, desk: Desk = desk, *, again: bool = False) -> int:
    try:
        return await login.show_login("guarded", options, desk, again=again)
    finally:
        await MCPClientFactory.shutdown_all()


async def test_it_says_what_was_granted(
    options: Options, issuer: AuthorizationServer, state: Path, capsys: Capture
) -> None:
    issuer.scopes = "read write"
    assert await signed_in(options) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "signed in to guarded",
        f"  by       {issuer.url}",
        "  scopes   read, write",
        "  expires  in 60 min; then it is renewed by itself",
        f"  kept in  the file {state}",
    ]
    assert PLANTED not in said.out + said.err


async def test_other_commands_find_the_tokens_and_logout_deletes_them(
    options: Options, issuer: AuthorizationServer, capsys: Capture, state: Path
) -> None:
    await signed_in(options)
    assert await overview.show_ping("guarded", options) == 0
    await MCPClientFactory.shutdown_all()
    assert await login.show_logout("guarded", options) == 0
    assert await overview.show_ping("guarded", options) == 3
    await MCPClientFactory.shutdown_all()
    assert await login.show_logout("guarded", options) == 0
    said = capsys.readouterr()
    assert "guarded: sign in first: mcp-clients login guarded" in said.err
    assert f"signed out of guarded; nothing of that is left in the file {state}" in said.out
    assert f"was not signed in to guarded; nothing of that is left in the file {state}" in said.out
    assert issuer.grants() == ["authorization_code"]


async def test_logout_deletes_what_was_configured_before_too(
    options: Options, peer: GuardedPeer, tmp_path: Path, state: Path, capsys: Capture
) -> None:
    await signed_in(options)
    auth = {"type": "oauth", "redirect_uri": "http://127.0.0.1/callback", "scopes": ["read"]}
    later = options_for(peer, tmp_path, auth=auth)
    await overview.show_ping("guarded", later)  # which begins a sign-in
    await MCPClientFactory.shutdown_all()
    kinds = Counter(key.partition("-")[0] for key in FileTokenStore(state)._load())
    assert kinds == {"holders": 1, "issuer": 2, "client": 2, "tokens": 1, "pending": 1}
    assert await login.show_logout("guarded", later) == 0
    assert "signed out of guarded; nothing of that is left in" in capsys.readouterr().out
    assert FileTokenStore(state)._load() == {}
    assert await login.show_logout("guarded", options_for(peer, tmp_path)) == 0
    assert "was not signed in to guarded" in capsys.readouterr().out


@pytest.mark.parametrize("damage", [{"holders": 5}, {"holders": [5]}])
async def test_logout_needs_no_list_of_what_was_configured(
    options: Options, state: Path, damage: dict[str, Any]
) -> None:
    await signed_in(options)
    store = FileTokenStore(state)
    (key,) = (key for key in store._load() if key.startswith("holders"))
    await store.set(key, damage)
    assert await login.show_logout("guarded", options) == 0
    assert store._load() == {}


async def test_logout_leaves_nothing(options: Options, state: Path) -> None:
    await overview.show_ping("guarded", options)  # which begins a sign-in
    await MCPClientFactory.shutdown_all()
    await signed_in(options)
    await login.show_logout("guarded", options)
    store = FileTokenStore(state)
    assert store._load() == {}


async def test_who_is_signed_in_is_not_asked_again(options: Options, issuer: AuthorizationServer) -> None:
    await signed_in(options)
    assert await signed_in(options, empty_desk) == 0
    assert len(issuer.authorizations) == 1


async def test_for_machines(options: Options, issuer: AuthorizationServer, state: Path, capsys: Capture) -> None:
    issuer.refreshes = False
    as_json = Options(options.config, as_json=True)
    await signed_in(as_json)
    await login.show_logout("guarded", as_json)
    told, after = capsys.readouterr().out.split("\n}\n", 1)
    granted = json.loads(told + "}")["granted"]
    assert 3590 < granted.pop("expires_in") <= 3600
    place = f"the file {state}"
    assert granted == {"issuer": issuer.url, "scopes": granted["scopes"], "renewable": False, "place": place}
    assert json.loads(after) == {"name": "guarded", "was_signed_in": True, "place": place}


async def test_a_person_may_take_longer_than_the_server_may(
    peer: GuardedPeer, tmp_path: Path, issuer: AuthorizationServer
) -> None:
    issuer.gate.clear()
    options = options_for(peer, tmp_path, timeout=600, probeTimeout=300)
    task = asyncio.create_task(signed_in(options))
    await asyncio.sleep(1.5)
    issuer.gate.set()
    assert await task == 0


@pytest.mark.parametrize("probe", [5000, 50], ids=["while the probe waits", "after the probe"])
@pytest.mark.parametrize("transport", ["http", "auto"])
async def test_nobody_comes_back(peer: GuardedPeer, tmp_path: Path, transport: str, probe: int) -> None:
    """They are asked once: that they take too long says nothing about the revision that the server speaks."""
    opened: list[str] = []

    def empty(**settings: Any) -> LoopbackRedirect:
        return LoopbackRedirect(open_browser=lambda url: False, tell=opened.append, **settings)

    config = options_for(peer, tmp_path, type=transport, probeTimeout=probe).config
    with pytest.raises(ConnectTimeoutError, match="nobody has signed in within"):
        await signed_in(Options(config, timeout=0.3), empty)
    assert len(opened) == 1


async def test_the_person_says_no(options: Options, issuer: AuthorizationServer) -> None:
    issuer.callback_changes = {"code": None, "error": "access_denied"}
    with pytest.raises(AuthenticationError, match="access was denied in the browser"):
        await signed_in(options)


@pytest.mark.parametrize("iss", ["https://elsewhere.example", None])
async def test_an_error_of_another_authorization_server_is_not_shown(
    options: Options, issuer: AuthorizationServer, iss: str | None
) -> None:
    said = {"code": None, "error": "access_denied", "error_description": "call +1 555 0100"}
    issuer.callback_changes = {**said, "iss": iss}
    with pytest.raises(AuthenticationError, match=r"iss mismatch|missing iss") as raised:
        await signed_in(options)
    assert "denied" not in str(raised.value)
    assert "555" not in str(raised.value)


async def test_what_the_browser_brings_writes_nowhere_else_on_a_terminal(
    options: Options, issuer: AuthorizationServer
) -> None:
    issuer.callback_changes = {"code": None, "error": "<b>\x1b[2J\n", "error_description": "x" * 500}
    with pytest.raises(AuthenticationError, match=rf"the authorization server refused \(<b>\?\[2J\?: {'x' * 190}\)"):
        await signed_in(options)


CONNECTING = {"server/discover", "tools/list"}


async def test_a_server_that_lets_everybody_connect_is_signed_in_to_where_its_metadata_says(
    options: Options, issuer: AuthorizationServer, peer: GuardedPeer, state: Path, capsys: Capture
) -> None:
    peer.for_all = CONNECTING
    assert await signed_in(options) == 0
    assert capsys.readouterr().out.startswith("signed in to guarded\n")
    assert await signed_in(options, empty_desk) == 0

    auth = OAuth(redirect_uri="http://127.0.0.1/callback", store=FileTokenStore(state))
    async with HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=auth)) as client:
        await client.call_tool("echo", {})
    assert issuer.grants() == ["authorization_code"]
    assert not peer.refused


async def test_a_server_that_names_nobody_to_sign_in_with_is_said_to_name_nobody(
    options: Options, issuer: AuthorizationServer, peer: GuardedPeer, capsys: Capture
) -> None:
    peer.for_all, peer.has_metadata = CONNECTING, False
    assert await signed_in(options) == 0
    assert capsys.readouterr().out == "guarded asks for no sign-in, and names no authorization server (RFC 9728)\n"
    assert not issuer.registrations


@pytest.mark.parametrize("answer", ["<!doctype html>", '{"error": "no such page"}', "[]", ""])
async def test_a_server_whose_metadata_is_none(
    options: Options, peer: GuardedPeer, capsys: Capture, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    async def page(http: web.Request) -> web.StreamResponse:
        return web.Response(text=answer, content_type="application/json")

    peer.for_all, peer.has_metadata = CONNECTING, False
    monkeypatch.setattr(peer, "elsewhere", page)
    assert await signed_in(options) == 0
    assert "names no authorization server" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("realm", "says"),
    [
        ({"authorization_servers": "a web page"}, r"is malformed \(authorization_servers\)"),
        ({"authorization_servers": []}, r"is malformed \(authorization_servers\)"),
        ({"resource": "https://elsewhere.example/mcp"}, "is of another resource: https://elsewhere.example/mcp"),
    ],
)
async def test_a_server_whose_metadata_must_not_be_used(
    options: Options, issuer: AuthorizationServer, peer: GuardedPeer, realm: dict[str, Any], says: str
) -> None:
    peer.for_all, peer.realm = CONNECTING, realm
    with pytest.raises(AuthenticationError, match=rf"the server's metadata \(RFC 9728\) at {peer.url}/.* {says}"):
        await signed_in(options)
    assert not issuer.paths


async def test_a_server_whose_metadata_fails_is_not_said_to_ask_for_nothing(
    options: Options, peer: GuardedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.for_all, peer.has_metadata = CONNECTING, False
    status = 503

    async def fail(http: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Retry-After": "7"})

    monkeypatch.setattr(peer, "elsewhere", fail)
    for status in (503, 500, 429, 408):
        with pytest.raises(HTTPStatusError, match=rf"is unknown: its metadata .* HTTP {status}") as caught:
            await signed_in(options)
        assert (caught.value.status, caught.value.retry_after) == (status, 7)


async def test_who_may_connect_signs_in_again_where_the_token_has_run_out(
    options: Options, issuer: AuthorizationServer, peer: GuardedPeer, capsys: Capture
) -> None:
    peer.for_all, issuer.refreshes, issuer.expires_in = CONNECTING, False, 1
    await signed_in(options)
    await asyncio.sleep(1.1)
    issuer.expires_in = 3600
    capsys.readouterr()
    assert await signed_in(options) == 0
    assert "expires  in 60 min" in capsys.readouterr().out
    assert issuer.grants() == ["authorization_code"] * 2


async def test_who_may_connect_signs_in_again_where_they_know_that_the_token_was_revoked(
    options: Options, issuer: AuthorizationServer, peer: GuardedPeer, state: Path, capsys: Capture
) -> None:
    peer.for_all = CONNECTING
    await signed_in(options)
    issuer.revoke_all()
    assert await signed_in(options, empty_desk) == 0  # nothing says so
    assert await signed_in(options, again=True) == 0
    assert capsys.readouterr().out.count(f"  kept in  the file {state}\n") == 3

    auth = OAuth(redirect_uri="http://127.0.0.1/callback", store=FileTokenStore(state))
    async with HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=auth)) as client:
        await client.call_tool("echo", {})
    assert issuer.grants() == ["authorization_code"] * 2
    assert not peer.refused


async def test_who_signs_in_again_is_asked_once_and_nothing_is_left_of_before(
    options: Options, issuer: AuthorizationServer, state: Path
) -> None:
    await signed_in(options)
    before = {name: value for name, value in FileTokenStore(state)._load().items() if "access_token" in value}
    assert await signed_in(options, again=True) == 0
    assert issuer.grants() == ["authorization_code"] * 2
    after = FileTokenStore(state)._load()
    assert len(after) == 4  # tokens, client, issuer, holders
    assert [after[name] == value for name, value in before.items()] == [False]


async def test_what_is_stored_outlives_a_sign_in_that_fails(options: Options, issuer: AuthorizationServer) -> None:
    await signed_in(options)
    with pytest.raises(ConnectTimeoutError, match="nobody has signed in within"):
        await signed_in(Options(options.config, timeout=0.1), empty_desk, again=True)
    assert await signed_in(options, empty_desk) == 0


async def test_who_may_connect_has_a_token_that_has_run_out_renewed(
    options: Options, issuer: AuthorizationServer, peer: GuardedPeer, capsys: Capture
) -> None:
    peer.for_all, issuer.expires_in = CONNECTING, 1
    await signed_in(options)
    await asyncio.sleep(1.1)
    issuer.expires_in = 3600
    capsys.readouterr()
    assert await signed_in(options, empty_desk) == 0
    assert "expires  in 60 min" in capsys.readouterr().out
    assert issuer.grants() == ["authorization_code", "refresh_token"]


async def test_who_may_connect_signs_in_again_where_tokens_are_to_be_bound_from_now_on(
    options: Options, issuer: AuthorizationServer, peer: GuardedPeer, tmp_path: Path, state: Path
) -> None:
    peer.for_all = CONNECTING
    await signed_in(options)
    issuer.dpop = True
    auth = {"type": "oauth", "redirect_uri": "http://127.0.0.1/callback", "dpop": True}
    assert await signed_in(options_for(peer, tmp_path, auth=auth)) == 0
    assert issuer.grants() == ["authorization_code"] * 2
    kept = FileTokenStore(state)._load()
    assert [one["token_type"] for one in kept.values() if "access_token" in one] == ["DPoP"]


async def test_a_page_without_tls_that_the_configuration_names_is_opened(
    issuer: AuthorizationServer,
    peer: GuardedPeer,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = socket.getaddrinfo

    def answer(host: Any, *args: Any, **kwargs: Any) -> Any:
        return ask("127.0.0.1" if host == "auth.test" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    issuer.url = issuer.url.replace("127.0.0.1", "auth.test")
    auth = {"type": "oauth", "redirect_uri": "http://127.0.0.1/callback", "insecure_origins": [issuer.url]}
    assert await signed_in(options_for(peer, tmp_path, auth=auth)) == 0
    assert f"  by       {issuer.url}" in capsys.readouterr().out


async def test_a_program_signs_in_where_the_metadata_says_too(
    issuer: AuthorizationServer, peer: GuardedPeer, tmp_path: Path, capsys: Capture
) -> None:
    peer.for_all = CONNECTING
    auth = {"type": "client_credentials", "client_id": "nightly", "client_secret": "s3cret-of-ours"}
    assert await signed_in(options_for(peer, tmp_path, auth=auth)) == 0
    assert "signed in to guarded" in capsys.readouterr().out
    assert issuer.grants() == ["client_credentials"]


async def test_a_server_without_a_way_to_sign_in(options: Options) -> None:
    for command in (login.show_login, login.show_logout):
        with pytest.raises(
            ConfigError, match=r"there is nothing to sign in to; give it an entry in mcp.json with \"auth\""
        ):
            await command("open", options)


def test_the_store_is_the_one_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_TOKEN_STORE", str(tmp_path / "mine"))
    store = token_store.token_store()
    assert isinstance(store, FileTokenStore)
    assert token_store.place_of(store) == f"the file {tmp_path / 'mine'}"
    monkeypatch.setenv("MCP_TOKEN_STORE", "keyring")
    store = token_store.token_store()
    assert isinstance(store, KeyringTokenStore)
    assert token_store.place_of(store) == "the keyring, as mcp-client-factory"
    assert token_store.place_of(MemoryTokenStore()) == "MemoryTokenStore(0 kept)"


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "5 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (86400 * 3, "3 d")]
)
def test_spans(seconds: float, said: str) -> None:
    assert login._span(seconds) == said
