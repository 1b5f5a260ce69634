"""What a request, as the SDK hands it over, says of whoever made it; and our errors as those of the protocol."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar, cast

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, LOG_LEVEL_META_KEY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.requests import Request

from fastapi_server.gateway.endpoint.view import VIEW_KEY, View
from fastapi_server.gateway.writable import writable_data
from fastapi_server.mcp import ConfigError, MCPClientError, RPCError

Context: TypeAlias = ServerRequestContext[Any, Any]

_RESERVED = "io.modelcontextprotocol/"

ParamsT = TypeVar("ParamsT")
ResultT = TypeVar("ResultT")


def view_of(context: Context) -> View:
    """What the caller sees."""
    return _request(context).scope[VIEW_KEY]


def session_of(context: Context) -> str:
    """The session's id, in the handshake era."""
    return _request(context).headers.get("mcp-session-id", "")


def is_stateless(context: Context) -> bool:
    """Whether the request is of the stateless era."""
    return context.protocol_version in MODERN_PROTOCOL_VERSIONS


def passed_on(context: Context) -> dict[str, Any]:
    """What of `_meta` is neither of this hop nor of the protocol: a trace, say."""
    return {
        key: value
        for key, value in dict(context.meta or {}).items()
        if key not in {"progress_token", "progressToken", LOG_LEVEL_META_KEY} and not key.startswith(_RESERVED)
    }


def _request(context: Context) -> Request:
    return cast("Request", context.request)


def speaking(
    handler: Callable[[Context, ParamsT], Awaitable[ResultT]],
) -> Callable[[Context, ParamsT], Awaitable[ResultT]]:
    """The handler, with our errors as those of the protocol."""

    async def handle(context: Context, params: ParamsT) -> ResultT:
        try:
            return await handler(context, params)
        except RPCError as error:
            raise MCPError(error.code, error.message, writable_data(error)) from error
        except ConfigError as error:
            raise MCPError(INVALID_PARAMS, error.message) from error
        except MCPClientError as error:  # what a process wrote to stderr, in further lines, is not for callers
            raise MCPError(INTERNAL_ERROR, str(error).partition("\n")[0]) from error

    return handle
