"""Networks and HTTP servers that misbehave: one test for each way. docs/faults.md says what the caller sees."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import json
import ssl
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fastapi_server.mcp import (
    AuthenticationError,
    CallTimeoutError,
    ConnectTimeoutError,
    Delivery,
    HandshakeError,
    HTTPConfig,
    HTTPMCPClient,
    HTTPStatusError,
    MCPClientError,
    MCPConnectionError,
    MessageTooLargeError,
    OutcomeUnknownError,
    ProtocolError,
    RateLimitError,
    RPCError,
    SessionExpiredError,
    SSEConfig,
    SSEMCPClient,
)
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, event, http_peer
from fastapi_server.mcp.testing.raw_peer import STREAM_HEAD, RawPeer, RawRequest, json_head, raw_peer
from fastapi_server.mcp.testing.sse_peer import SSEPeer, sse_peer

ERAS = pytest.mark.parametrize("stateless", [False, True], ids=["handshake", "stateless"])


def client_of(peer: HTTPPeer | RawPeer, **settings: Any) -> HTTPMCPClient:
    return HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp", **settings))


def sse_client(peer: HTTPPeer, **settings: Any) -> SSEMCPClient:
    return SSEMCPClient("peer", SSEConfig(f"{peer.url}/sse", **settings))


def text_of(result: Any) -> str:
    return result.content[0].text


@pytest.fixture
async def peer(nothing_left: None) -> AsyncIterator[HTTPPeer]:
    async with http_peer() as started:
        yield started


@pytest.fixture
async def raw(nothing_left: None) -> AsyncIterator[RawPeer]:
    async with raw_peer() as started:
        yield started


@pytest.fixture
async def sse(nothing_left: None) -> AsyncIterator[SSEPeer]:
    async with sse_peer() as started:
        yield started


# No connection.


async def test_refused(unused_tcp_port: int) -> None:
    client = HTTPMCPClient("gone", HTTPConfig(f"http://127.0.0.1:{unused_tcp_port}/mcp", retries=0))
    with pytest.raises(MCPConnectionError, match=r"cannot connect to http://127\.0\.0\.1") as caught:
        await client.call_tool("x")
    assert caught.value.delivery is Delivery.NOT_SENT
    await client.disconnect()


async def test_dns() -> None:
    client = HTTPMCPClient("gone", HTTPConfig("http://no-such-host.invalid/mcp", retries=0))
    with pytest.raises(MCPConnectionError, match="cannot find the host") as caught:
        await client.call_tool("x")
    assert caught.value.delivery is Delivery.NOT_SENT
    await client.disconnect()


def certificate(folder: Path) -> ssl.SSLContext:
    """A throw-away authority in `ca.pem`, and a context for a server at 127.0.0.1 with a certificate from it."""
    now = dt.datetime.now(dt.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("test authority", "127.0.0.1")]

    def issued(number: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder(names[0], names[number], keys[number].public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=number == 0, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[number].public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
        )

    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    authority = issued(0).sign(keys[0], hashes.SHA256())
    server = issued(1).add_extension(address, critical=False).sign(keys[0], hashes.SHA256())
    (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    key = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(server.public_bytes(serialization.Encoding.PEM) + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


async def test_tls_with_an_unknown_authority_and_accepted_with_ca_file(nothing_left: None, tmp_path: Path) -> None:
    async with raw_peer(tls=certificate(tmp_path)) as peer:
        client = client_of(peer, retries=0)
        with pytest.raises(MCPConnectionError, match=r"cannot trust https://127\.0\.0\.1") as caught:
            await client.call_tool("x")
        assert caught.value.delivery is Delivery.NOT_SENT
        await client.disconnect()
        assert peer.seen == []
        async with client_of(peer, ca_file=tmp_path / "ca.pem") as client:
            assert text_of(await client.call_tool("x")) == "done"


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_cannot_be_used(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    for client in (
        HTTPMCPClient("x", HTTPConfig("https://127.0.0.1:1/mcp", ca_file=file, retries=0)),
        SSEMCPClient("x", SSEConfig("https://127.0.0.1:1/sse", ca_file=file, retries=0)),
    ):
        with pytest.raises(MCPConnectionError, match=r"ca_file cannot be used: .*ca\.pem") as caught:
            await client.ping()
        assert caught.value.delivery is Delivery.NOT_SENT
        await client.disconnect()


# Resets.


@ERAS
@pytest.mark.parametrize("written", [b"", b"HTTP/1.1 200 OK\r\nContent-Ty", json_head(100) + b'{"jsonrpc"'])
async def test_reset_before_the_headers_in_them_and_in_the_body(stateless: bool, written: bytes) -> None:
    async with raw_peer(stateless=stateless) as peer:

        @peer.on("tools/call")
        async def call(request: RawRequest) -> None:
            await request.write(written)
            request.reset()

        async with client_of(peer) as client:
            with pytest.raises(OutcomeUnknownError) as caught:
                await client.call_tool("pay")
            assert caught.value.delivery is Delivery.UNKNOWN
            assert peer.count("tools/call") == 1
            assert await client.health_check()


@ERAS
async def test_reset_in_the_event_stream(stateless: bool) -> None:
    async with raw_peer(stateless=stateless) as peer:
        heard = asyncio.Event()

        @peer.on("tools/call")
        async def call(request: RawRequest) -> None:
            params = {"progressToken": request.body["params"]["_meta"]["progressToken"], "progress": 1}
            note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
            await request.write(STREAM_HEAD + event(note))
            await heard.wait()
            request.reset()

        async with client_of(peer) as client:
            with pytest.raises(OutcomeUnknownError):
                await client.call_tool("pay", progress=lambda _done, _total, _message: heard.set())
            assert peer.count("tools/call") == 1
            assert await client.health_check()


async def test_half_a_body_and_a_polite_end(raw: RawPeer) -> None:
    @raw.on("tools/call")
    async def call(request: RawRequest) -> None:
        await request.write(json_head(1000) + b'{"jsonrpc"')
        request.writer.close()

    async with client_of(raw) as client:
        with pytest.raises(OutcomeUnknownError):
            await client.call_tool("pay")
        assert await client.health_check()


# Slow.


async def test_slow_drip_arrives(raw: RawPeer) -> None:
    @raw.on("tools/call")
    async def call(request: RawRequest) -> None:
        body = request.text("é")
        for byte in json_head(len(body)) + body:
            await request.write(bytes([byte]))
            await asyncio.sleep(0)

    async with client_of(raw) as client:
        assert text_of(await client.call_tool("x")) == "é"


async def test_slow_drip_does_not_outlast_the_deadline(raw: RawPeer) -> None:
    @raw.on("tools/call")
    async def call(request: RawRequest) -> None:
        await request.write(json_head(1_000_000))
        while True:
            await request.write(b" ")
            await asyncio.sleep(0.01)

    async with client_of(raw) as client:
        with pytest.raises(CallTimeoutError) as caught:
            await client.call_tool("x", timeout=0.2)
        assert caught.value.delivery is Delivery.UNKNOWN
        assert await client.health_check()


async def test_a_proxy_that_buffers(raw: RawPeer) -> None:
    """It holds the GET stream's head back for ever, and each event stream until that has ended."""

    @raw.on("GET")
    async def hold(_request: RawRequest) -> None:
        await asyncio.Event().wait()

    @raw.on("tools/call")
    async def call(request: RawRequest) -> None:
        token = request.body["params"]["_meta"]["progressToken"]
        notes = [
            {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": done}}
            for done in (1, 2, 3)
        ]
        stream = b"".join(map(event, notes)) + b"data: " + request.text("done") + b"\n\n"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(stream)}\r\n\r\n"
        await request.write(head.encode() + stream)

    progress: list[float] = []
    async with client_of(raw) as client:
        result = await client.call_tool("x", progress=lambda done, _total, _message: progress.append(done))
        assert text_of(result) == "done"
        assert progress == [1.0, 2.0, 3.0]


async def test_a_proxy_that_buffers_http_sse(sse: SSEPeer) -> None:
    """Nothing of the stream comes through, so there is no way to connect; the time is bounded."""

    @sse.on("GET")
    async def hold(_seen: Seen) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    client = sse_client(sse, timeout=100, retries=0)
    with pytest.raises(ConnectTimeoutError) as caught:
        await client.call_tool("x", timeout=5)
    assert caught.value.delivery is Delivery.NOT_SENT
    await client.disconnect()


# Bodies.

MALFORMED = [
    pytest.param(200, "text/html", b"<html>Sign in</html>", "the server sent text/html: <html>", id="html"),
    pytest.param(200, "application/json", b"", "not a JSON-RPC message", id="empty"),
    pytest.param(200, "application/json", b'{"jsonrpc": ', "not a JSON-RPC message", id="malformed"),
    pytest.param(202, "application/octet-stream", b"", "HTTP 202", id="202"),
]


@ERAS
@pytest.mark.parametrize(("status", "kind", "body", "expected"), MALFORMED)
async def test_a_body_that_is_no_reply(stateless: bool, status: int, kind: str, body: bytes, expected: str) -> None:
    async with http_peer(stateless=stateless) as peer:

        @peer.on("tools/call")
        async def call(_seen: Seen) -> web.StreamResponse:
            return web.Response(status=status, body=body, content_type=kind)

        async with client_of(peer) as client:
            with pytest.raises(ProtocolError, match=expected) as caught:
                await client.call_tool("pay")
            assert caught.value.delivery is Delivery.UNKNOWN
            assert peer.methods().count("tools/call") == 1
            assert await client.health_check()


@pytest.mark.parametrize("stream", [False, True], ids=["json", "events"])
async def test_a_byte_order_mark(peer: HTTPPeer, stream: bool) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        body = json.dumps({"jsonrpc": "2.0", "id": seen.id, "result": {"content": []}}).encode()
        if stream:
            response = await seen.stream()
            await response.write(b"\xef\xbb\xbfdata: " + body + b"\n\n")
            return response
        return web.Response(body=b"\xef\xbb\xbf" + body, content_type="application/json")

    async with client_of(peer) as client:
        assert (await client.call_tool("x")).content == []


@pytest.mark.parametrize("status", [200, 500])
async def test_a_gzip_bomb(peer: HTTPPeer, status: int) -> None:
    """As a reply it is refused at the cap; as the body of an error only its start is read."""
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join([packer.compress(bytes(1_000_000)) for _ in range(200)]) + packer.flush()

    @peer.on("tools/call")
    async def call(_seen: Seen) -> web.StreamResponse:
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return web.Response(status=status, body=bomb, headers=headers)

    async with client_of(peer, max_message_bytes=1_000_000) as client:
        tracemalloc.start()
        with pytest.raises(MessageTooLargeError if status == 200 else HTTPStatusError):
            await client.call_tool("x")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
        tracemalloc.stop()
        assert await client.health_check()


# Statuses.

REFUSALS: list[tuple[int, type[MCPClientError], Delivery]] = [
    (401, AuthenticationError, Delivery.REJECTED),
    (403, AuthenticationError, Delivery.REJECTED),
    (404, HTTPStatusError, Delivery.REJECTED),
    (405, HTTPStatusError, Delivery.REJECTED),
    (408, HTTPStatusError, Delivery.REJECTED),
    (413, HTTPStatusError, Delivery.REJECTED),
    (429, RateLimitError, Delivery.REJECTED),
    (500, HTTPStatusError, Delivery.UNKNOWN),
    (502, OutcomeUnknownError, Delivery.UNKNOWN),
    (503, HTTPStatusError, Delivery.REJECTED),
]
"""Of a plain body. A JSON-RPC error in the body is the reply, except where the status says more than it can."""


@ERAS
@pytest.mark.parametrize("body", ["plain", "json-rpc"])
@pytest.mark.parametrize(("status", "kind", "delivery"), REFUSALS, ids=[str(status) for status, _, _ in REFUSALS])
async def test_statuses(
    stateless: bool, body: str, status: int, kind: type[MCPClientError], delivery: Delivery
) -> None:
    if status == 404 and not stateless and body == "plain":
        kind = SessionExpiredError
    code = -32601 if status in {404, 405} else -32603

    async with http_peer(stateless=stateless) as peer:

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            return web.Response(status=status, text="no") if body == "plain" else seen.error(code, "no", status=status)

        async with client_of(peer, retries=0) as client:
            with pytest.raises(MCPClientError) as caught:
                await client.call_tool("pay")
            await client.ping()
        assert peer.methods().count("tools/call") == 1
        error = caught.value
        if body == "plain" or kind not in {HTTPStatusError, OutcomeUnknownError}:
            assert type(error) is kind
            assert error.delivery is delivery
            failure = error.__cause__ if isinstance(error, OutcomeUnknownError) else error
            assert isinstance(failure, HTTPStatusError)
            assert failure.status == status
        else:
            assert type(error) is RPCError
            assert error.code == code
            assert error.delivery is (Delivery.REJECTED if code == -32601 else Delivery.UNKNOWN)


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("body", ["plain", "json-rpc"])
async def test_404_to_a_session(peer: HTTPPeer, body: str, retries: int) -> None:
    expired = True

    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        nonlocal expired
        if expired:
            expired = False
            refusal = web.Response(status=404)
            return refusal if body == "plain" else seen.error(-32600, "Session not found", status=404)
        return seen.json({"content": []})

    async with client_of(peer, retries=retries) as client:
        if retries:
            await client.call_tool("pay")
        else:
            with pytest.raises(SessionExpiredError) as caught:
                await client.call_tool("pay")
            assert caught.value.delivery is Delivery.REJECTED
            await client.call_tool("pay")
    assert peer.methods().count("initialize") == 2


@ERAS
async def test_redirect_to_another_origin(stateless: bool) -> None:
    async with http_peer(stateless=stateless) as peer, http_peer() as elsewhere:

        @peer.on("tools/call")
        async def away(_seen: Seen) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"{elsewhere.url}/mcp"})

        async with client_of(peer, api_key="k-123456") as client:
            with pytest.raises(HTTPStatusError, match="redirects to another origin") as caught:
                await client.call_tool("x")
            assert caught.value.delivery is Delivery.REJECTED
        assert elsewhere.seen == []


# A restart.


class Restartable(RawPeer):
    """Knows the sessions that it gave out since it started; may hold every call."""

    def __init__(self, number: int, *, holds: bool = False) -> None:
        super().__init__()
        self.holds = holds
        self.session = f"Mcp-Session-Id: s-{number}"
        self.all_here = asyncio.Event()
        self.on("initialize")(self.initialize)
        self.on("tools/call")(self.call)

    async def initialize(self, request: RawRequest) -> None:
        info = {"name": "raw", "version": "0"}
        body = request.result({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": info})
        await request.write(json_head(len(body), self.session) + body)

    async def call(self, request: RawRequest) -> None:
        if self.session.lower() not in request.head.lower():
            await request.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        elif self.holds:
            if self.count("tools/call") == 50:
                self.all_here.set()
            await asyncio.Event().wait()
        else:
            await self.default(request)


@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_restart_of_the_server_under_50_callers(
    nothing_left: None, unused_tcp_port: int, idempotent: bool
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        before, after = Restartable(1, holds=True), Restartable(2)
        running = await stack.enter_async_context(contextlib.AsyncExitStack())
        await running.enter_async_context(raw_peer(before, port=unused_tcp_port))
        client = await stack.enter_async_context(client_of(before, retries=20))
        calls = [asyncio.create_task(client.call_tool("x", idempotent=idempotent)) for _ in range(50)]
        await before.all_here.wait()
        await running.aclose()
        await stack.enter_async_context(raw_peer(after, port=unused_tcp_port))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        if idempotent:
            assert [text_of(outcome) for outcome in outcomes] == ["done"] * 50
        else:
            assert {type(outcome) for outcome in outcomes} == {OutcomeUnknownError}
            assert after.count("tools/call") == 0
        await asyncio.gather(*(client.call_tool("x") for _ in range(50)))
        assert after.count("initialize") == 1
        assert client.metrics.connections == 2
        await client.disconnect()


# Event streams cut before their result.


@pytest.mark.parametrize("resumable", [True, False])
async def test_an_event_stream_cut_before_its_result(peer: HTTPPeer, resumable: bool) -> None:
    asked: list[Any] = []

    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        asked.append(seen.id)
        response = await seen.stream()
        await response.write(event(None, id="e-1" if resumable else "", retry=1))
        return response

    @peer.on("GET")
    async def resume(seen: Seen) -> web.StreamResponse:
        if "Last-Event-ID" not in seen.http.headers:
            return web.Response(status=405)
        response = await seen.stream()
        await response.write(event({"jsonrpc": "2.0", "id": asked[0], "result": {"content": []}}))
        return response

    async with client_of(peer) as client:
        if resumable:
            assert (await client.call_tool("pay")).content == []
        else:
            with pytest.raises(OutcomeUnknownError, match="ended before the result"):
                await client.call_tool("pay")
        assert len(asked) == 1


async def test_an_event_stream_cut_before_its_result_in_the_stateless_era(nothing_left: None) -> None:
    async with http_peer(stateless=True) as peer:

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            response = await seen.stream()
            await response.write(event(None, id="e-1", retry=1))
            return response

        async with client_of(peer) as client:
            with pytest.raises(OutcomeUnknownError):
                await client.call_tool("pay")
        assert peer.methods() == ["server/discover", "tools/call"]


# HTTP+SSE.


async def test_an_endpoint_event_that_never_comes(sse: SSEPeer) -> None:
    sse.endpoint = ""
    client = sse_client(sse, timeout=100, retries=0)
    with pytest.raises(ConnectTimeoutError) as caught:
        await client.call_tool("x", timeout=5)
    assert caught.value.delivery is Delivery.NOT_SENT
    await client.disconnect()


@pytest.mark.parametrize("early", [b"", event({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})])
async def test_an_endpoint_event_that_comes_late_or_after_a_message(sse: SSEPeer, early: bytes) -> None:
    opened, go_on = asyncio.Event(), asyncio.Event()

    @sse.on("GET")
    async def stream(seen: Seen) -> web.StreamResponse:
        response = await seen.stream()
        sse.streams.append(response)
        await response.write(early)
        opened.set()
        await go_on.wait()
        await response.write(f"event: endpoint\ndata: {sse.endpoint}\n\n".encode())
        await asyncio.sleep(60)
        return response

    client = sse_client(sse)
    calling = asyncio.create_task(client.call_tool("x"))
    await opened.wait()
    assert not calling.done()
    go_on.set()
    assert (await calling).content == []
    await client.disconnect()


async def test_an_endpoint_event_that_points_to_another_origin(sse: SSEPeer) -> None:
    async with http_peer() as elsewhere:
        sse.endpoint = f"{elsewhere.url}/messages"
        client = sse_client(sse, headers={"Authorization": "Bearer k-123456"})
        with pytest.raises(HandshakeError, match="another origin"):
            await client.call_tool("x")
        assert elsewhere.seen == []
        await client.disconnect()


@pytest.mark.parametrize("how", ["status", "reset"])
async def test_a_failing_post_on_http_sse(sse: SSEPeer, how: str) -> None:
    """Its call fails at once; the stream and the other calls go on."""
    waiting_there = asyncio.Event()

    @sse.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        if seen.body["params"]["name"] == "other":
            waiting_there.set()
            return web.Response(status=202)
        if how == "reset":
            assert seen.http.transport is not None
            seen.http.transport.abort()
        return web.Response(status=500)

    async with sse_client(sse) as client:
        other = asyncio.create_task(client.call_tool("other"))
        await waiting_there.wait()
        with pytest.raises(OutcomeUnknownError if how == "reset" else HTTPStatusError) as caught:
            await client.call_tool("pay")
        assert caught.value.delivery is Delivery.UNKNOWN
        await sse.answer(next(seen for seen in sse.seen if seen.method == "tools/call"), {"content": []})
        assert (await other).content == []
        assert client.metrics.connections == 1


async def test_the_event_stream_of_http_sse_breaks(sse: SSEPeer) -> None:
    posted = asyncio.Event()

    @sse.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        if len(sse.streams) > 1:
            return await sse.answer(seen, {"content": []})
        posted.set()
        return web.Response(status=202)

    async with sse_client(sse) as client:
        waiting = asyncio.create_task(client.call_tool("pay"))
        await posted.wait()
        assert sse.seen[0].http.transport is not None
        sse.seen[0].http.transport.abort()
        with pytest.raises(OutcomeUnknownError):
            await waiting
        assert (await client.call_tool("pay")).content == []
