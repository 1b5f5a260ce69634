"""From a configuration to a client: the registry of transports, and the pool that this process has by default."""

import asyncio
import math
import weakref
from importlib import import_module
from typing import ClassVar

from fastapi_server.mcp.admission import PoolLimits
from fastapi_server.mcp.auth.choose import signing_in
from fastapi_server.mcp.auth.stores import TokenStore
from fastapi_server.mcp.auth_config import AuthSetting
from fastapi_server.mcp.clients.base_client import MCPClient
from fastapi_server.mcp.clients.handlers import Handlers
from fastapi_server.mcp.clients.hooks import Hooks
from fastapi_server.mcp.config import ServerConfig
from fastapi_server.mcp.detection import AUTO, HTTP, SSE, STDIO, canonical_transport
from fastapi_server.mcp.errors import ConfigError, Delivery, MCPConnectionError
from fastapi_server.mcp.members import fingerprint_of
from fastapi_server.mcp.pool import ClientPool

_CLIENTS = "fastapi_server.mcp.clients"
_TRANSPORTS: dict[str, type[MCPClient] | str] = {
    STDIO: f"{_CLIENTS}.stdio_client:StdioMCPClient",
    SSE: f"{_CLIENTS}.sse_client:SSEMCPClient",
    HTTP: f"{_CLIENTS}.http_client:HTTPMCPClient",
    AUTO: f"{_CLIENTS}.auto_client:AutoMCPClient",
}
"""Classes, or where they are: what a transport needs is imported when it is first used."""

_KEEP_ALL = PoolLimits(total=10_000, per_server=10_000, idle_seconds=math.inf)
"""Who gets a client from the factory keeps it connected until `shutdown_all`."""


def make_client(
    config: ServerConfig,
    /,
    *,
    handlers: Handlers | None = None,
    principal: str | None = None,
    hooks: Hooks | None = None,
    auth: AuthSetting | None = None,
    token_store: TokenStore | None = None,
) -> MCPClient:
    """A new client of the transport that a configuration names. Nobody keeps it but you.

    Args:
        config: Of the server.
        handlers: What to answer when the server asks or tells something.
        principal: On whose behalf the client works.
        hooks: Told what happens.
        auth: How to sign in, instead of what the configuration says.
        token_store: Keeps the tokens, where the configuration names no store.

    Raises:
        ConfigError: Nobody has registered the transport; or `auth` is none, or not for this configuration.
    """
    config = signing_in(config, auth, token_store)
    return _client_class(config.transport)(
        config.name, config.config, handlers=handlers, principal=principal, hooks=hooks
    )


def _client_class(transport: str) -> type[MCPClient]:
    found = _TRANSPORTS.get(transport)
    if found is None:
        raise ConfigError(f"unknown transport {transport!r}; known are {', '.join(sorted(_TRANSPORTS))}")
    if isinstance(found, str):
        module, _, name = found.partition(":")
        client_class: type[MCPClient] = getattr(import_module(module), name)
        found = _TRANSPORTS[transport] = client_class
    return found


class MCPClientFactory:
    """Creates clients and keeps them by name, in one pool for each event loop of the process.

    What is created outside an event loop goes to the first loop that asks.
    """

    _pools: ClassVar[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, ClientPool]] = weakref.WeakKeyDictionary()
    _unclaimed: ClassVar[list[ClientPool]] = []

    @classmethod
    def create(
        cls,
        server_config: ServerConfig,
        reuse_existing: bool = True,
        *,
        handlers: Handlers | None = None,
        auth: AuthSetting | None = None,
    ) -> MCPClient:
        """The client for a configuration. Opens nothing.

        Args:
            server_config: Of the server.
            reuse_existing: Give the client that the same configuration has been given before. `False` retires that
                one, whatever its configuration: it is disconnected in the background, or at the latest by
                `shutdown_all`.
            handlers: For a client that is made now; one that is reused keeps its own.
            auth: How to sign in, instead of what the configuration says; it belongs to the configuration.

        Raises:
            ValueError: A `ConfigError`: nobody has registered the transport; `auth` is none, or not for this
                configuration; or there is a client of this name with another one, and `reuse_existing` is true.
        """
        if not isinstance(server_config, ServerConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(
                f'a ServerConfig is needed, not {type(server_config).__name__}: ServerConfig("files", config={{…}})'
            )
        server_config = signing_in(server_config, auth, None)
        pool, name = cls.pool(), server_config.name
        existing = pool.config_of(name)
        if existing is not None and reuse_existing:
            if fingerprint_of(existing) == fingerprint_of(server_config):
                return pool.client(name)
            raise ConfigError(
                f"server {name!r}: there is a client of this name with another configuration; "
                "pass reuse_existing=False to replace it"
            )
        if server_config.transport not in _TRANSPORTS:
            make_client(server_config)  # says which there are
        pool.put(server_config, handlers=handlers)
        return pool.client(name)

    @classmethod
    async def create_and_connect(
        cls, server_config: ServerConfig, *, handlers: Handlers | None = None, auth: AuthSetting | None = None
    ) -> MCPClient:
        """The client for a configuration, connected.

        Raises:
            ConnectionError: Connecting failed; an `MCPConnectionError` that says how. A secret that is missing is its
                cause, as is a store for tokens that does not work.
            ValueError: As `create` does.
        """
        client = cls.create(server_config, handlers=handlers, auth=auth)
        if await client.connect():
            return client
        error = client.last_error
        if isinstance(error, MCPConnectionError):
            raise error
        message = "connecting failed" if error is None else error.message
        failure = MCPConnectionError(message, delivery=Delivery.NOT_SENT)
        raise failure.at(client.name, client.transport, "connect") from error

    @classmethod
    def register_transport(cls, name: str, client_class: type[MCPClient]) -> None:
        """Have configurations with this transport make clients of `client_class`. Letter case does not count."""
        _TRANSPORTS[canonical_transport(name)] = client_class

    @classmethod
    def get_client(cls, name: str) -> MCPClient | None:
        """The client of that name, if there is one."""
        pool = cls.pool()
        return pool.client(name) if pool.config_of(name) is not None else None

    @classmethod
    def list_clients(cls) -> list[str]:
        """The names of all clients, in the order of their creation."""
        return cls.pool().servers

    @classmethod
    async def shutdown_all(cls) -> None:
        """Disconnect every client, those retired too, all at once; afterwards there are none."""
        pool = cls.pool()
        del cls._pools[asyncio.get_running_loop()]
        await pool.close()

    @classmethod
    def pool(cls) -> ClientPool:
        """The pool of the running event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is not None and loop in cls._pools:
            return cls._pools[loop]
        if not cls._unclaimed:
            cls._unclaimed.append(ClientPool({}, make_client, limits=_KEEP_ALL))
        if loop is None:
            return cls._unclaimed[0]
        return cls._pools.setdefault(loop, cls._unclaimed.pop())
