"""Streamable HTTP in both eras, against a server whose every answer the test decides; and the REST dialect."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from fastapi_server.mcp import (
    AuthenticationError,
    CallTimeoutError,
    ClientClosedError,
    ConnectionState,
    Delivery,
    Handlers,
    HandshakeError,
    HTTPConfig,
    HTTPMCPClient,
    HTTPStatusError,
    MCPConnectionError,
    MessageTooLargeError,
    OutcomeUnknownError,
    ProtocolError,
    RateLimitError,
    RPCError,
    SessionExpiredError,
)
from fastapi_server.mcp.clients import http_client, listener
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, event, http_peer


@pytest.fixture
async def peer(nothing_left: None) -> AsyncIterator[HTTPPeer]:
    async with http_peer() as started:
        yield started


@pytest.fixture
async def stateless(nothing_left: None) -> AsyncIterator[HTTPPeer]:
    async with http_peer(stateless=True) as started:
        yield started


def client_of(peer: HTTPPeer, **settings: Any) -> HTTPMCPClient:
    return HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp", **settings))


def posts(peer: HTTPPeer, method: str) -> list[Seen]:
    return [seen for seen in peer.seen if seen.http.method == "POST" and seen.method == method]


def text_of(result: Any) -> str:
    return result.content[0].text


CONTENT = {"content": [{"type": "text", "text": "done"}]}


# The session of the handshake era.


async def test_session_id_and_version_go_with_every_request_and_delete_ends_it(peer: HTTPPeer) -> None:
    async with client_of(peer) as client:
        await client.call_tool("x")
    calls = posts(peer, "tools/call") + posts(peer, "notifications/initialized")
    for seen in calls:
        assert seen.http.headers["Mcp-Session-Id"] == "s-1"
        assert seen.http.headers["MCP-Protocol-Version"] == "2025-11-25"
    (delete,) = [seen for seen in peer.seen if seen.http.method == "DELETE"]
    assert delete.http.headers["Mcp-Session-Id"] == "s-1"
    assert "Mcp-Session-Id" not in posts(peer, "initialize")[0].http.headers
    assert "MCP-Protocol-Version" not in posts(peer, "initialize")[0].http.headers


async def test_version_header_is_not_sent_to_revisions_that_lack_it(peer: HTTPPeer) -> None:
    @peer.on("initialize")
    async def old(seen: Seen) -> web.StreamResponse:
        return seen.json(
            {"protocolVersion": "2025-03-26", "capabilities": {}, "serverInfo": {"name": "o", "version": "1"}}
        )

    async with client_of(peer) as client:
        await client.call_tool("x")
    assert "MCP-Protocol-Version" not in posts(peer, "tools/call")[0].http.headers


async def test_no_stateless_headers_in_the_handshake_era(peer: HTTPPeer) -> None:
    async with client_of(peer) as client:
        await client.call_tool("x")
    assert "Mcp-Method" not in posts(peer, "tools/call")[0].http.headers
    assert "_meta" not in posts(peer, "tools/call")[0].body["params"]


async def test_an_expired_session_is_told_and_renewed_by_the_next_call(peer: HTTPPeer) -> None:
    expired = {"s-1"}

    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        if seen.http.headers["Mcp-Session-Id"] in expired:
            return web.json_response(
                {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Session not found"}}, status=404
            )
        return seen.json(CONTENT)

    async with client_of(peer, retries=0) as client:
        with pytest.raises(SessionExpiredError) as caught:
            await client.call_tool("x")
        assert caught.value.delivery is Delivery.REJECTED
        assert client.state is ConnectionState.ERROR
        expired.clear()
        assert text_of(await client.call_tool("x")) == "done"
    assert len(posts(peer, "server/discover")) == 1
    assert len(posts(peer, "initialize")) == 2


async def test_a_404_for_an_unknown_method_is_no_expired_session(peer: HTTPPeer) -> None:
    @peer.on("prompts/list")
    async def unknown(seen: Seen) -> web.StreamResponse:
        return seen.error(-32601, "Method not found", status=404)

    async with client_of(peer) as client:
        with pytest.raises(RPCError) as caught:
            await client.list_prompts()
        assert caught.value.code == -32601
        assert client.state is ConnectionState.CONNECTED


async def test_the_get_stream_brings_what_belongs_to_no_call(peer: HTTPPeer) -> None:
    @peer.on("GET")
    async def stream(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        await response.write(event({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}))
        await asyncio.sleep(60)
        return response

    async with client_of(peer) as client, await client.listen(tools=True, timeout=5) as changes:
        change = await anext(changes)
        assert change.kind == "tools"


async def test_what_was_listed_before_the_get_stream_was_open_may_have_changed(peer: HTTPPeer) -> None:
    """And what was listed before it broke; of what nobody has listed, nothing is told."""
    listed, broken = asyncio.Event(), asyncio.Event()
    told = asyncio.Queue[str]()

    @peer.on("initialize")
    async def initialize(seen: Seen) -> web.StreamResponse:
        offers = {"tools": {"listChanged": True}, "prompts": {"listChanged": True}}
        info = {"name": "peer", "version": "0"}
        return seen.json({"protocolVersion": "2025-11-25", "capabilities": offers, "serverInfo": info})

    @peer.on("GET")
    async def stream(seen: Seen) -> web.StreamResponse:
        await listed.wait()
        response = await seen.stream()
        await response.write(b"retry: 1\n\n")
        await (asyncio.sleep(60) if broken.is_set() else broken.wait())
        return response

    handlers = Handlers(list_changed=lambda _context, kind: told.put_nowait(kind))
    async with HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp"), handlers=handlers) as client:
        await client.list_tools()
        listed.set()
        assert await told.get() == "tools"
        async with await client.listen(tools=True) as changes:
            broken.set()
            assert await told.get() == "tools"
            assert (await anext(changes)).kind == "tools"
        assert told.empty()


async def test_what_was_listed_before_the_server_agreed_to_tell_may_have_changed(stateless: HTTPPeer) -> None:
    listed = asyncio.Event()
    told = asyncio.Queue[str]()

    @stateless.on("subscriptions/listen")
    async def listen(seen: Seen) -> web.StreamResponse:
        await listed.wait()
        meta = {"io.modelcontextprotocol/subscriptionId": seen.id}
        params = {"_meta": meta, "notifications": seen.body["params"]["notifications"]}
        response = await seen.stream()
        method = "notifications/subscriptions/acknowledged"
        await response.write(event({"jsonrpc": "2.0", "method": method, "params": params}))
        await asyncio.sleep(60)
        return response

    handlers = Handlers(list_changed=lambda _context, kind: told.put_nowait(kind))
    async with HTTPMCPClient("peer", HTTPConfig(f"{stateless.url}/mcp"), handlers=handlers) as client:
        await client.list_tools()
        listed.set()
        assert await told.get() == "tools"


async def test_a_server_that_has_not_noticed_that_the_get_stream_broke_is_asked_again(
    peer: HTTPPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "backoff_delays", lambda attempts: iter([0.0] * attempts))
    again = asyncio.Event()

    @peer.on("GET")
    async def stream(seen: Seen) -> web.StreamResponse:
        count = peer.methods().count("GET")
        if count == 2:
            return web.Response(status=409)
        response = await seen.stream()
        if count > 2:
            again.set()
            await asyncio.sleep(60)
        return response

    async with client_of(peer), asyncio.timeout(10):
        await again.wait()


async def test_nobody_waits_for_a_get_stream_that_is_never_opened(
    peer: HTTPPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_HEARING_SECONDS", 0.1)
    opened = asyncio.Event()

    @peer.on("GET")
    async def stream(seen: Seen) -> web.StreamResponse:
        await opened.wait()
        response = await seen.stream()
        await asyncio.sleep(60)
        return response

    async with client_of(peer) as client, await client.listen(tools=True) as changes:
        opened.set()
        assert (await anext(changes)).kind == "tools"  # it may have changed meanwhile


async def test_the_get_stream_is_opened_again_with_the_last_event_id(peer: HTTPPeer) -> None:
    again = asyncio.Event()

    @peer.on("GET")
    async def stream(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        if "Last-Event-ID" in seen.http.headers:
            again.set()
            await asyncio.sleep(60)
        await response.write(event({"jsonrpc": "2.0", "method": "notifications/x"}, id="e-7", retry=10))
        return response

    async with client_of(peer):
        async with asyncio.timeout(5):
            await again.wait()
    assert peer.seen[-2].http.headers["Last-Event-ID"] == "e-7"


async def test_a_server_that_breaks_the_get_stream_for_ever_is_asked_a_bounded_number_of_times(peer: HTTPPeer) -> None:
    @peer.on("GET")
    async def stream(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        await response.write(b"retry: 1\n\n")
        return response

    async with client_of(peer) as client:
        async with asyncio.timeout(5):
            while len([seen for seen in peer.seen if seen.http.method == "GET"]) < 6:
                await asyncio.sleep(0.01)
        await client.ping()
        await asyncio.sleep(0.05)
        assert len([seen for seen in peer.seen if seen.http.method == "GET"]) == 6


# Event-stream replies.


async def test_an_event_stream_reply_with_notifications(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        token = seen.body["params"]["_meta"]["progressToken"]
        for done in (1, 2):
            params = {"progressToken": token, "progress": done}
            await response.write(event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))
        await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": CONTENT}))
        return response

    progress: list[float] = []
    async with client_of(peer) as client:
        result = await client.call_tool("x", progress=lambda done, _total, _message: progress.append(done))
    assert text_of(result) == "done"
    assert progress == [1.0, 2.0]


async def test_event_streams_are_read_to_their_end_so_the_connection_is_used_again(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": CONTENT}))
        await asyncio.sleep(0.01)
        return response

    @peer.on("initialize")
    async def without_session(seen: Seen) -> web.StreamResponse:
        return seen.json(
            {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "o", "version": "1"}}
        )

    async with client_of(peer) as client:
        await client.ping()
        before = len(peer.connections)
        for _ in range(5):
            await client.call_tool("x")
        assert len(peer.connections) == before


class Streams:
    """Replies in streams that stay open for as long as the server keeps them so."""

    def __init__(self, peer: HTTPPeer) -> None:
        self.ending = asyncio.Event()
        peer.on("tools/call")(self._reply)

    async def _reply(self, seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": CONTENT}))
        await self.ending.wait()
        return response


@pytest.mark.parametrize("callers", [1, 8])
async def test_a_server_that_leaves_its_streams_open_is_given_a_moment_three_times(
    peer: HTTPPeer, monkeypatch: pytest.MonkeyPatch, callers: int
) -> None:
    Streams(peer)
    async with client_of(peer) as client:
        monkeypatch.setattr(http_client, "_LINGER_SECONDS", 0.01)
        for _ in range(3):
            await asyncio.gather(*(client.call_tool("x") for _ in range(callers)))
        monkeypatch.setattr(http_client, "_LINGER_SECONDS", 3_600)
        for _ in range(3):
            assert text_of(await client.call_tool("x", timeout=30)) == "done"


async def test_a_server_that_was_only_slow_to_end_its_streams_has_its_connections_kept_again(
    peer: HTTPPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = Streams(peer)
    monkeypatch.setattr(http_client, "_LINGER_PAUSE_SECONDS", 0)
    async with client_of(peer) as client:
        monkeypatch.setattr(http_client, "_LINGER_SECONDS", 0.01)
        for _ in range(3):
            await client.call_tool("x")
        monkeypatch.setattr(http_client, "_LINGER_SECONDS", 3_600)
        streams.ending.set()
        await client.call_tool("x")
        before = len(peer.connections)
        for _ in range(5):
            await client.call_tool("x")
        assert len(peer.connections) == before


async def test_a_stream_that_ends_early_is_resumed(peer: HTTPPeer) -> None:
    waiting: list[Any] = []

    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        waiting.append(seen.id)
        response = await seen.stream()
        await response.write(event(None, id="e-1", retry=20))
        return response

    @peer.on("GET")
    async def resume(seen: Seen) -> web.StreamResponse:
        if "Last-Event-ID" not in seen.http.headers:
            return web.Response(status=405)
        response = await seen.stream()
        if seen.http.headers["Last-Event-ID"] == "e-1":
            await response.write(event(None, id="e-2", retry=20))
        else:
            await response.write(event({"jsonrpc": "2.0", "id": waiting[0], "result": CONTENT}, id="e-3"))
        return response

    async with client_of(peer) as client:
        assert text_of(await client.call_tool("x")) == "done"


async def test_a_stream_that_cannot_be_resumed_fails_its_call_as_unknown(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        if seen.body["params"]["name"] == "with-id":
            await response.write(event(None, id="e-1", retry=1))
        return response

    async with client_of(peer) as client:
        with pytest.raises(MCPConnectionError, match="could not be resumed") as caught:
            await client.call_tool("with-id")
        assert caught.value.delivery is Delivery.UNKNOWN
        with pytest.raises(MCPConnectionError, match="ended before the result"):
            await client.call_tool("without-id")
        assert await client.health_check()


async def test_a_stream_resumed_for_ever_is_given_up(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        await response.write(event(None, id="e-1", retry=1))
        return response

    @peer.on("GET")
    async def resume(seen: Seen) -> web.StreamResponse:
        if "Last-Event-ID" not in seen.http.headers:
            return web.Response(status=405)
        return await seen.stream()

    async with client_of(peer) as client:
        with pytest.raises(MCPConnectionError, match="broke 5 times"):
            await client.call_tool("x")


async def test_a_question_on_the_stream_of_a_call_is_answered_by_a_post(peer: HTTPPeer) -> None:
    answered: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()

    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        await response.write(event({"jsonrpc": "2.0", "id": "q", "method": "ping"}))
        answer = await answered
        await response.write(
            event({"jsonrpc": "2.0", "id": seen.id, "result": {"content": []}, "x": answer.body["id"]})
        )
        return response

    @peer.on("POST")
    async def answer(seen: Seen) -> web.StreamResponse:
        answered.set_result(seen)
        return web.Response(status=202)

    async with client_of(peer) as client:
        await client.call_tool("x")
    assert answered.result().body == {"jsonrpc": "2.0", "id": "q", "result": {}}


# What a reply may not be.


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (web.Response, "HTTP 202"),
        (
            lambda: web.Response(text="<html>Sign in</html>", content_type="text/html"),
            "the server sent text/html: <html>",
        ),
        (lambda: web.Response(text="{", content_type="application/json"), "not a JSON-RPC message"),
        (lambda: web.Response(text="", content_type="application/json"), "not a JSON-RPC message"),
        (lambda: web.json_response({"jsonrpc": "2.0", "id": 4711, "result": {}}), "holds no reply to it"),
        (lambda: web.json_response({"jsonrpc": "2.0", "id": 1}), "no method, no result"),
    ],
)
async def test_what_is_no_reply_is_named(peer: HTTPPeer, response: Any, expected: str) -> None:
    @peer.on("tools/call")
    async def call(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=202) if response is web.Response else response()

    async with client_of(peer) as client:
        with pytest.raises(ProtocolError, match=expected):
            await client.call_tool("x")
        assert await client.health_check()


async def test_junk_in_a_stream_is_skipped(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        await response.write(b": a comment\n\ndata: no json\n\nevent: other\ndata: {}\n\n")
        await response.write(event({"jsonrpc": "2.0", "id": 999, "result": {}}))
        await response.write(event({"jsonrpc": "2.0", "id": str(seen.id), "result": CONTENT}))
        return response

    async with client_of(peer) as client:
        assert text_of(await client.call_tool("x")) == "done"
        assert client.metrics.skipped_messages == 1
        assert client.metrics.unmatched_replies == 1
        assert client.metrics.coerced_replies == 1


async def test_a_reply_over_the_cap_is_refused_compressed_or_not(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        body = json.dumps({"jsonrpc": "2.0", "id": seen.id, "result": {"content": [], "x": "0" * 1_000_000}}).encode()
        if seen.body["params"]["name"] == "bomb":
            headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
            return web.Response(body=gzip.compress(body), headers=headers)
        if seen.body["params"]["name"] == "stream":
            response = await seen.stream()
            await response.write(b"data: " + body + b"\n\n")
            return response
        return web.Response(body=body, content_type="application/json")

    async with client_of(peer, max_message_bytes=100_000) as client:
        for name in ("plain", "bomb", "stream"):
            with pytest.raises(MessageTooLargeError, match="max_message_bytes = 100,000"):
                await client.call_tool(name)
        assert await client.health_check()


# Statuses.


@pytest.mark.parametrize(
    ("status", "kind", "delivery"),
    [
        (400, HTTPStatusError, Delivery.REJECTED),
        (401, AuthenticationError, Delivery.REJECTED),
        (403, AuthenticationError, Delivery.REJECTED),
        (413, HTTPStatusError, Delivery.REJECTED),
        (429, RateLimitError, Delivery.REJECTED),
        (500, HTTPStatusError, Delivery.UNKNOWN),
        (502, OutcomeUnknownError, Delivery.UNKNOWN),
        (503, HTTPStatusError, Delivery.REJECTED),
    ],
)
async def test_an_http_error_has_its_type_status_and_body(
    peer: HTTPPeer, status: int, kind: type[MCPConnectionError], delivery: Delivery
) -> None:
    @peer.on("tools/call")
    async def call(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=status, text="because")

    async with client_of(peer) as client:
        with pytest.raises(ConnectionError) as caught:
            await client.call_tool("x")
        error = caught.value
        assert type(error) is kind
        failure = error.__cause__ if isinstance(error, OutcomeUnknownError) else error
        assert isinstance(failure, HTTPStatusError)
        assert (failure.status, failure.body, failure.delivery) == (status, "because", delivery)
        assert f"HTTP {status}" in str(error)
        assert "server 'peer' (http): " in str(error)


@pytest.mark.parametrize("status", [200, 400, 404, 500])
async def test_a_json_rpc_error_in_the_body_is_the_reply(peer: HTTPPeer, status: int) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        return seen.error(-32601, "no such tool", {"hint": 1}, status=status)

    async with client_of(peer) as client:
        with pytest.raises(RPCError, match="no such tool") as caught:
            await client.call_tool("x")
        assert (caught.value.code, caught.value.data) == (-32601, {"hint": 1})


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [("7", 7, 7), ("Fri, 01 Jan 2100 00:00:00 GMT", 1e9, 1e10), ("soon", None, None), ("", None, None)],
)
async def test_retry_after_in_both_forms(peer: HTTPPeer, value: str, least: float | None, most: float | None) -> None:
    @peer.on("tools/call")
    async def call(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": value})

    async with client_of(peer, retries=0) as client:
        with pytest.raises(RateLimitError) as caught:
            await client.call_tool("x")
    after = caught.value.retry_after
    if least is None or most is None:
        assert after is None
    else:
        assert after is not None
        assert least <= after <= most


async def test_a_notification_that_is_refused_says_so(peer: HTTPPeer) -> None:
    @peer.on("notifications/x")
    async def refuse(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=400, text="no")

    async with client_of(peer) as client:
        await client.notify("notifications/fine")
        with pytest.raises(HTTPStatusError, match="HTTP 400"):
            await client.notify("notifications/x")


# Credentials.


async def test_api_key_is_a_bearer_token_and_headers_go_with_every_request(peer: HTTPPeer) -> None:
    async with client_of(peer, api_key="k-123456", headers={"X-Tenant": "a"}) as client:
        await client.call_tool("x")
    assert {seen.http.headers["Authorization"] for seen in peer.seen} == {"Bearer k-123456"}
    assert {seen.http.headers["X-Tenant"] for seen in peer.seen} == {"a"}


async def test_headers_may_come_from_a_coroutine_asked_per_request(peer: HTTPPeer) -> None:
    asked = iter(range(100))

    async def headers() -> dict[str, str]:
        return {"Authorization": f"Bearer t-{next(asked)}"}

    async with client_of(peer, headers=headers) as client:
        await client.call_tool("x")
        await client.call_tool("x")
    first, second = (seen.http.headers["Authorization"] for seen in posts(peer, "tools/call"))
    assert first != second


async def test_a_callable_for_headers_that_fails_was_not_sent(peer: HTTPPeer) -> None:
    async def headers() -> dict[str, str]:
        raise KeyError("vault")

    client = client_of(peer, headers=headers)
    assert await client.connect(retry_count=1) is False
    assert str(client.last_error).endswith("the callable that provides the headers failed: KeyError")
    assert isinstance(getattr(client.last_error, "__cause__", None), KeyError)
    assert peer.seen == []


async def test_a_secret_that_the_server_echoes_is_not_in_the_error(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        return web.Response(status=401, text=f"bad token {seen.http.headers['Authorization']}")

    async with client_of(peer, api_key="planted-secret") as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.call_tool("x")
    assert "planted" not in str(caught.value) + repr(caught.value) + caught.value.body
    assert "bad token ***" in str(caught.value)


async def test_wrong_credentials_fail_the_connection_without_a_retry(peer: HTTPPeer) -> None:
    @peer.on("server/discover")
    async def refuse(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=401)

    client = client_of(peer)
    assert await client.connect() is False
    assert isinstance(client.last_error, AuthenticationError)
    assert peer.methods() == ["server/discover"]


async def test_cookies_stay_with_their_client(peer: HTTPPeer) -> None:
    @peer.on("initialize")
    async def with_cookie(seen: Seen) -> web.StreamResponse:
        response = HTTPPeer().default(seen)
        response.set_cookie("route", "node-3")
        return response

    async with client_of(peer) as one:
        await one.call_tool("x")
        assert posts(peer, "tools/call")[0].http.cookies == {"route": "node-3"}
        peer.handlers.clear()
        async with client_of(peer) as other:
            await other.call_tool("y")
            assert posts(peer, "tools/call")[1].http.cookies == {}


@pytest.mark.parametrize("status", [307, 308])
async def test_redirects_within_the_origin_are_followed(peer: HTTPPeer, status: int) -> None:
    @peer.on("/mcp")
    async def moved(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": "/mcp/"})

    for method in ("server/discover", "initialize", "notifications/initialized", "tools/call", "GET", "DELETE"):

        @peer.on(method)
        async def answer(seen: Seen) -> web.StreamResponse:
            return await moved(seen) if seen.http.path == "/mcp" else peer.default(seen)

    async with client_of(peer, api_key="k-123456") as client:
        assert text_of(await client.call_tool("x", {"a": 1})) == '{"a": 1}'


async def test_a_redirect_to_another_origin_is_refused_and_gets_no_credential(peer: HTTPPeer) -> None:
    async with http_peer() as elsewhere:

        @peer.on("server/discover")
        async def away(_seen: Seen) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"{elsewhere.url}/mcp"})

        peer.handlers["initialize"] = away
        client = client_of(peer, api_key="k-123456")
        assert await client.connect(retry_count=1) is False
        assert "redirects to another origin" in str(client.last_error)
        assert elsewhere.seen == []


async def test_a_redirect_that_would_turn_a_post_into_a_get_is_refused(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def away(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/other"})

    async with client_of(peer) as client:
        with pytest.raises(HTTPStatusError, match="turn it into a GET"):
            await client.call_tool("x")


async def test_redirects_in_a_circle_end(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def around(seen: Seen) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": str(seen.http.rel_url)})

    async with client_of(peer) as client:
        with pytest.raises(HTTPStatusError, match="more than 5 redirects"):
            await client.call_tool("x")


# Connections.


async def test_a_refused_connection_was_not_sent(unused_tcp_port: int) -> None:
    client = HTTPMCPClient("gone", HTTPConfig(f"http://127.0.0.1:{unused_tcp_port}/mcp"))
    assert await client.connect(retry_count=1) is False
    assert isinstance(client.last_error, MCPConnectionError)
    assert client.last_error.delivery is Delivery.NOT_SENT
    assert "cannot connect to http://127.0.0.1" in str(client.last_error)


async def test_an_unknown_host_is_named() -> None:
    client = HTTPMCPClient("gone", HTTPConfig("http://no-such-host.invalid/mcp"))
    assert await client.connect(retry_count=1) is False
    assert "cannot find the host" in str(client.last_error)


async def test_a_connection_that_breaks_before_the_reply_is_unknown(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        assert seen.http.transport is not None
        seen.http.transport.abort()
        return web.Response()

    async with client_of(peer) as client:
        with pytest.raises(MCPConnectionError, match="broke") as caught:
            await client.call_tool("x")
        assert caught.value.delivery is Delivery.UNKNOWN
        assert await client.health_check()


async def test_retry_succeeds_after_failures(peer: HTTPPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([503, 503])

    @peer.on("server/discover")
    async def flaky(seen: Seen) -> web.StreamResponse:
        status = next(failures, None)
        return peer.default(seen) if status is None else web.Response(status=status)

    monkeypatch.setattr("fastapi_server.mcp.clients.connector.backoff_delays", lambda attempts: iter([0.0] * attempts))
    client = client_of(peer)
    assert await client.connect(retry_count=3) is True
    assert peer.methods()[:3] == ["server/discover"] * 3
    await client.disconnect()


async def test_closing_fails_the_calls_in_flight_at_once_and_still_ends_the_session(peer: HTTPPeer) -> None:
    arrived = asyncio.Event()

    @peer.on("tools/call")
    async def call(_seen: Seen) -> web.StreamResponse:
        arrived.set()
        await asyncio.sleep(60)
        return web.Response()

    client = client_of(peer)
    await client.connect()
    waiting = asyncio.create_task(client.call_tool("x"))
    await arrived.wait()
    await client.disconnect()
    with pytest.raises(ClientClosedError):
        await waiting
    assert peer.methods()[-1] == "DELETE"


async def test_cancelling_posts_a_notice_in_the_handshake_era(peer: HTTPPeer) -> None:
    arrived, told = asyncio.Event(), asyncio.Event()

    @peer.on("tools/call")
    async def call(_seen: Seen) -> web.StreamResponse:
        arrived.set()
        await asyncio.sleep(60)
        return web.Response()

    @peer.on("notifications/cancelled")
    async def cancelled(_seen: Seen) -> web.StreamResponse:
        told.set()
        return web.Response(status=202)

    async with client_of(peer) as client:
        waiting = asyncio.create_task(client.call_tool("x"))
        await arrived.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with asyncio.timeout(5):
            await told.wait()
        (notice,) = posts(peer, "notifications/cancelled")
        assert notice.body["params"]["requestId"] == posts(peer, "tools/call")[0].id
        assert await client.health_check()


# The stateless era.


async def test_stateless_requests_carry_everything(stateless: HTTPPeer) -> None:
    async with client_of(stateless) as client:
        await client.call_tool("grüß", {"a": 1})
    (call,) = posts(stateless, "tools/call")
    assert call.http.headers["MCP-Protocol-Version"] == "2026-07-28"
    assert call.http.headers["Mcp-Method"] == "tools/call"
    assert call.http.headers["Mcp-Name"] == "=?base64?Z3LDvMOf?="
    meta = call.body["params"]["_meta"]
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert meta["io.modelcontextprotocol/clientInfo"]["name"] == "mcp-client-factory"
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {}
    assert stateless.methods() == ["server/discover", "tools/call"]


async def test_cancelling_closes_the_stream_in_the_stateless_era(stateless: HTTPPeer) -> None:
    arrived = asyncio.Event()

    @stateless.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        arrived.set()
        await asyncio.sleep(60)
        return response

    async with client_of(stateless) as client:
        with pytest.raises(CallTimeoutError):
            await client.call_tool("x", timeout=0.2)
        async with asyncio.timeout(5):
            await stateless.gone.wait()
        assert "notifications/cancelled" not in stateless.methods()
        assert await client.health_check()


TOOL = {
    "name": "query",
    "inputSchema": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
}
INVALID = {"name": "bad", "inputSchema": {"properties": {"n": {"type": "number", "x-mcp-header": "N"}}}}


async def test_annotated_arguments_are_mirrored_into_headers(stateless: HTTPPeer) -> None:
    @stateless.on("tools/list")
    async def tools(seen: Seen) -> web.StreamResponse:
        return seen.json({"tools": [TOOL]})

    async with client_of(stateless) as client:
        await client.list_tools()
        await client.call_tool("query", {"region": "zürich"})
        await client.call_tool("query", {})
    with_region, without = posts(stateless, "tools/call")
    assert with_region.http.headers["Mcp-Param-Region"] == "=?base64?esO8cmljaA==?="
    assert "Mcp-Param-Region" not in without.http.headers


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
async def test_an_annotation_is_found_however_it_is_written_and_on_whichever_page(
    stateless: HTTPPeer, content_type: str
) -> None:
    @stateless.on("tools/list")
    async def tools(seen: Seen) -> web.StreamResponse:
        first = "cursor" not in seen.body["params"]
        page = {"tools": [TOOL], "nextCursor": "2"} if first else {"tools": [{**TOOL, "name": "other"}]}
        text = json.dumps({"jsonrpc": "2.0", "id": seen.id, "result": page})
        text = text.replace("x-mcp-header", r"x-mcp-\u0068eader") if first else text.replace("x-mcp-header", "title")
        if content_type == "text/event-stream":
            text = f"data: {text}\n\n"
        return web.Response(text=text, content_type=content_type)

    async with client_of(stateless) as client:
        await client.list_tools()
        await client.call_tool("query", {"region": "eu"})
        await client.call_tool("other", {"region": "eu"})
    with_region, without = posts(stateless, "tools/call")
    assert with_region.http.headers["Mcp-Param-Region"] == "eu"
    assert "Mcp-Param-Region" not in without.http.headers


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (b'{"tools": [{"name": 7, "inputSchema": {}}]}', r"malformed: tools\.0\.name"),
        (b'{"tools": 7}', "malformed: tools"),
        (b"[]", "malformed"),
        (b'{"resultType": "input_required", "requestState": "x", "tools": []}', "resultType that it must not have"),
        (b'{"resultType": "other", "tools": []}', "resultType that it must not have: 'other'"),
        (b'{"tools": [], "more": "\xff"}', "malformed|cannot be read|not a JSON-RPC message"),
        (b'{"tools": [], "more": NaN}', "cannot be read|not a JSON-RPC message"),
        (b'{"tools": [' + b"[" * 5_000 + b"]" * 5_000 + b"]}", "malformed|cannot be read|not a JSON-RPC message"),
    ],
)
async def test_a_list_that_is_none_is_refused(
    stateless: HTTPPeer, content_type: str, result: bytes, expected: str
) -> None:
    @stateless.on("tools/list")
    async def tools(seen: Seen) -> web.StreamResponse:
        body = b'{"jsonrpc": "2.0", "id": %d, "result": %b}' % (seen.id, result)
        if content_type == "text/event-stream":
            body = b"data: " + body + b"\n\n"
        return web.Response(body=body, content_type=content_type)

    async with client_of(stateless) as client:
        with pytest.raises(ProtocolError, match=expected) as refused:
            await client.list_tools()
        assert refused.value.server == "peer"
        assert await client.health_check()


async def test_tools_with_an_invalid_annotation_are_left_out_with_a_warning(
    stateless: HTTPPeer, peer: HTTPPeer, caplog: pytest.LogCaptureFixture
) -> None:
    async def tools(seen: Seen) -> web.StreamResponse:
        return seen.json({"tools": [TOOL, INVALID]})

    stateless.handlers["tools/list"] = peer.handlers["tools/list"] = tools
    async with client_of(stateless) as client:
        assert [tool.name for tool in await client.list_tools()] == ["query"]
    assert "tool 'bad' is left out" in caplog.text
    async with client_of(peer) as client:
        assert len(await client.list_tools()) == 2


async def test_a_header_mismatch_is_answered_by_listing_again_and_one_resend(stateless: HTTPPeer) -> None:
    @stateless.on("tools/list")
    async def tools(seen: Seen) -> web.StreamResponse:
        return seen.json({"tools": [TOOL], "ttlMs": 60_000})

    @stateless.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        if "Mcp-Param-Region" not in seen.http.headers:
            return seen.error(-32020, "Header mismatch", status=400)
        return seen.json(CONTENT)

    async with client_of(stateless) as client:
        assert text_of(await client.call_tool("query", {"region": "eu"})) == "done"
    assert stateless.methods() == ["server/discover", "tools/call", "tools/list", "tools/call"]


async def test_a_second_header_mismatch_is_raised(stateless: HTTPPeer) -> None:
    @stateless.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        return seen.error(-32020, "Header mismatch", status=400)

    async with client_of(stateless) as client:
        with pytest.raises(RPCError) as caught:
            await client.call_tool("query")
    assert caught.value.code == -32020
    assert stateless.methods().count("tools/call") == 2


@pytest.mark.parametrize("code", [-32020, -32021])
async def test_a_recognised_error_on_the_probe_never_falls_back(peer: HTTPPeer, code: int) -> None:
    @peer.on("server/discover")
    async def refuse(seen: Seen) -> web.StreamResponse:
        return seen.error(code, "no", status=400)

    client = client_of(peer)
    assert await client.connect() is False
    assert isinstance(client.last_error, HandshakeError)
    assert peer.methods() == ["server/discover"]


async def test_a_server_that_names_the_revision_it_refused_is_asked_twice(stateless: HTTPPeer) -> None:
    refused = iter([True])

    @stateless.on("server/discover")
    async def discover(seen: Seen) -> web.StreamResponse:
        if next(refused, False):
            return seen.error(-32022, "Unsupported", {"supported": ["2026-07-28"]}, status=400)
        return stateless.default(seen)

    async with client_of(stateless):
        assert stateless.methods() == ["server/discover"] * 2


@pytest.mark.parametrize("status", [400, 404, 405, 406, 500])
async def test_any_other_refusal_of_the_probe_falls_back(peer: HTTPPeer, status: int) -> None:
    @peer.on("server/discover")
    async def refuse(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=status, text="Bad Request")

    async with client_of(peer) as client:
        assert client.server_info is not None
        assert client.server_info.protocol_version == "2025-11-25"


async def test_an_unavailable_server_says_nothing_of_its_era(peer: HTTPPeer) -> None:
    @peer.on("server/discover")
    async def refuse(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=503)

    client = client_of(peer)
    assert await client.connect(retry_count=1) is False
    assert peer.methods() == ["server/discover"]


# The REST dialect.


@pytest.fixture
async def rest(peer: HTTPPeer) -> HTTPPeer:
    def answer(path: str, make: Any, status: int = 200) -> None:
        async def handler(seen: Seen) -> web.StreamResponse:
            return web.json_response(make(seen), status=status)

        peer.handlers[path] = handler

    peer.handlers["GET"] = peer.handlers["POST"] = lambda seen: peer.handlers[seen.http.path](seen)
    answer("/mcp/health", lambda _: {"status": "ok"})
    answer("/mcp/initialize", lambda _: {"sessionId": "r-1", "serverInfo": {"name": "rest", "version": "3"}})
    answer("/mcp/tools/list", lambda _: {"tools": [{"name": "a", "inputSchema": {}}]})
    answer("/mcp/tools/a b/call", lambda seen: {"result": seen.body["arguments"]})
    answer("/mcp/tools/text/call", lambda _: {"result": CONTENT})
    answer("/mcp/resources/list", lambda _: [{"uri": "x://1", "name": "one"}])
    answer("/mcp/resources/read", lambda seen: {"result": {"contents": [{"uri": seen.body["uri"], "text": "t"}]}})
    return peer


async def test_rest_dialect_speaks_the_wire_of_the_contract(rest: HTTPPeer) -> None:
    async with client_of(rest, dialect="rest", api_key="k-123456") as client:
        assert client.server_info is not None
        assert client.server_info.name == "rest"
        assert [tool.name for tool in await client.list_tools()] == ["a"]
        assert (await client.call_tool("a b", {"n": 1})).structured_content == {"n": 1}
        assert text_of(await client.call_tool("text")) == "done"
        assert [resource.name for resource in await client.list_resources()] == ["one"]
        contents = (await client.read_resource("x://1")).contents[0]
        assert contents.uri == "x://1"
        assert await client.health_check()
        with pytest.raises(RPCError, match="the rest dialect has no prompts/list"):
            await client.list_prompts()
    assert rest.seen[0].http.path == "/mcp/health"
    for seen in rest.seen[2:]:
        where = seen.http.query if seen.http.method == "GET" else seen.body
        assert where["session_id"] == "r-1"
        assert seen.http.headers["Authorization"] == "Bearer k-123456"


async def test_rest_dialect_needs_a_healthy_server(rest: HTTPPeer) -> None:
    async def sick(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=500)

    rest.handlers["/mcp/health"] = sick
    client = client_of(rest, dialect="rest")
    assert await client.connect(retry_count=1) is False
    assert isinstance(client.last_error, HTTPStatusError)


async def test_rest_dialect_lives_without_initialize_and_maps_statuses(rest: HTTPPeer) -> None:
    async def missing(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=404)

    async def limited(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=429)

    async def no_json(_seen: Seen) -> web.StreamResponse:
        return web.Response(text="oops")

    rest.handlers["/mcp/initialize"] = missing
    rest.handlers["/mcp/tools/list"] = limited
    rest.handlers["/mcp/resources/list"] = no_json
    async with client_of(rest, dialect="rest") as client:
        with pytest.raises(RateLimitError):
            await client.list_tools()
        with pytest.raises(ProtocolError, match="expected JSON"):
            await client.list_resources()


# Rare turns.


async def test_a_stream_that_breaks_is_unknown_or_resumed(peer: HTTPPeer) -> None:
    broken: list[Any] = []

    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        broken.append(seen.id)
        response = await seen.stream()
        if seen.body["params"]["name"] == "resumable":
            await response.write(event(None, id="e-1", retry=1))
        else:
            await response.write(b": begun\n\n")
        assert seen.http.transport is not None
        seen.http.transport.abort()
        return response

    @peer.on("GET")
    async def resume(seen: Seen) -> web.StreamResponse:
        if "Last-Event-ID" not in seen.http.headers:
            return web.Response(status=405)
        response = await seen.stream()
        await response.write(event({"jsonrpc": "2.0", "id": broken[-1], "result": CONTENT}))
        return response

    async with client_of(peer) as client:
        assert text_of(await client.call_tool("resumable")) == "done"
        with pytest.raises(MCPConnectionError, match="broke") as caught:
            await client.call_tool("not resumable")
        assert caught.value.delivery is Delivery.UNKNOWN


async def test_a_body_that_breaks_is_unknown(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        headers = {"Content-Type": "application/json", "Content-Length": "1000"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(seen.http)
        await response.write(b'{"jsonrpc"')
        assert seen.http.transport is not None
        seen.http.transport.abort()
        return response

    async with client_of(peer) as client:
        with pytest.raises(MCPConnectionError) as caught:
            await client.call_tool("x")
        assert caught.value.delivery is Delivery.UNKNOWN


async def test_a_connection_that_breaks_after_the_reply_does_no_harm(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": CONTENT}))
        await asyncio.sleep(0.01)
        assert seen.http.transport is not None
        seen.http.transport.abort()
        return response

    async with client_of(peer) as client:
        assert text_of(await client.call_tool("x")) == "done"
        assert text_of(await client.call_tool("x")) == "done"


async def test_a_header_that_cannot_be_sent_was_not_sent(peer: HTTPPeer) -> None:
    client = client_of(peer, headers={"X-Bad": "a\r\nInjected: 1"})
    assert await client.connect(retry_count=1) is False
    assert client.last_error is not None
    assert client.last_error.delivery is Delivery.NOT_SENT
    assert "cannot send the request" in str(client.last_error)


async def test_an_unknown_certificate_is_not_trusted() -> None:
    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # no TLS at all
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = HTTPMCPClient("tls", HTTPConfig(f"https://127.0.0.1:{port}/mcp"))
    assert await client.connect(retry_count=1) is False
    assert "cannot trust https://127.0.0.1" in str(client.last_error)
    server.close()
    await server.wait_closed()


async def test_replies_and_questions_on_the_get_stream(peer: HTTPPeer) -> None:
    answered = asyncio.Event()

    @peer.on("GET")
    async def stream(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        await response.write(b"data:\n\n" + event({"jsonrpc": "2.0", "id": 999, "result": {}}))
        await response.write(event({"jsonrpc": "2.0", "id": "q", "method": "ping"}))
        await asyncio.sleep(60)
        return response

    @peer.on("POST")
    async def answer(_seen: Seen) -> web.StreamResponse:
        answered.set()
        return web.Response(status=202)

    async with client_of(peer) as client:
        async with asyncio.timeout(5):
            await answered.wait()
        assert client.metrics.unmatched_replies == 1


async def test_a_session_that_cannot_be_ended_is_dropped(peer: HTTPPeer) -> None:
    @peer.on("DELETE")
    async def break_off(seen: Seen) -> web.StreamResponse:
        assert seen.http.transport is not None
        seen.http.transport.abort()
        return web.Response()

    async with client_of(peer):
        pass
    assert peer.methods()[-1] == "DELETE"


@pytest.mark.parametrize("result", [{}, [], {"supportedVersions": "all"}, {"supportedVersions": [1]}])
async def test_a_discover_result_of_another_shape(peer: HTTPPeer, result: Any) -> None:
    @peer.on("server/discover")
    async def discover(seen: Seen) -> web.StreamResponse:
        return seen.json(result)

    client = client_of(peer)
    connected = await client.connect(retry_count=1)
    assert connected is (result != {"supportedVersions": [1]})
    await client.disconnect()


async def test_malformed_capabilities_are_named(peer: HTTPPeer) -> None:
    @peer.on("initialize")
    async def initialize(seen: Seen) -> web.StreamResponse:
        return seen.json({"protocolVersion": "2025-11-25", "capabilities": {"tools": 7}})

    client = client_of(peer)
    assert await client.connect() is False
    assert "capabilities are malformed" in str(client.last_error)


async def test_rest_dialect_with_wrong_credentials_and_plain_answers(rest: HTTPPeer) -> None:
    async def text(_seen: Seen) -> web.StreamResponse:
        return web.json_response({"result": "plain"})

    async def refuse(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=401)

    rest.handlers["/mcp/tools/a b/call"] = rest.handlers["/mcp/resources/read"] = text
    async with client_of(rest, dialect="rest") as client:
        assert text_of(await client.call_tool("a b")) == "plain"
        contents = (await client.read_resource("x://1")).contents[0]
        assert getattr(contents, "text", "") == "plain"
    rest.handlers["/mcp/initialize"] = refuse
    client = client_of(rest, dialect="rest")
    assert await client.connect() is False
    assert isinstance(client.last_error, AuthenticationError)


async def test_a_session_that_expired_in_the_form_of_http_400(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        if len(posts(peer, "initialize")) == 1:
            return seen.error(-32000, "Bad Request: No valid session ID provided", status=400)
        return seen.json(CONTENT)

    async with client_of(peer, retries=0) as client:
        with pytest.raises(SessionExpiredError) as caught:
            await client.call_tool("x")
        assert caught.value.status == 400
        assert text_of(await client.call_tool("x")) == "done"


@pytest.mark.parametrize("status", [404, 500])
async def test_a_status_on_initialize_keeps_its_type(peer: HTTPPeer, status: int) -> None:
    @peer.on("initialize")
    async def refuse(_seen: Seen) -> web.StreamResponse:
        return web.Response(status=status)

    client = client_of(peer)
    assert await client.connect(retry_count=1) is False
    assert isinstance(client.last_error, HTTPStatusError)
    assert (client.last_error.status, client.last_error.delivery) == (
        status,
        Delivery.REJECTED if status == 404 else Delivery.NOT_SENT,
    )


async def test_connecting_waits_as_long_as_a_rate_limit_says(peer: HTTPPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_server.mcp.clients.connector.backoff_delays", lambda attempts: iter([0.0] * attempts))
    limited = iter([True])

    @peer.on("server/discover")
    async def limit(seen: Seen) -> web.StreamResponse:
        if next(limited, False):
            return web.Response(status=429, headers={"Retry-After": "1"})
        return peer.default(seen)

    started = asyncio.get_running_loop().time()
    async with client_of(peer):
        assert asyncio.get_running_loop().time() - started >= 1
