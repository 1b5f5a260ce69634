"""What hard use has found: each was a bug once."""

import asyncio
import contextlib
import json
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fastapi_server.mcp import (
    AutoMCPClient,
    CallTimeoutError,
    Channel,
    ClientClosedError,
    ConnectionState,
    Delivery,
    HandlerContext,
    Handlers,
    HTTPConfig,
    HTTPMCPClient,
    HTTPStatusError,
    MCPClient,
    MCPClientError,
    MCPConnectionError,
    MemoryMCPClient,
    ProcessExitedError,
    ProtocolError,
    RPCError,
    SSEConfig,
    SSEMCPClient,
    StdioConfig,
    StdioMCPClient,
    testing,
)
from fastapi_server.mcp.clients.mailbox import Mailbox
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, event, http_peer
from fastapi_server.mcp.testing.sse_peer import sse_peer

PEER = str(Path(testing.__file__).with_name("stdio_peer.py"))
CONTENT = {"content": [{"type": "text", "text": "done"}]}


@pytest.fixture
async def peer(nothing_left: None) -> AsyncIterator[HTTPPeer]:
    async with http_peer() as started:
        yield started


def client_of(peer: HTTPPeer, **settings: Any) -> HTTPMCPClient:
    return HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp", **settings))


def shell(script: str, **settings: Any) -> StdioMCPClient:
    return StdioMCPClient("peer", StdioConfig("sh", ["-c", script], **settings))


# Processes that end at once.


async def test_the_last_words_of_a_process_that_dies_at_once_are_in_the_error() -> None:
    for _ in range(20):
        client = shell("echo oops >&2; exit 3")
        assert await client.connect(retry_count=1) is False
        error = client.last_error
        assert isinstance(error, ProcessExitedError)
        assert (error.exit_code, error.stderr) == (3, "oops")


async def test_a_secret_of_the_environment_is_not_in_the_error() -> None:
    client = shell("echo bad $API_TOKEN of $PLAIN >&2", env={"API_TOKEN": "planted-secret", "PLAIN": "visible"})
    assert await client.connect(retry_count=1) is False
    assert isinstance(client.last_error, ProcessExitedError)
    assert client.last_error.stderr == "bad *** of visible"


# Many tasks at one client.


@pytest.mark.parametrize("seed", range(20))
async def test_any_mixture_of_connecting_calling_and_closing_is_legal(seed: int) -> None:
    dice = random.Random(seed)
    client = MemoryMCPClient("fake", {"tools/call": {"content": []}})

    async def meddle() -> None:
        for _ in range(10):
            match dice.randrange(5):
                case 0:
                    await client.connect(retry_count=1)
                case 1:
                    await client.disconnect()
                case 2 if client.state is ConnectionState.CONNECTED:
                    client.scripted.break_off()
                case 3:
                    task = asyncio.create_task(client.connect())
                    await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                case _:
                    with contextlib.suppress(MCPClientError):
                        await client.call_tool("x")

    await asyncio.gather(*(meddle() for _ in range(4)))
    await client.disconnect()
    assert client.state is ConnectionState.DISCONNECTED


async def test_cancelling_the_beginning_of_async_with_leaves_nothing() -> None:
    config = StdioConfig(sys.executable, ["-S", PEER, "--discover", "silent", "--initialize", "silent"])
    client = StdioMCPClient("peer", config)

    async def enter() -> None:
        async with asyncio.timeout(0.2), client:
            raise AssertionError

    with pytest.raises(TimeoutError):
        await enter()
    assert client.state is ConnectionState.DISCONNECTED
    assert client.pid is None


class Clumsy(MCPClient):
    """A transport that can neither open nor close."""

    async def _establish_connection(self) -> Channel:
        raise RuntimeError("cannot open")

    async def _close_connection(self) -> None:
        raise RuntimeError("cannot close")


async def test_a_transport_that_cannot_close_either(caplog: pytest.LogCaptureFixture) -> None:
    client = Clumsy("clumsy", {})
    for _ in range(2):
        assert await client.connect(retry_count=1) is False
        assert "cannot open" in str(client.last_error)
    await client.disconnect()
    assert client.state is ConnectionState.DISCONNECTED
    assert "cannot close" in caplog.text


# Eras and streams.


async def test_a_standing_stream_that_the_server_ends_is_opened_again(
    nothing_left: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_server.mcp.clients.listener.backoff_delays", lambda attempts: iter([0.0] * attempts))
    told: list[str] = []

    def changed(_context: HandlerContext, kind: str) -> None:
        told.append(kind)

    async with http_peer(stateless=True) as peer:

        @peer.on("subscriptions/listen")
        async def listen(seen: Seen) -> web.StreamResponse:
            meta = {"io.modelcontextprotocol/subscriptionId": seen.id}
            params: dict[str, Any] = {"_meta": meta, "notifications": seen.body["params"]["notifications"]}
            response = await seen.stream()
            method = "notifications/subscriptions/acknowledged"
            await response.write(event({"jsonrpc": "2.0", "method": method, "params": params}))
            if peer.methods().count("subscriptions/listen") < 3:
                await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": {"_meta": meta}}))
                return response
            note = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": meta}}
            await response.write(event(note))
            await asyncio.sleep(60)
            return response

        config = HTTPConfig(f"{peer.url}/mcp")
        async with HTTPMCPClient("peer", config, handlers=Handlers(list_changed=changed)):
            async with asyncio.timeout(5):
                while not told:
                    await asyncio.sleep(0.01)
    assert told[0] == "tools"


async def test_a_server_rolled_back_to_the_handshake_era_is_found_out_again(nothing_left: None) -> None:
    async with http_peer(stateless=True) as peer, client_of(peer) as client:
        await client.call_tool("x")
        peer.stateless = False

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            if "_meta" in seen.body["params"]:
                return web.Response(status=400, text="Bad Request: no session")
            return seen.json(CONTENT)

        with pytest.raises(HTTPStatusError):
            await client.call_tool("x")
        assert not (await client.call_tool("x")).is_error
        assert client.server_info is not None
        assert client.server_info.protocol_version == "2025-11-25"


async def test_the_get_stream_survives_idle_closes_and_busy_moments(peer: HTTPPeer) -> None:
    opened = asyncio.Event()

    @peer.on("GET")
    async def stream(seen: Seen) -> web.StreamResponse:
        count = peer.methods().count("GET")
        if count == 2:
            return web.Response(status=503)
        response = await seen.stream()
        await response.write(b"retry: 1\n: ping\n\n")
        if count > 8:
            opened.set()
            await asyncio.sleep(60)
        return response

    async with client_of(peer):
        async with asyncio.timeout(20):
            await opened.wait()


async def test_a_stream_may_be_resumed_as_often_as_it_brings_something(peer: HTTPPeer) -> None:
    waiting: list[Any] = []

    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        waiting.append(seen.id)
        response = await seen.stream()
        await response.write(event(None, id="e-0", retry=1))
        return response

    @peer.on("GET")
    async def resume(seen: Seen) -> web.StreamResponse:
        last = seen.http.headers.get("Last-Event-ID")
        if last is None:
            return web.Response(status=405)
        number = int(last.removeprefix("e-"))
        if number == 3 and peer.methods().count("GET") == 5:
            return web.Response(status=503)
        response = await seen.stream()
        reply = {"jsonrpc": "2.0", "id": waiting[0], "result": CONTENT} if number == 9 else None
        await response.write(event(reply, id=f"e-{number + 1}", retry=1))
        return response

    async with client_of(peer) as client:
        assert not (await client.call_tool("x", timeout=10)).is_error


async def test_one_slow_end_of_a_stream_does_not_cost_the_connection_for_ever(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": CONTENT}))
        await asyncio.sleep(0.2 if seen.body["params"]["name"] == "slow" else 0.005)
        return response

    async with client_of(peer) as client:
        await client.call_tool("slow")
        await client.call_tool("quick")
        before = len(peer.connections)
        for _ in range(5):
            await client.call_tool("quick")
        assert len(peer.connections) == before


# What servers send.


@pytest.mark.parametrize("location", ["http://[bad", "http://h:99999/", "mailto:x"])
async def test_a_redirect_to_what_is_no_url(peer: HTTPPeer, location: str) -> None:
    async def away(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": location})

    peer.handlers["tools/call"] = peer.handlers["DELETE"] = away
    async with client_of(peer) as client:
        with pytest.raises(MCPConnectionError, match="redirects to"):
            await client.call_tool("x")
    assert client.state is ConnectionState.DISCONNECTED


async def test_a_date_without_a_zone_in_retry_after(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def limit(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00"})

    async with client_of(peer, retries=0) as client:
        with pytest.raises(HTTPStatusError) as caught:
            await client.call_tool("x")
    assert getattr(caught.value, "retry_after", None) == 0.0


async def test_an_endpoint_that_is_no_url_of_a_server(nothing_left: None) -> None:
    async with sse_peer() as peer:
        peer.endpoint = "mailto:x"
        client = SSEMCPClient("peer", SSEConfig(f"{peer.url}/sse", timeout=5000))
        assert await client.connect(retry_count=1) is False
        assert "no URL" in str(client.last_error)


async def test_secrets_of_a_provider_and_of_the_config_are_both_known(peer: HTTPPeer) -> None:
    async def headers() -> dict[str, str]:
        return {"X-Tenant-Token": "rotating-secret"}

    @peer.on("tools/call")
    async def echo(seen: Seen) -> web.StreamResponse:
        sent = seen.http.headers
        return web.Response(status=400, text=f"{sent['Authorization']} {sent['X-Tenant-Token']}")

    async with client_of(peer, api_key="static-secret", headers=headers) as client:
        with pytest.raises(HTTPStatusError) as caught:
            await client.call_tool("x")
    assert "secret" not in str(caught.value)


async def test_the_query_of_a_url_is_not_in_the_message(nothing_left: None) -> None:
    async with http_peer() as peer:

        async def missing(_seen: Seen) -> web.StreamResponse:
            return web.Response(status=404)

        peer.handlers |= dict.fromkeys(["server/discover", "initialize", "GET", "POST"], missing)
        client = AutoMCPClient("peer", HTTPConfig(f"{peer.url}/mcp?apiKey=planted"))
        assert await client.connect(retry_count=1) is False
        assert "planted" not in str(client.last_error)


@pytest.mark.parametrize(
    "reply",
    [
        '{"jsonrpc": "2.0", "id": %d, "result": {"content": [], "x": NaN}}',
        '{"jsonrpc": "2.0", "id": %d, "result": {"content": [], "x": "\\ud800"}}',
        '{"jsonrpc": "2.0", "id": %d, "error": {"code": "E1", "message": "no"}}',
        '{"jsonrpc": "2.0", "id": %d, "error": "no"}',
    ],
)
async def test_a_reply_that_is_nearly_one_fails_its_call_at_once(reply: str) -> None:
    async def never(_params: dict[str, Any]) -> None:
        await asyncio.sleep(60)

    async with MemoryMCPClient("fake", {"tools/call": never}) as client:
        call = asyncio.create_task(client.call_tool("x", timeout=5))
        await client.ping()
        request_id = next(sent["id"] for sent in client.scripted.sent if sent["method"] == "tools/call")
        client.scripted._receive((reply % request_id).encode())
        with pytest.raises(ProtocolError):
            await call


async def test_a_line_of_a_log_that_looks_like_a_reply_answers_nothing() -> None:
    async def later(_params: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return CONTENT

    async with MemoryMCPClient("fake", {"tools/call": later}) as client:
        call = asyncio.create_task(client.call_tool("x"))
        await asyncio.sleep(0)
        client.scripted._receive(b'{"level": "info", "msg": "cache", "result": "warm"}')
        assert not (await call).is_error
        assert client.metrics.unmatched_replies == 1


async def test_a_tool_that_is_not_listed_costs_one_listing() -> None:
    script = {"tools/list": {"tools": []}, "tools/call": {"content": [], "structuredContent": {}}}
    async with MemoryMCPClient("fake", script) as client:
        for _ in range(5):
            await client.call_tool("hidden")
        assert client.metrics.calls["tools/list"] == 1


async def test_a_slow_callback_is_told_a_bounded_number_of_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_server.mcp.clients.mailbox._MOST_WAITING", 3)
    told: list[int] = []

    async def slow(number: int) -> None:
        await asyncio.sleep(0)
        told.append(number)

    mailbox = Mailbox()
    for number in range(10):
        mailbox.post(slow, number)
    await mailbox.flush()
    assert told == [0, 7, 8, 9]
    assert mailbox.dropped == 6


async def test_questions_under_one_id_are_answered_once() -> None:
    async def endless(_context: HandlerContext, _params: Any) -> Any:
        await asyncio.sleep(60)

    async with MemoryMCPClient("fake", {}, handlers=Handlers(elicitation=endless)) as client:
        params = {"message": "?", "requestedSchema": {}}
        question = {"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": params}
        for _ in range(3):
            client.scripted._receive(json.dumps(question).encode())
        assert len(client._inbox._answering) == 1


async def test_a_deadline_is_kept_while_the_era_is_doubted(nothing_left: None) -> None:
    async with http_peer(stateless=True) as peer:
        silent = False

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            return seen.error(-32600, "Invalid Request", status=400)

        @peer.on("server/discover")
        async def discover(seen: Seen) -> web.StreamResponse:
            if silent:
                await asyncio.sleep(60)
            return peer.default(seen)

        async with client_of(peer) as client:
            silent = True
            with pytest.raises(RPCError):
                await client.call_tool("x", timeout=5)
            with pytest.raises(CallTimeoutError) as caught:
                await client.call_tool("x", timeout=0.05)
            assert caught.value.delivery is Delivery.NOT_SENT
        assert client.state is ConnectionState.DISCONNECTED


DOUBTFUL = pytest.mark.parametrize("code", [-32600, -32000, -32022])
"""What a server may answer that was replaced by one of another era; and a tool as well."""


@DOUBTFUL
async def test_an_error_of_a_tool_fails_no_other_call_over_http(nothing_left: None, code: int) -> None:
    async with http_peer(stateless=True) as peer:
        arrived, released = asyncio.Event(), asyncio.Event()

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            if seen.body["params"]["name"] == "refuse":
                return seen.error(code, "not today")
            arrived.set()
            await released.wait()
            return seen.json(CONTENT)

        async with client_of(peer) as client:
            waiting = asyncio.create_task(client.call_tool("wait"))
            await arrived.wait()
            for _ in range(2):
                with pytest.raises(RPCError, match="not today"):
                    await client.call_tool("refuse")
            released.set()
            assert not (await waiting).is_error
            assert not (await client.call_tool("wait")).is_error
            assert client.metrics.connections == 1
        assert peer.methods().count("server/discover") == 3


@DOUBTFUL
async def test_an_error_of_a_tool_fails_no_other_call_over_stdio(nothing_left: None, code: int) -> None:
    config = StdioConfig(sys.executable, ["-S", PEER, "--discover", "stateless"])
    async with StdioMCPClient("peer", config) as client:
        waiting = asyncio.create_task(client.call_tool("hold", {"of": 2, "n": 0}))
        await client.ping()
        with pytest.raises(RPCError, match="not today"):
            await client.call_tool("refuse", {"code": code})
        assert not (await client.call_tool("hold", {"of": 2, "n": 1})).is_error
        assert not (await waiting).is_error
        assert client.metrics.connections == 1


async def test_a_doubt_that_cannot_be_cleared_up_costs_nothing(nothing_left: None) -> None:
    async with http_peer(stateless=True) as peer, client_of(peer) as client:

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            return seen.error(-32000, "not today")

        @peer.on("server/discover")
        async def discover(_seen: Seen) -> web.StreamResponse:
            return web.Response(status=503)

        for _ in range(2):
            with pytest.raises(RPCError, match="not today"):
                await client.call_tool("x")
        assert client.metrics.connections == 1


async def test_a_client_is_closed_while_the_era_is_doubted(nothing_left: None) -> None:
    async with http_peer(stateless=True) as peer, client_of(peer) as client:
        asked = asyncio.Event()

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            return seen.error(-32600, "Invalid Request", status=400)

        @peer.on("server/discover")
        async def discover(_seen: Seen) -> web.StreamResponse:
            asked.set()
            await asyncio.sleep(60)
            raise AssertionError("unreachable")

        with pytest.raises(RPCError):
            await client.call_tool("x")
        await asked.wait()
        next_call = asyncio.create_task(client.call_tool("x"))
        await asyncio.sleep(0)
        async with asyncio.timeout(2):
            await client.disconnect()
            with pytest.raises(ClientClosedError):
                await next_call
