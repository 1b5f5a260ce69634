"""Tools of the `everything` server: by the names of the conformance suite, and some of our own."""

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolResult,
    ContentBlock,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    EmbeddedResource,
    ImageContent,
    ListRootsRequest,
    ResourceLink,
    TextContent,
    TextResourceContents,
    Tool,
)

from tests.servers.everything_resources import PNG, WAV
from tests.servers.talk import Question, Talk, form, sample, visit

Arguments: TypeAlias = Mapping[str, Any]
Run: TypeAlias = Callable[[Talk, Arguments], Awaitable[str | CallToolResult]]

STRING = {"type": "string"}
BOOLEAN = {"type": "boolean"}
ADDRESS = {"type": "object", "properties": {"street": STRING, "city": STRING}}
SCHEMA_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", **ADDRESS}},
    "properties": {
        "name": STRING,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": STRING,
        "email": STRING,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
_TITLED = [{"const": f"value{n}", "title": f"Choice {n}"} for n in (1, 2, 3)]
_OPTIONS = ["option1", "option2", "option3"]
ENUMS: dict[str, dict[str, Any]] = {
    "untitledSingle": {"type": "string", "enum": _OPTIONS},
    "titledSingle": {"type": "string", "oneOf": _TITLED},
    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _OPTIONS}},
    "titledMulti": {"type": "array", "items": {"anyOf": _TITLED}},
}


@dataclass(frozen=True)
class EverythingTool:
    """A tool and what it does."""

    name: str
    run: Run
    properties: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def shown(self) -> Tool:
        schema = SCHEMA_2020_12 if self.name == "json_schema_2020_12_tool" else None
        return Tool(
            name=self.name,
            description=self.name,
            input_schema=schema or {"type": "object", "properties": self.properties},
        )


TOOLS: dict[str, EverythingTool] = {}


def tool(name: str, **properties: Any) -> Callable[[Run], Run]:
    def add(run: Run) -> Run:
        TOOLS[name] = EverythingTool(name, run, properties)
        return run

    return add


# What results look like.


def _fixed(name: str, *content: ContentBlock) -> None:
    @tool(name)
    async def run(_talk: Talk, _arguments: Arguments) -> CallToolResult:
        return CallToolResult(content=list(content))


def _embedded(uri: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type="text/plain", text=text))


_IMAGE = ImageContent(data=PNG, mime_type="image/png")
_fixed("test_simple_text", TextContent(text="This is a simple text response for testing."))
_fixed("test_image_content", _IMAGE)
_fixed("test_audio_content", AudioContent(data=WAV, mime_type="audio/wav"))
_fixed("test_embedded_resource", _embedded("test://embedded-resource", "This is an embedded resource content."))
_fixed(
    "test_multiple_content_types",
    TextContent(text="Multiple content types test:"),
    _IMAGE,
    _embedded("test://mixed-content-resource", '{"test":"data","value":123}'),
)
_fixed("link", ResourceLink(name="static", uri="test://static-text"))
_fixed("json_schema_2020_12_tool", TextContent(text="ok"))
_fixed("late", TextContent(text="here at last"))


@tool("test_error_handling")
async def fail(_talk: Talk, _arguments: Arguments) -> str:
    raise RuntimeError("This tool intentionally returns an error for testing")


@tool("echo", text=STRING)
async def echo(_talk: Talk, arguments: Arguments) -> str:
    return arguments["text"]


@tool("test_headers", region={"type": "string", "x-mcp-header": "Region"})
async def headers(_talk: Talk, arguments: Arguments) -> str:
    return str(arguments.get("region"))


# What is told on the way.


@tool("test_tool_with_logging")
@tool("test_logging_tool")
async def log(talk: Talk, _arguments: Arguments) -> str:
    for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await talk.log(text)
    return "Tool with logging executed successfully"


@tool("test_tool_with_progress")
async def progress(talk: Talk, _arguments: Arguments) -> str:
    for done in (0, 50, 100):
        await talk.progress(done, 100, f"Completed step {done} of 100")
    return str(talk.meta.get("progress_token"))


# Questions.


@tool("test_elicitation", message=STRING)
async def elicit(talk: Talk, arguments: Arguments) -> str:
    message = arguments.get("message", "Who are you?")
    answer = (await talk.ask(user=form(message, username=STRING, email=STRING)))["user"]
    return f"User response: action={answer['action']}, content={json.dumps(answer.get('content'))}"


@tool("test_sampling", prompt=STRING)
async def sampling(talk: Talk, arguments: Arguments) -> str:
    answer = (await talk.ask(model=sample(arguments["prompt"])))["model"]
    return f"LLM response: {answer['content']['text']}"


def _with_schema(name: str, properties: dict[str, dict[str, Any]]) -> None:
    @tool(name)
    async def run(talk: Talk, _arguments: Arguments) -> str:
        schema = {"type": "object", "properties": properties}
        question = ElicitRequest(params=ElicitRequestFormParams(message="Please", requested_schema=schema))
        answer = (await talk.ask(user=question))["user"]
        return f"Elicitation completed: action={answer['action']}, content={json.dumps(answer.get('content'))}"


_with_schema("test_elicitation_sep1034_defaults", DEFAULTS)
_with_schema("test_elicitation_sep1330_enums", ENUMS)


def _rounds(name: str, *rounds: Mapping[str, Question], say: str = "complete") -> None:
    @tool(name)
    async def run(talk: Talk, _arguments: Arguments) -> str:
        answers: dict[str, Any] = {}
        for questions in rounds:
            answers.update(await talk.ask(**questions))
        return f"{say}: {json.dumps(answers)}"


_NAME = form("What is your name?", name=STRING)
_CONFIRM = {"confirm": form("Please confirm", ok=BOOLEAN)}
_PREFIX = "test_input_required_result_"
_rounds(f"{_PREFIX}elicitation", {"user_name": _NAME})
_rounds("test_streaming_elicitation", {"user_name": _NAME})
_rounds(f"{_PREFIX}sampling", {"capital_question": sample("What is the capital of France?")})
_rounds(f"{_PREFIX}list_roots", {"client_roots": ListRootsRequest()})
_rounds(f"{_PREFIX}request_state", _CONFIRM, say="state-ok")
_rounds(f"{_PREFIX}tampered_state", _CONFIRM, say="state-ok")
_rounds(
    f"{_PREFIX}multiple_inputs",
    {"user_name": _NAME, "greeting": sample("Generate a greeting"), "client_roots": ListRootsRequest()},
)
_rounds(f"{_PREFIX}multi_round", {"step1": _NAME}, {"step2": form("Your favorite color?", color=STRING)})


@tool(f"{_PREFIX}capabilities")
async def ask_what_is_answered(talk: Talk, _arguments: Arguments) -> str:
    able = talk.capabilities
    questions: dict[str, Question] = {}
    if able.sampling is not None:
        questions["model"] = sample("Hello")
    if able.elicitation is not None:
        questions["user"] = _NAME
    return json.dumps(await talk.ask(**questions))


@tool("test_missing_capability")
async def need_sampling(talk: Talk, _arguments: Arguments) -> str:
    if talk.capabilities.sampling is None:
        needed = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "this tool samples a model", needed)
    return "sampling is there"


@tool("capabilities")
async def capabilities(talk: Talk, _arguments: Arguments) -> str:
    return talk.capabilities.model_dump_json(by_alias=True, exclude_none=True)


@tool("ask", kinds={"type": "array", "items": STRING}, about=STRING)
async def ask(talk: Talk, arguments: Arguments) -> str:
    """All the questions of `kinds` at once; the answers, as they came."""
    about = arguments.get("about", "you")
    known: dict[str, Question] = {
        "form": form(f"About {about}?", name=STRING),
        "url": visit(f"About {about}?", "https://example.com/sign-in"),
        "sampling": sample(f"About {about}?"),
        "roots": ListRootsRequest(),
    }
    return json.dumps(await talk.ask(**{kind: known[kind] for kind in arguments["kinds"]}))


@tool("send")
async def send(talk: Talk, _arguments: Arguments) -> str:
    """Send them to a URL, and say that they have been there."""
    await talk.ask(url=visit("Sign in", "https://example.com/sign-in"))
    await talk.completed("e-1")
    return "sent"


@tool("refuse_until_been")
async def refuse_until_been(_talk: Talk, _arguments: Arguments) -> str:
    """Send them to a URL first (2025-11-25, "URL Elicitation Required Error")."""
    there = ElicitRequestURLParams(message="Sign in", url="https://example.com/sign-in", elicitation_id="e-2")
    raise UrlElicitationRequiredError([there])


@tool("been")
async def been(talk: Talk, _arguments: Arguments) -> str:
    """They have been there."""
    await talk.completed("e-2")
    return "been"


# Changes, and ends.


@tool("test_trigger_tool_change")
async def change_tools(talk: Talk, _arguments: Arguments) -> str:
    await talk.listeners.toggle("late")
    return "changed"


@tool("test_trigger_prompt_change")
async def change_prompts(talk: Talk, _arguments: Arguments) -> str:
    await talk.listeners.toggle("late_prompt")
    return "changed"


@tool("touch", uri=STRING)
async def touch(talk: Talk, arguments: Arguments) -> str:
    await talk.listeners.touch(arguments["uri"])
    return "touched"


@tool("hold", port={"type": "integer"})
async def hold(_talk: Talk, arguments: Arguments) -> str:
    """Stay connected to a port of 127.0.0.1 until the other side hangs up, or the call is cancelled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", arguments["port"])
    try:
        await reader.read()
    finally:
        writer.close()
    return "let go"


@tool("die")
async def die(_talk: Talk, _arguments: Arguments) -> str:
    with contextlib.suppress(OSError):
        os._exit(3)
    return "unreachable"
