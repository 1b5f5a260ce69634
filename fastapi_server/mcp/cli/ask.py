"""`call`, `read` and one prompt: something is asked of one server."""

from collections.abc import Mapping, Sequence
from typing import Any

from mcp_types import TextContent
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from fastapi_server.mcp import MCPClient, MCPClientError, RPCError, ServerConfig, ToolResult
from fastapi_server.mcp.cli import render
from fastapi_server.mcp.cli.arguments import json_object, pairs, typed
from fastapi_server.mcp.cli.content import block_text, contents_text, say_result
from fastapi_server.mcp.cli.run import Status, client_of
from fastapi_server.mcp.cli.target import Options, only


async def show_call(server: str, tool: str, args: Sequence[str], json_args: str | None, options: Options) -> int:
    """Call a tool, with a progress bar where the server reports progress."""
    texts, values = pairs(args), json_object(json_args)
    config = only(server, options)
    with _progress() as bar:
        result = await _called(config, tool, texts, values, bar)
    if options.as_json:
        render.say_json(result)
    elif not result.is_error:
        say_result(result)
    if result.is_error:
        render.complain(MCPClientError(_failure(tool, result)))
        return Status.SERVER
    return Status.OK


def _progress() -> Progress:
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    return Progress(*columns, console=render.err(), transient=True, disable=not render.err().is_terminal)


async def _called(
    config: ServerConfig, tool: str, texts: Mapping[str, str], values: Mapping[str, Any], bar: Progress
) -> ToolResult:
    task = bar.add_task(f"connecting to {config.name}", total=None)
    client = client_of(config)
    await client.initialize()
    arguments = {**values, **typed(texts, await _schema(client, tool) if texts else {})}
    bar.update(task, description=f"calling {tool}")
    return await client.call_tool(tool, arguments, progress=_Told(bar, task, tool))


class _Told:
    """Moves the bar."""

    def __init__(self, bar: Progress, task: TaskID, tool: str) -> None:
        self._bar = bar
        self._task = task
        self._tool = tool

    def __call__(self, done: float, total: float | None, message: str | None) -> None:
        doing = f"{self._tool}: {render.shown(message)}" if message else self._tool
        self._bar.update(self._task, completed=done, total=total, description=doing)


async def _schema(client: MCPClient, tool: str) -> Mapping[str, Any]:
    """The tool's input schema; empty where the server does not say."""
    try:
        tools = await client.list_tools()
    except RPCError:
        return {}
    return next((one.input_schema for one in tools if one.name == tool), dict[str, Any]())


def _failure(tool: str, result: ToolResult) -> str:
    said = "\n".join(block.text for block in result.content if isinstance(block, TextContent))
    return f"tool {tool!r}: {said or 'failed, and does not say why'}"


async def show_resource(server: str, uri: str, options: Options) -> int:
    """The contents of a resource."""
    config = only(server, options)
    with render.err().status(f"reading from {config.name} …"):
        read = await client_of(config).read_resource(uri)
    if options.as_json:
        render.say_json(read)
    else:
        for contents in read.contents:
            render.say(contents_text(contents))
    return Status.OK


async def show_prompt(server: str, prompt: str, args: Sequence[str], options: Options) -> int:
    """The messages of a prompt, its arguments filled in."""
    arguments = pairs(args)
    config = only(server, options)
    with render.err().status(f"asking {config.name} …"):
        got = await client_of(config).get_prompt(prompt, arguments)
    if options.as_json:
        render.say_json(got)
    else:
        for message in got.messages:
            render.say(f"{message.role}: {block_text(message.content)}")
    return Status.OK
