"""Secrets are planted wherever a configuration takes one, servers echo them, and none may be seen anywhere."""

import asyncio
import base64
import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fastapi_server.mcp import (
    AutoMCPClient,
    ClientPool,
    ErrorEvent,
    Handlers,
    Hooks,
    HTTPConfig,
    HTTPMCPClient,
    MCPClient,
    MCPClientError,
    RequestEvent,
    ResponseEvent,
    ServerConfig,
    SSEConfig,
    SSEMCPClient,
    StateEvent,
    StdioConfig,
    StdioMCPClient,
    make_client,
)
from fastapi_server.mcp.clients.stdio_client import StderrTail
from fastapi_server.mcp.exporters.opentelemetry import CallTracer
from fastapi_server.mcp.exporters.prometheus import PoolCollector
from fastapi_server.mcp.members import fingerprint_of
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, event
from fastapi_server.mcp.testing.raw_peer import RawRequest, raw_peer
from fastapi_server.mcp.testing.sse_peer import sse_peer

SECRET = "planted-secret"


class Seeing(logging.Handler):
    """Keeps every record whole, arguments and extras too."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(self.format(record) + repr(vars(record)))


async def provided() -> dict[str, str]:
    return {"X-Rotating": f"{SECRET}-rotating"}


async def failing() -> dict[str, str]:
    raise RuntimeError(f"the vault does not know {SECRET}-of-the-vault")


SAYS_ALL = "import os, sys; sys.exit(f'cannot start with {sys.argv} in {dict(os.environ)}')"
PLANTED_ARGUMENTS = [
    *("--token", f"{SECRET}-token", f"--api-key={SECRET};a b", f"postgres://user:{SECRET}-p%40ss@host/db"),
    *("--header", f"Authorization: Custom {SECRET} more", "-e", f"API_KEY={SECRET}-e", f"https://{SECRET}-user@host/"),
    *(f"https://host/?page=1&access_token={SECRET}-query", f"host=db password={SECRET}-dsn"),
]
PLANTED_ENVIRONMENT = {
    "API_TOKEN": f"{SECRET}-env",
    "DATABASE_URL": f"postgres://user:{SECRET}-p%40ss@host",
    "OPENAPI_MCP_HEADERS": f'{{"Authorization": "Bearer {SECRET}-header"}}',
}


def says_all(*args: str, **settings: Any) -> StdioConfig:
    """A process that writes its arguments and its environment to standard error, and exits."""
    return StdioConfig(sys.executable, ["-S", "-c", SAYS_ALL, *args], shutdown_timeout=500, retries=0, **settings)


def everything_about(client: MCPClient, errors: list[MCPClientError]) -> str:
    parts = [repr(client), repr(client.config), repr(client.metrics), str(client.metrics.to_dict())]
    parts += [repr(client.server_info), repr(client.last_error), str(client.last_error)]
    for error in errors:
        parts += [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception_only(error))]
    return "\n".join(parts)


async def use(client: MCPClient) -> str:
    errors: list[MCPClientError] = []
    for verb in (client.list_tools, client.list_prompts, client.list_resources, client.ping):
        try:
            await verb(timeout=2)
        except MCPClientError as error:
            errors.append(error)
    for name in ("say", "exit", "status"):
        try:
            await client.call_tool(name, {"stderr": f"token {SECRET}-env"}, timeout=2)
        except MCPClientError as error:
            errors.append(error)
    assert errors
    seen = everything_about(client, errors)
    await client.disconnect()
    return seen


@pytest.fixture
def log() -> Any:
    seeing = Seeing()
    logger = logging.getLogger("fastapi_server")
    before = logger.level
    logger.addHandler(seeing)
    logger.setLevel(logging.DEBUG)
    yield seeing
    logger.removeHandler(seeing)
    logger.setLevel(before)


async def test_no_planted_secret_is_seen_anywhere(
    log: Seeing,
    mcp_http_peer: Callable[..., AbstractAsyncContextManager[HTTPPeer]],
    mcp_stdio_peer: Callable[..., StdioConfig],
) -> None:
    async with mcp_http_peer() as peer:

        async def echo(seen: Seen) -> web.StreamResponse:
            headers = dict(seen.http.headers)
            if seen.body.get("params", {}).get("name") == "status":
                return web.Response(status=400, text=str(headers))
            return seen.error(-32000, f"you sent {headers}", {"headers": headers})

        for method in ("tools/list", "tools/call", "prompts/list", "resources/list", "ping"):
            peer.handlers[method] = echo
        common: dict[str, Any] = {"headers": {"X-Static": f"{SECRET}-static"}}
        url = f"{peer.url}/mcp?key={SECRET}-query"
        seen = [
            await use(HTTPMCPClient("web", HTTPConfig(url, api_key=f"{SECRET}-key", **common))),
            await use(HTTPMCPClient("web", HTTPConfig(url, api_key=f"{SECRET}-key", headers=provided))),
            await use(AutoMCPClient("web", HTTPConfig(url, api_key=f"{SECRET}-key", **common))),
            await use(HTTPMCPClient("web", HTTPConfig(url, headers=failing, retries=0))),
            await use(SSEMCPClient("old", SSEConfig(url, timeout=500, **common))),
            await use(
                StdioMCPClient("all", says_all(*PLANTED_ARGUMENTS, env=PLANTED_ENVIRONMENT, stderr_log=True)),
            ),
            await use(
                StdioMCPClient(
                    "pipe",
                    mcp_stdio_peer("--stderr", "starting", env={"API_TOKEN": f"{SECRET}-env"}, shutdown_timeout=500),
                )
            ),
        ]
        config = ServerConfig("web", "http", HTTPConfig(url, api_key=f"{SECRET}-key", **common))
        async with ClientPool({"web": config}, make_client) as pool:
            outcomes = await pool.connect_all()
            seen += [repr(pool), repr(outcomes), repr(pool.members()), fingerprint_of(config), repr(config)]
        await asyncio.sleep(0)
    for text in [*seen, *log.text]:
        assert SECRET not in text


async def test_no_credential_of_a_principal_is_seen_by_hooks_or_exporters(
    log: Seeing, mcp_http_peer: Callable[..., AbstractAsyncContextManager[HTTPPeer]]
) -> None:
    """The whole of a pool: credentials asked for, hooks told, spans and metrics exported, the catalogue, a reload."""
    told: list[object] = []
    spans = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))

    async def credentials(_server: str, principal: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {SECRET}-of-{principal}", "Cookie": f"{SECRET}-cookie"}

    hooks = Hooks(told.append, told.append, told.append, told.append, CallTracer(tracers))
    async with mcp_http_peer() as peer:

        async def echo(seen: Seen) -> web.StreamResponse:
            return seen.error(-32000, f"you sent {dict(seen.http.headers)}")

        async def refuse(seen: Seen) -> web.StreamResponse:
            return web.Response(status=401, text=str(dict(seen.http.headers)))

        peer.handlers |= {"tools/call": echo, "prompts/list": refuse}
        servers = {"web": ServerConfig("web", "http", HTTPConfig(f"{peer.url}/mcp"))}
        async with ClientPool(servers, make_client, credentials=credentials, hooks=hooks) as pool:
            collector = PoolCollector(pool)
            for principal in ("ann", None):
                client = pool.client("web", principal)
                for use in (pool.call("web__x", principal=principal), client.list_prompts()):
                    with pytest.raises(MCPClientError) as caught:
                        await use
                    told += [caught.value, *traceback.format_exception_only(caught.value), vars(caught.value)]
            told += [await pool.tools(principal="ann"), *pool.members(), pool, pool.metrics, pool.metrics.to_dict()]
            told += list(collector.collect())
            await pool.reload({})
        told += [span.to_json() for span in spans.get_finished_spans()]
    assert len(spans.get_finished_spans()) > 4
    assert {type(event) for event in told} >= {RequestEvent, ResponseEvent, ErrorEvent, StateEvent}
    for text in [*map(repr, told), *map(str, told), *log.text]:
        assert SECRET not in text


async def failure_of(client: MCPClient) -> str:
    assert await client.connect(retry_count=1) is False
    shown = str(client.last_error)
    await client.disconnect()
    return shown


async def test_what_is_no_secret_is_still_seen(mcp_stdio_peer: Callable[..., StdioConfig]) -> None:
    shown = await failure_of(StdioMCPClient("all", says_all(*PLANTED_ARGUMENTS, env=PLANTED_ENVIRONMENT)))
    for part in ("--token", "postgres://***@host/db", "--api-key=***", "page=1", "host=db password=***", "API_TOKEN"):
        assert part in shown
    shown = await failure_of(StdioMCPClient("peer", mcp_stdio_peer("--token", f"{SECRET}-token", retries=0)))
    assert "unrecognized arguments: --token ***" in shown


async def test_a_secret_that_the_process_inherits_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENDOR_API_KEY", f"{SECRET}-inherited")
    shown = await failure_of(StdioMCPClient("all", says_all(inherit_env=True)))
    assert SECRET not in shown


@pytest.mark.parametrize("log_it", [False, True])
async def test_a_secret_that_a_process_spells_otherwise_is_not_seen(log: Seeing, log_it: bool) -> None:
    script = """
import base64, sys, urllib.parse
secret = sys.argv[2]
encoded = base64.b64encode(f"user:{secret}".encode()).decode()
sys.exit(f"{encoded} {urllib.parse.quote(secret)} {urllib.parse.quote_plus(secret)}")
"""
    args = ["-S", "-c", script, "--token", f"{SECRET} of/ours"]
    config = StdioConfig(sys.executable, args, retries=0, shutdown_timeout=500, stderr_log=log_it)
    shown = await failure_of(StdioMCPClient("spells", config))
    assert "***" in shown
    for text in [shown, *log.text]:
        assert "planted" not in text
        assert base64.b64encode(b"user:" + SECRET.encode()).decode()[8:20] not in text


def test_a_line_without_an_end_that_is_cut_shows_no_half_of_a_secret(log: Seeing) -> None:
    tail = StderrTail(StdioConfig("x", stderr_log=True), {f"{SECRET}-token"})
    tail.feed(f"{SECRET}-token".encode() + b"y" * (16 * 1024 - 6))
    tail.feed(b"\n")
    assert "yyy" in log.text[0]
    assert "token" not in log.text[0]


async def test_a_secret_at_the_edge_of_what_is_shown_is_not_seen_by_half(
    mcp_http_peer: Callable[..., AbstractAsyncContextManager[HTTPPeer]],
) -> None:
    script = "import sys; sys.exit(sys.argv[2] + 'x' * 1990)"
    config = StdioConfig(sys.executable, ["-S", "-c", script, "--token", f"{SECRET}-token"], retries=0)
    assert "token" not in await failure_of(StdioMCPClient("edge", config))
    async with mcp_http_peer() as peer:

        async def refuse(_seen: Seen) -> web.StreamResponse:
            return web.Response(status=401, text="x" * 490 + f"{SECRET}-key")

        peer.handlers |= {"server/discover": refuse, "initialize": refuse}
        shown = await failure_of(HTTPMCPClient("edge", HTTPConfig(f"{peer.url}/mcp", api_key=f"{SECRET}-key")))
    assert "xxx" in shown
    assert "planted" not in shown


async def test_events_are_told_to_machines_too(caplog: pytest.LogCaptureFixture, mcp_stdio_peer: Any) -> None:
    caplog.set_level(logging.DEBUG, logger="fastapi_server.mcp")
    async with StdioMCPClient("pipe", mcp_stdio_peer(shutdown_timeout=500)) as client:
        with pytest.raises(MCPClientError):
            await client.call_tool("exit")
    events = [vars(record).get("mcp_event") for record in caplog.records if "mcp_event" in vars(record)]
    assert events == ["connected", "lost", "closed"]
    (lost,) = [record for record in caplog.records if vars(record).get("mcp_event") == "lost"]
    assert (vars(lost)["mcp_server"], vars(lost)["mcp_transport"]) == ("pipe", "stdio")


def behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that can be reached from it: causes, and contexts that a traceback does not show."""
    if error is not None:
        yield error
        yield from behind(error.__cause__)
        yield from behind(error.__context__)


async def all_that_is_seen(client: MCPClient, log: Seeing) -> str:
    """Use a client, and return everything that tells of what went wrong."""
    errors: list[MCPClientError] = []
    probes: list[object] = []
    client.watch_negotiation(lambda probe: probes.append(repr(probe)))
    for verb in (client.initialize, client.list_tools, client.list_prompts):
        try:
            await verb(timeout=5)
        except MCPClientError as error:
            errors.append(error)
    try:
        await client.call_tool("t", timeout=5)
    except MCPClientError as error:
        errors.append(error)
    errors += [client.last_error] if client.last_error else []
    await client.disconnect()
    parts = [*map(str, probes), *log.text]
    for error in errors:
        parts += [f"{one} {one!r} {one.args} {vars(one)}" for one in behind(error)]
        parts.append("".join(traceback.format_exception(error)))
    return "\n".join(parts)


OWN = "planted/secret"
"""JSON may have the slash with a backslash before it."""
TOOL = {"name": "t", "inputSchema": {"type": "object"}}
INITIALIZED = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "s"}}
ANSWERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "an error to initialize": ("initialize", {"error": {"code": -32603, "message": OWN, "data": OWN}}, "rejected"),
    "an error to discover": (
        "server/discover",
        {"error": {"code": -32022, "message": OWN, "data": {"supported": [OWN], "requested": OWN}}},
        "***",
    ),
    "revision": ("initialize", {"result": {**INITIALIZED, "protocolVersion": OWN}}, "no protocol revision in common"),
    "capabilities": (
        "initialize",
        {"result": {**INITIALIZED, "capabilities": {"tools": OWN, "experimental": {OWN: OWN}}}},
        "capabilities are malformed: experimental.***: Input should be a valid dictionary",
    ),
    "capabilities of a stateless server": (
        "server/discover",
        {"result": {"supportedVersions": ["2026-07-28"], "capabilities": {"experimental": {OWN: [OWN]}}}},
        "capabilities are malformed: experimental.***: Input should be a valid dictionary",
    ),
    "list": ("tools/list", {"result": {"tools": OWN}}, "tools/list is malformed: tools: Input should be a valid list"),
    "content": ("tools/call", {"result": {"content": [{"type": OWN, "text": [OWN]}]}}, "tools/call is malformed"),
    "no message": ("tools/call", {"jsonrpc": OWN, "result": {}}, "Invalid enum value"),
    "no error": ("tools/call", {"error": {"code": OWN, "message": OWN}}, "not a JSON-RPC message"),
    "result type": ("stateless tools/call", {"result": {"resultType": OWN}}, "has a resultType that it must not have"),
    "input that nobody can read": (
        "stateless tools/call",
        {"result": {"resultType": "input_required", "inputRequests": {OWN: OWN}, "requestState": [OWN]}},
        "tools/call is malformed",
    ),
    "input that nobody gives": (
        "stateless tools/call",
        {"result": {"resultType": "input_required", "inputRequests": {"q": {"method": OWN, "params": {}}}}},
        "this client has no handler for",
    ),
    "malformed question": (
        "stateless tools/call",
        {
            "result": {
                "resultType": "input_required",
                "inputRequests": {"q": {"method": "elicitation/create", "params": {"message": [OWN]}}},
            }
        },
        "malformed parameters of elicitation/create: message: Input should be a valid string",
    ),
    "schema": (
        "tools/list",
        {"result": {"tools": [{**TOOL, "outputSchema": {"type": OWN}}]}},
        "the schema cannot be used",
    ),
    "output": (
        "tools/list",
        {
            "result": {
                "tools": [{**TOOL, "outputSchema": {"type": "object", "properties": {"x": {"enum": [OWN + "!"]}}}}]
            }
        },
        "breaks its output schema: x: ",
    ),
}
ECHO = """
import json, os, sys
secret, method, answer = os.environ["API_KEY"], sys.argv[1], json.loads(sys.argv[2])
print("x" * 190, secret, flush=True)
for line in sys.stdin:
    message = json.loads(line)
    asked = message.get("method")
    if "id" not in message:
        continue
    stateless = method.startswith("stateless")
    if asked == method.split()[-1]:
        said = answer
    elif asked == "server/discover" and stateless:
        said = {"result": {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}}}
    elif asked == "initialize":
        said = {"result": json.loads(sys.argv[3])}
    elif asked == "tools/call":
        said = {"result": {"content": [], "structuredContent": {"x": secret}, "resultType": "complete"}}
    else:
        said = {"error": {"code": -32601, "message": "no " + secret, "data": [secret]}}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}).replace("PLANTED", secret), flush=True)
"""


async def _elicit(_context: Any, _params: Any) -> Any:
    raise AssertionError("never asked: the parameters are malformed")


@pytest.mark.parametrize("escaped", [False, True], ids=["as it is", "slashes escaped"])
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_echo_in_any_answer_over_http_is_not_seen(
    name: str, escaped: bool, log: Seeing, mcp_http_peer: Callable[..., AbstractAsyncContextManager[HTTPPeer]]
) -> None:
    method, answer, expected = ANSWERS[name]
    async with mcp_http_peer(stateless=method.startswith("stateless")) as peer:

        async def echo(seen: Seen) -> web.StreamResponse:
            said = json.dumps({"jsonrpc": "2.0", "id": seen.id, **answer})
            said = said.replace("/secret", "\\/secret") if escaped else said
            return web.Response(text=said, content_type="application/json")

        async def called(seen: Seen) -> web.StreamResponse:
            return seen.json({"content": [], "structuredContent": {"x": OWN}})

        peer.handlers |= {"tools/call": called, method.split()[-1]: echo}
        for mode in ("warn", "strict"):
            config = HTTPConfig(f"{peer.url}/mcp", api_key=OWN, output_validation=mode, retries=0)
            seen = await all_that_is_seen(HTTPMCPClient("web", config, handlers=Handlers(elicitation=_elicit)), log)
            assert expected in seen
            assert "planted" not in seen


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_echo_in_any_answer_of_a_process_is_not_seen(name: str, log: Seeing) -> None:
    """It writes the secret to its output first, at the edge of what is shown of that."""
    method, answer, expected = ANSWERS[name]
    said = json.dumps(answer).replace(OWN, "PLANTED")
    args = ["-S", "-c", ECHO, method, said, json.dumps(INITIALIZED)]
    config = StdioConfig(sys.executable, args, env={"API_KEY": OWN}, shutdown_timeout=500, retries=0)
    seen = await all_that_is_seen(StdioMCPClient("pipe", config, handlers=Handlers(elicitation=_elicit)), log)
    assert expected in seen
    assert "skipped: 'xxx" in seen
    assert "planted" not in seen


async def test_an_echo_in_the_reason_of_a_status_is_not_seen(log: Seeing) -> None:
    async with raw_peer() as peer:
        for status in (401, 404, 429, 500):

            async def refuse(request: RawRequest, status: int = status) -> None:
                await request.write(f"HTTP/1.1 {status} no {OWN} here\r\nContent-Length: 0\r\n\r\n".encode())

            for method in ("initialize", "server/discover", "tools/list", "tools/call", "GET"):
                peer.on(method)(refuse)
            clients = [
                HTTPMCPClient("web", HTTPConfig(f"{peer.url}/mcp", api_key=OWN, retries=0)),
                SSEMCPClient("old", SSEConfig(f"{peer.url}/sse", api_key=OWN, retries=0)),
                AutoMCPClient("any", HTTPConfig(f"{peer.url}/mcp", api_key=OWN, retries=0)),
            ]
            for client in clients:
                seen = await all_that_is_seen(client, log)
                assert f"HTTP {status} no *** here" in seen
                assert "planted" not in seen


async def test_an_echo_in_what_is_skipped_or_is_no_json_is_not_seen(
    log: Seeing, mcp_http_peer: Callable[..., AbstractAsyncContextManager[HTTPPeer]]
) -> None:
    garbage = "x" * 190 + OWN
    async with mcp_http_peer() as peer:

        async def stream(seen: Seen) -> web.StreamResponse:
            response = await seen.stream()
            await response.write(f"data: {garbage}\n\n".encode())
            await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": {"tools": []}}))
            return response

        async def text(_seen: Seen) -> web.StreamResponse:
            return web.Response(text=garbage, content_type="application/json")

        async def kind(_seen: Seen) -> web.StreamResponse:
            return web.Response(body=b"", headers={"Content-Type": f"text/{OWN.replace('/', '-')}"})

        peer.handlers |= {"tools/list": stream, "/tools/list": text, "/tools/t/call": text, "/sse": kind}
        seen = await all_that_is_seen(HTTPMCPClient("web", HTTPConfig(f"{peer.url}/mcp", api_key=OWN)), log)
        assert "http sent an event that is no JSON-RPC message, skipped: 'xxx" in seen
        rest = HTTPConfig(peer.url, api_key=OWN, dialect="rest", retries=0)
        peer.handlers["GET"] = text
        peer.handlers["/health"] = text
        seen += await all_that_is_seen(HTTPMCPClient("rest", rest), log)
        assert "expected JSON, the server sent: 'xxx" in seen
        peer.handlers["GET"] = kind
        old = SSEConfig(f"{peer.url}/sse", api_key=OWN.replace("/", "-"), retries=0)
        seen += await all_that_is_seen(SSEMCPClient("old", old), log)
        assert "expected an event stream, the server sent text/***" in seen
    assert "planted" not in seen


@pytest.mark.parametrize("status", [200, 400, 401, 500])
async def test_many_at_once_who_have_credentials_of_their_own_see_none_of_them(
    status: int, log: Seeing, mcp_http_peer: Callable[..., AbstractAsyncContextManager[HTTPPeer]]
) -> None:
    """An error is redacted with what its own request carried, however many others are under way with newer ones."""
    callers, arrived, told = 100, 0, asyncio.Event()
    whose: ContextVar[str] = ContextVar("whose")

    async def token() -> str:
        return whose.get("nobody")

    async with mcp_http_peer(stateless=True) as peer:

        async def echo(seen: Seen) -> web.StreamResponse:
            nonlocal arrived
            arrived += 1
            if arrived == callers:
                told.set()
            await told.wait()
            said = [spell(seen.http.headers["Authorization"].removeprefix("Bearer ")) for spell in ECHOES]
            text = f"you sent {' and '.join(said)}"
            if status == 200:
                return seen.error(-32000, text, {"sent": said})
            return web.Response(status=status, reason=f"no {said[0]}", text=text)

        peer.handlers["tools/call"] = echo
        async with HTTPMCPClient("many", HTTPConfig(f"{peer.url}/mcp", auth=token, retries=0)) as client:

            async def call(number: int) -> MCPClientError:
                whose.set(f"{SECRET}-of/{number}")
                with pytest.raises(MCPClientError) as caught:
                    await client.call_tool("t")
                return caught.value

            errors = await asyncio.gather(*(call(number) for number in range(callers)))
            shown = [f"{one} {one!r} {one.args} {vars(one)}" for error in errors for one in (error, *behind(error))]
            shown.append(everything_about(client, errors))
    for text in [*shown, *log.text]:
        for spell in ECHOES:
            assert spell(SECRET)[:14] not in text


async def test_many_at_once_over_one_stream_see_none_of_their_credentials(log: Seeing) -> None:
    callers, whose = 100, ContextVar[str]("whose")
    waiting: list[tuple[Seen, str]] = []

    async def token() -> str:
        return whose.get("nobody")

    async with sse_peer() as peer:

        @peer.on("tools/call")
        async def _(seen: Seen) -> web.StreamResponse:
            waiting.append((seen, seen.http.headers["Authorization"].removeprefix("Bearer ")))
            if len(waiting) == callers:
                for one, sent in waiting:
                    error = {"code": -32000, "message": f"you sent {sent}", "data": [spell(sent) for spell in ECHOES]}
                    await peer.send({"jsonrpc": "2.0", "id": one.id, "error": error})
            return web.Response(status=202)

        async with SSEMCPClient("many", SSEConfig(f"{peer.url}/sse", auth=token, retries=0)) as client:

            async def call(number: int) -> MCPClientError:
                whose.set(f"{SECRET}-of/{number}")
                with pytest.raises(MCPClientError, match=r"you sent \*\*\*") as caught:
                    await client.call_tool("t")
                return caught.value

            seen = everything_about(client, list(await asyncio.gather(*(call(number) for number in range(callers)))))
    for text in [seen, *log.text]:
        for spell in ECHOES:
            assert spell(SECRET)[:14] not in text


ECHOES: list[Callable[[str], str]] = [
    str,
    lambda text: quote(text, safe=""),
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: text.replace("/", "\\/"),
]
