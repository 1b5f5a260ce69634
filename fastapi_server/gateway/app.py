"""The application: what is served where, and what is started and ended with it."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from fastapi_server import __version__
from fastapi_server.gateway.endpoint.app import Endpoint
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.settings import Settings
from fastapi_server.mcp import load_config


def create_app(settings: Settings | None = None) -> FastAPI:
    """The gateway as an ASGI application; left out, the settings are those of the environment."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        servers = load_config(settings.config).servers if settings.config is not None else {}
        gateway = app.state.gateway = Gateway(settings, servers)
        endpoint = app.state.endpoint = Endpoint(gateway, _secret(settings))
        try:
            async with endpoint.running():
                yield
        finally:
            await gateway.close()

    app = FastAPI(
        title="MCP gateway",
        version=__version__,
        summary="One endpoint over many MCP servers",
        lifespan=lifespan,
    )
    for path in ("/mcp", "/mcp/{server}"):
        app.router.routes.append(Route(path, _ToEndpoint()))
    return app


class _ToEndpoint:
    """An object, not a function: Starlette then hands on every request as it is, whatever its method."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["app"].state.endpoint(scope, receive, send)


def _secret(settings: Settings) -> str:
    return settings.secret.get_secret_value() if settings.secret is not None else secrets.token_urlsafe(32)
