"""The endpoint as an ASGI application, at `/mcp` and `/mcp/{server}`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mcp.server.request_state import AESGCMRequestStateCodec, RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from fastapi_server.gateway.audit import Audit
from fastapi_server.gateway.caller import ANYONE, SCOPE_KEY, Caller
from fastapi_server.gateway.endpoint.request import Context, view_of
from fastapi_server.gateway.endpoint.server import GatewayServer
from fastapi_server.gateway.endpoint.sessions import SealedSessions
from fastapi_server.gateway.endpoint.view import LOOKING, VIEW_KEY, View
from fastapi_server.gateway.gateway import Gateway


class Endpoint:
    """Serves both eras over Streamable HTTP.

    Args:
        gateway: Has the servers.
        audit: Told of every call.
        secret: Seals session ids and request states.
    """

    def __init__(self, gateway: Gateway, audit: Audit, secret: str) -> None:
        self._gateway = gateway
        self._server = GatewayServer(gateway, audit)
        state = RequestStateSecurity(
            keys=[secret], ttl=gateway.settings.question_seconds, bind_principal=_principal, audience="mcp-gateway"
        )
        self._server.middleware.append(RequestStateBoundary(state, default_audience=None))
        self._manager = StreamableHTTPSessionManager(
            self._server,
            max_request_body_size=gateway.settings.max_request_bytes,
        )
        self._sessions = SealedSessions(
            self._manager,
            AESGCMRequestStateCodec([secret]),
            gateway.settings.session_hours,
            self._server.changes.hear,
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serve until the block ends; open streams are then told that it is deliberate."""
        async with self._manager.run():
            try:
                yield
            finally:
                await self.end_streams()
                await self._server.calls.parked.close()
                await asyncio.sleep(0)

    async def end_streams(self) -> None:
        """Tell whoever listens for changes that there are none any more."""
        await self._server.changes.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, of a caller that has been let in."""
        caller: Caller = scope.get(SCOPE_KEY, ANYONE)
        view = View(caller, scope.get("path_params", {}).get("server"))
        if view.only is not None and not view.has(self._gateway.pool, view.only):
            error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "there is no such server"}}
            await JSONResponse(error, status_code=404)(scope, receive, send)
            return
        LOOKING.set(view)
        await self._sessions({**scope, VIEW_KEY: view}, receive, send)


def _principal(context: Context) -> str:
    """Whose request states are whose."""
    return repr(view_of(context).key)
