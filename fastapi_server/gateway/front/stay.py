"""How long an answer may go on: until its caller is not welcome any more, or until the gateway ends."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_server.gateway.draining import Draining
from fastapi_server.gateway.front.path import path_within
from fastapi_server.gateway.front.size import once_more, whole_body
from fastapi_server.gateway.problems import problem

StillWelcome: TypeAlias = Callable[[], Awaitable[bool]]

STILL_WELCOME = "gateway.still_welcome"
"""Where an ASGI scope holds a `StillWelcome`: whether the key or token that came with the request is good even now.
Nothing is there where the caller brought none."""

_LOOK_SECONDS = 1.0
_FAREWELL_SECONDS = 0.5
_LONGEST_ANSWER = 4 * 1024 * 1024
_ALWAYS = frozenset({"/health", "/ready", "/metrics"})


class Stay:
    """Ends streams whose caller's key was revoked, or whose token has expired, within a second or two.

    While the gateway drains, it ends those that only tell what happens (they are opened by `GET`) as well, leaves calls
    to end by themselves, lets through what carries them on, and answers other requests with 503. To the application a
    stream that is ended looks like one whose client has hung up; to the client, like one that is complete.

    A call may have been carried out before its answer begins. So it is not answered as one that was refused, which the
    client would make again: it goes on where its caller is not welcome any more, and gets 504 where the gateway ends.
    """

    def __init__(self, app: ASGIApp, draining: Draining) -> None:
        self._app = app
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http" or path_within(scope) in _ALWAYS:
            await self._app(scope, receive, send)
            return
        if self._draining.begun.is_set():
            carrying_on = await _carrying_on(scope, receive)
            if carrying_on is None:
                await _about_to_end()(scope, receive, send)
                return
            receive = carrying_on
        with self._draining.open():
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = started = answered = dismissed = events = False

        def may_end() -> bool:
            return started or scope["method"] == "GET"

        async def receive_until_dismissed() -> Message:
            nonlocal asked, dismissed
            if asked:
                message = await _first(receive(), *self._reasons_to_end(scope, may_end))
            else:
                message = await receive()
                asked = not message.get("more_body", False)
            dismissed = message is _DISMISSED
            return message

        async def note(message: Message) -> None:
            nonlocal started, answered, events
            started = True
            if message["type"] == "http.response.start":
                events = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive_until_dismissed, note)
        except asyncio.CancelledError:
            if not self._draining.begun.is_set():
                raise
            dismissed = True  # it has taken too long
        if dismissed and not started:
            await self._refusal(scope)(scope, receive, send)
        elif dismissed and not answered:
            last = self._last_event(scope) if events else b""
            with contextlib.suppress(TimeoutError):  # who reads nothing more is not waited for
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    await send({"type": "http.response.body", "body": last, "more_body": False})

    def _refusal(self, scope: Scope) -> Response:
        if not self._draining.begun.is_set():
            return problem(401, "the key or token is not good any more")
        if scope["method"] != "GET":
            return problem(504, "the gateway ended before the call did, which may have been carried out")
        return _about_to_end()

    def _last_event(self, scope: Scope) -> bytes:
        """Why a call over REST has no result; at `/mcp`, a stream that ends without one says as much."""
        if scope["method"] != "POST" or not path_within(scope).startswith("/api/"):
            return b""
        return b"event: error\r\ndata: %b\r\n\r\n" % self._refusal(scope).body

    def _reasons_to_end(self, scope: Scope, may_end: Callable[[], bool]) -> list[Coroutine[Any, Any, Message]]:
        reasons: list[Coroutine[Any, Any, Message]] = []
        if STILL_WELCOME in scope:
            reasons.append(_when_unwelcome(scope[STILL_WELCOME], may_end))
        if scope["method"] == "GET":
            reasons.append(_when_set(self._draining.begun))
        return reasons


def _about_to_end() -> Response:
    headers = {"retry-after": "5", "connection": "close"}
    return problem(503, "the gateway is about to end; another one may be there soon", headers)


async def _carrying_on(scope: Scope, receive: Receive) -> Receive | None:
    """Gives the request once more, if a call that is under way needs it; `None` if it does not.

    That is what is sent to `/mcp` besides requests: answers to a server's questions, and notices; and, in the stateless
    era, a call that is asked for again with an answer.
    """
    if scope["method"] != "POST" or not path_within(scope).startswith("/mcp"):
        return None
    messages = await whole_body(scope, receive, _LONGEST_ANSWER)
    if messages is None:
        return None
    try:
        said = _Said.model_validate_json(messages[0]["body"])
    except ValidationError:
        return None
    if said.method is not None and said.id is not None and "requestState" not in (said.params or {}):
        return None
    return once_more(messages, receive)


class _Said(BaseModel):
    """As much of a JSON-RPC message as has to be known of it."""

    method: str | None = None
    id: int | float | str | None = None
    params: dict[str, Any] | None = None


_DISMISSED: Message = {"type": "http.disconnect"}


async def _when_unwelcome(still_welcome: StillWelcome, may_end: Callable[[], bool]) -> Message:
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if may_end() and not await still_welcome():
            return _DISMISSED


async def _when_set(event: asyncio.Event) -> Message:
    await event.wait()
    return _DISMISSED


async def _first(*ways: Awaitable[Message]) -> Message:
    """What comes first; the others are given up."""
    if len(ways) == 1:
        return await ways[0]
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
