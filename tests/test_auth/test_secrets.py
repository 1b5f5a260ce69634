"""Secrets are planted wherever signing in has one, both servers echo them, and none may be seen anywhere."""

import asyncio
import base64
import json
import logging
import re
import traceback
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

from fastapi_server.mcp import (
    AuthenticationError,
    AuthorizationRequired,
    BearerAuth,
    ClientCredentials,
    EnterpriseManaged,
    HTTPConfig,
    HTTPMCPClient,
    MCPClientError,
    MCPConnectionError,
    MemoryTokenStore,
    OAuth,
    WorkloadIdentity,
    complete_authorization,
)
from fastapi_server.mcp.auth.oauth import OAuthAuthenticator
from fastapi_server.mcp.testing.authorization_server import PLANTED, AuthorizationServer, GuardedPeer
from fastapi_server.mcp.testing.http_peer import Seen, http_peer
from tests.test_auth.conftest import Person, behind, visit


class Seeing(logging.Handler):
    """Keeps every record of every logger whole, tracebacks, arguments and extras too."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "aiohttp.access":  # of the servers, which run in this process too
            self.text.append(self.format(record) + repr(vars(record)))


@pytest.fixture(autouse=True)
def log() -> Iterator[Seeing]:
    seeing, root = Seeing(), logging.getLogger()
    before = root.level
    root.addHandler(seeing)
    root.setLevel(logging.DEBUG)
    yield seeing
    root.removeHandler(seeing)
    root.setLevel(before)


def everything_about(client: HTTPMCPClient, errors: list[MCPClientError]) -> str:
    parts = [repr(client), repr(client.config), str(client.metrics.to_dict()), repr(client.identity)]
    for error in [*errors, client.last_error]:
        if error is not None:
            parts += [shown(one) for one in (error, *behind(error))]
            parts.append("".join(traceback.format_exception(error)))
    return "\n".join(parts)


def shown(error: BaseException) -> str:
    kept = {name: value for name, value in vars(error).items() if name not in {"url", "state"}}
    return f"{error} {error!r} {kept!r}"


async def use(client: HTTPMCPClient, issuer: AuthorizationServer, peer: GuardedPeer) -> str:
    """Use the client well and badly."""

    async def echo(seen: Seen) -> web.StreamResponse:
        return web.Response(status=400, text=str(dict(seen.http.headers)))

    peer.handlers["tools/call"] = peer.handlers["ping"] = echo
    errors: list[MCPClientError] = []

    async def attempt() -> None:
        for verb in (client.list_tools, client.ping, lambda: client.call_tool("echo", {})):
            try:
                await verb()
            except MCPClientError as error:
                errors.append(error)

    await attempt()
    issuer.revoke_all()
    issuer.refresh_tokens.clear()
    issuer.echo = True
    await attempt()
    issuer.malformed = True
    await attempt()
    issuer.echo = issuer.malformed = False
    seen = everything_about(client, errors)
    await client.disconnect()
    assert errors
    return seen


def planted(text: str) -> list[str]:
    return re.findall(f".{{0,80}}{PLANTED}.{{0,40}}", text)


def settings(person: Person, issuer: AuthorizationServer) -> dict[str, Any]:
    store = MemoryTokenStore
    return {
        "person": OAuth(interaction=person, store=store()),
        "registered": OAuth("ours", client_secret=f"{PLANTED}-1", interaction=person, store=store()),
        "program": ClientCredentials("ours", client_secret=f"{PLANTED}-2", store=store()),
        "workload": WorkloadIdentity(f"{PLANTED}-3", store=store()),
        "enterprise": EnterpriseManaged(
            "ours",
            client_secret=f"{PLANTED}-4",
            id_token=f"{PLANTED}-5",
            idp_client_id="at-the-idp",
            idp_client_secret=f"{PLANTED}-6",
            idp_token_endpoint=f"{issuer.url}/token",
            store=store(),
        ),
    }


@pytest.mark.parametrize("kind", ["person", "registered", "program", "workload", "enterprise"])
async def test_no_secret_of_a_sign_in_is_seen_anywhere(
    kind: str, issuer: AuthorizationServer, peer: GuardedPeer, person: Person, log: Seeing
) -> None:
    auth = settings(person, issuer)[kind]
    seen = await use(HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=auth, retries=0)), issuer, peer)
    await asyncio.sleep(0)

    assert not planted(seen)
    assert log.text
    for text in log.text:
        assert not planted(text)


ECHOES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a URL": lambda text: quote(text, safe=""),
    "in base64": lambda text: base64.b64encode(f"ours:{text}".encode()).decode(),
    "in JSON": lambda text: json.dumps(text)[1:-1],
    "in JSON with slashes escaped": lambda text: text.replace("/", "\\/"),
    "at the edge of what is shown": lambda text: "x" * (200 - len("invalid_client: ") - 10) + text,
}


@pytest.mark.parametrize("member", ["error", "error_description"])
@pytest.mark.parametrize("spelling", ECHOES)
async def test_what_an_authorization_server_echoes_is_seen_in_no_spelling(
    spelling: str, member: str, issuer: AuthorizationServer, peer: GuardedPeer, log: Seeing
) -> None:
    """Also where no client cleans the error: the command line asks the authenticator itself."""
    secret, spell = f"{PLANTED}/of ours", ECHOES[spelling]
    auth = ClientCredentials("ours", client_secret=secret, store=MemoryTokenStore())
    said = {"error": "invalid_client", member: spell(secret)}
    issuer.fail = [(400, said)] * 10
    client = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=auth, retries=0))
    with pytest.raises(MCPClientError, match="gives no token") as raised:
        await client.list_tools()
    authenticator = client.identity.authenticator
    assert isinstance(authenticator, OAuthAuthenticator)
    with pytest.raises(MCPClientError, match="gives no token") as alone:
        await authenticator.sign_in()
    seen = everything_about(client, [raised.value, alone.value])
    await client.disconnect()
    start = spell(secret).removeprefix("x" * 174)[:8] if "edge" in spelling else spell(secret)[:12]
    for text in [seen, *log.text]:
        assert start not in text


async def test_a_completed_sign_in_shows_neither_code_nor_verifier_where_they_are_echoed(
    issuer: AuthorizationServer, peer: GuardedPeer, store: MemoryTokenStore, log: Seeing
) -> None:
    client = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=OAuth(store=store)))
    with pytest.raises(AuthorizationRequired) as raised:
        await client.list_tools()
    await client.disconnect()
    back = await visit(raised.value.url)
    with pytest.raises(AuthenticationError, match="iss mismatch") as failed:
        await complete_authorization(back["state"], back["code"], f"https://h.example/{back['code']}", store=store)
    for text in [shown(failed.value), *log.text]:
        assert not planted(text)


async def test_no_secret_in_a_url_that_a_server_makes_of_it_is_seen(
    issuer: AuthorizationServer, peer: GuardedPeer, store: MemoryTokenStore, log: Seeing
) -> None:
    """The token of before, as the place of the metadata; the secret, as that of the token endpoint."""
    auth = ClientCredentials("ours", client_secret=f"{PLANTED}-2", store=store)
    client = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=auth, retries=0))
    await client.list_tools()
    (token,) = issuer.granted
    issuer.revoke_all()
    issuer.refreshes = False
    issuer.refresh_tokens.clear()
    peer.realm = {"authorization_servers": [f"{issuer.url}/{token}"]}
    with pytest.raises(MCPClientError, match=r"\*\*\*") as raised:
        await client.call_tool("echo", {})
    seen = everything_about(client, [raised.value])
    await client.disconnect()
    for text in [seen, *log.text]:
        assert not planted(text)


async def test_no_secret_of_a_sign_in_that_waits_is_seen_anywhere(
    issuer: AuthorizationServer, peer: GuardedPeer, log: Seeing, store: MemoryTokenStore
) -> None:
    client = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=OAuth(store=store)))
    with pytest.raises(AuthorizationRequired) as raised:
        await client.list_tools()
    back = await visit(raised.value.url)
    issuer.echo = True
    with pytest.raises(MCPClientError) as failed:
        await complete_authorization(back["state"], back["code"], back["iss"], store=store)
    seen = everything_about(client, [raised.value, failed.value]) + repr(store)
    await client.disconnect()

    for text in [seen, *log.text]:
        assert not planted(text)
        assert raised.value.state not in text.replace(raised.value.url, "")


JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
NONSENSE = {
    "no HTTP": b"HTTP/1.1 200 OK\r\nContent-Type : x\r\nbad header\x00\r\n\r\n",
    "half a body": JSON + b"Content-Length: 1000\r\n\r\n{",
    "no gzip": JSON + b"Content-Encoding: gzip\r\nContent-Length: 8\r\n\r\nno gzip!",
    "half a stream": STREAM + b"Transfer-Encoding: chunked\r\n\r\n5\r\nid: 1",
    "nothing": b"",
}


@asynccontextmanager
async def nonsense(answer: bytes) -> AsyncGenerator[str]:
    """Gives the URL of something that answers each request with the same bytes, and hangs up."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("auth", [None, BearerAuth(f"{PLANTED}-bearer")])
async def test_no_credential_is_seen_where_the_server_answers_nonsense(
    auth: BearerAuth | None, answer: bytes, log: Seeing, nothing_left: None
) -> None:
    async with nonsense(answer) as where:
        url = f"{where}/mcp?key={PLANTED}-query"
        key = None if auth else f"{PLANTED}-key"
        client = HTTPMCPClient("nonsense", HTTPConfig(url, auth=auth, api_key=key, retries=0))
        with pytest.raises(MCPConnectionError, match=r"broke|cannot be read") as raised:
            await client.list_tools()
        seen = everything_about(client, [raised.value])
        await client.disconnect()
    for text in [seen, *log.text]:
        assert not planted(text)
    assert not any(isinstance(one, aiohttp.ClientError) for one in behind(raised.value))


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
async def test_no_credential_is_seen_where_the_authorization_server_answers_nonsense(
    answer: bytes, issuer: AuthorizationServer, peer: GuardedPeer, log: Seeing, store: MemoryTokenStore
) -> None:
    async with nonsense(answer) as where:
        issuer.metadata_changes = {"token_endpoint": f"{where.replace('//', '//ann:' + PLANTED + '@')}/token"}
        auth = ClientCredentials("ours", client_secret=f"{PLANTED}-2", store=store)
        client = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=auth, retries=0))
        with pytest.raises(MCPClientError) as raised:
            await client.list_tools()
        seen = everything_about(client, [raised.value])
        await client.disconnect()
    for text in [seen, *log.text]:
        assert not planted(text)
    assert not any(isinstance(one, aiohttp.ClientError) for one in behind(raised.value))


@pytest.mark.parametrize("changes", [{"issuer": f"https://ann:{PLANTED}@elsewhere.example"}])
async def test_no_password_in_a_url_of_the_authorization_server_is_seen(
    changes: dict[str, str], issuer: AuthorizationServer, peer: GuardedPeer, store: MemoryTokenStore
) -> None:
    issuer.metadata_changes = changes
    client = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=OAuth(store=store), retries=0))
    with pytest.raises(MCPClientError, match=r"elsewhere\.example") as raised:
        await client.list_tools()
    assert not planted(everything_about(client, [raised.value]))
    await client.disconnect()


@pytest.mark.parametrize(
    "realm",
    [
        {"authorization_servers": [f"http://ann:{PLANTED}@elsewhere.example/realm?key={PLANTED}"]},
        {"authorization_servers": [f"https://ann:{PLANTED}@10.1.2.3"]},
        {"resource": f"https://ann:{PLANTED}@elsewhere.example/mcp"},
    ],
)
@pytest.mark.parametrize("fixed", [None, "https://login.example.com"])
async def test_no_password_in_a_url_of_the_server_is_seen(
    realm: dict[str, Any], fixed: str | None, peer: GuardedPeer, store: MemoryTokenStore
) -> None:
    peer.realm = realm
    auth = OAuth(store=store, issuer=fixed)
    client = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=auth, retries=0))
    with pytest.raises(MCPClientError, match=r"elsewhere\.example|10\.1\.2\.3") as raised:
        await client.list_tools()
    assert not planted(everything_about(client, [raised.value]))
    await client.disconnect()


@pytest.mark.parametrize("location", ["https://ann:{}@elsewhere.example/mcp", "http://ann:{}@[no-host"])
async def test_no_password_in_a_redirect_is_seen(location: str, nothing_left: None) -> None:
    async with http_peer(stateless=True) as peer:

        @peer.on("tools/list")
        async def _(seen: Seen) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": location.format(PLANTED)})

        async with HTTPMCPClient("moved", HTTPConfig(f"{peer.url}/mcp")) as client:
            with pytest.raises(MCPClientError, match="redirects to") as raised:
                await client.list_tools()
            assert not planted(everything_about(client, [raised.value]))


class Kept:
    """The storage of the official SDK's provider."""

    async def get_tokens(self) -> OAuthToken | None:
        return None

    async def set_tokens(self, tokens: OAuthToken) -> None: ...

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None: ...


async def test_no_secret_of_the_official_sdk_is_seen_where_it_is_the_auth_flow(
    issuer: AuthorizationServer, peer: GuardedPeer, person: Person, log: Seeing
) -> None:
    async def back() -> AuthorizationCodeResult:
        answer = await person.callback()
        return AuthorizationCodeResult(code=answer.code, state=answer.state, iss=answer.iss)

    about = OAuthClientMetadata(redirect_uris=[AnyUrl("http://localhost/callback")])
    flow = OAuthClientProvider(f"{peer.url}/mcp", about, Kept(), person.redirect, back)
    issuer.malformed = True
    client = HTTPMCPClient("guarded", HTTPConfig(f"{peer.url}/mcp", auth=flow, retries=0))
    with pytest.raises(MCPClientError, match="the auth flow failed") as raised:
        await client.list_tools()
    seen = everything_about(client, [raised.value])
    await client.disconnect()
    assert issuer.forms
    for text in [seen, *log.text]:
        assert not planted(text)
