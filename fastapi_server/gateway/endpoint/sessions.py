"""Session ids that carry what another process needs to go on: sealed with AES-GCM, and bound to the caller."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from mcp.server.request_state import InvalidRequestState, RequestStateCodec
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import InitializeRequestParams
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from fastapi_server.gateway.endpoint.open_sessions import OpenSessions
from fastapi_server.gateway.endpoint.view import VIEW_KEY, View

_HEADER = b"mcp-session-id"


class SealedSessions:
    """Stands before the SDK's session manager, which only knows the sessions of its own process.

    The id that a client gets holds what matters of its `initialize`. Where the manager does not know the session
    (another process opened it, this one has been restarted, or its caller has opened many others since), it is opened
    once more from that, unseen by the client.

    Args:
        manager: Serves the sessions of this process.
        codec: Seals; the same in every process of the gateway.
        hours: How long an id is good for.
        hear: Told, by the manager's id of a session, whether its standalone stream is open.
    """

    def __init__(
        self,
        manager: StreamableHTTPSessionManager,
        codec: RequestStateCodec,
        hours: float,
        hear: Callable[[str, bool], None],
    ) -> None:
        self._manager, self._codec, self._seconds, self._hear = manager, codec, hours * 3600, hear
        self._sessions = OpenSessions(self._seconds)
        self._opening: dict[str, asyncio.Task[str | None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of either era."""
        sealed = _header(scope, _HEADER)
        if sealed is None:
            await self._without_session(scope, receive, send)
        else:
            await self._in_session(sealed, scope, receive, send)

    async def _without_session(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request of the stateless era, or one that opens a session."""
        if scope["method"] != "POST" or _is_stateless(scope):
            await self._manager.handle_request(scope, receive, send)
            return
        body = await _body(receive)

        async def sealing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = await self._with_sealed_id(scope, body, message)
            await send(message)

        await self._manager.handle_request(scope, _replayed(body, receive), sealing)

    async def _with_sealed_id(self, scope: Scope, body: bytes, message: Message) -> Message:
        headers: list[tuple[bytes, bytes]] = list(message.get("headers", []))
        inner = next((value for name, value in headers if name.lower() == _HEADER), None)
        if inner is None or message["status"] >= 400:
            return message
        sealed = self._seal(scope, body)
        await self._remember(sealed, scope, inner.decode())
        kept = [(name, value) for name, value in headers if name.lower() != _HEADER]
        return {**message, "headers": [*kept, (_HEADER, sealed.encode())]}

    def _seal(self, scope: Scope, body: bytes) -> str:
        return self._codec.seal(json.dumps([time.time(), _owner(scope), _needed(body)], separators=(",", ":")).encode())

    async def _remember(self, sealed: str, scope: Scope, inner: str) -> None:
        name, principal, _path = _owner(scope)
        closed = self._sessions.opened(sealed, (name, principal), inner)
        if closed is not None:
            await self._request(scope, "DELETE", None, closed)

    async def _in_session(self, sealed: str, scope: Scope, receive: Receive, send: Send) -> None:
        params = self._opened_with(sealed, scope)
        if params is None or self._sessions.has_ended(sealed):
            await _not_found(scope, receive, send)
            return
        body = await _body(receive) if scope["method"] == "POST" else b""
        inner = self._sessions.inner(sealed)
        if inner is not None and await self._served(scope, body, receive, send, sealed, inner):
            return
        if scope["method"] == "DELETE" and sealed not in self._opening:
            self._sessions.end(sealed, time.time())
            await Response()(scope, receive, send)
            return
        inner = await self._opened_again(sealed, scope, params)
        if inner is None or not await self._served(scope, body, receive, send, sealed, inner):
            await _not_found(scope, receive, send)

    async def _served(self, scope: Scope, body: bytes, receive: Receive, send: Send, sealed: str, inner: str) -> bool:
        """Have the manager serve a request; false, and nothing sent, where it does not know the session any more."""
        known = True
        streams = False

        async def watching(message: Message) -> None:
            nonlocal known, streams
            begins = message["type"] == "http.response.start"
            if begins:
                known = message["status"] != 404
                streams = scope["method"] == "GET" and message["status"] == 200
                message = {**message, "headers": _replaced(message.get("headers", []), sealed)}
            if known:
                await send(message)
            if begins and streams:
                self._hear(inner, True)

        forwarded = {**scope, "headers": _replaced(scope["headers"], inner)}
        replay = _replayed(body, receive) if scope["method"] == "POST" else receive
        try:
            await self._manager.handle_request(forwarded, replay, watching)
        finally:
            if streams:
                self._hear(inner, False)
        if known and scope["method"] == "DELETE":
            self._sessions.end(sealed, time.time())
        if not known:
            self._sessions.lost(sealed, inner)
        return known

    def _opened_with(self, sealed: str, scope: Scope) -> Mapping[str, Any] | None:
        """The parameters of `initialize`, where the id is ours, not too old, and this caller's at this path."""
        try:
            at, owner, params = json.loads(self._codec.unseal(sealed))
        except (InvalidRequestState, ValueError, TypeError):
            return None
        good = owner == _owner(scope) and time.time() - at < self._seconds
        return cast("dict[str, Any]", params) if good and isinstance(params, dict) else None

    async def _opened_again(self, sealed: str, scope: Scope, params: Mapping[str, Any]) -> str | None:
        """The session that requests which come together share; it is opened even if who came first gives up."""
        inner = self._sessions.inner(sealed)
        if inner is not None:
            return inner
        opening = self._opening.get(sealed)
        if opening is None:
            opening = self._opening[sealed] = asyncio.get_running_loop().create_task(self._open(sealed, scope, params))
            opening.add_done_callback(lambda _done: self._opening.pop(sealed))
        return await asyncio.shield(opening)

    async def _open(self, sealed: str, scope: Scope, params: Mapping[str, Any]) -> str | None:
        """Shake hands on the client's behalf; returns the id that the manager gives."""
        hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        started = await self._request(scope, "POST", hello, None)
        inner = next((value.decode() for name, value in started if name.lower() == _HEADER), None)
        if inner is None:
            return None
        await self._request(scope, "POST", {"jsonrpc": "2.0", "method": "notifications/initialized"}, inner)
        await self._remember(sealed, scope, inner)
        return inner

    async def _request(
        self, scope: Scope, method: str, message: Mapping[str, Any] | None, inner: str | None
    ) -> list[tuple[bytes, bytes]]:
        """Ask the manager of our own accord; returns the headers of its answer."""
        headers: list[tuple[bytes, bytes]] = []
        kept = {b"mcp-protocol-version", b"host", b"origin", b"authorization"} if inner else {b"host", b"origin"}
        sent = [(name, value) for name, value in scope["headers"] if name in kept]
        sent += [(b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream")]
        if inner is not None:
            sent.append((_HEADER, inner.encode()))

        async def collect(answer: Message) -> None:
            if answer["type"] == "http.response.start":
                headers.extend(answer.get("headers", []))

        body = json.dumps(message).encode() if message is not None else b""
        await self._manager.handle_request(
            {**scope, "method": method, "headers": sent}, _replayed(body, _never), collect
        )
        return headers


def _needed(body: bytes) -> dict[str, Any] | None:
    """What another process needs of an `initialize`: so little that the id fits into a header, whatever it says."""
    try:
        asked = InitializeRequestParams.model_validate(json.loads(body)["params"], by_name=False)
    except (ValueError, TypeError, KeyError):
        return None
    revision = asked.protocol_version
    known = asked.capabilities.model_dump(
        mode="json", by_alias=True, exclude_none=True, include={"elicitation", "roots", "sampling"}
    )
    return {
        "protocolVersion": revision if revision in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION,
        "capabilities": known,
        "clientInfo": {"name": "", "version": ""},
    }


def _owner(scope: Scope) -> list[str | None]:
    """Whose session it is, and at which path."""
    view: View = scope[VIEW_KEY]
    return list(view.key)


def _is_stateless(scope: Scope) -> bool:
    version = _header(scope, b"mcp-protocol-version")
    return version is not None and version >= "2026"


def _header(scope: Scope, wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)


def _replaced(headers: list[tuple[bytes, bytes]], session: str) -> list[tuple[bytes, bytes]]:
    return [(name, session.encode() if name.lower() == _HEADER else value) for name, value in headers]


async def _body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body as it came, and then whatever else comes."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


async def _never() -> Message:
    """Nobody disconnects."""
    await asyncio.Event().wait()
    raise AssertionError


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """2025-11-25, basic/transports, session management: the client opens another session."""
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Session not found"}}
    await JSONResponse(error, status_code=404)(scope, receive, send)
