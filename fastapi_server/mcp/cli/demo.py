"""`demo`: four servers, one `mcp.json`, and how each of them was reached."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from fastapi_server.mcp import (
    MCPClient,
    MCPClientError,
    MCPClientFactory,
    ProcessExitedError,
    ServerConfig,
    StdioConfig,
    load_config,
)
from fastapi_server.mcp.cli import render
from fastapi_server.mcp.cli.run import Missed, Reached, Status, Visit, visit_all
from fastapi_server.mcp.cli.target import Options
from fastapi_server.mcp.demo.fleet import demo_fleet

_TOOL = "forecast"
_ARGUMENTS = {"city": "Lisbon"}


@dataclass(frozen=True)
class Tour:
    """What was seen at one server."""

    tools: list[str]
    answer: dict[str, Any]
    call_seconds: float


async def show_demo(options: Options) -> int:
    """Start the servers, reach all of them, show it, and end them."""
    started = time.monotonic()
    try:
        with render.err().status("starting four demo servers …") as status:
            async with demo_fleet() as path:
                status.update("reaching them …")
                servers = list(load_config(path).servers.values())
                visits = await tour(servers)
    except ProcessExitedError as error:
        render.complain(error)
        return Status.SERVER
    if options.as_json:
        render.say_json({"servers": [_as_json(visit) for visit in visits]})
    else:
        _show(servers, visits, time.monotonic() - started)
    return Status.OK if all(isinstance(visit, Reached) for visit in visits) else Status.SERVER


async def tour(servers: Sequence[ServerConfig]) -> list[Visit[Tour]]:
    """Reach all servers at the same time, and leave none connected."""
    try:
        return await visit_all(servers, _tour)
    finally:
        await MCPClientFactory.shutdown_all()


async def _tour(client: MCPClient) -> Tour:
    tools = await client.list_tools()
    started = time.monotonic()
    result = await client.call_tool(_TOOL, _ARGUMENTS)
    seconds = time.monotonic() - started
    if result.is_error or result.structured_content is None:
        raise MCPClientError(f"{_TOOL} failed")
    return Tour([tool.name for tool in tools], result.structured_content, seconds)


def _show(servers: Sequence[ServerConfig], visits: Sequence[Visit[Tour]], seconds: float) -> None:
    said = render.table("Server", "What mcp.json says of it")
    for server in servers:
        said.add_row(render.cell((server.name, "bold")), render.cell(_said(server)))
    found = render.table(
        "Server\nits own name", "Transport", "Revision\nera", "Tools", "A call\nits answer", "Connect\ncall"
    )
    for column in (found.columns[index] for index in (0, 2, 3, 5)):
        column.no_wrap = True
    found.columns[5].justify = "right"
    found.leading = 1
    for visit in visits:
        found.add_row(*_row(visit))
    reached = sum(isinstance(visit, Reached) for visit in visits)
    style = "bold green" if reached == len(visits) else "bold red"
    verdict = Text(f"{reached} of {len(visits)} servers answered", style)
    verdict.append(f" in {render.duration(seconds)}; every process is gone again.", "not bold default")
    for part in (said, "", found, "", verdict):
        render.show(part)


def _said(server: ServerConfig) -> str:
    if isinstance(server.config, StdioConfig):
        return " ".join([Path(server.config.command).name, *server.config.args])
    return str(server.config.endpoint)


def _row(visit: Visit[Tour]) -> list[Text]:
    if isinstance(visit, Missed):
        message = render.summary(visit.error)
        return [render.cell((visit.server.name, "bold red")), *[Text("-")] * 3, render.cell((message, "red"))]
    info, seen = visit.info, visit.result
    arguments = " ".join(f"{name}={value}" for name, value in _ARGUMENTS.items())
    answer = f"{seen.answer.get('celsius')} °C, {seen.answer.get('sky')}"
    return [
        render.cell((visit.server.name, "bold green"), (render.server_name(info), "dim")),
        render.cell(render.transport_name(visit.transport)),
        render.cell(info.protocol_version, (info.era, "dim")),
        render.cell(*seen.tools),
        render.cell(f"{_TOOL} {arguments}", (answer, "cyan")),
        render.cell(render.duration(visit.connect_seconds), render.duration(seen.call_seconds)),
    ]


def _as_json(visit: Visit[Tour]) -> dict[str, Any]:
    if isinstance(visit, Missed):
        return {"name": visit.server.name, "error": render.error_json(visit.error)}
    return {
        "name": visit.server.name,
        **render.info_json(visit.transport, visit.info),
        "tools": visit.result.tools,
        "call": {"tool": _TOOL, "arguments": _ARGUMENTS, "answer": visit.result.answer},
        "connect_seconds": visit.connect_seconds,
        "call_seconds": visit.result.call_seconds,
    }
