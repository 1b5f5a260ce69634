"""`/rest/{server}`: a server of any transport over the `rest` dialect, as `HTTPMCPClient` speaks it."""

from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Body, Path, Request
from mcp_types import CallToolResult, ReadResourceResult, Tool
from pydantic import BaseModel, Field

from fastapi_server.gateway.problems import UPSTREAM, answers
from fastapi_server.gateway.rest import resources
from fastapi_server.gateway.rest.dependencies import Server, TheAudit, TheCaller, TheGateway, while_there
from fastapi_server.gateway.rest.models import JSONObject, ResourceRead
from fastapi_server.gateway.rest.tools import called, catalogue_of
from fastapi_server.gateway.writable import writable

router = APIRouter(prefix="/rest/{name}", tags=["rest dialect"])


class Session(BaseModel):
    """The answer to `initialize`."""

    sessionId: str = Field(description="To send as `session_id`; nothing depends on it")  # noqa: N815 (of the wire)


class Tools(BaseModel):
    """Tools of one server, under their own names."""

    tools: list[Tool]


class Call(BaseModel):
    """A call of a tool."""

    arguments: JSONObject = Field(default_factory=dict, examples=[{"city": "Oslo"}])


class Read(BaseModel):
    """A resource to read; as with a call, more members may come with it, such as `session_id`."""

    uri: str = Field(min_length=1, examples=["weather://cities"])


class Called(BaseModel):
    """What a tool gave."""

    result: CallToolResult


class Contents(BaseModel):
    """What a resource holds."""

    result: ReadResourceResult


@router.get("/health", summary="Whether the server is there", responses=answers(404))
async def health(_server: Server) -> dict[str, str]:
    """Asks it nothing."""
    return {"status": "ok"}


@router.post("/initialize", summary="Begin a session", responses=answers(404))
async def initialize(_server: Server, _hello: Annotated[dict[str, Any] | None, Body()] = None) -> Session:
    """The gateway keeps no session: the id is one that nobody else has."""
    return Session(sessionId=uuid4().hex)


@router.get("/tools/list", summary="Tools", response_model_exclude_none=True, responses=answers(404))
async def list_tools(server: Server, gateway: TheGateway, caller: TheCaller) -> Tools:
    """As last listed."""
    catalogue = await catalogue_of(gateway, caller, [server])
    shown = [
        one.tool.model_copy(update={"name": one.name.removeprefix(f"{server}__")}) for one in catalogue.entries.values()
    ]
    return Tools(tools=shown)


@router.post(
    "/tools/{tool:path}/call", summary="Call a tool", response_model_exclude_none=True, responses=answers(*UPSTREAM)
)
async def call_tool(
    server: Server,
    tool: Annotated[str, Path(description="Name of a tool", examples=["forecast"])],
    call: Call,
    request: Request,
    gateway: TheGateway,
    audit: TheAudit,
    caller: TheCaller,
) -> Called:
    """An error of the tool itself is a result with `isError`."""
    _, original = called(gateway, audit, caller, f"{server}__{tool}", call.arguments)

    async def result() -> CallToolResult:
        with audit.noting(caller, server, "tools/call", original, call.arguments) as told:
            client = gateway.pool.client(server, caller.principal)
            answer = await client.call_tool(original, call.arguments)
            told(answer)
            return writable(client, answer)

    return Called(result=await while_there(request, result()))


router.get("/resources/list", summary="Resources", response_model_exclude_none=True, responses=answers(404))(
    resources.list_resources
)


@router.post(
    "/resources/read", summary="Read a resource", response_model_exclude_none=True, responses=answers(*UPSTREAM)
)
async def read_resource(
    server: Server, read: Read, request: Request, gateway: TheGateway, audit: TheAudit, caller: TheCaller
) -> Contents:
    """Its contents: text, or `blob` in base64."""
    wanted = ResourceRead(uri=read.uri)
    return Contents(result=await resources.read_resource(server, wanted, request, gateway, audit, caller))
