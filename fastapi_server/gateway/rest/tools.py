"""`/api/tools`: the tools of all servers in one catalogue."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Path, Query, Request
from mcp_types import CallToolResult, Tool
from sse_starlette import EventSourceResponse, JSONServerSentEvent

from fastapi_server.gateway.audit import Audit
from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.problems import UPSTREAM, ProblemError, answers, cause_of, problem_of
from fastapi_server.gateway.rest.dependencies import TheAudit, TheCaller, TheGateway, no_such_server, while_there
from fastapi_server.gateway.rest.models import ToolCall, ToolList
from fastapi_server.gateway.writable import writable
from fastapi_server.mcp import Catalogue, ConfigError, MCPClientError

router = APIRouter(prefix="/api/tools", tags=["tools"])

_STREAM = "text/event-stream"
ProgressCallback: TypeAlias = Callable[[float, float | None, str | None], None]
ToolName = Annotated[str, Path(description="As in the catalogue", examples=["weather__forecast"])]


@router.get("", summary="All tools", response_model_exclude_none=True, responses=answers(404))
async def list_tools(
    gateway: TheGateway,
    caller: TheCaller,
    server: Annotated[str | None, Query(description="Only those of this server")] = None,
) -> ToolList:
    """As last listed by each server: nobody waits for one that is slow or dead."""
    names = [name for name in gateway.pool.servers if caller.may_use(name) and server in {None, name}]
    if server is not None and not names:
        raise no_such_server(server)
    listings = await gateway.directory.listings(names, caller.principal)
    problems = {name: cause_of(one.error) for name, one in listings.items() if one.error is not None}
    catalogue = gateway.pool.catalogue({name: one.tools for name, one in listings.items()}, caller.tools)
    problems |= {name: cause_of(error) for name, error in catalogue.problems.items()}
    return ToolList(tools=catalogue.tools, problems=problems)


@router.get("/{tool:path}", summary="One tool", response_model_exclude_none=True, responses=answers(404))
async def get_tool(tool: ToolName, gateway: TheGateway, caller: TheCaller) -> Tool:
    """With its schemas."""
    server, _original = resolved(gateway, caller, tool)
    entry = (await catalogue_of(gateway, caller, [server])).entries.get(tool)
    if entry is None:
        raise _no_such_tool(tool)
    return entry.tool


@router.post(
    "/{tool:path}/call",
    summary="Call a tool",
    response_model=CallToolResult,
    response_model_exclude_none=True,
    responses={
        200: {"content": {_STREAM: {"schema": {"type": "string"}}}, "description": "Its result, or an event stream"},
        **answers(*UPSTREAM),
    },
)
async def call_tool(
    tool: ToolName, call: ToolCall, request: Request, gateway: TheGateway, audit: TheAudit, caller: TheCaller
) -> Any:
    """An error of the tool itself is a result with `isError`.

    With `Accept: text/event-stream` the answer is a stream of events: `progress` (`progress`, `total`, `message`) as
    often as the server tells, then `result`, or `error` with a problem. Who hangs up cancels the call, either way.
    """
    server, original = called(gateway, audit, caller, tool, call.arguments)

    async def result(progress: ProgressCallback | None = None) -> CallToolResult:
        with audit.noting(caller, server, "tools/call", original, call.arguments) as told:
            client = gateway.pool.client(server, caller.principal)
            answer = await client.call_tool(original, call.arguments, timeout=call.timeout, progress=progress)
            told(answer)
            return writable(client, answer)

    if _STREAM in request.headers.get("accept", ""):
        return EventSourceResponse(_events(result))
    return await while_there(request, result())


async def _events(
    call: Callable[[ProgressCallback], Awaitable[CallToolResult]],
) -> AsyncGenerator[JSONServerSentEvent]:
    """The life of a call; the call is given up when nobody listens any more."""
    told = asyncio.Queue[JSONServerSentEvent]()

    def progress(done: float, total: float | None, message: str | None) -> None:
        told.put_nowait(_event("progress", {"progress": done, "total": total, "message": message}))

    async def outcome() -> JSONServerSentEvent:
        try:
            result = await call(progress)
        except MCPClientError as error:
            return _event("error", problem_of(error).model_dump(mode="json", exclude_none=True))
        return _event("result", result.model_dump(mode="json", by_alias=True, exclude_none=True))

    calling = asyncio.get_running_loop().create_task(outcome())
    calling.add_done_callback(lambda done: None if done.cancelled() else told.put_nowait(done.result()))
    try:
        while True:
            event = await told.get()
            yield event
            if event.event != "progress":
                return
    finally:
        calling.cancel()


def _event(kind: str, data: Any) -> JSONServerSentEvent:
    return JSONServerSentEvent(data, event=kind)


async def catalogue_of(gateway: Gateway, caller: Caller, servers: Iterable[str]) -> Catalogue:
    """The tools of some servers that a caller may use, as last listed."""
    listings = await gateway.directory.listings(servers, caller.principal)
    return gateway.pool.catalogue({name: one.tools for name, one in listings.items()}, caller.tools)


def resolved(gateway: Gateway, caller: Caller, tool: str) -> tuple[str, str]:
    """The server of a name in the catalogue, and the tool's own name there.

    Raises:
        ProblemError: There is no such tool, or none that the caller may use.
    """
    try:
        server, original = gateway.pool.resolve(tool, caller.tools)
    except ConfigError:
        raise _no_such_tool(tool) from None
    if not caller.may_use(server):
        raise _no_such_tool(tool)
    return server, original


def called(gateway: Gateway, audit: Audit, caller: Caller, tool: str, arguments: Mapping[str, Any]) -> tuple[str, str]:
    """The same for a call, which is noted where it is refused.

    Raises:
        ProblemError: There is no such tool, or none that the caller may use.
    """
    try:
        return resolved(gateway, caller, tool)
    except ProblemError:
        server, _, name = tool.partition("__")
        audit.refused(caller, server, "tools/call", name, arguments)
        raise


def _no_such_tool(tool: str) -> ProblemError:
    return ProblemError(404, f"there is no tool {tool!r}", kind="no-such-tool", title="There is no such tool")
