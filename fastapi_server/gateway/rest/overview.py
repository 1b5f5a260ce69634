"""What is known of a server now, put together from its clients, its lists and its history."""

from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.directory import Listing
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.problems import cause_of
from fastapi_server.gateway.rest.models import ServerDetail, ServerSummary
from fastapi_server.mcp import AutoMCPClient, ConnectionState, MCPClient, redacted_settings

_BEST_FIRST = (
    ConnectionState.CONNECTED,
    ConnectionState.RECONNECTING,
    ConnectionState.CONNECTING,
    ConnectionState.ERROR,
    ConnectionState.DISCONNECTED,
)
_WORST_FIRST = ("open", "half_open", "closed")


def clients_of(gateway: Gateway, caller: Caller, server: str) -> list[MCPClient]:
    """The clients of a server that a caller may know of: all of them, or those on the caller's own behalf."""
    members = [member for member in gateway.pool.members() if member.server == server]
    return [member.client for member in members if caller.admin or member.principal == caller.principal]


def state_of(clients: list[MCPClient]) -> ConnectionState:
    """The state of the client that is best off."""
    states = {client.state for client in clients}
    return next((state for state in _BEST_FIRST if state in states), ConnectionState.DISCONNECTED)


def _found_transport(client: MCPClient) -> str | None:
    return client.found if isinstance(client, AutoMCPClient) else None


def _listing(gateway: Gateway, caller: Caller, name: str) -> Listing:
    """The caller's own; until an administrator has one, that of the gateway itself."""
    own = gateway.directory.known(name, caller.principal)
    return own if own.info is not None or not caller.admin else gateway.directory.known(name)


def summaries(gateway: Gateway, caller: Caller) -> list[ServerSummary]:
    """Of each server that a caller may use."""
    return [summary(gateway, caller, name) for name in gateway.pool.servers if caller.may_use(name)]


def summary(gateway: Gateway, caller: Caller, name: str) -> ServerSummary:
    """Of one server."""
    clients = clients_of(gateway, caller, name)
    listing = _listing(gateway, caller, name)
    config, recent = gateway.pool.config_of(name), gateway.recent[name]
    state = state_of(clients)
    info = next((client.server_info for client in clients if client.server_info is not None), listing.info)
    found = [client.last_error for client in clients if client.last_error is not None]
    errors = [error.message if caller.admin else cause_of(error) for error in found]
    breakers = {client.metrics.breaker_state for client in clients}
    return ServerSummary(
        name=name,
        transport=next(filter(None, map(_found_transport, clients)), config.transport if config is not None else ""),
        state=state,
        era=info.era if info is not None else None,
        protocol_version=info.protocol_version if info is not None else None,
        tools=len(gateway.pool.catalogue({name: listing.tools}, caller.tools).entries),
        clients=sum(client.state is ConnectionState.CONNECTED for client in clients),
        in_flight=sum(client.metrics.in_flight for client in clients),
        calls=recent.calls,
        calls_per_second=recent.rate,
        errors=recent.errors,
        restarts=recent.restarts,
        latency=recent.latency,
        breaker=next((breaker for breaker in _WORST_FIRST if breaker in breakers), "closed"),
        error=errors[0] if errors and state is not ConnectionState.CONNECTED else None,
    )


def detail(gateway: Gateway, caller: Caller, name: str) -> ServerDetail:
    """Of one server, with what it says of itself and how it is configured."""
    listing, config = _listing(gateway, caller, name), gateway.pool.config_of(name)
    info = listing.info
    capabilities = info.capabilities if info is not None else None
    return ServerDetail(
        **summary(gateway, caller, name).model_dump(),
        title=info.name if info is not None else None,
        version=info.version if info is not None else None,
        instructions=info.instructions if info is not None else None,
        capabilities=list(capabilities.model_dump(exclude_none=True)) if capabilities is not None else [],
        resources=len(listing.resources) + len(listing.templates),
        prompts=len(listing.prompts),
        settings=redacted_settings(config) if config is not None and caller.admin else {},
    )
