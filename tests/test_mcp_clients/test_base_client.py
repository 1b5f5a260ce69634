"""What every client does, whatever carries it: most rows run over all three transports and both eras."""

import asyncio
import json
import logging
import random
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from mcp_types import (
    CreateMessageResult,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    LoggingMessageNotificationParams,
    PromptReference,
    Root,
    TextContent,
)

from fastapi_server.mcp import (
    AutoMCPClient,
    CallTimeoutError,
    Channel,
    ClientClosedError,
    ConfigError,
    ConnectionState,
    Delivery,
    EraName,
    HandlerContext,
    Handlers,
    HandshakeError,
    HTTPConfig,
    HTTPMCPClient,
    HTTPStatusError,
    InputRequiredError,
    MCPClient,
    MCPConnectionError,
    MemoryMCPClient,
    ProtocolError,
    RPCError,
    SSEConfig,
    SSEMCPClient,
    StdioConfig,
    StdioMCPClient,
    StructuredOutputError,
    testing,
)
from fastapi_server.mcp.clients.lifecycle import MOVES, IllegalMoveError, moved
from fastapi_server.mcp.clients.mailbox import Mailbox
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, event, http_peer
from fastapi_server.mcp.testing.sse_peer import sse_peer

PEER = str(Path(testing.__file__).with_name("stdio_peer.py"))

MakeClient = Callable[..., MCPClient]


def stdio_peer(*flags: str, handlers: Handlers | None = None, **settings: Any) -> StdioMCPClient:
    return StdioMCPClient("peer", StdioConfig(sys.executable, ["-S", PEER, *flags], **settings), handlers=handlers)


def text_of(result: Any) -> str:
    return result.content[0].text


@pytest.fixture(params=["stdio", "sse", "handshake", "stateless"])
def make_client(
    request: pytest.FixtureRequest,
    stdio_server: dict[str, object],
    sse_server: str,
    handshake_server: str,
    stateless_server: str,
) -> MakeClient:
    """Makes clients of an official SDK server: over each transport, and over HTTP in each era."""
    kind: str = request.param
    server: Any = {
        "stdio": stdio_server,
        "sse": sse_server,
        "handshake": handshake_server,
        "stateless": stateless_server,
    }[kind]

    def make(**options: Any) -> MCPClient:
        if kind == "stdio":
            return StdioMCPClient("weather", server, **options)
        if kind == "sse":
            return SSEMCPClient("weather", SSEConfig(server), **options)
        return HTTPMCPClient("weather", HTTPConfig(server), **options)

    return make


# Every transport.


async def test_the_verbs_work_on_every_transport(make_client: MakeClient) -> None:
    async with make_client() as client:
        info = await client.initialize()
        assert info.name.startswith("weather-")
        assert info.instructions == "Ask for the weather of Lisbon, Oslo or Nairobi."
        assert [tool.name for tool in await client.list_tools()] == ["forecast", "survey"]
        result = await client.call_tool("forecast", {"city": "Oslo"})
        assert result.structured_content == {"city": "Oslo", "celsius": 7.0, "sky": "rain"}
        assert (await client.call_tool("forecast", {"city": "Atlantis"})).is_error
        assert [resource.uri for resource in await client.list_resources()] == ["weather://cities"]
        assert await client.list_resource_templates() == []
        contents = (await client.read_resource("weather://cities")).contents[0]
        assert getattr(contents, "text", "").split() == ["Lisbon", "Oslo", "Nairobi"]
        assert [prompt.name for prompt in await client.list_prompts()] == ["packing"]
        assert "Oslo" in str((await client.get_prompt("packing", {"city": "Oslo"})).messages[0].content)
        assert await client.ping() >= 0
        assert await client.health_check()
        with pytest.raises(RPCError):
            await client.read_resource("weather://nothing")


async def test_200_concurrent_calls_on_one_client(make_client: MakeClient) -> None:
    async with make_client() as client:
        cities = [random.choice(["Oslo", "Lisbon", "Nairobi"]) for _ in range(200)]
        results = await asyncio.gather(*(client.call_tool("forecast", {"city": city}) for city in cities))
    answers = [result.structured_content["city"] for result in results if result.structured_content]
    assert answers == cities


async def test_opened_in_one_task_and_closed_in_another(make_client: MakeClient) -> None:
    client = make_client()
    assert await asyncio.create_task(client.connect()) is True
    assert await asyncio.create_task(client.health_check())
    await asyncio.create_task(client.disconnect())
    assert client.state is ConnectionState.DISCONNECTED


@pytest.mark.timeout(180)
async def test_100_cycles_leave_nothing(make_client: MakeClient) -> None:
    client = make_client()
    if isinstance(client, StdioMCPClient):  # a bare process: the SDK's takes a second to start
        client = stdio_peer()
    for _ in range(100):
        assert await client.connect(retry_count=1) is True
        await client.disconnect()
    assert client.metrics.connections == 100


async def test_10_clients_and_more_at_once(make_client: MakeClient) -> None:
    clients = [make_client() for _ in range(3)] + [stdio_peer() for _ in range(10)]
    assert all(await asyncio.gather(*(client.connect() for client in clients)))
    assert all(await asyncio.gather(*(client.health_check() for client in clients)))
    await asyncio.gather(*(client.disconnect() for client in clients))


async def test_progress_reaches_plain_and_coroutine_callbacks_in_order(make_client: MakeClient) -> None:
    plain: list[float] = []
    slow: list[float] = []

    async def later(progress: float, _total: float | None, _message: str | None) -> None:
        await asyncio.sleep(0)
        slow.append(progress)

    async with make_client() as client:
        cities = ["Oslo", "Lisbon", "Nairobi"]
        await client.call_tool("survey", {"cities": cities}, progress=lambda done, _total, _text: plain.append(done))
        await client.call_tool("survey", {"cities": cities}, progress=later)
        answers_with_json = client.server_info is not None and client.server_info.name == "weather-stateless"
    expected = [] if answers_with_json else [1.0, 2.0, 3.0]  # a JSON reply has no room for progress
    assert plain == slow == expected


# Load on one call.


async def big_http(seen: Seen) -> web.StreamResponse:
    arguments = seen.body["params"]["arguments"]
    if "bytes" in arguments:
        return seen.json({"content": [{"type": "text", "text": "x" * arguments["bytes"]}]})
    response = await seen.stream()
    token = seen.body["params"]["_meta"]["progressToken"]
    for done in range(arguments["count"]):
        params = {"progressToken": token, "progress": done + 1}
        await response.write(event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))
    await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": {"content": []}}))
    return response


@pytest.fixture(params=["stdio", "handshake", "stateless", "sse"])
async def loaded(request: pytest.FixtureRequest, nothing_left: None) -> AsyncIterator[MCPClient]:
    """A client of a server that answers with much."""
    if request.param == "stdio":
        async with stdio_peer() as client:
            yield client
        return
    async with http_peer(stateless=request.param == "stateless") as peer:
        if request.param == "sse":
            async with sse_peer() as sse:

                @sse.on("tools/call")
                async def answer(seen: Seen) -> web.StreamResponse:
                    arguments = seen.body["params"]["arguments"]
                    for done in range(arguments.get("count", 0)):
                        params = {"progressToken": seen.id, "progress": done + 1}
                        await sse.send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
                    content = [{"type": "text", "text": "x" * arguments.get("bytes", 0)}]
                    return await sse.answer(seen, {"content": content})

                async with SSEMCPClient("peer", SSEConfig(f"{sse.url}/sse")) as client:
                    yield client
            return
        peer.handlers["tools/call"] = big_http
        async with HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
            yield client


async def test_a_10_mb_result(loaded: MCPClient) -> None:
    assert len(text_of(await loaded.call_tool("big", {"bytes": 10_000_000}))) == 10_000_000


async def test_10000_notifications_during_one_call(loaded: MCPClient) -> None:
    seen: list[float] = []
    await loaded.call_tool("notify", {"count": 10_000}, progress=lambda done, _total, _text: seen.append(done))
    assert seen == [float(n) for n in range(1, 10_001)]


# Its life.


def test_every_move_of_the_table_and_no_other() -> None:
    for state in ConnectionState:
        for to in ConnectionState:
            if to in MOVES[state]:
                assert moved(state, to) is to
            else:
                with pytest.raises(IllegalMoveError, match=f"from {state} to {to}"):
                    moved(state, to)


def test_states_keep_the_values_of_the_contract() -> None:
    assert {"disconnected", "connecting", "connected", "error"} <= {str(state) for state in ConnectionState}


async def test_attributes_of_the_contract() -> None:
    client = StdioMCPClient("files", {"command": "x"})
    assert (client.name, client.state, client.config) == ("files", "disconnected", StdioConfig("x"))
    assert client.get_metrics() is client.metrics
    assert repr(client) == "<StdioMCPClient 'files' disconnected>"
    keys = {"uptime_seconds", "connections", "errors", "tool_calls", "avg_latency", "latency_p99"}
    assert keys <= client.metrics.to_dict().keys()
    assert await client.health_check() is False
    await client.disconnect()
    await client.disconnect()
    assert client.server_info is None


async def test_metrics_count() -> None:
    async with stdio_peer() as client:
        await client.call_tool("echo")
        with pytest.raises(RPCError):
            await client.call_tool("nope")
        numbers = client.get_metrics().to_dict()
    assert numbers["tool_calls"] == 2
    assert numbers["errors_by_type"] == {"RPCError": 1}
    assert numbers["uptime_seconds"] > 0
    assert numbers["bytes_sent"] > 0
    assert numbers["bytes_received"] > 0
    assert 0 < numbers["latency_p50"] <= numbers["latency_p99"]
    assert client.metrics.uptime_seconds == 0


async def test_the_first_call_connects() -> None:
    client = stdio_peer()
    assert text_of(await client.call_tool("echo", {"a": 1})) == '{"a": 1}'
    assert client.state is ConnectionState.CONNECTED
    await client.disconnect()


async def test_a_closed_client_says_so_until_it_is_connected_again() -> None:
    client = stdio_peer()
    async with client:
        pass
    with pytest.raises(ClientClosedError, match="call connect") as caught:
        await client.call_tool("echo")
    assert caught.value.delivery is Delivery.NOT_SENT
    assert await client.connect() is True
    assert await client.connect() is True
    await client.call_tool("echo")
    await client.disconnect()


async def test_connect_is_shared_and_survives_the_caller_who_began_it() -> None:
    client = stdio_peer()
    first = asyncio.create_task(client.connect())
    second = asyncio.create_task(client.connect())
    await asyncio.sleep(0.01)
    first.cancel()
    assert await second is True
    assert client.metrics.connections == 1
    await client.disconnect()


async def test_disconnect_while_connecting_fails_the_connecting_callers() -> None:
    client = stdio_peer("--discover", "silent", "--initialize", "silent")
    connecting = asyncio.create_task(client.connect())
    calling = asyncio.create_task(client.call_tool("echo"))
    await asyncio.sleep(0.05)
    await client.disconnect()
    assert await connecting is False
    with pytest.raises(ClientClosedError):
        await calling


async def test_disconnect_between_two_attempts_stops_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="fastapi_server.mcp")
    client = stdio_peer("--exit-at-start", "1")
    connecting = asyncio.create_task(client.connect(retry_count=10))
    async with asyncio.timeout(5):
        while "trying again in" not in caplog.text:
            await asyncio.sleep(0.01)
    await client.disconnect()
    assert await connecting is False
    assert client.state is ConnectionState.DISCONNECTED


async def test_health_check_is_false_when_the_server_does_not_answer() -> None:
    async with stdio_peer() as client:
        await client.call_tool("stop_reading")
        assert await client.health_check(timeout=0.1) is False


async def test_deadlines_of_a_call() -> None:
    async with stdio_peer(timeout=200) as client:
        with pytest.raises(CallTimeoutError, match="tools/call was given up after") as caught:
            await client.call_tool("never")
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.delivery is Delivery.UNKNOWN
        assert "server 'peer' (stdio)" in str(caught.value)


async def test_progress_renews_its_deadline_up_to_the_whole() -> None:
    async with stdio_peer() as client:
        await client.call_tool("notify", {"count": 3}, progress_timeout=5)
        with pytest.raises(CallTimeoutError):
            await client.call_tool("never", progress_timeout=0.05)


async def test_an_error_in_a_progress_callback_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_progress: object) -> None:
        raise RuntimeError("mine")

    async def broken_later(*_progress: object) -> None:
        raise RuntimeError("mine")

    async with stdio_peer() as client:
        assert text_of(await client.call_tool("notify", {"count": 2}, progress=broken)) == "done"
        assert text_of(await client.call_tool("notify", {"count": 2}, progress=broken_later)) == "done"
    assert caplog.text.count("RuntimeError: mine") == 4


async def test_pages_are_followed_and_circles_are_found() -> None:
    async with stdio_peer() as client:
        assert [prompt.name for prompt in await client.list_prompts()] == ["p0", "p1", "p2", "p3", "p4"]
        with pytest.raises(ProtocolError, match="resources/list never ends"):
            await client.list_resources()


# Structured output.


@pytest.mark.parametrize("listed_before", [True, False])
async def test_strict_raises_on_output_that_breaks_the_schema(listed_before: bool) -> None:
    async with stdio_peer(output_validation="strict") as client:
        if listed_before:
            await client.list_tools()
        assert (await client.call_tool("structured", {"value": {"n": 1}})).structured_content == {"n": 1}
        with pytest.raises(StructuredOutputError, match="tool 'structured' breaks its output schema: n: "):
            await client.call_tool("structured", {"value": {"n": "one"}})


async def test_warn_logs_and_keeps_the_content(caplog: pytest.LogCaptureFixture) -> None:
    async with stdio_peer() as client:
        result = await client.call_tool("structured", {"value": {"n": "one"}})
        assert result.structured_content == {"n": "one"}
    assert "breaks its output schema" in caplog.text


async def test_off_does_not_look(caplog: pytest.LogCaptureFixture) -> None:
    async with stdio_peer(output_validation="off") as client:
        await client.call_tool("structured", {"value": {}})
        assert client.metrics.calls["tools/list"] == 0
    assert "schema" not in caplog.text


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "nonsense"}, "the schema cannot be used"),
        ({"type": "object", "required": ["n"]}, r"\(root\)"),
    ],
)
async def test_schemas_that_cannot_be_used_are_named(
    nothing_left: None, schema: dict[str, Any], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with http_peer() as peer:

        @peer.on("tools/list")
        async def tools(seen: Seen) -> web.StreamResponse:
            return seen.json({"tools": [{"name": "a", "inputSchema": {}, "outputSchema": schema}]})

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            content: dict[str, Any] = {"content": []}
            if seen.body["params"]["arguments"]:
                content["structuredContent"] = {"x": 1}
            return seen.json(content)

        config = HTTPConfig(f"{peer.url}/mcp", output_validation="strict")
        async with HTTPMCPClient("peer", config) as client:
            with pytest.raises(StructuredOutputError, match=expected):
                await client.call_tool("a", {"structured": True})
            with pytest.raises(StructuredOutputError, match="it has no structuredContent"):
                await client.call_tool("a")


async def test_references_outside_a_schema_are_never_fetched(nothing_left: None) -> None:
    async with http_peer() as peer:

        @peer.on("tools/list")
        async def tools(seen: Seen) -> web.StreamResponse:
            schema = {"$ref": f"{peer.url}/schema"}
            return seen.json({"tools": [{"name": "a", "inputSchema": {}, "outputSchema": schema}]})

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            return seen.json({"content": [], "structuredContent": {}})

        async with HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp", output_validation="strict")) as client:
            with pytest.raises(StructuredOutputError, match="references outside the schema are never fetched"):
                await client.call_tool("a")
        assert {seen.http.path for seen in peer.seen} == {"/mcp"}


@pytest.mark.parametrize("strict", [True, False])
async def test_output_of_a_tool_that_cannot_be_listed(
    nothing_left: None, strict: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with http_peer() as peer:

        @peer.on("tools/list")
        async def tools(seen: Seen) -> web.StreamResponse:
            return seen.error(-32603, "not now")

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            return seen.json({"content": [], "structuredContent": {}})

        config = HTTPConfig(f"{peer.url}/mcp", output_validation="strict" if strict else "warn")
        async with HTTPMCPClient("peer", config) as client:
            if strict:
                with pytest.raises(RPCError, match="not now"):
                    await client.call_tool("a")
            else:
                assert (await client.call_tool("a")).structured_content == {}
                assert "goes unchecked" in caplog.text


# Lists are kept while the server allows it.


async def test_lists_are_cached_for_their_ttl_and_dropped_on_a_notice(nothing_left: None) -> None:
    async with http_peer(stateless=True) as peer:

        @peer.on("tools/list")
        async def tools(seen: Seen) -> web.StreamResponse:
            return seen.json({"tools": [{"name": "a", "inputSchema": {}}], "ttlMs": 60_000})

        @peer.on("resources/list")
        async def resources(seen: Seen) -> web.StreamResponse:
            return seen.json({"resources": [], "ttlMs": 60_000})

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            response = await seen.stream()
            await response.write(event({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}))
            await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": {"content": []}}))
            return response

        async with HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
            for _ in range(3):
                await client.list_tools()
                await client.list_resources()
            assert peer.methods().count("tools/list") == peer.methods().count("resources/list") == 1
            await client.call_tool("a")
            await client.list_tools()
            await client.list_resources()
            assert peer.methods().count("tools/list") == 2
            assert peer.methods().count("resources/list") == 1


# Questions of the server, in both eras.


async def sample(context: HandlerContext, params: Any) -> CreateMessageResult:
    assert context.server == "peer"
    assert params.max_tokens == 10
    return CreateMessageResult(role="assistant", content=TextContent(type="text", text="Paris"), model="m")


async def elicit(_context: HandlerContext, params: ElicitRequestFormParams) -> ElicitResult:
    action = "decline" if params.message == "decline?" else "accept"
    return ElicitResult(action=action, content={"name": "octo"} if action == "accept" else None)


async def visit(_context: HandlerContext, params: ElicitRequestURLParams) -> ElicitResult:
    assert params.url == "https://example.com/"
    return ElicitResult(action="cancel")


async def roots(_context: HandlerContext) -> list[Root]:
    return [Root(uri="file:///tmp", name="tmp")]  # pyright: ignore[reportArgumentType] - pydantic parses it


async def broken(_context: HandlerContext, _params: Any) -> CreateMessageResult:
    raise RuntimeError("out of tokens")


ALL_HANDLERS = Handlers(sampling=sample, elicitation=elicit, elicitation_url=visit, roots=roots, sampling_tools=True)
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "default": 7}}}
SAMPLING = {"messages": [], "maxTokens": 10}
QUESTIONS = [
    ("sampling/createMessage", SAMPLING, {"model": "m"}),
    ("elicitation/create", {"message": "?", "requestedSchema": SCHEMA}, {"content": {"name": "octo", "age": 7}}),
    ("elicitation/create", {"message": "decline?", "requestedSchema": SCHEMA}, {"action": "decline"}),
    (
        "elicitation/create",
        {"mode": "url", "message": "?", "url": "https://example.com/", "elicitationId": "1"},
        {"action": "cancel"},
    ),
    ("roots/list", {}, {"roots": [{"uri": "file:///tmp", "name": "tmp"}]}),
]


@pytest.mark.parametrize(("method", "params", "expected"), QUESTIONS)
async def test_questions_in_the_handshake_era(method: str, params: Any, expected: dict[str, Any]) -> None:
    async with stdio_peer(handlers=ALL_HANDLERS) as client:
        answer = json.loads(text_of(await client.call_tool("ask", {"method": method, "params": params})))["result"]
    assert expected.items() <= answer.items()


@pytest.mark.parametrize(("method", "params", "expected"), QUESTIONS)
async def test_questions_in_the_stateless_era(
    nothing_left: None, method: str, params: Any, expected: dict[str, Any]
) -> None:
    async with asking_peer({"q": {"method": method, "params": params}}) as peer:
        config = HTTPConfig(f"{peer.url}/mcp")
        async with HTTPMCPClient("peer", config, handlers=ALL_HANDLERS) as client:
            answer = json.loads(text_of(await client.call_tool("x", {"a": 1})))
    assert expected.items() <= answer["inputResponses"]["q"].items()
    assert answer["requestState"] == "opaque é"
    assert answer["arguments"] == {"a": 1}
    first, second = [seen for seen in peer.seen if seen.method == "tools/call"]
    assert first.id != second.id
    assert "inputResponses" not in first.body["params"]


def asking_peer(questions: dict[str, Any] | None, *, rounds: int = 1) -> Any:
    """A stateless server whose tool asks `questions` for some rounds, then returns the parameters it got."""
    left = iter(range(rounds))

    async def call(seen: Seen) -> web.StreamResponse:
        if next(left, None) is not None:
            asked = {} if questions is None else {"inputRequests": questions}
            return seen.json({"resultType": "input_required", "requestState": "opaque é", **asked})
        params = {key: value for key, value in seen.body["params"].items() if key != "_meta"}
        return seen.json({"resultType": "complete", "content": [{"type": "text", "text": json.dumps(params)}]})

    return http_peer(HTTPPeer({"tools/call": call}, stateless=True))


async def test_several_questions_are_asked_at_once(nothing_left: None) -> None:
    meeting = asyncio.Barrier(2)

    async def meet(context: HandlerContext, _params: Any) -> ElicitResult:
        await meeting.wait()
        return ElicitResult(action="accept", content={"key": context.key})

    question = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": SCHEMA}}
    async with asking_peer({"a": question, "b": question}) as peer:
        client = HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp"), handlers=Handlers(elicitation=meet))
        async with client:
            answer = json.loads(text_of(await client.call_tool("x", timeout=5)))
    assert {key: given["content"]["key"] for key, given in answer["inputResponses"].items()} == {"a": "a", "b": "b"}


async def test_state_alone_is_echoed_without_answers(nothing_left: None) -> None:
    async with asking_peer(None) as peer, HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
        answer = json.loads(text_of(await client.call_tool("x")))
    assert answer["requestState"] == "opaque é"
    assert "inputResponses" not in answer


async def test_ten_rounds_are_enough(nothing_left: None) -> None:
    question = {"q": {"method": "roots/list"}}
    async with asking_peer(question, rounds=10) as peer:
        config = HTTPConfig(f"{peer.url}/mcp")
        async with HTTPMCPClient("peer", config, handlers=Handlers(roots=[])) as client:
            assert not (await client.call_tool("x")).is_error
    async with asking_peer(question, rounds=11) as peer:
        config = HTTPConfig(f"{peer.url}/mcp")
        async with HTTPMCPClient("peer", config, handlers=Handlers(roots=[])) as client:
            with pytest.raises(InputRequiredError, match="after 10 rounds"):
                await client.call_tool("x")


@pytest.mark.parametrize(
    ("question", "handlers", "expected"),
    [
        ({"method": "roots/list"}, Handlers(), "tools/call needs roots/list, but this client has no handler"),
        ({"method": "sampling/createMessage", "params": SAMPLING}, Handlers(sampling=broken), "out of tokens"),
        ({"method": "sampling/createMessage", "params": {}}, Handlers(sampling=sample), "malformed parameters"),
    ],
)
async def test_input_that_cannot_be_given_fails_the_call(
    nothing_left: None, question: Any, handlers: Handlers, expected: str
) -> None:
    async with asking_peer({"q": question, "other": {"method": "ping"}}) as peer:
        client = HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp"), handlers=handlers)
        async with client:
            with pytest.raises(InputRequiredError, match=expected):
                await client.call_tool("x")


@pytest.mark.parametrize("kind", ["task", 7])
async def test_a_result_type_of_another_kind_is_refused(nothing_left: None, kind: Any) -> None:
    async with http_peer(stateless=True) as peer:

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            return seen.json({"resultType": kind, "content": []})

        async with HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
            with pytest.raises(ProtocolError, match=r"resultType|malformed"):
                await client.call_tool("x")


async def test_a_question_that_nobody_answers_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with stdio_peer(handlers=Handlers(sampling=broken)) as client:
        refused = json.loads(text_of(await client.call_tool("ask", {"method": "roots/list"})))
        assert refused["error"]["code"] == -32601
        failed = json.loads(
            text_of(await client.call_tool("ask", {"method": "sampling/createMessage", "params": SAMPLING}))
        )
        assert failed["error"] == {"code": -32603, "message": "the handler for sampling/createMessage failed"}
    assert "out of tokens" in caplog.text


def test_capabilities_are_what_the_handlers_amount_to() -> None:
    assert Handlers().capabilities() == {}
    assert ALL_HANDLERS.capabilities() == {
        "sampling": {"tools": {}},
        "elicitation": {"form": {}, "url": {}},
        "roots": {},
    }


# What the server tells.


async def test_log_messages_reach_the_handler_in_both_eras(nothing_left: None) -> None:
    heard: list[str] = []

    def log(_context: HandlerContext, params: LoggingMessageNotificationParams) -> None:
        heard.append(f"{params.level}: {params.data}")

    async def call(seen: Seen) -> web.StreamResponse:
        level = seen.body["params"].get("_meta", {}).get("io.modelcontextprotocol/logLevel", "none")
        response = await seen.stream()
        params = {"level": "warning", "data": level}
        await response.write(event({"jsonrpc": "2.0", "method": "notifications/message", "params": params}))
        await response.write(event({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}))
        await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": {"content": []}}))
        return response

    async def level(seen: Seen) -> web.StreamResponse:
        return seen.json({})

    for stateless in (True, False):
        async with http_peer(HTTPPeer({"tools/call": call, "logging/setLevel": level}, stateless=stateless)) as peer:
            config = HTTPConfig(f"{peer.url}/mcp")
            async with HTTPMCPClient("peer", config, handlers=Handlers(logging=log)) as client:
                await client.call_tool("x")
                await client.set_logging_level("error")
                await client.call_tool("x")
    assert heard == ["warning: info", "warning: error", "warning: none", "warning: none"]


async def test_other_notifications_reach_the_general_handler() -> None:
    heard: list[str] = []

    async def told(_context: HandlerContext, method: str, _params: dict[str, Any]) -> None:
        heard.append(method)

    async with http_peer() as peer:

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            response = await seen.stream()
            for n in range(3):
                await response.write(event({"jsonrpc": "2.0", "method": f"notifications/custom{n}", "params": [n]}))
            await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": {"content": []}}))
            return response

        config = HTTPConfig(f"{peer.url}/mcp")
        async with HTTPMCPClient("peer", config, handlers=Handlers(notification=told)) as client:
            await client.call_tool("x")
            await client._inbox._mailbox.flush()
    assert heard == ["notifications/custom0", "notifications/custom1", "notifications/custom2"]


# Subscriptions.


async def test_subscribing_to_a_resource_in_the_handshake_era() -> None:
    updated: list[str] = []

    def told(_context: HandlerContext, uri: str) -> None:
        updated.append(uri)

    async with stdio_peer(handlers=Handlers(resource_updated=told)) as client:
        async with await client.subscribe("x://1") as changes:
            change = await anext(changes)
            assert (change.kind, change.uri) == ("resource", "x://1")
            async with await client.subscribe("x://1"):
                pass
            assert client.metrics.calls["resources/unsubscribe"] == 0
        assert client.metrics.calls["resources/subscribe"] == 1
        assert client.metrics.calls["resources/unsubscribe"] == 1
    assert updated == ["x://1"]


async def test_a_subscription_that_is_refused_leaves_nothing(nothing_left: None) -> None:
    async with http_peer() as peer, HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
        with pytest.raises(RPCError):
            await client.subscribe("x://1")
        assert client._inbox.subscriptions == {}


@pytest.fixture
async def noticing(nothing_left: None) -> AsyncIterator[HTTPPeer]:
    """A stateless server that holds subscriptions open and sends what a test puts into `queue`."""
    async with http_peer(stateless=True) as peer:

        @peer.on("subscriptions/listen")
        async def listen(seen: Seen) -> web.StreamResponse:
            meta = {"io.modelcontextprotocol/subscriptionId": seen.id}
            response = await seen.stream()
            wanted = seen.body["params"]["notifications"]
            params: dict[str, Any] = {"_meta": meta, "notifications": wanted}
            method = "notifications/subscriptions/acknowledged"
            await response.write(event({"jsonrpc": "2.0", "method": method, "params": params}))
            for uri in wanted.get("resourceSubscriptions", []):
                for _ in range(3):
                    note = {"jsonrpc": "2.0", "method": "notifications/resources/updated"}
                    await response.write(event({**note, "params": {"uri": uri, "_meta": meta}}))
            if wanted.get("toolsListChanged"):
                note = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": meta}}
                await response.write(event(note))
            if wanted.get("promptsListChanged"):
                result = {"resultType": "complete", "_meta": meta}
                await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": result}))
                return response
            await asyncio.sleep(60)
            return response

        yield peer


async def test_listening_in_the_stateless_era(noticing: HTTPPeer) -> None:
    async with HTTPMCPClient("peer", HTTPConfig(f"{noticing.url}/mcp")) as client:
        async with await client.listen(tools=True, uris=["x://1"]) as changes:
            assert changes.honoured == {"toolsListChanged": True, "resourceSubscriptions": ["x://1"]}
            first, second = await anext(changes), await anext(changes)
            assert {(first.kind, first.uri), (second.kind, second.uri)} == {("resource", "x://1"), ("tools", None)}
        async with asyncio.timeout(5):
            await noticing.gone.wait()
        assert await client.health_check()


async def test_a_subscription_that_the_server_ends_ends_the_iteration(noticing: HTTPPeer) -> None:
    client = HTTPMCPClient("peer", HTTPConfig(f"{noticing.url}/mcp"))
    async with client, await client.listen(prompts=True) as changes:
        assert [change async for change in changes] == []


async def test_a_subscription_that_the_server_refuses(nothing_left: None) -> None:
    async with http_peer(stateless=True) as peer, HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
        with pytest.raises(RPCError, match="Method not found"):
            await client.listen(tools=True)


async def test_a_subscription_that_is_never_acknowledged(nothing_left: None) -> None:
    async with http_peer(stateless=True) as peer:

        @peer.on("subscriptions/listen")
        async def silent(seen: Seen) -> web.StreamResponse:
            response = await seen.stream()
            await asyncio.sleep(60)
            return response

        async with HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
            with pytest.raises(CallTimeoutError, match="acknowledge"):
                await client.listen(tools=True, timeout=0.1)


async def test_a_list_changed_handler_is_told_in_the_stateless_era_without_being_asked(noticing: HTTPPeer) -> None:
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def changed(context: HandlerContext, kind: str) -> None:
        assert context.principal == "ann"
        told.set_result(kind)

    config = HTTPConfig(f"{noticing.url}/mcp")
    async with HTTPMCPClient("peer", config, handlers=Handlers(list_changed=changed), principal="ann"):
        async with asyncio.timeout(5):
            assert await told == "tools"


async def test_a_subscription_outlives_its_channel(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with stdio_peer("--log", str(log)) as client, await client.listen(tools=True, uris=["x://1"]) as changes:
        assert (await anext(changes)).uri == "x://1"
        with pytest.raises(MCPConnectionError):
            await client.call_tool("exit")
        told = {(await anext(changes)).kind for _ in range(2)}
        assert told == {"tools", "resource"}  # they may have changed meanwhile
    methods = [json.loads(line)["method"] for line in log.read_text().splitlines()]
    assert methods.count("resources/subscribe") == 2


async def test_a_subscription_that_the_new_session_refuses_ends_with_the_error(nothing_left: None) -> None:
    async with http_peer() as peer:
        refused: set[str] = set()

        @peer.on("resources/subscribe")
        async def subscribe(seen: Seen) -> web.StreamResponse:
            return seen.error(-32002, "no longer") if seen.body["params"]["uri"] in refused else seen.json({})

        async with HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
            async with await client.subscribe("x://gone") as gone, await client.subscribe("x://there") as there:
                refused.add("x://gone")
                await client.replace_channel()
                with pytest.raises(RPCError, match="no longer"):
                    await anext(gone)
                assert (await anext(there)).uri == "x://there"
                assert client.listening
            assert peer.methods().count("resources/unsubscribe") == 1


async def test_a_subscription_ends_with_an_error_where_the_server_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_server.mcp.clients.connector.backoff_delays", lambda attempts: iter([0.0] * attempts))
    server = tmp_path / "server.py"
    server.write_text(Path(PEER).read_text())
    client = StdioMCPClient("peer", StdioConfig(sys.executable, ["-S", str(server)]))
    async with client:
        changes = await client.listen(tools=True)
        server.unlink()
        with pytest.raises(MCPConnectionError):
            await client.call_tool("exit")
        with pytest.raises(MCPConnectionError):
            await anext(changes)
        await changes.close()


async def test_a_stream_that_breaks_is_opened_again_in_the_stateless_era(
    noticing: HTTPPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_server.mcp.clients.listener.backoff_delays", lambda attempts: iter([0.0] * attempts))
    async with HTTPMCPClient("peer", HTTPConfig(f"{noticing.url}/mcp")) as client:
        async with await client.listen(tools=True) as changes:
            assert (await anext(changes)).kind == "tools"
            listening = next(seen for seen in noticing.seen if seen.method == "subscriptions/listen")
            assert listening.http.transport is not None
            listening.http.transport.abort()
            assert (await anext(changes)).kind == "tools"
        assert noticing.methods().count("subscriptions/listen") == 2


# A URL of unknown kind.


async def test_auto_finds_each_transport(sse_server: str, handshake_server: str, stateless_server: str) -> None:
    found: list[tuple[str | None, EraName]] = []
    for url in (sse_server, handshake_server, stateless_server):
        async with AutoMCPClient("weather", {"endpoint": url}) as client:
            assert client.server_info is not None
            found.append((client.found, client.server_info.era))
    assert found == [("sse", "handshake"), ("http", "handshake"), ("http", "stateless")]


async def test_auto_falls_back_to_sse_and_keeps_what_it_found(nothing_left: None) -> None:
    async with sse_peer() as peer:

        @peer.on("server/discover")
        async def refuse(_seen: Seen) -> web.StreamResponse:
            return web.Response(status=405)

        answer = peer.handlers["initialize"]

        @peer.on("initialize")
        async def initialize(seen: Seen) -> web.StreamResponse:
            return await answer(seen) if seen.http.path == "/messages" else web.Response(status=405)

        client = AutoMCPClient("peer", HTTPConfig(f"{peer.url}/mcp"))
        assert client.found is None
        assert await client.connect() is True
        assert client.found == "sse"
        await client.disconnect()
        seen = len(peer.seen)
        assert await client.connect() is True
        assert peer.methods()[seen:] == ["GET", "initialize", "notifications/initialized"]
        await client.disconnect()


async def test_auto_finds_the_rest_dialect_last(nothing_left: None) -> None:
    async with http_peer() as peer:

        async def missing(_seen: Seen) -> web.StreamResponse:
            return web.Response(status=404)

        async def healthy(seen: Seen) -> web.StreamResponse:
            return web.json_response({}, status=200 if seen.http.path == "/api/health" else 404)

        peer.handlers |= {"server/discover": missing, "initialize": missing, "GET": healthy, "POST": missing}
        async with AutoMCPClient("peer", HTTPConfig(f"{peer.url}/api")) as client:
            assert client.found == "rest"


async def test_auto_says_what_each_probe_answered(nothing_left: None) -> None:
    async with http_peer() as peer:

        async def missing(_seen: Seen) -> web.StreamResponse:
            return web.Response(status=404, text="nothing here")

        peer.handlers |= dict.fromkeys(["server/discover", "initialize", "GET", "POST"], missing)
        client = AutoMCPClient("peer", HTTPConfig(f"{peer.url}/api"))
        assert await client.connect(retry_count=1) is False
        message = str(client.last_error)
        assert isinstance(client.last_error, HandshakeError)
        assert "no MCP server was found at" in message
        for name in ("http: ", "sse: ", "rest: "):
            assert name in message


async def test_auto_does_not_go_on_when_the_server_is_away_or_wants_credentials(
    nothing_left: None, unused_tcp_port: int
) -> None:
    client = AutoMCPClient("peer", HTTPConfig(f"http://127.0.0.1:{unused_tcp_port}/mcp"))
    assert await client.connect(retry_count=1) is False
    assert "cannot connect" in str(client.last_error)
    async with http_peer() as peer:

        @peer.on("server/discover")
        async def refuse(_seen: Seen) -> web.StreamResponse:
            return web.Response(status=401)

        client = AutoMCPClient("peer", HTTPConfig(f"{peer.url}/mcp"))
        assert await client.connect() is False
        assert peer.methods() == ["server/discover"]


# Odds and ends.


async def test_completion(nothing_left: None) -> None:
    async with http_peer() as peer:

        @peer.on("completion/complete")
        async def complete(seen: Seen) -> web.StreamResponse:
            params = seen.body["params"]
            assert params["ref"] == {"type": "ref/prompt", "name": "packing"}
            values = [params["argument"]["value"], json.dumps(params.get("context"))]
            return seen.json({"completion": {"values": values}})

        async with HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
            ref = PromptReference(type="ref/prompt", name="packing")
            assert (await client.complete(ref, "city", "Os")).values == ["Os", "null"]
            completion = await client.complete(ref, "city", "Os", context={"a": "b"})
            assert completion.values == ["Os", '{"arguments": {"a": "b"}}']


async def test_a_server_that_cancels_its_question_stops_the_handler(nothing_left: None) -> None:
    stopped = asyncio.Event()

    async def endless(_context: HandlerContext, _params: Any) -> CreateMessageResult:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()
        raise AssertionError

    async with http_peer() as peer:

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            response = await seen.stream()
            question = {"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": SAMPLING}
            await response.write(event(question))
            await asyncio.sleep(0.01)
            note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "q"}}
            await response.write(event(note))
            await stopped.wait()
            await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": {"content": []}}))
            return response

        config = HTTPConfig(f"{peer.url}/mcp")
        async with HTTPMCPClient("peer", config, handlers=Handlers(sampling=endless)) as client:
            await client.call_tool("x", timeout=5)


async def test_meta_of_the_caller_is_sent() -> None:
    async with http_peer() as peer, HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp")) as client:
        await client.call_tool("x", meta={"traceparent": "00-1"})
    assert peer.seen[-2].body["params"]["_meta"] == {"traceparent": "00-1"}


async def test_a_mailbox_keeps_order_across_kinds_of_callbacks() -> None:
    order: list[str] = []
    mailbox = Mailbox()

    async def slow(name: str) -> None:
        await asyncio.sleep(0)
        order.append(name)

    mailbox.post(order.append, "a")
    mailbox.post(slow, "b")
    mailbox.post(order.append, "c")
    mailbox.post(slow, "d")
    await mailbox.flush()
    assert order == ["a", "b", "c", "d"]
    mailbox.post(slow, "e")
    await mailbox.close()
    assert order == ["a", "b", "c", "d"]


class HalfAClient(MCPClient):
    """A transport that does not get far."""

    transport = "half"
    failure: Exception = ProtocolError("half a client")

    async def _establish_connection(self) -> Channel:
        raise self.failure


async def test_whatever_a_transport_raises_connecting_fails_with_a_connection_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    client = HalfAClient("half", {})
    assert await client.connect() is False
    assert isinstance(client.last_error, ConnectionError)
    assert str(client.last_error) == "server 'half' (half): half a client"
    client.failure = KeyError("a bug of its author")
    assert await client.connect(retry_count=1) is False
    assert "connecting failed: KeyError: 'a bug of its author'" in str(client.last_error)
    assert client.last_error is not None
    with pytest.raises(MCPConnectionError) as caught:
        await client.list_tools()
    assert caught.value.delivery is Delivery.NOT_SENT


# Found by using it.


async def test_disconnect_in_the_same_moment_as_connect_is_no_cancellation() -> None:
    client = stdio_peer()
    connected, _ = await asyncio.gather(client.connect(), client.disconnect())
    assert connected is False
    assert client.state is ConnectionState.DISCONNECTED


async def test_the_timeout_of_every_verb_covers_connecting() -> None:
    silent = ("--discover", "silent", "--initialize", "silent")
    client = stdio_peer(*silent, timeout=5000, probe_timeout=4000)
    started = asyncio.get_running_loop().time()
    for verb in (client.ping, client.initialize, client.list_tools, client.listen):
        with pytest.raises(CallTimeoutError) as caught:
            await verb(timeout=0.05)
        assert caught.value.delivery is Delivery.NOT_SENT
        assert str(caught.value).startswith("server 'peer' (stdio): ")
    with pytest.raises(CallTimeoutError):
        await client.set_logging_level("info", timeout=0.05)
    with pytest.raises(CallTimeoutError):
        await client.notify("notifications/x", timeout=0.05)
    assert asyncio.get_running_loop().time() - started < 3
    await client.disconnect()


async def test_auto_does_not_take_any_web_site_for_a_server(nothing_left: None) -> None:
    async with http_peer() as peer:

        async def page(seen: Seen) -> web.StreamResponse:
            status = 200 if seen.http.method == "GET" else 404
            return web.Response(text="<html>", content_type="text/html", status=status)

        peer.handlers |= dict.fromkeys(["server/discover", "initialize", "GET", "POST"], page)
        client = AutoMCPClient("site", HTTPConfig(f"{peer.url}/"))
        assert await client.connect(retry_count=1) is False
        assert "like that of any web site" in str(client.last_error)


async def test_auto_does_not_hide_a_server_in_trouble(nothing_left: None) -> None:
    async with http_peer() as peer:

        @peer.on("server/discover")
        async def trouble(_seen: Seen) -> web.StreamResponse:
            return web.Response(status=503)

        client = AutoMCPClient("peer", HTTPConfig(f"{peer.url}/mcp"))
        assert await client.connect(retry_count=1) is False
        assert isinstance(client.last_error, HTTPStatusError)
        assert peer.methods() == ["server/discover"]


async def test_a_handler_hears_of_a_change_once_however_many_listen(noticing: HTTPPeer) -> None:
    told: list[str] = []

    def changed(_context: HandlerContext, kind: str) -> None:
        told.append(kind)

    config = HTTPConfig(f"{noticing.url}/mcp")
    async with HTTPMCPClient("peer", config, handlers=Handlers(list_changed=changed)) as client:
        async with asyncio.timeout(5):
            while not told:
                await asyncio.sleep(0.01)
        async with await client.listen(tools=True) as changes:
            assert (await anext(changes)).kind == "tools"
    assert told == ["tools"]


def test_a_client_belongs_to_one_event_loop_at_a_time() -> None:
    client = stdio_peer()

    async def use() -> str:
        return text_of(await client.call_tool("echo"))

    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(use()) == "{}"
        with pytest.raises(MCPConnectionError, match="in use by another event loop"):
            second.run(use())
        first.run(client.disconnect())
        assert second.run(client.connect()) is True
        assert second.run(use()) == "{}"
        second.run(client.disconnect())


def test_turns_are_those_of_the_present_event_loop() -> None:
    client = StdioMCPClient("peer", StdioConfig(sys.executable, ["-S", PEER], max_in_flight=1, shutdown_timeout=500))

    async def crowd() -> None:
        await asyncio.gather(*(client.call_tool("echo") for _ in range(5)))
        await client.park()

    asyncio.run(crowd())
    asyncio.run(crowd())
    queued = client.metrics.queued
    assert sum(queued.counts) == 8
    assert client.metrics.to_dict()["queued"]["seconds"] == queued.seconds > 0


def test_a_client_whose_event_loop_is_gone_starts_anew() -> None:
    client = MemoryMCPClient("fake", {})
    assert asyncio.run(client.connect()) is True
    assert client.state is ConnectionState.CONNECTED
    assert asyncio.run(client.connect()) is True
    asyncio.run(client.disconnect())
    assert client.state is ConnectionState.DISCONNECTED


async def test_arguments_that_have_no_names_are_refused() -> None:
    arguments: Any = "Oslo"
    async with MemoryMCPClient("fake", {}) as client:
        for call in (client.call_tool, client.get_prompt):
            with pytest.raises(ConfigError, match=r"forecast: arguments are given by name, .* not as str"):
                await call("forecast", arguments)
