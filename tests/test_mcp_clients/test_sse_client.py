"""HTTP+SSE of revision 2024-11-05, against a real server and one that misbehaves; and the rpc dialect."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from fastapi_server.mcp import (
    CallTimeoutError,
    ClientClosedError,
    ConnectionState,
    Delivery,
    HandlerContext,
    Handlers,
    HandshakeError,
    HTTPStatusError,
    MCPConnectionError,
    RPCError,
    SSEConfig,
    SSEMCPClient,
)
from fastapi_server.mcp.clients.http_origin import Identity
from fastapi_server.mcp.clients.sse_client import SSEChannel
from fastapi_server.mcp.metrics import ClientMetrics
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer
from fastapi_server.mcp.testing.sse_peer import SSEPeer, sse_peer


@pytest.fixture
async def peer(nothing_left: None) -> AsyncIterator[SSEPeer]:
    async with sse_peer() as started:
        yield started


def client_of(peer: HTTPPeer, **settings: Any) -> SSEMCPClient:
    return SSEMCPClient("peer", SSEConfig(f"{peer.url}/sse", **settings))


async def test_the_endpoint_event_says_where_to_post_and_no_probe_is_sent(peer: SSEPeer) -> None:
    async with client_of(peer, headers={"X-Tenant": "a"}) as client:
        assert client.server_info is not None
        assert client.server_info.protocol_version == "2024-11-05"
        await client.call_tool("x")
    posted = [seen for seen in peer.seen if seen.http.method == "POST"]
    assert [seen.method for seen in posted] == ["initialize", "notifications/initialized", "tools/call"]
    assert {str(seen.http.rel_url) for seen in posted} == {"/messages?session=1"}
    assert {seen.http.headers["X-Tenant"] for seen in peer.seen} == {"a"}


async def test_a_failed_post_fails_its_call_at_once(peer: SSEPeer) -> None:
    @peer.on("tools/call")
    async def refuse(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=500, text="no")

    async with client_of(peer) as client:
        with pytest.raises(HTTPStatusError, match="HTTP 500"):
            await client.call_tool("x")
        assert await client.health_check()


async def test_a_post_that_breaks_is_unknown(peer: SSEPeer) -> None:
    @peer.on("tools/call")
    async def break_off(seen: Seen) -> web.StreamResponse:
        assert seen.http.transport is not None
        seen.http.transport.abort()
        return web.Response()

    async with client_of(peer) as client:
        with pytest.raises(MCPConnectionError) as caught:
            await client.call_tool("x")
        assert caught.value.delivery is Delivery.UNKNOWN


async def test_the_end_of_the_stream_fails_the_calls_and_the_next_call_opens_another(peer: SSEPeer) -> None:
    posted = asyncio.Event()

    @peer.on("tools/call")
    async def hold(seen: Seen) -> web.StreamResponse:
        if len(peer.streams) > 1:
            return await peer.answer(seen, {"content": []})
        posted.set()
        return web.Response(status=202)

    async with client_of(peer) as client:
        waiting = asyncio.create_task(client.call_tool("x"))
        await posted.wait()
        transport = peer.seen[0].http.transport
        assert transport is not None
        transport.abort()
        with pytest.raises(MCPConnectionError) as caught:
            await waiting
        assert caught.value.delivery is Delivery.UNKNOWN
        assert client.state is ConnectionState.ERROR
        await client.call_tool("x")
        assert client.metrics.reconnects == 1


async def test_calls_are_correlated_whatever_order_the_replies_have(peer: SSEPeer) -> None:
    held: list[Seen] = []

    @peer.on("tools/call")
    async def hold(seen: Seen) -> web.StreamResponse:
        held.append(seen)
        if len(held) == 20:
            for one in reversed(held):
                text = str(one.body["params"]["arguments"]["n"])
                await peer.answer(one, {"content": [{"type": "text", "text": text}]})
        return web.Response(status=202)

    async with client_of(peer) as client:
        results = await asyncio.gather(*(client.call_tool("x", {"n": n}) for n in range(20)))
    assert [getattr(result.content[0], "text", "") for result in results] == [str(n) for n in range(20)]


async def test_a_request_that_timed_out_is_cleaned_up_and_the_server_told(peer: SSEPeer) -> None:
    told = asyncio.Event()

    @peer.on("tools/call")
    async def never(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=202)

    @peer.on("notifications/cancelled")
    async def cancelled(_seen: Seen) -> web.StreamResponse:
        told.set()
        return web.Response(status=202)

    async with client_of(peer) as client:
        with pytest.raises(CallTimeoutError):
            await client.call_tool("x", timeout=0.1)
        async with asyncio.timeout(5):
            await told.wait()
        late = next(seen for seen in peer.seen if seen.method == "tools/call")
        await peer.answer(late, {"content": []})
        await client.ping()
        assert client.metrics.unmatched_replies == 1


async def test_what_the_server_says_unasked_reaches_the_handlers(peer: SSEPeer) -> None:
    heard: list[str] = []

    def told(_context: HandlerContext, kind: str) -> None:
        heard.append(kind)

    client = SSEMCPClient("peer", SSEConfig(f"{peer.url}/sse"), handlers=Handlers(list_changed=told))
    async with client:
        await peer.send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        await client.ping()
    assert heard == ["tools"]


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [("http://ann:planted@elsewhere.invalid/messages", "another origin"), ("http://ann:planted@[", "no URL")],
)
async def test_the_endpoint_must_be_a_url_on_the_origin(peer: SSEPeer, endpoint: str, expected: str) -> None:
    peer.endpoint = endpoint
    client = client_of(peer)
    assert await client.connect(retry_count=1) is False
    assert isinstance(client.last_error, HandshakeError)
    assert expected in str(client.last_error)
    assert "planted" not in str(client.last_error)


async def test_an_endpoint_that_never_comes_ends_with_the_timeout(peer: SSEPeer) -> None:
    peer.endpoint = ""
    client = client_of(peer, timeout=200)
    assert await client.connect(retry_count=1) is False
    assert isinstance(client.last_error, TimeoutError)


async def test_what_is_no_event_stream_is_named(peer: SSEPeer) -> None:
    @peer.on("GET")
    async def page(_seen: Seen) -> web.StreamResponse:
        return web.Response(text="<html>")

    client = client_of(peer)
    assert await client.connect(retry_count=1) is False
    assert "expected an event stream, the server sent text/plain" in str(client.last_error)


async def test_a_refused_stream_has_its_status(peer: SSEPeer) -> None:
    @peer.on("GET")
    async def refuse(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=404)

    client = client_of(peer)
    assert await client.connect(retry_count=1) is False
    assert isinstance(client.last_error, HTTPStatusError)


async def test_a_stream_that_is_closed_while_it_is_read_leaves_no_complaint(
    peer: SSEPeer, caplog: pytest.LogCaptureFixture
) -> None:
    """The HTTP library has a plain RuntimeError for that."""
    channel = SSEChannel(SSEConfig(f"{peer.url}/sse"), ClientMetrics(), Identity(aiohttp.CookieJar()))
    await channel.open()
    connector, lost = channel._origin._session.connector, asyncio.get_running_loop().create_future()
    assert connector is not None
    closing = list[Awaitable[None]]()
    channel.on_message = lambda _message, _request_id: closing.append(aiohttp.BaseConnector.close(connector))
    channel.on_lost = lost.set_result
    await peer.send({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})
    error = await lost
    await channel.close()
    await closing[0]
    assert type(error) is MCPConnectionError
    assert "broke: Connection closed." in str(error)
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_closing_fails_the_calls_in_flight_at_once(peer: SSEPeer) -> None:
    posted = asyncio.Event()

    @peer.on("tools/call")
    async def never(_seen: Seen) -> web.StreamResponse:
        posted.set()
        return web.Response(status=202)

    client = client_of(peer)
    await client.connect()
    waiting = asyncio.create_task(client.call_tool("x"))
    await posted.wait()
    await client.disconnect()
    with pytest.raises(ClientClosedError):
        await waiting


async def test_against_the_official_sdk(sse_server: str) -> None:
    async with SSEMCPClient("weather", SSEConfig(sse_server)) as client:
        assert {tool.name for tool in await client.list_tools()} == {"forecast", "survey"}
        assert (await client.call_tool("forecast", {"city": "Oslo"})).structured_content == {
            "city": "Oslo",
            "celsius": 7.0,
            "sky": "rain",
        }


# The rpc dialect.


class RPCPeer(HTTPPeer):
    """The user's own wire."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[web.StreamResponse] = []
        self.on("GET")(self.open_stream)
        self.on("POST")(self.connect)

    async def connect(self, seen: Seen) -> web.StreamResponse:
        return web.json_response({"connected": seen.body["client"]})

    async def open_stream(self, seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        self.streams.append(response)
        await response.write(b": hello\n\n")
        await asyncio.sleep(60)
        return response

    async def tell(self, data: Any) -> None:
        await self.streams[-1].write(f"data: {json.dumps(data)}\n\n".encode())


@pytest.fixture
async def rpc(nothing_left: None) -> AsyncIterator[RPCPeer]:
    peer = RPCPeer()
    async with http_peer(peer):

        async def error(seen: Seen) -> web.StreamResponse:
            await peer.tell({"request_id": seen.id, "error": {"code": -32601, "message": "what?"}})
            return web.Response()

        async def plain_error(seen: Seen) -> web.StreamResponse:
            await peer.tell({"request_id": seen.id, "error": "it broke"})
            return web.Response()

        async def tools(seen: Seen) -> web.StreamResponse:
            await peer.tell({"type": "tick", "n": 1})
            await peer.tell({"request_id": seen.id, "result": {"tools": [{"name": "a", "inputSchema": {}}]}})
            return web.Response()

        peer.handlers |= {"initialize": error, "tools/list": tools, "ping": error, "tools/call": plain_error}
        yield peer


async def test_rpc_dialect_speaks_the_wire_of_the_contract(rpc: RPCPeer) -> None:
    events: list[tuple[str, dict[str, Any]]] = []

    def told(_context: HandlerContext, method: str, params: dict[str, Any]) -> None:
        events.append((method, params))

    config = SSEConfig(f"{rpc.url}/api", dialect="rpc")
    async with SSEMCPClient("mine", config, handlers=Handlers(notification=told)) as client:
        assert [tool.name for tool in await client.list_tools()] == ["a"]
        assert await client.health_check()
        with pytest.raises(RPCError, match="it broke"):
            await client.call_tool("x")
        await rpc.streams[-1].write(b"data: no json\n\ndata:\n\n")
        await client.ping()
        assert client.metrics.skipped_messages == 1
    assert events == [("tick", {"type": "tick", "n": 1})]
    assert rpc.seen[0].http.path == "/api/connect"
    assert rpc.seen[0].body == {"client": "mine"}
    assert {seen.http.path for seen in rpc.seen[1:]} == {"/api/events", "/api/rpc"}


async def test_rpc_dialect_must_be_let_in(rpc: RPCPeer) -> None:
    @rpc.on("POST")
    async def refuse(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=403)

    client = client_of(rpc, dialect="rpc")
    assert await client.connect(retry_count=1) is False
    assert isinstance(client.last_error, HTTPStatusError)
    assert client.last_error.status == 403
