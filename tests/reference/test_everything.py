"""npm's `server-everything`: all that the handshake era has, over stdio, HTTP+SSE and Streamable HTTP."""

import asyncio
import base64
import gzip
import json
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
from mcp_types import (
    BlobResourceContents,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    LoggingMessageNotificationParams,
    PromptReference,
    ResourceLink,
    ResourceTemplateReference,
    TextContent,
    TextResourceContents,
)
from pydantic import FileUrl

from fastapi_server.mcp import (
    AutoMCPClient,
    CallTimeoutError,
    Change,
    ConnectionState,
    EraName,
    HandlerContext,
    Handlers,
    MCPClient,
    MCPClientFactory,
    Root,
    RPCError,
    ServerConfig,
)
from tests.reference.servers import text_of

FEATURES = "demo://resource/static/document/features.md"
T = TypeVar("T")


def client_of(config: ServerConfig, **handlers: Any) -> MCPClient:
    return MCPClientFactory.create(config, handlers=Handlers(**handlers))


async def next_of(items: asyncio.Queue[T], wanted: Callable[[T], bool] = lambda _item: True) -> T:
    """The first item that is wanted; what the server says by a timer comes every five seconds."""
    async with asyncio.timeout(20):
        while not wanted(item := await items.get()):
            pass
        return item


# Connecting.


async def test_introduction(everything: ServerConfig) -> None:
    async with client_of(everything) as client:
        info = await client.initialize()

        assert info.name == "mcp-servers/everything"
        assert info.title == "Everything Reference Server"
        assert (info.era, info.protocol_version) == (EraName.HANDSHAKE, "2025-11-25")
        assert info.instructions
        assert info.capabilities
        assert info.capabilities.resources
        assert info.capabilities.resources.subscribe


@pytest.mark.parametrize("spoken", ["sse", "http"])
async def test_auto_finds_the_transport(spoken: str, everything_sse: Any, everything_http: Any) -> None:
    settings = {"sse": everything_sse, "http": everything_http}[spoken]

    async with AutoMCPClient("everything", settings) as client:
        assert client.found == spoken


async def test_a_client_is_used_again_after_disconnecting(everything: ServerConfig) -> None:
    client = client_of(everything)
    async with client:
        assert await client.health_check()
        assert await client.ping() < 5
    assert client.state is ConnectionState.DISCONNECTED
    assert not await client.health_check()

    assert await client.connect()
    assert text_of(await client.call_tool("echo", {"message": "again"})) == "Echo: again"


# Tools.


async def test_tools(everything: ServerConfig) -> None:
    async with client_of(everything) as client:
        tools = {tool.name: tool for tool in await client.list_tools()}

        assert {"echo", "get-sum", "trigger-long-running-operation"} <= tools.keys()
        assert tools["echo"].input_schema["required"] == ["message"]
        assert text_of(await client.call_tool("echo", {"message": "Grüß dich\n日本"})) == "Echo: Grüß dich\n日本"
        assert text_of(await client.call_tool("get-sum", {"a": 2, "b": 2.5})) == "The sum of 2 and 2.5 is 4.5."


async def test_tools_that_need_something_of_the_client_are_offered_to_those_who_have_it(
    everything: ServerConfig,
) -> None:
    async with client_of(everything) as client:
        assert "get-roots-list" not in {tool.name for tool in await client.list_tools()}


async def test_structured_output_fits_its_schema(everything: ServerConfig) -> None:
    async with client_of(everything) as client:
        result = await client.call_tool("get-structured-content", {"location": "Chicago"})

        assert result.structured_content == {"temperature": 36, "conditions": "Light rain / drizzle", "humidity": 82}


@pytest.mark.parametrize(
    ("tool", "complaint"), [("echo", "expected string, received undefined"), ("nobody", "Tool nobody not found")]
)
async def test_what_a_tool_refuses_is_a_result(everything: ServerConfig, tool: str, complaint: str) -> None:
    async with client_of(everything) as client:
        result = await client.call_tool(tool)

        assert result.is_error
        assert complaint in text_of(result)


async def test_content_of_every_kind(everything: ServerConfig) -> None:
    async with client_of(everything) as client:
        _, image, _ = (await client.call_tool("get-tiny-image")).content
        _, *links = (await client.call_tool("get-resource-links", {"count": 2})).content
        _, embedded, _ = (await client.call_tool("get-resource-reference", {"resourceId": 7})).content
        (annotated,) = (await client.call_tool("get-annotated-message", {"messageType": "error"})).content

    assert isinstance(image, ImageContent)
    assert base64.b64decode(image.data).startswith(b"\x89PNG")
    assert [link.uri for link in links if isinstance(link, ResourceLink)] == [
        "demo://resource/dynamic/blob/1",
        "demo://resource/dynamic/text/2",
    ]
    assert isinstance(embedded, EmbeddedResource)
    assert isinstance(embedded.resource, TextResourceContents)
    assert embedded.resource.text.startswith("Resource 7: ")
    assert annotated.annotations
    assert annotated.annotations.priority == 1.0


async def test_each_of_many_calls_at_once_gets_its_own_answer(everything: ServerConfig) -> None:
    async with client_of(everything) as client:
        answers = await asyncio.gather(*(client.call_tool("echo", {"message": str(n)}) for n in range(30)))

    assert [text_of(answer) for answer in answers] == [f"Echo: {n}" for n in range(30)]


async def test_progress(everything: ServerConfig) -> None:
    told: list[tuple[float, float | None, str | None]] = []
    async with client_of(everything) as client:
        result = await client.call_tool(
            "trigger-long-running-operation",
            {"duration": 0.3, "steps": 3},
            progress=lambda *progress: told.append(progress),
        )

    assert told == [(1, 3, None), (2, 3, None), (3, 3, None)]
    assert text_of(result) == "Long running operation completed. Duration: 0.3 seconds, Steps: 3."


async def test_a_call_that_takes_too_long_is_given_up_and_the_next_one_works(everything: ServerConfig) -> None:
    async with client_of(everything) as client:
        started = time.monotonic()
        with pytest.raises(CallTimeoutError):
            await client.call_tool("trigger-long-running-operation", {"duration": 30, "steps": 1}, timeout=0.1)

        assert text_of(await client.call_tool("echo", {"message": "next"})) == "Echo: next"
        assert time.monotonic() - started < 10


# What the server asks.


async def test_sampling(everything: ServerConfig) -> None:
    async def sample(context: HandlerContext, params: CreateMessageRequestParams) -> CreateMessageResult:
        (message,) = params.messages
        assert isinstance(message.content, TextContent)
        text = f"{context.server} asked: {message.content.text} (at most {params.max_tokens})"
        return CreateMessageResult(role="assistant", content=TextContent(text=text), model="parrot")

    async with client_of(everything, sampling=sample) as client:
        result = await client.call_tool("trigger-sampling-request", {"prompt": "Who?", "maxTokens": 9})

    answer = json.loads(text_of(result).removeprefix("LLM sampling result: \n"))
    assert answer["model"] == "parrot"
    assert answer["content"]["text"].startswith("everything asked: ")
    assert answer["content"]["text"].endswith("context: Who? (at most 9)")


async def test_elicitation_is_completed_with_the_defaults_of_the_form(everything: ServerConfig) -> None:
    async def fill_in(_context: HandlerContext, form: ElicitRequestFormParams) -> ElicitResult:
        assert form.requested_schema["required"] == ["name"]
        return ElicitResult(action="accept", content={"name": "Ada", "integer": 7})

    async with client_of(everything, elicitation=fill_in) as client:
        result = await client.call_tool("trigger-elicitation-request")

    answer = json.loads(text_of(result).partition("Raw result: ")[2])
    assert answer["action"] == "accept"
    assert answer["content"] == {
        "name": "Ada",
        "integer": 7,
        "number": 3.14,
        "firstLine": "It was a dark and stormy night.",
        "untitledSingleSelectEnum": "Monica",
        "untitledMultipleSelectEnum": ["Guitar"],
        "titledSingleSelectEnum": "hero-1",
        "titledMultipleSelectEnum": ["fish-1"],
        "legacyTitledEnum": "pet-1",
    }


async def test_elicitation_may_be_declined(everything: ServerConfig) -> None:
    async def decline(_context: HandlerContext, _form: ElicitRequestFormParams) -> ElicitResult:
        return ElicitResult(action="decline")

    async with client_of(everything, elicitation=decline) as client:
        assert "User declined" in text_of(await client.call_tool("trigger-elicitation-request"))


async def test_elicitation_by_url_as_a_question_and_as_an_error(everything: ServerConfig) -> None:
    opened: list[str] = []

    async def send_there(_context: HandlerContext, params: ElicitRequestURLParams) -> ElicitResult:
        opened.append(params.url)
        return ElicitResult(action="accept")

    async with client_of(everything, elicitation_url=send_there) as client:
        arguments = {"url": "https://example.org/consent", "elicitationId": uuid.uuid4().hex}
        result = await client.call_tool("trigger-url-elicitation", arguments)
        with pytest.raises(RPCError) as raised:
            await client.call_tool("trigger-url-elicitation", {**arguments, "errorPath": True})

    assert opened == ["https://example.org/consent"]
    assert "User completed the URL elicitation" in text_of(result)
    assert raised.value.code == -32042
    assert raised.value.data["elicitations"][0]["mode"] == "url"


async def test_roots_and_their_changes(everything: ServerConfig) -> None:
    roots = [Root(uri=FileUrl("file:///one"), name="One")]
    logged: asyncio.Queue[LoggingMessageNotificationParams] = asyncio.Queue()

    async def current(_context: HandlerContext) -> Sequence[Root]:
        return roots

    async with client_of(everything, roots=current, logging=lambda _context, note: logged.put_nowait(note)) as client:
        await next_of(logged, lambda note: "1 root(s) received" in note.data)
        assert "1. One\n   URI: file:///one" in text_of(await client.call_tool("get-roots-list"))

        roots.append(Root(uri=FileUrl("file:///two"), name="Two"))
        await client.notify("notifications/roots/list_changed")
        await next_of(logged, lambda note: "2 root(s) received" in note.data)
        assert "2. Two\n   URI: file:///two" in text_of(await client.call_tool("get-roots-list"))


# What the server tells.


async def test_logging(everything: ServerConfig) -> None:
    logged: asyncio.Queue[LoggingMessageNotificationParams] = asyncio.Queue()

    async with client_of(everything, logging=lambda _context, note: logged.put_nowait(note)) as client:
        await client.set_logging_level("debug")
        await client.call_tool("toggle-simulated-logging")
        note = await next_of(logged)
        await client.call_tool("toggle-simulated-logging")

    assert note.data.lower().startswith(note.level)


async def test_a_subscriber_is_told_that_the_resource_changed(everything: ServerConfig) -> None:
    updated: asyncio.Queue[str] = asyncio.Queue()

    client = client_of(everything, resource_updated=lambda _context, uri: updated.put_nowait(uri))
    async with client, await client.subscribe(FEATURES) as changes, asyncio.timeout(20):
        await client.call_tool("toggle-subscriber-updates")
        assert await anext(changes) == Change("resource", FEATURES)
        await client.call_tool("toggle-subscriber-updates")

    assert await next_of(updated) == FEATURES


async def test_a_new_resource_is_announced_listed_and_read(everything: ServerConfig) -> None:
    name = f"{uuid.uuid4().hex}.gz"
    logged: asyncio.Queue[LoggingMessageNotificationParams] = asyncio.Queue()

    async with client_of(everything, roots=[], logging=lambda _context, note: logged.put_nowait(note)) as client:
        # The server has been heard unasked: over Streamable HTTP its stream for that is open by now.
        await next_of(logged)
        async with await client.listen(resources=True) as changes, asyncio.timeout(20):
            result = await client.call_tool("gzip-file-as-resource", {"name": name, "data": "data:text/plain,zipped"})
            assert await anext(changes) == Change("resources")
        (link,) = result.content
        assert isinstance(link, ResourceLink)
        assert link.uri in {resource.uri for resource in await client.list_resources()}
        (content,) = (await client.read_resource(link.uri)).contents

    assert isinstance(content, BlobResourceContents)
    assert gzip.decompress(base64.b64decode(content.blob)) == b"zipped"


# Resources, prompts, completion.


async def test_resources(everything: ServerConfig) -> None:
    async with client_of(everything) as client:
        resources = {resource.uri: resource for resource in await client.list_resources()}
        (content,) = (await client.read_resource(FEATURES)).contents

        assert resources[FEATURES].mime_type == "text/markdown"
        assert isinstance(content, TextResourceContents)
        assert content.text.startswith("# Everything Server - Features\n")
        with pytest.raises(RPCError) as raised:
            await client.read_resource("demo://nowhere")
        assert raised.value.code == RPCError.INVALID_PARAMS


async def test_resources_of_templates(everything: ServerConfig) -> None:
    async with client_of(everything) as client:
        templates = [template.uri_template for template in await client.list_resource_templates()]
        (text,) = (await client.read_resource("demo://resource/dynamic/text/12")).contents
        (blob,) = (await client.read_resource("demo://resource/dynamic/blob/13")).contents

    assert templates == ["demo://resource/dynamic/text/{resourceId}", "demo://resource/dynamic/blob/{resourceId}"]
    assert isinstance(text, TextResourceContents)
    assert text.text.startswith("Resource 12: ")
    assert isinstance(blob, BlobResourceContents)
    assert base64.b64decode(blob.blob).startswith(b"Resource 13: ")


async def test_prompts(everything: ServerConfig) -> None:
    async with client_of(everything) as client:
        prompts = {prompt.name: prompt for prompt in await client.list_prompts()}
        (asked,) = (await client.get_prompt("args-prompt", {"city": "Graz", "state": "Styria"})).messages
        _, attached = (await client.get_prompt("resource-prompt", {"resourceType": "Text", "resourceId": "5"})).messages
        with pytest.raises(RPCError, match="city"):
            await client.get_prompt("args-prompt")

    arguments = prompts["args-prompt"].arguments or []
    assert {argument.name: argument.required for argument in arguments} == {"city": True, "state": False}
    assert isinstance(asked.content, TextContent)
    assert asked.content.text == "What's weather in Graz, Styria?"
    assert isinstance(attached.content, EmbeddedResource)
    assert attached.content.resource.uri == "demo://resource/dynamic/text/5"


async def test_completion(everything: ServerConfig) -> None:
    prompt = PromptReference(name="completable-prompt")
    template = ResourceTemplateReference(uri="demo://resource/dynamic/text/{resourceId}")

    async with client_of(everything) as client:
        departments = await client.complete(prompt, "department", "S")
        names = await client.complete(prompt, "name", "", context={"department": "Sales"})
        ids = await client.complete(template, "resourceId", "3")

    assert departments.values == ["Sales", "Support"]
    assert names.values == ["David", "Eve", "Frank"]
    assert ids.values == ["3"]
