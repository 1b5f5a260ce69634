"""The application: what is served where, and what is started and ended with it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from fastapi_server import __version__
from fastapi_server.gateway import dashboard, rest
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.registry import MemoryServerStore
from fastapi_server.gateway.settings import Settings
from fastapi_server.mcp import load_config


def create_app(settings: Settings | None = None) -> FastAPI:
    """The gateway as an ASGI application; left out, the settings are those of the environment."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        servers = load_config(settings.config).servers if settings.config is not None else {}
        gateway = Gateway(settings, servers)
        try:
            async with rest.serving(app, gateway, MemoryServerStore()):
                yield
        finally:
            await gateway.close()

    app = FastAPI(
        title="MCP gateway",
        version=__version__,
        summary="One endpoint over many MCP servers",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from other hosts
        redoc_url=None,
    )
    rest.install(app)
    dashboard.install(app)
    return app
