"""Resources, resource templates and prompts of one server."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from mcp_types import GetPromptResult, ReadResourceResult

from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.directory import Listing
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.problems import UPSTREAM, answers
from fastapi_server.gateway.rest.dependencies import Server, TheAudit, TheCaller, TheGateway, while_there
from fastapi_server.gateway.rest.models import PromptGet, PromptList, ResourceList, ResourceRead, TemplateList
from fastapi_server.gateway.writable import writable

router = APIRouter(prefix="/api/servers/{name}", tags=["resources and prompts"])


@router.get("/resources", summary="Resources", response_model_exclude_none=True, responses=answers(404))
async def list_resources(server: Server, gateway: TheGateway, caller: TheCaller) -> ResourceList:
    """As last listed."""
    return ResourceList(resources=(await _listing(gateway, caller, server)).resources)


@router.post(
    "/resources/read", summary="Read a resource", response_model_exclude_none=True, responses=answers(*UPSTREAM)
)
async def read_resource(
    server: Server, read: ResourceRead, request: Request, gateway: TheGateway, audit: TheAudit, caller: TheCaller
) -> ReadResourceResult:
    """Its contents: text, or `blob` in base64."""

    async def contents() -> ReadResourceResult:
        with audit.noting(caller, server, "resources/read", read.uri):
            client = gateway.pool.client(server, caller.principal)
            return writable(client, await client.read_resource(read.uri))

    return await while_there(request, contents())


@router.get("/templates", summary="Resource templates", response_model_exclude_none=True, responses=answers(404))
async def list_templates(server: Server, gateway: TheGateway, caller: TheCaller) -> TemplateList:
    """As last listed."""
    return TemplateList(templates=(await _listing(gateway, caller, server)).templates)


@router.get("/prompts", summary="Prompts", response_model_exclude_none=True, responses=answers(404))
async def list_prompts(server: Server, gateway: TheGateway, caller: TheCaller) -> PromptList:
    """As last listed."""
    return PromptList(prompts=(await _listing(gateway, caller, server)).prompts)


@router.post(
    "/prompts/{prompt:path}/get",
    summary="Fill in a prompt",
    response_model_exclude_none=True,
    responses=answers(*UPSTREAM),
)
async def get_prompt(
    server: Server,
    prompt: Annotated[str, Path(description="Name of a prompt", examples=["packing"])],
    get: PromptGet,
    request: Request,
    gateway: TheGateway,
    audit: TheAudit,
    caller: TheCaller,
) -> GetPromptResult:
    """Its messages, with the arguments in their places."""

    async def messages() -> GetPromptResult:
        with audit.noting(caller, server, "prompts/get", prompt, get.arguments):
            client = gateway.pool.client(server, caller.principal)
            return writable(client, await client.get_prompt(prompt, get.arguments))

    return await while_there(request, messages())


async def _listing(gateway: Gateway, caller: Caller, server: str) -> Listing:
    return (await gateway.directory.listings([server], caller.principal))[server]
