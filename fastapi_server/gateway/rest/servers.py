"""`/api/servers`: which there are, how they fare, and changes to them."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.problems import UPSTREAM, ProblemError, answers
from fastapi_server.gateway.rest import overview
from fastapi_server.gateway.rest.dependencies import (
    Admin,
    ConfiguredServer,
    Server,
    TheCaller,
    TheGateway,
    TheRoster,
    not_served,
)
from fastapi_server.gateway.rest.models import (
    History,
    Imported,
    JSONObject,
    Log,
    NewServer,
    ServerDetail,
    ServerList,
    UnservedServer,
)
from fastapi_server.mcp import MCPClient, StdioMCPClient

router = APIRouter(prefix="/api/servers", tags=["servers"])

_ENTRY = {"url": "https://example.com/mcp", "headers": {"X-Team": "weather"}}
_FILE = {"mcpServers": {"weather": {"url": "https://example.com/mcp"}}}


@router.get("", summary="All servers")
async def list_servers(gateway: TheGateway, roster: TheRoster, caller: TheCaller) -> ServerList:
    """State and numbers of each server. Asks none of them."""
    servers = overview.summaries(gateway, caller)
    if not caller.admin:
        return ServerList(servers=servers)
    unserved = [
        UnservedServer(name=name, problem=error.message)
        for name, error in roster.unserved.items()
        if caller.may_use(name)
    ]
    return ServerList(servers=servers, problems=roster.file_problems, unserved=unserved)


@router.post("", status_code=201, summary="Add a server", responses=answers(409))
async def add_server(new: NewServer, gateway: TheGateway, roster: TheRoster, admin: Admin) -> ServerDetail:
    """The gateway connects to it, and waits for a moment until it has been heard of."""
    if new.name in gateway.pool.servers:
        raise ProblemError(409, f"there is a server {new.name!r} already", kind="server-exists", server=new.name)
    if new.name in roster.unserved:
        raise not_served(roster, new.name, status=409)
    await roster.put(new.name, new.entry)
    return await _shown(gateway, admin, new.name)


@router.post("/import", summary="Import an mcp.json")
async def import_servers(
    roster: TheRoster,
    gateway: TheGateway,
    admin: Admin,
    document: Annotated[JSONObject, Body(examples=[_FILE])],
    dry_run: Annotated[bool, Query(description="Change nothing, and say what would become of it")] = False,
) -> Imported:
    """Adds and replaces servers; those that the file does not name stay. Wrong entries are passed over and reported."""
    outcome = await roster.merge(document, dry_run=dry_run)
    if not dry_run:
        await gateway.directory.listings([*outcome.added, *outcome.changed], admin.principal)
    return outcome


@router.get("/{name}", summary="One server", responses=answers(404))
async def get_server(server: Server, gateway: TheGateway, caller: TheCaller) -> ServerDetail:
    """What it says of itself, how it is configured, how it fares."""
    return overview.detail(gateway, caller, server)


@router.put("/{name}", summary="Change a server", responses=answers(404))
async def change_server(
    server: ConfiguredServer,
    gateway: TheGateway,
    roster: TheRoster,
    admin: Admin,
    entry: Annotated[JSONObject, Body(examples=[_ENTRY])],
) -> ServerDetail:
    """Replaces its whole entry; `***` in it keeps a secret. Calls in flight end with the one that they began with."""
    await roster.put(server, entry)
    return await _shown(gateway, admin, server)


@router.delete("/{name}", status_code=204, summary="Remove a server", responses=answers(404))
async def remove_server(server: ConfiguredServer, roster: TheRoster, _admin: Admin) -> Response:
    """Calls in flight end first."""
    await roster.remove(server)
    return Response(status_code=204)


@router.post("/{name}/reconnect", summary="Reconnect", responses=answers(*UPSTREAM))
async def reconnect_server(server: Server, gateway: TheGateway, admin: Admin) -> ServerDetail:
    """Lets calls in flight end, closes every connection to the server, and opens them again."""
    clients = overview.clients_of(gateway, admin, server) or [gateway.pool.client(server, admin.principal)]
    await _drained(gateway, server, clients)
    outcomes = await asyncio.gather(*(client.initialize() for client in clients), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    await gateway.directory.refresh(server, admin.principal)
    return overview.detail(gateway, admin, server)


@router.post("/{name}/drain", summary="Drain", responses=answers(404))
async def drain_server(server: Server, gateway: TheGateway, admin: Admin) -> ServerDetail:
    """Lets calls in flight end and closes every connection to the server; the next call opens one."""
    await _drained(gateway, server, overview.clients_of(gateway, admin, server))
    return overview.detail(gateway, admin, server)


@router.get("/{name}/logs", summary="What a server wrote", responses=answers(404))
async def server_logs(server: Server, gateway: TheGateway, admin: Admin) -> Log:
    """The end of the standard error of its processes, and what it logged through the protocol."""
    processes = [
        Log.Process(principal=client.principal, pid=client.pid, stderr=client.stderr)
        for client in overview.clients_of(gateway, admin, server)
        if isinstance(client, StdioMCPClient)
    ]
    lines = [Log.Line(**vars(line)) for line in gateway.logs.get(server, ())]
    return Log(lines=lines, processes=processes)


@router.get("/{name}/history", summary="Recent latencies", responses=answers(404))
async def server_history(server: Server, gateway: TheGateway) -> History:
    """Calls, errors and percentiles by second, for a plot."""
    return History(samples=gateway.recent[server].samples())


async def _shown(gateway: Gateway, admin: Caller, name: str) -> ServerDetail:
    await gateway.directory.listings([name], admin.principal)
    return overview.detail(gateway, admin, name)


async def _drained(gateway: Gateway, server: str, clients: list[MCPClient]) -> None:
    seconds = gateway.pool.limits.drain_seconds
    await gateway.directory.rest(server, seconds)  # or the next of its lists would open the connection again
    await asyncio.gather(*(client.park(drain=seconds) for client in clients))
