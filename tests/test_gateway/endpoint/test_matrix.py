"""Either era in front of either era, over every transport: questions, progress, logs, cancellation."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from mcp_types import (
    CallToolResult,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    LoggingMessageNotificationParams,
    Root,
    TextContent,
)

from fastapi_server.gateway.caller import Caller
from fastapi_server.mcp import HandlerContext, Handlers, HTTPConfig, HTTPMCPClient, MCPClient, RPCError
from tests.test_gateway.endpoint.conftest import HANDSHAKE, Running, StartGateway

STATELESS = "2026-07-28"
BEHIND = ["stdio", "http", "sse", "stateless"]
ALL = ["form", "url", "sampling", "roots"]

both_eras = pytest.mark.parametrize("era", [HANDSHAKE, STATELESS])
every_upstream = pytest.mark.parametrize("behind", BEHIND)


def person(name: str = "Ada", heard: list[str] | None = None) -> Handlers:
    """Answers every question with their name, or with what the question is about."""

    async def sampling(_context: HandlerContext, params: CreateMessageRequestParams) -> CreateMessageResult:
        content = params.messages[0].content
        assert isinstance(content, TextContent)
        return CreateMessageResult(role="assistant", content=TextContent(text=f"{name}: {content.text}"), model="m")

    async def form(_context: HandlerContext, params: ElicitRequestFormParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"name": f"{name}: {params.message}"})

    async def url(_context: HandlerContext, params: ElicitRequestURLParams) -> ElicitResult:
        assert params.url == "https://example.com/sign-in"
        return ElicitResult(action="accept")

    def logging(_context: HandlerContext, params: LoggingMessageNotificationParams) -> None:
        if heard is not None:
            heard.append(str(params.data))

    roots = [Root.model_validate({"uri": f"file:///{name}", "name": name})]
    return Handlers(sampling=sampling, elicitation=form, elicitation_url=url, roots=roots, logging=logging)


@asynccontextmanager
async def client_of(
    running: Running, era: str, handlers: Handlers | None = None, *, path: str = "", **settings: Any
) -> AsyncGenerator[MCPClient]:
    """Our client, in front."""
    config = HTTPConfig(running.url + path, protocol_version=era, **settings)
    async with HTTPMCPClient("gateway", config, handlers=handlers) as client:
        yield client


def text_of(result: CallToolResult) -> str:
    assert isinstance(result.content[0], TextContent), result
    return result.content[0].text


def said(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result
    return json.loads(text_of(result))


@both_eras
@every_upstream
async def test_questions_find_their_caller(
    gateway: StartGateway, upstreams: dict[str, Any], era: str, behind: str
) -> None:
    async with gateway({behind: upstreams[behind]}) as running, client_of(running, era, person()) as client:
        answers = said(await client.call_tool(f"{behind}__ask", {"kinds": ALL, "about": "tea"}))

    assert answers["form"]["content"] == {"name": "Ada: About tea?"}
    assert answers["url"]["action"] == "accept"
    assert answers["sampling"]["content"]["text"] == "Ada: About tea?"
    assert answers["roots"]["roots"][0]["uri"] == "file:///Ada"


def told_person() -> tuple[asyncio.Queue[tuple[str, Any]], Handlers]:
    """Somebody who answers, and what they are told besides."""
    told = asyncio.Queue[tuple[str, Any]]()
    return told, replace(person(), notification=lambda _context, *notice: told.put_nowait(notice))


@pytest.mark.parametrize("behind", ["stdio", "http", "sse"])
async def test_who_was_sent_to_a_url_is_told_that_they_have_been_there(
    gateway: StartGateway, upstreams: dict[str, Any], behind: str
) -> None:
    """Both in the handshake era: the other one has no such notice."""
    told, handlers = told_person()
    async with (
        gateway({behind: upstreams[behind]}) as running,
        client_of(running, HANDSHAKE, person()) as other,
        client_of(running, HANDSHAKE, handlers) as client,
        await client.listen(tools=True),
    ):
        await other.call_tool(f"{behind}__echo", {"text": "who is not meant"})
        await client.call_tool(f"{behind}__send")
        method, params = await told.get()

    assert (method, params["elicitationId"]) == ("notifications/elicitation/complete", "e-1")


@pytest.mark.parametrize("behind", ["stdio", "http", "sse"])
async def test_who_has_to_go_to_a_url_first_is_told_that_they_have_been_there(
    gateway: StartGateway, upstreams: dict[str, Any], behind: str
) -> None:
    told, handlers = told_person()
    async with (
        gateway({behind: upstreams[behind]}) as running,
        client_of(running, HANDSHAKE, handlers) as client,
        await client.listen(tools=True),
    ):
        with pytest.raises(RPCError) as raised:
            await client.call_tool(f"{behind}__refuse_until_been")
        await client.call_tool(f"{behind}__been")
        method, params = await told.get()

    assert raised.value.code == RPCError.URL_ELICITATION_REQUIRED
    assert raised.value.data["elicitations"][0]["elicitationId"] == "e-2"
    assert (method, params["elicitationId"]) == ("notifications/elicitation/complete", "e-2")


class Visitor:
    """Somebody who is sent to a URL, and says that they go there when they are let."""

    def __init__(self) -> None:
        self.sent, self.let = asyncio.Event(), asyncio.Event()
        self.told = asyncio.Queue[str]()

    async def _visit(self, _context: HandlerContext, _params: ElicitRequestURLParams) -> ElicitResult:
        self.sent.set()
        await self.let.wait()
        return ElicitResult(action="accept")

    @property
    def handlers(self) -> Handlers:
        return Handlers(
            elicitation_url=self._visit, notification=lambda _context, method, _params: self.told.put_nowait(method)
        )


async def test_two_who_were_sent_to_urls_of_the_same_id_are_each_told_of_their_own(
    gateway: StartGateway, upstreams: dict[str, Any]
) -> None:
    """As servers give that count their ids, and of which each caller has a process."""
    ann, bob = Visitor(), Visitor()
    callers = {name: Caller(name, name) for name in ("ann", "bob")}
    async with (
        gateway({"stdio": upstreams["stdio"]}, callers=callers) as running,
        client_of(running, HANDSHAKE, ann.handlers, headers={"X-Caller": "ann"}) as first,
        client_of(running, HANDSHAKE, bob.handlers, headers={"X-Caller": "bob"}) as second,
        await first.listen(resources=True),
        await second.listen(resources=True),
    ):
        calls = list["asyncio.Task[CallToolResult]"]()
        for visitor, client in ((ann, first), (bob, second)):
            calls.append(asyncio.create_task(client.call_tool("stdio__send")))
            await visitor.sent.wait()
        for visitor in (ann, bob):
            visitor.let.set()
            assert await visitor.told.get() == "notifications/elicitation/complete"
        await asyncio.gather(*calls)

    assert ann.told.empty()
    assert bob.told.empty()


@both_eras
@every_upstream
async def test_rounds_of_questions(gateway: StartGateway, upstreams: dict[str, Any], era: str, behind: str) -> None:
    async with gateway({behind: upstreams[behind]}) as running, client_of(running, era, person()) as client:
        result = await client.call_tool(f"{behind}__test_input_required_result_multi_round")

    assert "Your favorite color?" in text_of(result)


@both_eras
@every_upstream
async def test_progress_and_logs_arrive_before_the_result(
    gateway: StartGateway, upstreams: dict[str, Any], era: str, behind: str
) -> None:
    heard: list[str] = []
    progress: list[tuple[float, float | None, str | None]] = []

    def told(done: float, total: float | None, message: str | None) -> None:
        progress.append((done, total, message))

    async with gateway({behind: upstreams[behind]}) as running, client_of(running, era, person(heard=heard)) as client:
        await client.set_logging_level("info")
        await client.call_tool(f"{behind}__test_tool_with_progress", progress=told)
        await client.call_tool(f"{behind}__test_tool_with_logging")

    assert [done for done, _, _ in progress] == [0, 50, 100]
    assert progress[-1] == (100, 100, "Completed step 100 of 100")
    assert heard == ["Tool execution started", "Tool processing data", "Tool execution completed"]


@both_eras
@every_upstream
async def test_logs_are_of_the_level_that_the_caller_asked_for(
    gateway: StartGateway, upstreams: dict[str, Any], era: str, behind: str
) -> None:
    heard: list[str] = []
    async with gateway({behind: upstreams[behind]}) as running, client_of(running, era, person(heard=heard)) as client:
        await client.set_logging_level("debug")
        await client.read_resource(f"mcp://{behind}/test://static-text")
        await client.get_prompt(f"{behind}__test_simple_prompt")
        at_debug = list(heard)
        await client.set_logging_level("warning")
        await client.call_tool(f"{behind}__test_tool_with_logging")

    assert at_debug == ["Reading test://static-text", "Getting test_simple_prompt"]
    assert heard == at_debug


@both_eras
@every_upstream
@pytest.mark.parametrize("handlers", [None, person()], ids=["quiet", "answering"])
async def test_cancelling_reaches_the_server(
    gateway: StartGateway, upstreams: dict[str, Any], era: str, behind: str, handlers: Handlers | None
) -> None:
    held = asyncio.Event()
    hung_up = asyncio.Event()

    async def holding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.set()
        await reader.read()
        hung_up.set()
        writer.close()

    async with await asyncio.start_server(holding, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with gateway({behind: upstreams[behind]}) as running, client_of(running, era, handlers) as client:
            call = asyncio.create_task(client.call_tool(f"{behind}__hold", {"port": port}))
            await held.wait()
            call.cancel()
            await hung_up.wait()
            with pytest.raises(asyncio.CancelledError):
                await call


@both_eras
@every_upstream
async def test_nobody_is_asked_who_does_not_answer(
    gateway: StartGateway, upstreams: dict[str, Any], era: str, behind: str
) -> None:
    async with gateway({behind: upstreams[behind]}) as running:
        async with client_of(running, era) as quiet, client_of(running, era, person()) as answering:
            assert said(await quiet.call_tool(f"{behind}__capabilities")) == {}
            told = said(await answering.call_tool(f"{behind}__capabilities"))
        only_roots = Handlers(roots=[])
        async with client_of(running, era, only_roots) as client:
            assert set(said(await client.call_tool(f"{behind}__capabilities"))) == {"roots"}
            with pytest.raises(RPCError):
                await client.call_tool(f"{behind}__ask", {"kinds": ["form"]})

    assert set(told) == {"elicitation", "roots", "sampling"}
    assert set(told["elicitation"]) == {"form", "url"}


@both_eras
@every_upstream
async def test_questions_of_many_callers_are_never_mixed(
    gateway: StartGateway, upstreams: dict[str, Any], era: str, behind: str, few_at_work: int
) -> None:
    """More than there are connections for, all for the same principal."""

    async def ask(running: Running, number: int) -> None:
        async with client_of(running, era, person(f"P{number}")) as client:
            for turn in range(2):
                about = f"{number}-{turn}"
                tool = f"{behind}__ask"
                answers = said(await client.call_tool(tool, {"kinds": ["form", "roots"], "about": about}))
                assert answers["form"]["content"] == {"name": f"P{number}: About {about}?"}
                assert answers["roots"]["roots"][0]["name"] == f"P{number}"

    async with gateway({behind: upstreams[behind]}) as running:
        await asyncio.gather(*(ask(running, number) for number in range(few_at_work + 2)))
