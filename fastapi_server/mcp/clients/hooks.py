"""Watching clients: one frozen record for each thing that happens."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from msgspec import Struct

from fastapi_server.mcp.clients.lifecycle import ConnectionState
from fastapi_server.mcp.clients.mailbox import Mailbox
from fastapi_server.mcp.errors import MCPClientError

_FLUSH_SECONDS = 5.0

logger = logging.getLogger("fastapi_server.mcp")


class RequestEvent(Struct, frozen=True, gc=False):
    """A call has begun.

    Attributes:
        server: Name of the server.
        principal: On whose behalf.
        call: Number of the call, unique within its client.
        method: Of the protocol.
        target: Name of the tool or prompt, or URI of the resource; `None` for other methods.
    """

    server: str
    principal: str | None
    call: int
    method: str
    target: str | None


class ResponseEvent(Struct, frozen=True, gc=False):
    """A call has ended with a result.

    Attributes:
        request: How it began.
        seconds: Between the two.
    """

    request: RequestEvent
    seconds: float


class ErrorEvent(Struct, frozen=True):
    """A call has ended without one.

    Attributes:
        request: How it began.
        seconds: Between the two.
        error: What was raised; `CancelledError` where the caller gave up.
    """

    request: RequestEvent
    seconds: float
    error: BaseException


class StateEvent(Struct, frozen=True):
    """A client has moved to another state.

    Attributes:
        server: Name of the server.
        principal: On whose behalf.
        before: Where it stood.
        after: Where it stands.
        error: Why, where it is `ERROR`.
    """

    server: str
    principal: str | None
    before: ConnectionState
    after: ConnectionState
    error: MCPClientError | None


@dataclass(slots=True)
class OutgoingCall:
    """A call, as whoever stands around it sees it.

    Attributes:
        server: Name of the server.
        principal: On whose behalf.
        method: Of the protocol.
        target: Name of the tool or prompt, or URI of the resource; `None` for other methods.
        context: Set on the way in: goes with every request of the call, into `_meta` (not to a bare JSON-RPC peer,
            which has none) and as HTTP headers. What the caller or the configuration set by the same name stands.
        transport: Known once a request is sent, like the next two, which are those of the last one.
        protocol_version: Empty for a bare JSON-RPC peer.
        request_id: Of JSON-RPC.
        result: Of a call that succeeded, as plain values; a list of tools perhaps as JSON (`msgspec.Raw`).
    """

    server: str
    principal: str | None
    method: str
    target: str | None
    context: Mapping[str, str] = field(default_factory=dict[str, str])
    transport: str | None = None
    protocol_version: str | None = None
    request_id: int | None = None
    result: Any = None


RequestHook: TypeAlias = Callable[[RequestEvent], Awaitable[None] | None]
ResponseHook: TypeAlias = Callable[[ResponseEvent], Awaitable[None] | None]
ErrorHook: TypeAlias = Callable[[ErrorEvent], Awaitable[None] | None]
StateHook: TypeAlias = Callable[[StateEvent], Awaitable[None] | None]
Around: TypeAlias = Callable[[OutgoingCall], AbstractContextManager[None]]


@dataclass(frozen=True)
class Hooks:
    """Called in the order in which things happen; what one raises is logged and harmless.

    Plain functions run at once and must be quick; coroutine functions run one after another, beside the calls. Closing
    the client waits 5 s for them, and then cancels them; a hook may close the client itself.

    Attributes:
        on_request: A call begins.
        on_response: A call has its result.
        on_error: A call fails, or is given up.
        on_state_change: A client connects, loses its channel, or is closed.
        around: A block that each call runs inside of, in the caller's own task: for spans and the context that travels
            with them. Unlike the others it is part of the call: what it raises, the caller gets.
    """

    on_request: RequestHook | None = None
    on_response: ResponseHook | None = None
    on_error: ErrorHook | None = None
    on_state_change: StateHook | None = None
    around: Around | None = None


class HookRunner:
    """Tells one client's events to its hooks."""

    def __init__(self, server: str, principal: str | None, hooks: Hooks) -> None:
        self._server = server
        self._principal = principal
        self._on_request = hooks.on_request
        self._on_response = hooks.on_response
        self._on_error = hooks.on_error
        self._on_state_change = hooks.on_state_change
        self._mailbox = Mailbox()
        self._warned = False
        self._calls = itertools.count(1)
        self.around = hooks.around
        self.watches_calls = any((hooks.on_request, hooks.on_response, hooks.on_error))

    def outgoing(self, method: str, params: Mapping[str, Any] | None) -> OutgoingCall:
        """A call, for `around`."""
        return OutgoingCall(self._server, self._principal, method, _target(params))

    def began(self, method: str, params: Mapping[str, Any] | None) -> RequestEvent:
        """A call begins; the event is for `ended`."""
        target = None if params is None else params.get("name") or params.get("uri")  # without a call of `_target`
        if target is not None and type(target) is not str:
            target = str(target)
        event = RequestEvent(self._server, self._principal, next(self._calls), method, target)
        if self._on_request is not None:
            self._mailbox.post(self._on_request, event)
        return event

    def ended(self, request: RequestEvent, seconds: float, error: BaseException | None) -> None:
        """It has ended."""
        if error is None:
            if self._on_response is not None:
                self._mailbox.post(self._on_response, ResponseEvent(request, seconds))
        elif self._on_error is not None:
            self._mailbox.post(self._on_error, ErrorEvent(request, seconds, error))

    def moved(self, before: ConnectionState, after: ConnectionState, error: MCPClientError | None) -> None:
        """The client has another state."""
        if self._on_state_change is not None:
            event = StateEvent(
                self._server, self._principal, before, after, error if after is ConnectionState.ERROR else None
            )
            self._mailbox.post(self._on_state_change, event)

    async def flush(self) -> None:
        """Wait until every hook has run, 5 s at most; then cancel the one that runs, and drop the rest."""
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._mailbox.flush()
        except TimeoutError:
            self._warn_of_cancelling()
            await self._mailbox.close()

    def _warn_of_cancelling(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "server %r: its hooks have not returned %g s after it was closed; they are cancelled",
                self._server,
                _FLUSH_SECONDS,
            )


def _target(params: Mapping[str, Any] | None) -> str | None:
    """What a call is about: a tool, a prompt, a resource."""
    if params is None:
        return None
    target = params.get("name") or params.get("uri")
    return target if target is None or type(target) is str else str(target)
