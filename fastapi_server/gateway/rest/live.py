"""`/api/events`: what happens, as an event stream."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from sse_starlette import EventSourceResponse, JSONServerSentEvent

from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.events import Event
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.rest import overview
from fastapi_server.gateway.rest.dependencies import TheCaller, TheGateway

router = APIRouter(tags=["gateway"])

Kind = Literal["servers", "server", "state", "call", "log", "lists", "config"]
_FOR_ADMINS = {"call", "log", "config"}
_TICK_SECONDS = 1.0


@router.get(
    "/api/events",
    summary="What happens, live",
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events"}},
)
async def events(
    gateway: TheGateway,
    caller: TheCaller,
    kind: Annotated[list[Kind] | None, Query(description="Only these kinds; left out, all")] = None,
    server: Annotated[str | None, Query(description="Only of this server")] = None,
) -> EventSourceResponse:
    """`servers` is the table of all servers, now and whenever it has changed, once a second at most.

    `server` says that one was added, changed or removed, `state` that a connection has moved, `lists` that a server
    lists something else; of the latter two, those for the caller, or all for administrators. These also get `call` and
    `log`, which tell what others do, and `config`: the config file was read again, with these problems. The stream ends
    with the key or token that it was asked for with.
    """
    return EventSourceResponse(_stream(gateway, caller, set(kind) if kind else None, server))


async def _stream(
    gateway: Gateway, caller: Caller, kinds: set[Kind] | None, server: str | None
) -> AsyncGenerator[JSONServerSentEvent]:
    table = ""
    async with gateway.events.watch() as watched, contextlib.aclosing(_ticking(watched)) as happened:
        async for event in happened:
            if event is None:
                now = [one.model_dump(mode="json") for one in overview.summaries(gateway, caller)]
                if (kinds is None or "servers" in kinds) and repr(now) != table:
                    table = repr(now)
                    yield JSONServerSentEvent({"servers": now}, event="servers")
            elif (
                _may_hear(gateway, caller, event)
                and (kinds is None or event.kind in kinds)
                and server in {None, event.server}
            ):
                yield JSONServerSentEvent({"server": event.server, **event.data}, event=event.kind)


def _may_hear(gateway: Gateway, caller: Caller, event: Event) -> bool:
    """Administrators hear of everybody; others of their own connections, and of what they see."""
    if event.server and not caller.may_use(event.server):
        return False
    if caller.admin:
        return True
    match event.kind:
        case "state":
            return event.principal == caller.principal
        case "lists":
            return event.change is not None and gateway.concerns(event.change, caller)
        case _:
            return event.kind not in _FOR_ADMINS


async def _ticking(events: AsyncGenerator[Event]) -> AsyncGenerator[Event | None]:
    """The events, with `None` at once and every second."""
    loop = asyncio.get_running_loop()
    following, tick = loop.create_task(anext(events)), loop.time()
    try:
        while True:
            if loop.time() >= tick:
                yield None
                tick = loop.time() + _TICK_SECONDS
            await asyncio.wait([following], timeout=tick - loop.time())
            if following.done():
                yield following.result()
                following = loop.create_task(anext(events))
    finally:
        following.cancel()
