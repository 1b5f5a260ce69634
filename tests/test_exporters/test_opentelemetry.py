"""Spans of calls, and the context that travels with them, against peers over real sockets and pipes."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fastapi_server.mcp import (
    CallTimeoutError,
    HTTPConfig,
    HTTPMCPClient,
    MCPConnectionError,
    MemoryMCPClient,
    RPCError,
    ServerConfig,
    StdioConfig,
    StdioMCPClient,
    testing,
)
from fastapi_server.mcp.client_factory import make_client
from fastapi_server.mcp.clients.hooks import Hooks
from fastapi_server.mcp.exporters.opentelemetry import CallTracer
from fastapi_server.mcp.pool import ClientPool
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer

STDIO_PEER = str(Path(testing.__file__).with_name("stdio_peer.py"))


class Recorded:
    """A tracer provider of its own for each test, and what it has recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.hooks = Hooks(around=CallTracer(self.provider))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans if span.name == name]
        return span


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def traceparent(span: ReadableSpan) -> str:
    own = span.get_span_context()
    assert own is not None
    return f"00-{trace.format_trace_id(own.trace_id)}-{trace.format_span_id(own.span_id)}-{own.trace_flags:02x}"


def meta(seen: Seen) -> dict[str, Any]:
    return (seen.body.get("params") or {}).get("_meta") or {}


def calls(peer: HTTPPeer, method: str = "tools/call") -> list[Seen]:
    return [seen for seen in peer.seen if seen.method == method]


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture(params=[False, True], ids=["handshake", "stateless"])
async def peer(request: pytest.FixtureRequest, nothing_left: None) -> AsyncIterator[HTTPPeer]:
    async with http_peer(stateless=request.param) as started:
        yield started


def client_of(peer: HTTPPeer, recorded: Recorded, **settings: Any) -> HTTPMCPClient:
    settings = {"output_validation": "off", **settings}
    return HTTPMCPClient("weather", HTTPConfig(f"{peer.url}/mcp", **settings), hooks=recorded.hooks)


async def test_the_span_of_a_call(peer: HTTPPeer, recorded: Recorded) -> None:
    async with client_of(peer, recorded) as client:
        await client.call_tool("forecast", {"city": "planted-secret"})
    span = recorded.named("tools/call forecast")
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    (sent,) = calls(peer)
    assert attributes(span) == {
        "mcp.method.name": "tools/call",
        "mcp.server.name": "weather",
        "mcp.protocol.version": "2026-07-28" if peer.stateless else "2025-11-25",
        "gen_ai.tool.name": "forecast",
        "gen_ai.operation.name": "execute_tool",
        "jsonrpc.request.id": str(sent.id),
        "network.transport": "tcp",
        "network.protocol.name": "http",
    }
    assert "planted-secret" not in span.to_json()


async def test_its_context_arrives_in_the_message_and_in_the_headers(peer: HTTPPeer, recorded: Recorded) -> None:
    async with client_of(peer, recorded) as client:
        token = context.attach(baggage.set_baggage("tenant", "blue"))
        try:
            await client.call_tool("forecast")
        finally:
            context.detach(token)
    (sent,) = calls(peer)
    expected = {"traceparent": traceparent(recorded.named("tools/call forecast")), "baggage": "tenant=blue"}
    assert expected.items() <= meta(sent).items()
    assert expected.items() <= dict(sent.http.headers).items()


async def test_concurrent_calls_keep_to_their_own_parents(peer: HTTPPeer, recorded: Recorded) -> None:
    arrived = asyncio.Event()

    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        if len(calls(peer)) == 8:
            arrived.set()
        await arrived.wait()  # all are in flight at the same time
        return seen.json({"content": []})

    tracer = recorded.provider.get_tracer("test")

    async def work(number: int) -> None:
        with tracer.start_as_current_span(f"parent {number}"):
            await client.call_tool(f"tool-{number}")

    async with client_of(peer, recorded) as client:
        await asyncio.gather(*map(work, range(8)))
    by_tool = {seen.body["params"]["name"]: seen for seen in calls(peer)}
    for number in range(8):
        parent, span = recorded.named(f"parent {number}"), recorded.named(f"tools/call tool-{number}")
        assert span.parent == parent.get_span_context()
        sent = by_tool[f"tool-{number}"]
        assert meta(sent)["traceparent"] == sent.http.headers["traceparent"] == traceparent(span)
    assert len({traceparent(span)[:35] for span in recorded.spans}) == 8


async def test_the_span_is_current_for_the_hooks_and_over_when_the_call_is(peer: HTTPPeer, recorded: Recorded) -> None:
    current: list[trace.Span] = []
    hooks = Hooks(on_response=lambda _event: current.append(trace.get_current_span()), around=recorded.hooks.around)
    async with HTTPMCPClient("weather", HTTPConfig(f"{peer.url}/mcp", output_validation="off"), hooks=hooks) as client:
        before = trace.get_current_span()
        await client.call_tool("forecast")
        assert trace.get_current_span() is before
    assert current[-1].get_span_context() == recorded.named("tools/call forecast").get_span_context()


async def test_a_repeat_has_the_span_of_its_call(peer: HTTPPeer, recorded: Recorded) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        return web.Response(status=503) if len(calls(peer)) == 1 else seen.json({"content": []})

    async with client_of(peer, recorded) as client:
        await client.call_tool("forecast", idempotent=True)
    first, second = calls(peer)
    span = recorded.named("tools/call forecast")
    assert meta(first)["traceparent"] == meta(second)["traceparent"] == traceparent(span)
    assert attributes(span)["jsonrpc.request.id"] == str(second.id)
    assert span.status.status_code is StatusCode.UNSET


async def test_progress_and_context_go_together(peer: HTTPPeer, recorded: Recorded) -> None:
    async with client_of(peer, recorded) as client:
        await client.call_tool("forecast", progress=lambda *_told: None)
    (sent,) = calls(peer)
    assert meta(sent)["progressToken"] == sent.id
    assert meta(sent)["traceparent"] == sent.http.headers["traceparent"]


async def test_what_the_caller_says_stands(peer: HTTPPeer, recorded: Recorded) -> None:
    async with client_of(peer, recorded) as client:
        await client.call_tool("forecast", meta={"traceparent": "mine"})
    (sent,) = calls(peer)
    assert meta(sent)["traceparent"] == "mine"


async def test_a_no_of_the_server(peer: HTTPPeer, recorded: Recorded) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        return seen.error(-32602, "no such tool")

    async with client_of(peer, recorded) as client:
        with pytest.raises(RPCError):
            await client.call_tool("forecast")
    span = recorded.named("tools/call forecast")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "no such tool")
    assert attributes(span)["error.type"] == attributes(span)["rpc.response.status_code"] == "-32602"
    assert span.events == ()


@pytest.mark.parametrize(
    ("text", "is_error", "error_type"),
    [("it rains", True, "tool_error"), ("it rains", False, None), ('"isError": true', False, None)],
)
async def test_a_tool_that_failed(
    peer: HTTPPeer, recorded: Recorded, text: str, is_error: bool, error_type: str | None
) -> None:
    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        return seen.json({"content": [{"type": "text", "text": text}], "isError": is_error})

    async with client_of(peer, recorded) as client:
        assert (await client.call_tool("forecast")).is_error is is_error
    span = recorded.named("tools/call forecast")
    assert attributes(span).get("error.type") == error_type
    assert (span.status.status_code is StatusCode.ERROR) is is_error


async def test_a_malformed_verdict_is_no_fault_of_the_span(recorded: Recorded) -> None:
    script = {"tools/call": {"content": [], "isError": "perhaps"}}
    async with MemoryMCPClient("weather", script, hooks=recorded.hooks) as client:
        await client.request("tools/call", {"name": "forecast"})
    assert recorded.named("tools/call forecast").status.status_code is StatusCode.UNSET


async def test_a_call_that_is_late_or_given_up(peer: HTTPPeer, recorded: Recorded) -> None:
    @peer.on("tools/call")
    async def call(_seen: Seen) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError

    async with client_of(peer, recorded) as client:
        with pytest.raises(CallTimeoutError):
            await client.call_tool("late", timeout=0.05)
        given_up = asyncio.create_task(client.call_tool("given-up"))
        while len(calls(peer)) < 2:
            await asyncio.sleep(0.01)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
    late, cancelled = recorded.named("tools/call late"), recorded.named("tools/call given-up")
    assert attributes(late)["error.type"] == "CallTimeoutError"
    assert "was given up after" in (late.status.description or "")
    assert attributes(cancelled)["error.type"] == "CancelledError"
    assert cancelled.status.status_code is StatusCode.ERROR


async def test_a_server_that_cannot_be_reached(recorded: Recorded) -> None:
    client = StdioMCPClient("gone", StdioConfig("/no/such/command", retries=0), hooks=recorded.hooks)
    with pytest.raises(MCPConnectionError):
        await client.read_resource("weather://oslo")
    await client.disconnect()
    span = recorded.named("resources/read")
    assert attributes(span) == {
        "mcp.method.name": "resources/read",
        "mcp.server.name": "gone",
        "mcp.resource.uri": "weather://oslo",
        "error.type": "CommandNotFoundError",
    }


async def test_names_of_other_methods(recorded: Recorded) -> None:
    script: dict[str, Any] = {
        "prompts/get": {"messages": []},
        "resources/read": {"contents": []},
        "tools/list": {"tools": []},
    }
    async with MemoryMCPClient("weather", script, hooks=recorded.hooks) as client:
        await client.get_prompt("greeting")
        await client.read_resource("weather://oslo")
        await client.list_tools()
    prompt = recorded.named("prompts/get greeting")
    assert attributes(prompt)["gen_ai.prompt.name"] == "greeting"
    assert "network.transport" not in attributes(prompt)
    assert attributes(recorded.named("resources/read"))["mcp.resource.uri"] == "weather://oslo"
    assert "gen_ai.operation.name" not in attributes(recorded.named("tools/list"))


async def test_a_pipe(recorded: Recorded) -> None:
    config = StdioConfig(sys.executable, ["-S", STDIO_PEER], shutdown_timeout=500, output_validation="off")
    async with StdioMCPClient("piped", config, hooks=recorded.hooks) as client:
        await client.call_tool("echo")
    span = recorded.named("tools/call echo")
    assert attributes(span)["network.transport"] == "pipe"
    assert "network.protocol.name" not in attributes(span)


async def test_a_bare_peer_gets_the_headers_only(nothing_left: None, recorded: Recorded) -> None:
    async with http_peer() as peer, client_of(peer, recorded, handshake=False) as client:

        @peer.on("sum")
        async def add(seen: Seen) -> web.StreamResponse:
            return seen.json(3)

        assert await client.request("sum", {"a": 1, "b": 2}) == 3
        (sent,) = calls(peer, "sum")
    assert sent.body["params"] == {"a": 1, "b": 2}
    assert sent.http.headers["traceparent"] == traceparent(recorded.named("sum"))
    assert "mcp.protocol.version" not in attributes(recorded.named("sum"))


async def test_baggage_can_be_kept_at_home(peer: HTTPPeer, recorded: Recorded) -> None:
    hooks = Hooks(around=CallTracer(recorded.provider, TraceContextTextMapPropagator()))
    async with HTTPMCPClient("weather", HTTPConfig(f"{peer.url}/mcp", output_validation="off"), hooks=hooks) as client:
        token = context.attach(baggage.set_baggage("tenant", "blue"))
        try:
            await client.call_tool("forecast")
        finally:
            context.detach(token)
    (sent,) = calls(peer)
    assert "traceparent" in meta(sent)
    assert "baggage" not in meta(sent)
    assert "baggage" not in sent.http.headers


async def test_a_pool_traces_all_its_clients(peer: HTTPPeer, recorded: Recorded) -> None:
    servers = {
        name: ServerConfig(name, "http", HTTPConfig(f"{peer.url}/mcp", output_validation="off")) for name in ("a", "b")
    }
    async with ClientPool(servers, make_client, hooks=recorded.hooks) as pool:
        await pool.call("a__forecast", principal="ann")
        await pool.call("b__forecast")
    spans = [span for span in recorded.spans if span.name == "tools/call forecast"]
    assert [attributes(span)["mcp.server.name"] for span in spans] == ["a", "b"]
    assert "ann" not in "".join(span.to_json() for span in spans)


async def test_without_a_provider_nothing_is_recorded_or_sent(peer: HTTPPeer) -> None:
    hooks = Hooks(around=CallTracer())
    async with HTTPMCPClient("weather", HTTPConfig(f"{peer.url}/mcp", output_validation="off"), hooks=hooks) as client:
        await client.call_tool("forecast")
    (sent,) = calls(peer)
    assert not {*propagate.get_global_textmap().fields} & {*meta(sent), *sent.http.headers}


async def test_nothing_of_it_without_the_hook(peer: HTTPPeer, recorded: Recorded) -> None:
    with recorded.provider.get_tracer("test").start_as_current_span("parent"):
        async with HTTPMCPClient("weather", HTTPConfig(f"{peer.url}/mcp", output_validation="off")) as client:
            await client.call_tool("forecast")
    (sent,) = calls(peer)
    assert "traceparent" not in {*meta(sent), *sent.http.headers}
