"""From a configuration to a client: the registry of transports, and the clients that this process has."""

import asyncio
from typing import ClassVar

from fastapi_server.mcp.clients.auto_client import AutoMCPClient
from fastapi_server.mcp.clients.base_client import MCPClient
from fastapi_server.mcp.clients.handlers import Handlers
from fastapi_server.mcp.clients.hooks import Hooks
from fastapi_server.mcp.clients.http_client import HTTPMCPClient
from fastapi_server.mcp.clients.lifecycle import ConnectionState
from fastapi_server.mcp.clients.sse_client import SSEMCPClient
from fastapi_server.mcp.clients.stdio_client import StdioMCPClient
from fastapi_server.mcp.config import ServerConfig
from fastapi_server.mcp.detection import AUTO, HTTP, SSE, STDIO, canonical_transport
from fastapi_server.mcp.errors import ConfigError, MCPConnectionError

_TRANSPORTS: dict[str, type[MCPClient]] = {
    STDIO: StdioMCPClient,
    SSE: SSEMCPClient,
    HTTP: HTTPMCPClient,
    AUTO: AutoMCPClient,
}


def make_client(
    config: ServerConfig,
    /,
    *,
    handlers: Handlers | None = None,
    principal: str | None = None,
    hooks: Hooks | None = None,
) -> MCPClient:
    """A new client of the transport that a configuration names. Nobody keeps it but you.

    Raises:
        ConfigError: Nobody has registered the transport.
    """
    client_class = _TRANSPORTS.get(config.transport)
    if client_class is None:
        raise ConfigError(f"unknown transport {config.transport!r}; known are {', '.join(sorted(_TRANSPORTS))}")
    return client_class(config.name, config.config, handlers=handlers, principal=principal, hooks=hooks)


class MCPClientFactory:
    """Creates clients and keeps them by name, for the whole process."""

    _clients: ClassVar[dict[str, tuple[ServerConfig, MCPClient]]] = {}
    _retired: ClassVar[list[MCPClient]] = []

    @classmethod
    def create(
        cls, server_config: ServerConfig, reuse_existing: bool = True, *, handlers: Handlers | None = None
    ) -> MCPClient:
        """The client for a configuration. Opens nothing.

        Args:
            server_config: Of the server.
            reuse_existing: Give the client that the same configuration has been given before. `False` retires that
                one, whatever its configuration: it is disconnected in the background, or at the latest by
                `shutdown_all`.
            handlers: For a client that is made now; one that is reused keeps its own.

        Raises:
            ValueError: Nobody has registered the transport; or there is a client of this name with another
                configuration, and `reuse_existing` is true.
        """
        existing = cls._clients.get(server_config.name)
        if existing is not None and reuse_existing:
            if existing[0] == server_config:
                return existing[1]
            raise ConfigError(
                f"server {server_config.name!r}: there is a client of this name with another configuration; "
                "pass reuse_existing=False to replace it"
            )
        client = make_client(server_config, handlers=handlers)
        if existing is not None:
            cls._retire(existing[1])
        cls._clients[server_config.name] = (server_config, client)
        return client

    @classmethod
    async def create_and_connect(cls, server_config: ServerConfig, *, handlers: Handlers | None = None) -> MCPClient:
        """The client for a configuration, connected.

        Raises:
            ConnectionError: Connecting failed; an `MCPConnectionError` that says how.
            ValueError: As `create` does.
        """
        client = cls.create(server_config, handlers=handlers)
        if not await client.connect():
            raise client.last_error or MCPConnectionError("connecting failed").at(
                client.name, client.transport, "connect"
            )
        return client

    @classmethod
    def register_transport(cls, name: str, client_class: type[MCPClient]) -> None:
        """Have configurations with this transport make clients of `client_class`. Letter case does not count."""
        _TRANSPORTS[canonical_transport(name)] = client_class

    @classmethod
    def get_client(cls, name: str) -> MCPClient | None:
        """The client of that name, if there is one."""
        existing = cls._clients.get(name)
        return existing[1] if existing is not None else None

    @classmethod
    def list_clients(cls) -> list[str]:
        """The names of all clients, in the order of their creation."""
        return list(cls._clients)

    @classmethod
    async def shutdown_all(cls) -> None:
        """Disconnect every client, those retired too, all at once; afterwards there are none."""
        clients = [client for _config, client in cls._clients.values()] + cls._retired
        cls._clients.clear()
        cls._retired.clear()
        await asyncio.gather(*(client.disconnect() for client in clients))

    @classmethod
    def _retire(cls, client: MCPClient) -> None:
        """Close a client that nobody will get any more, now where an event loop runs."""
        if client.state is ConnectionState.DISCONNECTED:
            return
        cls._retired.append(client)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # shutdown_all will
        closing = loop.create_task(client.disconnect())
        closing.add_done_callback(lambda _done: cls._retired.remove(client) if client in cls._retired else None)
