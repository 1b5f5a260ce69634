"""How a server fared over time."""

import time
from datetime import datetime

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from fastapi_server.gateway.problems import answers
from fastapi_server.gateway.rest.dependencies import TheCaller, TheStore, no_such_server
from fastapi_server.gateway.rest.models import Text

router = APIRouter(prefix="/api/history", tags=["history"], responses=answers(404))


_HOUR = 3600.0


class Minute(BaseModel):
    """What one process of the gateway saw in one minute. Percentiles are in seconds."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    calls: int
    errors: int
    p50: float
    p95: float
    p99: float


class History(BaseModel):
    """The oldest first. Minutes without calls are left out."""

    server: str
    minutes: list[Minute] = Field(description="Several of the same time, where there are several processes.")


@router.get("/{server}", summary="Calls, errors and percentiles of a server, by minute")
async def read_history(server: Text, caller: TheCaller, store: TheStore, since: AwareDatetime | None = None) -> History:
    """Left out, `since` is an hour ago. A server that is gone still has its history."""
    if not caller.may_use(server):
        raise no_such_server(server)
    start = since.timestamp() if since is not None else time.time() - _HOUR
    return History(server=server, minutes=[Minute.model_validate(one) for one in await store.history(server, start)])
