"""Session ids of the handshake era: good in every process that has the secret, and for nobody else."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp
import pytest
from mcp.server.lowlevel import Server
from mcp.server.request_state import AESGCMRequestStateCodec
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import Message

from fastapi_server.gateway.caller import ANYONE, Caller
from fastapi_server.gateway.endpoint import open_sessions
from fastapi_server.gateway.endpoint.open_sessions import OpenSessions
from fastapi_server.gateway.endpoint.sessions import SealedSessions, _never, _replayed
from fastapi_server.gateway.endpoint.view import VIEW_KEY, View
from tests.conformance.run_server import process
from tests.test_gateway.endpoint.conftest import HANDSHAKE, Running, StartGateway
from tests.test_gateway.gateways import end_watcher

CALLERS = {"ann": Caller("ann", "ann"), "bob": Caller("bob", "bob")}
SECRET = "a secret of at least 32 bytes, all random"
WATCHED = "mcp://http/test://watched-resource"
HELLO = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


class Raw:
    """A client that knows only HTTP, so that a session can be used anywhere, and wrongly."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def post(self, url: str, message: Mapping[str, Any], **headers: str) -> tuple[int, str, dict[str, Any]]:
        """Status, session id and the last message of the answer."""
        body = {"jsonrpc": "2.0", **message}
        async with self._http.post(url, json=body, headers=_named(headers)) as answer:
            text = await answer.text()
            data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
            last: dict[str, Any] = json.loads(data[-1] if data else text or "{}")
            return answer.status, answer.headers.get("Mcp-Session-Id", ""), last

    async def hello(self, url: str, abilities: Mapping[str, Any] | None = None, **headers: str) -> str:
        """The id that `initialize` gives."""
        params = HELLO | {"capabilities": abilities or {}}
        status, session, _ = await self.post(url, {"id": 1, "method": "initialize", "params": params}, **headers)
        assert status == 200
        return session

    async def open(self, url: str, abilities: Mapping[str, Any] | None = None, **headers: str) -> str:
        """The id of a new session."""
        session = await self.hello(url, abilities, **headers)
        told = {"method": "notifications/initialized"}
        status, _, _ = await self.post(url, told, session=session, **headers)
        assert status == 202
        return session

    async def echo(self, url: str, session: str, text: str = "hi", **headers: str) -> tuple[int, str]:
        """Status, and what came back."""
        params = {"name": "http__echo", "arguments": {"text": text}}
        call = {"id": 2, "method": "tools/call", "params": params}
        status, _, answer = await self.post(url, call, session=session, **headers)
        return status, answer["result"]["content"][0]["text"] if status == 200 else ""

    async def subscribe(self, url: str, session: str, request: int = 3) -> None:
        """To a resource that `touch` changes."""
        subscribe = {"id": request, "method": "resources/subscribe", "params": {"uri": WATCHED}}
        status, _, answer = await self.post(url, subscribe, session=session)
        assert (status, answer["result"]) == (200, {})

    async def call(self, url: str, session: str, tool: str, arguments: Mapping[str, Any], **headers: str) -> None:
        """Of which only the effect matters."""
        params = {"name": f"http__{tool}", "arguments": arguments}
        call = {"id": 5, "method": "tools/call", "params": params}
        assert (await self.post(url, call, session=session, **headers))[0] == 200

    async def ask(self, url: str, session: str) -> Any:
        """What the server is told when it asks, on the stream of a call, and we answer."""
        params = {"name": "http__ask", "arguments": {"kinds": ["form"]}}
        call = {"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": params}
        async with self._http.post(url, json=call, headers=_named({"session": session})) as answer:
            question = await message_on(answer.content)
            assert question["method"] == "elicitation/create"
            reply = {"id": question["id"], "result": {"action": "accept", "content": {"name": "Ada"}}}
            assert (await self.post(url, reply, session=session))[0] == 202
            result = (await message_on(answer.content))["result"]
        return json.loads(result["content"][0]["text"])["form"]["content"]

    async def delete(self, url: str, session: str) -> int:
        async with self._http.delete(url, headers=_named({"session": session})) as answer:
            return answer.status

    @asynccontextmanager
    async def stream(self, url: str, session: str, **headers: str) -> AsyncGenerator[aiohttp.StreamReader]:
        """The standalone stream."""
        async with self._http.get(url, headers=_named({"session": session, **headers})) as answer:
            assert answer.status == 200
            yield answer.content


async def message_on(stream: aiohttp.StreamReader) -> dict[str, Any]:
    """The next message."""
    while not (line := await stream.readline()).startswith(b"data: {"):
        assert line
    return json.loads(line.removeprefix(b"data: "))


async def told_on(stream: aiohttp.StreamReader) -> str:
    """The method of the next notification."""
    return (await message_on(stream))["method"]


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    names = {"session": "Mcp-Session-Id", "caller": "X-Caller"}
    accept = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": HANDSHAKE}
    return accept | {names[name]: value for name, value in headers.items()}


@pytest.fixture
async def raw() -> AsyncGenerator[Raw]:
    async with aiohttp.ClientSession() as http:
        yield Raw(http)


@asynccontextmanager
async def two(
    gateway: StartGateway, upstreams: dict[str, Any], *secrets: str | None, **settings: Any
) -> AsyncGenerator[list[Running]]:
    """Two gateways before the same server."""
    servers = {"http": upstreams["http"]}
    first, second = secrets
    async with (
        gateway(servers, callers=CALLERS, secret=first, **settings) as one,
        gateway(servers, callers=CALLERS, secret=second, **settings) as other,
    ):
        yield [one, other]


async def test_another_process_goes_on(gateway: StartGateway, upstreams: dict[str, Any], raw: Raw) -> None:
    async with two(gateway, upstreams, SECRET, SECRET) as (one, other):
        session = await raw.open(one.url)
        assert await raw.echo(one.url, session, "here") == (200, "here")
        assert await raw.echo(other.url, session, "there") == (200, "there")
        assert await raw.echo(one.url, session, "again") == (200, "again")


async def test_the_standalone_stream_of_another_process(
    gateway: StartGateway, upstreams: dict[str, Any], raw: Raw
) -> None:
    async with two(gateway, upstreams, SECRET, SECRET) as (one, other):
        session = await raw.open(one.url)
        async with raw.stream(other.url, session) as stream:
            await other.gateway.reload({})
            assert "list_changed" in await told_on(stream)


async def test_requests_that_come_together_are_of_one_session(
    gateway: StartGateway, upstreams: dict[str, Any], raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mcp.server.streamable_http_manager")
    async with two(gateway, upstreams, SECRET, SECRET) as (one, other):
        session = await raw.open(one.url)
        caplog.clear()

        async def updated() -> None:
            async with raw.stream(other.url, session) as stream:
                while await told_on(stream) != "notifications/resources/updated":
                    pass

        telling = asyncio.create_task(updated())
        await asyncio.gather(*(raw.subscribe(other.url, session, 10 + number) for number in range(4)))
        await raw.call(other.url, session, "touch", {"uri": "test://watched-resource"})
        await telling

    assert caplog.text.count("Created new transport") == 1


async def test_a_session_is_opened_again_though_who_came_first_is_gone() -> None:
    manager = StreamableHTTPSessionManager(Server("nothing"))
    sessions = SealedSessions(manager, AESGCMRequestStateCodec([SECRET]), 1, lambda _inner, _open: None)

    async def post(message: Mapping[str, Any], *headers: tuple[bytes, bytes]) -> dict[bytes, bytes]:
        kept = [(b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream")]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": [*kept, *headers], VIEW_KEY: View(ANYONE)}
        answers: list[Message] = []

        async def send(answer: Message) -> None:
            answers.append(answer)

        body = json.dumps({"jsonrpc": "2.0", "id": 1, **message}).encode()
        await sessions(scope, _replayed(body, _never), send)
        assert answers[0]["status"] == 200
        return dict(answers[0]["headers"])

    async with manager.run():
        opened = await post({"method": "initialize", "params": HELLO})
        session = (b"mcp-session-id", opened[b"mcp-session-id"])
        sessions._sessions = OpenSessions(3600)  # as after a restart
        first, second = (asyncio.create_task(post({"method": "ping"}, session)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert first.cancelled()
    end_watcher()


async def test_a_stream_that_is_open_before_its_session_hears_of_changes(
    gateway: StartGateway, upstreams: dict[str, Any], raw: Raw
) -> None:
    async with gateway({"http": upstreams["http"]}, callers=CALLERS) as running:
        session = await raw.hello(running.url, caller="ann")
        async with raw.stream(running.url, session, caller="ann") as stream:
            await raw.post(running.url, {"method": "notifications/initialized"}, session=session, caller="ann")
            await raw.call(running.url, session, "test_trigger_tool_change", {}, caller="ann")
            while await told_on(stream) != "notifications/tools/list_changed":
                pass


@pytest.fixture
def processes(everything_port: int, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """URLs of two processes of one gateway: the same configuration, and the same database, which has the secret."""
    server = {"url": f"http://127.0.0.1:{everything_port}/mcp", "protocolVersion": HANDSHAKE}
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"http": server}}), encoding="utf-8")
    with process("tests.servers.gateway", str(config)) as first:
        with urlopen(f"http://127.0.0.1:{first}/health") as answer:  # the database is made
            assert answer.status == 200
        with process("tests.servers.gateway", str(config)) as second:
            yield f"http://127.0.0.1:{first}/mcp", f"http://127.0.0.1:{second}/mcp"


async def test_two_processes_have_one_session(processes: tuple[str, str], raw: Raw) -> None:
    one, other = processes
    session = await raw.open(one, {"elicitation": {}})
    assert await raw.echo(other, session, "there") == (200, "there")
    async with raw.stream(one, session) as here, raw.stream(other, session) as there:
        for url in (one, other):
            assert await raw.ask(url, session) == {"name": "Ada"}
        await raw.call(other, session, "test_trigger_tool_change", {})
        assert await told_on(here) == await told_on(there) == "notifications/tools/list_changed"
    assert await raw.delete(other, session) == 200
    assert await raw.echo(other, session) == (404, "")


async def test_what_changes_while_a_session_has_no_stream_waits_for_one(
    gateway: StartGateway, upstreams: dict[str, Any], raw: Raw
) -> None:
    async with gateway({"http": upstreams["http"]}) as running:
        session = await raw.open(running.url)
        await raw.echo(running.url, session)
        await running.gateway.reload({})
        async with raw.stream(running.url, session) as stream:
            told = {await told_on(stream) for _ in range(3)}

    assert told == {f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")}


async def test_an_id_is_good_for_its_caller_only(gateway: StartGateway, upstreams: dict[str, Any], raw: Raw) -> None:
    async with two(gateway, upstreams, SECRET, SECRET) as (one, other):
        session = await raw.open(one.url, caller="ann")
        assert await raw.echo(one.url, session, caller="ann") == (200, "hi")
        for url in (one.url, other.url):
            assert await raw.echo(url, session, caller="bob") == (404, "")
            assert await raw.echo(url, session) == (404, "")
            assert await raw.echo(f"{url}/http", session, caller="ann") == (404, "")


async def test_an_id_that_was_changed_is_none(gateway: StartGateway, upstreams: dict[str, Any], raw: Raw) -> None:
    async with two(gateway, upstreams, SECRET, SECRET) as (one, other):
        session = await raw.open(one.url)
        middle = len(session) // 2
        changed = session[:middle] + ("A" if session[middle] != "A" else "B") + session[middle + 1 :]
        for url in (one.url, other.url):
            for wrong in (changed, session[:-4], "0" * 32, "v1."):
                assert await raw.echo(url, wrong) == (404, "")


async def test_an_id_ends(gateway: StartGateway, upstreams: dict[str, Any], raw: Raw) -> None:
    async with two(gateway, upstreams, SECRET, SECRET) as (one, other):
        session = await raw.open(one.url)
        assert await raw.delete(one.url, session) == 200
        assert await raw.echo(one.url, session) == (404, "")
        unknown = await raw.open(one.url)
        assert await raw.delete(other.url, unknown) == 200
        assert await raw.echo(other.url, unknown) == (404, "")


async def test_an_id_is_short_whatever_the_client_says_of_itself(
    gateway: StartGateway, upstreams: dict[str, Any], raw: Raw
) -> None:
    long = "x" * 100_000
    said = {
        "protocolVersion": long,
        "capabilities": {"elicitation": {"form": {long: long}}, "experimental": {long: {}}},
        "clientInfo": {"name": long, "version": "1"},
    }
    async with two(gateway, upstreams, SECRET, SECRET) as (one, other):
        status, session, _ = await raw.post(one.url, {"id": 1, "method": "initialize", "params": said})
        assert status == 200
        assert len(session) < 1_000
        assert await raw.ask(other.url, session) == {"name": "Ada"}


async def test_sessions_make_way_for_others_of_their_caller_only(
    gateway: StartGateway, upstreams: dict[str, Any], raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_sessions, "_MOST_OF_ONE", 2)
    async with gateway({"http": upstreams["http"]}, callers=CALLERS) as running:
        of_bob = await raw.open(running.url, caller="bob")
        first = await raw.open(running.url, caller="ann")
        async with (
            raw.stream(running.url, of_bob, caller="bob") as here,
            raw.stream(running.url, first, caller="ann") as closed,
        ):
            for _ in range(2):
                await raw.open(running.url, caller="ann")
            await closed.read()
            await running.gateway.reload({})
            assert "list_changed" in await told_on(here)
        assert (await raw.post(running.url, {"id": 2, "method": "ping"}, session=first, caller="ann"))[0] == 200


async def test_an_id_expires(gateway: StartGateway, upstreams: dict[str, Any], raw: Raw) -> None:
    async with two(gateway, upstreams, SECRET, SECRET, session_hours=1e-9) as (one, other):
        session = await raw.hello(one.url)
        assert await raw.echo(one.url, session) == (404, "")
        assert await raw.echo(other.url, session) == (404, "")


@pytest.mark.parametrize("secrets", [(SECRET, SECRET[::-1]), (None, None)])
async def test_without_the_secret_an_id_is_none(
    gateway: StartGateway, upstreams: dict[str, Any], raw: Raw, secrets: tuple[str | None, str | None]
) -> None:
    async with two(gateway, upstreams, *secrets) as (one, other):
        session = await raw.open(one.url)
        assert await raw.echo(one.url, session) == (200, "hi")
        assert await raw.echo(other.url, session) == (404, "")


async def test_no_session_is_opened_by_what_is_none(gateway: StartGateway, upstreams: dict[str, Any], raw: Raw) -> None:
    async with gateway({"http": upstreams["http"]}) as running:
        assert await raw.echo(running.url, "") == (404, "")
        status, session, _ = await raw.post(running.url, {"id": 1, "method": "tools/list"})
        assert status == 400
        assert await raw.echo(running.url, session) == (404, "")


async def test_what_has_ended_is_not_kept(gateway: StartGateway, upstreams: dict[str, Any], raw: Raw) -> None:
    async with gateway({"http": upstreams["http"]}) as running, running.gateway.events.watch() as events:
        session = await raw.open(running.url)
        await raw.subscribe(running.url, session)
        await raw.delete(running.url, session)
        async for event in events:
            if event.data.get("method") == "resources/unsubscribe":
                break
