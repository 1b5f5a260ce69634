"""Runs the gateway under uvicorn, and says where it is."""

import asyncio
import errno
import logging
import socket
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from rich.console import Console
from rich.markup import escape

from fastapi_server.gateway.application import create_app
from fastapi_server.gateway.front.guard import is_loopback
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.settings import Settings
from fastapi_server.gateway.store import Store, StoreUnavailable
from fastapi_server.mcp import ConfigError, load_config

_USUAL_CONFIG = Path("mcp.json")
_FAREWELL_SECONDS = 1
"""What connections get that are not closed when all is answered or given up."""


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; calls may then go on for `settings.drain_seconds`, and new ones are refused.

    Args:
        settings: Of the gateway.
        host: Address to listen at.
        port: 0 for any that is free.

    Raises:
        ConfigError: The config file or a setting is wrong, the database or the port cannot be had, or anybody on the
            network would be let in.
    """
    check_binding(settings, host)
    if settings.config is not None:
        load_config(settings.config)
    asyncio.run(_check_database(settings))
    app = create_app(settings)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("fastapi_server.gateway").setLevel(logging.INFO)
    config = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=_FAREWELL_SECONDS)
    _Server(config, app, settings).run(_listening(host, port))


async def _check_database(settings: Settings) -> None:
    try:
        async with Store(settings.database):
            pass
    except StoreUnavailable as error:
        raise ConfigError(f"database: {error}; the setting GATEWAY_DATABASE says where it is") from None


def _listening(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host that this machine has."""
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        ):
            try:
                sockets.append(socket.create_server(address, family=family))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL or family != socket.AF_INET6:
                    raise
    except OSError as error:
        for one in sockets:
            one.close()
        raise ConfigError(
            f"cannot listen at {host}:{port}: {error.strerror or error}; --host and --port say where to"
        ) from None
    return sockets


def check_binding(settings: Settings, host: str) -> None:
    """Refuse an address that others can reach, where nobody would have to say who they are.

    Raises:
        ConfigError: It is such a one.
    """
    if not is_loopback(host) and not settings.must_identify:
        raise ConfigError(
            f"{host} can be reached from other machines, and anybody there could use every server: "
            "require API keys (--require-key) or configure an OpenID provider (GATEWAY_OIDC_ISSUER), "
            "or stay at 127.0.0.1"
        )


class _Server(uvicorn.Server):
    """Says where it is, once it is there."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            _summarize(f"http://{f'[{host}]' if ':' in host else host}:{port}", self._app.state.gateway, self._settings)


def _callers(settings: Settings) -> str:
    if not settings.must_identify:
        return "everybody on this machine"
    return "with an API key" if settings.oidc_issuer is None else "with an API key or a token"


def _summarize(url: str, gateway: Gateway, settings: Settings) -> None:
    names = gateway.pool.servers
    rows = {
        "dashboard": f"[link={url}/]{url}/[/link]",
        "MCP": f"{url}/mcp",
        "API": f"[link={url}/openapi.json]{url}/openapi.json[/link]",
        "servers": escape(f"{len(names)}: {', '.join(names)}" if names else "none yet"),
        "callers": _callers(settings),
    }
    if settings.config is None and _USUAL_CONFIG.exists():
        rows["servers"] += f"; ./{_USUAL_CONFIG} is not served: that needs --config {_USUAL_CONFIG}"
    console = Console(soft_wrap=True, highlight=False)
    console.print("[bold green]MCP gateway[/]  [dim]Ctrl-C ends it[/]")
    for name, text in rows.items():
        console.print(f"  [dim]{name:<10}[/]{text}")
