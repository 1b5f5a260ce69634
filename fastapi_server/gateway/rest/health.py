"""`/health`, `/ready` and `/metrics`: for what runs and watches the gateway."""

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool

from fastapi_server.gateway.caller import ANYONE
from fastapi_server.gateway.draining import Draining
from fastapi_server.gateway.first_round import FirstRound
from fastapi_server.gateway.problems import answers
from fastapi_server.gateway.rest import overview
from fastapi_server.gateway.rest.dependencies import TheCaller, TheGateway, Watcher
from fastapi_server.gateway.rest.models import Readiness

router = APIRouter(tags=["gateway"])


@router.head("/health", include_in_schema=False)
@router.get("/health", summary="Whether the gateway runs")
async def health() -> dict[str, str]:
    """Asks no server."""
    return {"status": "ok"}


_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {
        **answers(503)[503],
        "model": Readiness,
        "description": "Not every server was tried, or the gateway is about to end",
    }
}


@router.head("/ready", include_in_schema=False)
@router.get("/ready", summary="Whether the gateway is ready", responses=_NOT_READY)
async def ready(request: Request, response: Response, gateway: TheGateway, caller: TheCaller) -> Readiness:
    """503 until every server has been tried once, and from when the gateway is about to end.

    In between, a server that is down is its own problem. A caller is told of the servers that they may use.
    """
    first_round: FirstRound = request.app.state.first_round
    draining: Draining = request.app.state.draining
    is_ready = first_round.over and not draining.begun.is_set()
    response.status_code = 200 if is_ready else 503
    names = [name for name in gateway.pool.servers if caller.may_use(name)]
    servers = {name: overview.state_of(overview.clients_of(gateway, ANYONE, name)) for name in names}
    return Readiness(ready=is_ready, servers=servers)


@router.get("/metrics", summary="Counters for Prometheus", response_class=Response)
async def metrics(request: Request, _watcher: Watcher) -> Response:
    """Of the clients, the pool, and the requests to the gateway."""
    text = await run_in_threadpool(generate_latest, request.app.state.metrics)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
