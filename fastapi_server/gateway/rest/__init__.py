"""The REST interface, described by OpenAPI at `/openapi.json`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.registry import ServerRegistry, ServerStore
from fastapi_server.gateway.rest import dialect, health, live, problems, resources, servers, tools
from fastapi_server.gateway.rest.health import FirstRound
from fastapi_server.gateway.rest.requests import RequestMetrics
from fastapi_server.mcp.exporters.prometheus import PoolCollector

ROUTERS = (servers.router, resources.router, tools.router, live.router, health.router, dialect.router)


def install(app: FastAPI) -> None:
    """Add the routes, the shape of errors and the counting of requests."""
    app.state.metrics = CollectorRegistry()
    app.add_middleware(RequestMetrics, registry=app.state.metrics)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)


@asynccontextmanager
async def serving(app: FastAPI, gateway: Gateway, store: ServerStore) -> AsyncGenerator[None]:
    """What the routes need while the application runs."""
    app.state.gateway = gateway
    app.state.registry = registry = ServerRegistry(gateway, store)
    await registry.load()
    app.state.first_round = first_round = FirstRound(gateway)
    collector = PoolCollector(gateway.pool)
    app.state.metrics.register(collector)
    try:
        yield
    finally:
        app.state.metrics.unregister(collector)
        await first_round.close()
