"""The REST interface, described by OpenAPI at `/openapi.json`."""

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from fastapi_server.gateway import problems
from fastapi_server.gateway.rest import (
    audit,
    caller,
    dialect,
    entries,
    health,
    history,
    keys,
    live,
    openapi,
    resources,
    servers,
    tools,
)
from fastapi_server.gateway.rest.requests import RequestMetrics
from fastapi_server.gateway.settings import Settings

ROUTERS = (
    *(caller.router, servers.router, entries.router, resources.router, tools.router, live.router, history.router),
    *(keys.router, audit.router, health.router, dialect.router),
)


def install(app: FastAPI, settings: Settings, metrics: CollectorRegistry) -> None:
    """Add the routes, the shape of errors, the counting of requests, and the description of all."""
    app.state.metrics = metrics
    app.add_middleware(RequestMetrics, registry=metrics)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    openapi.install(app, settings)
