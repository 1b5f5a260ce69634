"""`/mcp`: one MCP endpoint over all servers, in both eras."""

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import Receive, Scope, Send


class _ToEndpoint:
    """An object, not a function: Starlette then hands on every request as it is, whatever its method."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["app"].state.endpoint(scope, receive, send)


def install(app: FastAPI) -> None:
    """Add the paths. While the application runs, `app.state.endpoint` serves them.

    They come first: no other is like them, and most requests are for them.
    """
    app.router.routes[:0] = [Route(path, _ToEndpoint()) for path in ("/mcp", "/mcp/{server}")]
