"""`list`, `tools`, `prompts` and `ping`: one server or all of them, reached at the same time."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from inspect import cleandoc
from typing import Any, TypeVar

from rich.text import Text

from fastapi_server.mcp import MCPClient, MCPClientError, Prompt, Resource, ResourceTemplate, RPCError, Tool
from fastapi_server.mcp.cli import render
from fastapi_server.mcp.cli.arguments import items
from fastapi_server.mcp.cli.run import Missed, Reached, Status, Visit, status_of, visit_all
from fastapi_server.mcp.cli.target import Options, Selection, select
from fastapi_server.mcp.protocol.jsonrpc import as_object

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")


async def show_list(server: str | None, options: Options) -> int:
    """A row for each server: how it was reached and who it is, or why it was not."""
    selection = select(server, options)
    visits = await _reach(selection, _tools)
    if options.as_json:
        _say_json(selection, visits, lambda tools: {"tools": len(tools)})
        return _status(selection, visits)
    table = render.table("Server", "Transport", "Protocol", "Answer", "Tools", "Connect", numbers=("Tools", "Connect"))
    for visit in visits:
        table.add_row(*_list_row(visit))
    render.show(table if visits else "no servers")
    _complain(selection, ())
    return _status(selection, visits)


def _list_row(visit: Visit[list[Tool]]) -> list[Text]:
    if isinstance(visit, Missed):
        message = render.summary(visit.error)
        transport = render.transport_name(visit.error.transport or visit.server.transport)
        name, why = render.cell((visit.server.name, "bold red")), render.cell((message, "red"))
        return [name, render.cell(transport), Text("-"), why]
    return [
        render.cell((visit.server.name, "bold green")),
        render.cell(render.transport_name(visit.transport)),
        render.cell(render.protocol_name(visit.info)),
        render.cell(render.server_name(visit.info)),
        render.cell(str(len(visit.result))),
        render.cell(render.duration(visit.connect_seconds)),
    ]


async def show_tools(server: str | None, options: Options) -> int:
    """The tools of one server or all."""

    def row(tool: Tool) -> tuple[Text, ...]:
        said = tool.description or tool.title or ""
        return render.cell((tool.name, "bold")), _arguments(tool.input_schema), render.cell(cleandoc(said))

    return await _show_items("tools", ("Tool", "Arguments", "Description"), row, _tools, server, options)


async def show_prompts(server: str | None, options: Options) -> int:
    """The prompts of one server or all."""

    def row(prompt: Prompt) -> tuple[Text, ...]:
        arguments = [(one.name, bool(one.required), "") for one in prompt.arguments or []]
        said = prompt.description or prompt.title or ""
        return render.cell((prompt.name, "bold")), _signature(arguments), render.cell(cleandoc(said))

    return await _show_items("prompts", ("Prompt", "Arguments", "Description"), row, _prompts, server, options)


async def show_resources(server: str, options: Options) -> int:
    """The resources of one server, and the templates of more."""

    def row(one: Resource | ResourceTemplate) -> tuple[Text, ...]:
        uri = one.uri if isinstance(one, Resource) else one.uri_template
        said = one.description or one.title or one.name
        return render.cell((uri, "bold")), render.cell(one.mime_type or ""), render.cell(cleandoc(said))

    return await _show_items("resources", ("URI", "Type", "Description"), row, _resources, server, options)


async def show_ping(server: str | None, options: Options) -> int:
    """One round trip to one server or all."""
    selection = select(server, options)
    visits = await _reach(selection, MCPClient.ping)
    if options.as_json:
        _say_json(selection, visits, lambda seconds: {"ping_seconds": seconds})
        return _status(selection, visits)
    table = render.table("Server", "Transport", "Connect", "Ping", numbers=("Connect", "Ping"))
    for visit in visits:
        if isinstance(visit, Reached):
            times = render.duration(visit.connect_seconds), render.duration(visit.result)
            name = render.cell((visit.server.name, "bold green"))
            table.add_row(name, render.transport_name(visit.transport), *times)
    if table.row_count:
        render.show(table)
    _complain(selection, visits)
    return _status(selection, visits)


# What is asked of a server.


async def _tools(client: MCPClient) -> list[Tool]:
    return await _offered(client, "tools", client.list_tools)


async def _prompts(client: MCPClient) -> list[Prompt]:
    return await _offered(client, "prompts", client.list_prompts)


async def _resources(client: MCPClient) -> list[Resource | ResourceTemplate]:
    resources = await _offered(client, "resources", client.list_resources)
    return [*resources, *await _offered(client, "resources", client.list_resource_templates)]


async def _offered(client: MCPClient, what: str, listed: Callable[[], Awaitable[list[ItemT]]]) -> list[ItemT]:
    """Nothing, where the server says or shows that it has no such list."""
    capabilities = client.server_info.capabilities if client.server_info else None
    if capabilities is not None and getattr(capabilities, what) is None:
        return []
    try:
        return await listed()
    except RPCError as error:
        if error.code == RPCError.METHOD_NOT_FOUND:
            return []
        raise


# For every command of this kind.


async def _reach(selection: Selection, work: Callable[[MCPClient], Awaitable[ResultT]]) -> list[Visit[ResultT]]:
    count = len(selection.servers)
    with render.err().status(f"reaching {count} server{'s' if count != 1 else ''} …"):
        return await visit_all(selection.servers, work)


async def _show_items(
    what: str,
    columns: tuple[str, ...],
    row: Callable[[Any], tuple[Text, ...]],
    work: Callable[[MCPClient], Awaitable[list[ResultT]]],
    server: str | None,
    options: Options,
) -> int:
    selection = select(server, options)
    visits = await _reach(selection, work)
    if options.as_json:
        _say_json(selection, visits, lambda listed: {what: listed})
        return _status(selection, visits)
    for visit in visits:
        if isinstance(visit, Reached):
            _show_server(visit, what, columns, row)
    _complain(selection, visits)
    return _status(selection, visits)


def _show_server(
    visit: Reached[list[ResultT]], what: str, columns: tuple[str, ...], row: Callable[[ResultT], tuple[Text, ...]]
) -> None:
    how = f"{render.transport_name(visit.transport)}, {render.protocol_name(visit.info)}"
    count = len(visit.result)
    render.show(
        Text.assemble(
            (render.shown(visit.server.name), "bold green"),
            (f"  {how}: ", "dim"),
            f"{count or 'no'} {what if count != 1 else what[:-1]}",
        )
    )
    if visit.result:
        table = render.table(*columns)
        for item in visit.result:
            table.add_row(*row(item))
        render.show(table)
    render.show()


def _arguments(schema: Mapping[str, Any]) -> Text:
    required = items(schema.get("required"))
    properties = as_object(schema.get("properties")).items()
    return _signature([(name, name in required, _type_name(as_object(one))) for name, one in properties])


def _signature(arguments: Iterable[tuple[str, bool, str]]) -> Text:
    """One argument on a line, `[in brackets]` where it may be left out."""
    lines = [f"{name}: {kind}" if kind else name for name, _required, kind in arguments]
    marks = [required for _name, required, _kind in arguments]
    return render.cell(*(line if must else (f"[{line}]", "dim") for line, must in zip(lines, marks, strict=True)))


def _type_name(schema: Mapping[str, Any]) -> str:
    said = schema.get("type")
    if said == "array":
        item = _type_name(as_object(schema.get("items")))
        return f"{item}[]" if item else "array"
    if isinstance(said, str):
        return said
    choices = [*items(schema.get("anyOf")), *items(schema.get("oneOf"))]
    return " | ".join(dict.fromkeys(name for one in choices if (name := _type_name(as_object(one)))))


def _say_json(
    selection: Selection, visits: Sequence[Visit[ResultT]], told: Callable[[ResultT], dict[str, Any]]
) -> None:
    servers: list[dict[str, Any]] = []
    for visit in visits:
        if isinstance(visit, Missed):
            servers.append({"name": visit.server.name, "error": render.error_json(visit.error)})
        else:
            how = render.info_json(visit.transport, visit.info)
            times = {"connect_seconds": visit.connect_seconds}
            servers.append({"name": visit.server.name, **how, **times, **told(visit.result)})
    render.say_json({"servers": servers, "problems": [problem.message for problem in selection.problems]})


def _complain(selection: Selection, visits: Iterable[Visit[Any]]) -> None:
    errors = [visit.error for visit in visits if isinstance(visit, Missed)]
    for error in [*errors, *selection.problems]:
        render.complain(error)


def _status(selection: Selection, visits: Iterable[Visit[Any]]) -> int:
    """The highest of all."""
    errors: list[MCPClientError] = [visit.error for visit in visits if isinstance(visit, Missed)]
    return max((status_of(error) for error in [*errors, *selection.problems]), default=Status.OK)
