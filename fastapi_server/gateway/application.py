"""The application: what is served where, and what is started and ended with it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Gauge

from fastapi_server import __version__
from fastapi_server.gateway import dashboard, endpoint, rest
from fastapi_server.gateway.draining import Draining, draining_first
from fastapi_server.gateway.front.door import front_door
from fastapi_server.gateway.front.keys import KeyRing
from fastapi_server.gateway.front.resource_metadata import metadata_router
from fastapi_server.gateway.settings import Settings
from fastapi_server.gateway.startup import started
from fastapi_server.gateway.store import Store
from fastapi_server.mcp.exporters.prometheus import PoolCollector


def create_app(settings: Settings | None = None) -> FastAPI:
    """The gateway as an ASGI application; left out, the settings are those of the environment.

    Raises:
        ConfigError: The database's URL or the rate limit is wrong.
    """
    settings = settings or Settings()
    store = Store(settings.database)
    key_ring = KeyRing(store)
    draining = Draining()
    metrics = CollectorRegistry()
    lost = Gauge("mcp_gateway_audit_lost", "Entries of the audit log that were never written.", registry=metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        draining.renew()
        async with started(settings, store, key_ring, draining) as parts:
            for name, part in vars(parts).items():
                setattr(app.state, name, part)
            collector = PoolCollector(parts.gateway.pool)
            metrics.register(collector)
            lost.set_function(lambda: parts.audit.lost)
            with draining_first(draining, settings.drain_seconds):
                yield
            metrics.unregister(collector)

    app = FastAPI(
        title="MCP gateway",
        version=__version__,
        summary="One endpoint over many MCP servers",
        lifespan=lifespan,
        middleware=front_door(settings, key_ring, draining),
        docs_url=None,  # their pages load scripts from other hosts
        redoc_url=None,
    )
    app.state.key_ring = key_ring
    app.state.draining = draining
    rest.install(app, settings, metrics)
    app.include_router(metadata_router(settings.oidc_issuer))
    endpoint.install(app)
    dashboard.install(app)
    return app
