"""What is repeated and what never is, on servers that commit and then fall over."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fastapi_server.mcp import (
    CircuitOpenError,
    ConnectionState,
    Delivery,
    HTTPConfig,
    HTTPMCPClient,
    HTTPStatusError,
    MCPConnectionError,
    OutcomeUnknownError,
    RateLimitError,
    RPCError,
    StdioConfig,
    StdioMCPClient,
    testing,
)
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer

PEER = str(Path(testing.__file__).with_name("stdio_peer.py"))


@pytest.fixture(params=["handshake", "stateless"])
async def peer(request: pytest.FixtureRequest, nothing_left: None) -> AsyncIterator[HTTPPeer]:
    async with http_peer(stateless=request.param == "stateless") as started:
        yield started


def client_of(peer: HTTPPeer, **settings: Any) -> HTTPMCPClient:
    return HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp", **settings))


def commit_and_drop(peer: HTTPPeer, *, drops: int) -> list[str]:
    """A tool that does its work, and whose connection then breaks, `drops` times."""
    done: list[str] = []

    async def call(seen: Seen) -> web.StreamResponse:
        done.append(seen.method)
        if len(done) <= drops:
            assert seen.http.transport is not None
            seen.http.transport.abort()
        return seen.json({"content": []} if seen.method == "tools/call" else {"contents": []})

    peer.handlers["tools/call"] = peer.handlers["resources/read"] = call
    return done


async def test_a_tool_that_committed_is_never_run_twice(peer: HTTPPeer) -> None:
    done = commit_and_drop(peer, drops=1)
    async with client_of(peer) as client:
        with pytest.raises(OutcomeUnknownError, match="may or may not have been carried out") as caught:
            await client.call_tool("pay")
        assert caught.value.delivery is Delivery.UNKNOWN
        assert isinstance(caught.value.__cause__, MCPConnectionError)
    assert len(done) == 1


async def test_what_only_reads_is_repeated(peer: HTTPPeer) -> None:
    done = commit_and_drop(peer, drops=2)
    async with client_of(peer) as client:
        await client.read_resource("x://1")
        assert client.metrics.retries.total() == 2
    assert len(done) == 3


async def test_repeats_are_bounded(peer: HTTPPeer) -> None:
    done = commit_and_drop(peer, drops=100)
    async with client_of(peer, retries=4) as client:
        with pytest.raises(MCPConnectionError):
            await client.read_resource("x://1")
    assert len(done) == 5


async def test_a_caller_may_say_that_a_tool_is_idempotent(peer: HTTPPeer) -> None:
    done = commit_and_drop(peer, drops=1)
    async with client_of(peer) as client:
        await client.call_tool("set", idempotent=True)
    assert len(done) == 2


@pytest.mark.parametrize("hint", ["readOnlyHint", "idempotentHint"])
@pytest.mark.parametrize("trusted", [True, False])
async def test_hints_are_believed_of_trusted_servers_only(peer: HTTPPeer, hint: str, trusted: bool) -> None:
    done = commit_and_drop(peer, drops=1)

    @peer.on("tools/list")
    async def tools(seen: Seen) -> web.StreamResponse:
        return seen.json({"tools": [{"name": "look", "inputSchema": {}, "annotations": {hint: True}}]})

    async with client_of(peer, trusted=trusted) as client:
        await client.list_tools()
        if trusted:
            await client.call_tool("look")
        else:
            with pytest.raises(OutcomeUnknownError):
                await client.call_tool("look")
    assert len(done) == 1 + trusted


@pytest.mark.parametrize(("status", "repeated"), [(429, True), (503, True), (502, False), (413, False), (500, False)])
async def test_statuses_by_the_delivery_rule(peer: HTTPPeer, status: int, repeated: bool) -> None:
    answers = iter([status])

    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        refusal = next(answers, None)
        return seen.json({"content": []}) if refusal is None else web.Response(status=refusal)

    async with client_of(peer) as client:
        if repeated:
            await client.call_tool("x")
        else:
            with pytest.raises(OutcomeUnknownError if status == 502 else HTTPStatusError):
                await client.call_tool("x")
    assert peer.methods().count("tools/call") == 1 + repeated


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_honoured_inside_the_deadline_and_surfaced_beyond_it(peer: HTTPPeer, status: int) -> None:
    after = iter(["0", "60"])

    @peer.on("tools/call")
    async def call(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=status, headers={"Retry-After": next(after)})

    async with client_of(peer) as client:
        with pytest.raises(RateLimitError if status == 429 else HTTPStatusError) as caught:
            await client.call_tool("x", timeout=5)
    assert caught.value.retry_after == 60
    assert peer.methods().count("tools/call") == 2


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_while_connecting(nothing_left: None, status: int) -> None:
    """Waited for, and where that would be too long for anybody, said."""
    async with http_peer() as peer:
        after = iter(["0", "0", "3600"])

        @peer.on("server/discover")
        async def busy(_seen: Seen) -> web.StreamResponse:
            return web.Response(status=status, headers={"Retry-After": next(after)})

        client = client_of(peer)
        assert await client.connect(retry_count=9) is False
        assert isinstance(client.last_error, HTTPStatusError)
        assert client.last_error.retry_after == 3600
        assert client.metrics.failed_connects == len(peer.seen) == 3
        await client.disconnect()


async def test_an_expired_session_is_renewed_within_the_call(nothing_left: None) -> None:
    async with http_peer() as peer:
        sessions = iter(["s-1", "s-2"])

        @peer.on("initialize")
        async def initialize(seen: Seen) -> web.StreamResponse:
            info = {"name": "peer", "version": "0"}
            result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": info}
            return seen.json(result, headers={"Mcp-Session-Id": next(sessions)})

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            if seen.http.headers["Mcp-Session-Id"] == "s-1":
                return web.Response(status=404)
            return seen.json({"content": []})

        async with client_of(peer) as client:
            await asyncio.gather(*(client.call_tool("x") for _ in range(50)))
            assert client.metrics.connections == 2
        assert peer.methods().count("initialize") == 2


async def test_a_breaker_opens_answers_at_once_and_closes_again(peer: HTTPPeer) -> None:
    broken = True

    @peer.on("tools/list")
    async def tools(seen: Seen) -> web.StreamResponse:
        return web.Response(status=502) if broken else seen.json({"tools": []})

    async with client_of(peer, retries=0, breaker_threshold=3, breaker_reset=50) as client:
        for _ in range(3):
            with pytest.raises(HTTPStatusError):
                await client.list_tools()
        asked = len(peer.seen)
        with pytest.raises(CircuitOpenError, match="3 failures in a row; the next try is in") as caught:
            await client.list_tools()
        assert caught.value.delivery is Delivery.NOT_SENT
        assert 0 < caught.value.retry_after <= 0.05
        assert len(peer.seen) == asked
        broken = False
        await asyncio.sleep(caught.value.retry_after)
        assert await client.list_tools() == []
        assert await client.list_tools() == []
        assert client.metrics.breaker_moves == {"open": 1, "half_open": 1, "closed": 1}


async def test_errors_of_tools_never_open_the_breaker(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        return seen.error(-32603, "no")

    async with client_of(peer, breaker_threshold=1) as client:
        for _ in range(5):
            with pytest.raises(RPCError):
                await client.call_tool("x")


async def test_a_server_that_never_starts_costs_a_bounded_number_of_attempts(tmp_path: Path) -> None:
    log = tmp_path / "starts"
    script = f"import os; open({str(log)!r}, 'a').write('x'); os._exit(1)"
    client = StdioMCPClient("peer", StdioConfig(sys.executable, ["-S", "-c", script], breaker_threshold=3))
    for _ in range(20):
        with pytest.raises(MCPConnectionError):
            await client.call_tool("x")
    assert 3 <= len(log.read_text()) <= 6  # an attempt starts it twice where it seems to have died of the probe
    assert isinstance(client.last_error, MCPConnectionError)
    await client.disconnect()


async def test_eager_brings_up_a_new_channel_without_a_call() -> None:
    config = StdioConfig(sys.executable, ["-S", PEER], reconnect="eager", shutdown_timeout=500)
    async with StdioMCPClient("peer", config) as client:
        first = client.pid
        assert first is not None
        os.kill(first, 9)
        async with asyncio.timeout(5):
            while client.metrics.reconnects == 0:
                await asyncio.sleep(0.01)
        assert client.pid != first
        assert client.state is ConnectionState.CONNECTED
        answer = await client.call_tool("echo", {"a": 1})
        assert json.loads(getattr(answer.content[0], "text", "")) == {"a": 1}
