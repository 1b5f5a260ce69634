"""Errors as problem details (RFC 9457): one shape for all of them, whoever raised them."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from fastapi_server.gateway.store import StoreUnavailable
from fastapi_server.gateway.writable import writable_data
from fastapi_server.mcp import (
    AuthenticationError,
    AuthorizationRequired,
    BusyError,
    CallTimeoutError,
    CircuitOpenError,
    ClientClosedError,
    ConfigError,
    ConnectTimeoutError,
    Delivery,
    HTTPStatusError,
    MCPClientError,
    MCPConnectionError,
    ProtocolError,
    RateLimitError,
    RPCError,
    TokenStoreError,
)

MEDIA_TYPE = "application/problem+json"
_RESOURCE_NOT_FOUND = -32002


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(default="about:blank", description="Names the kind of problem", examples=["urn:mcp:busy"])
    title: str = Field(description="The same for all problems of that kind", examples=["The server is busy"])
    status: int = Field(description="The HTTP status, once more", examples=[503])
    detail: str = Field(default="", description="What happened this time")
    server: str | None = Field(default=None, description="Which server it is about")


class ProblemError(Exception):
    """Raised by a route: the answer is this problem."""

    def __init__(self, status: int, detail: str, *, kind: str = "", title: str = "", **more: Any) -> None:
        super().__init__(detail)
        self.problem = Problem(
            type=f"urn:mcp:{kind}" if kind else "about:blank",
            title=title or HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            **more,
        )


_KINDS: Sequence[tuple[type[MCPClientError], int, str, str]] = (
    (ConfigError, 422, "configuration", "The configuration is not right"),
    (TokenStoreError, 500, "token-store", "The place for tokens does not work"),
    (AuthorizationRequired, 403, "sign-in", "A person has to sign in first"),
    (AuthenticationError, 502, "upstream-authentication", "The server refused our credentials"),
    (RateLimitError, 503, "upstream-rate-limit", "The server is asked too often"),
    (CircuitOpenError, 503, "circuit-open", "The server has failed too often"),
    (BusyError, 503, "busy", "The server is busy"),
    (ClientClosedError, 503, "closed", "The server was changed or is shutting down"),
    (ConnectTimeoutError, 504, "timeout", "The server did not answer in time"),
    (CallTimeoutError, 504, "timeout", "The server did not answer in time"),
    (MCPConnectionError, 502, "unreachable", "The server cannot be reached"),
    (ProtocolError, 502, "protocol", "The server broke the protocol"),
    (RPCError, 502, "rpc", "The server answered with an error"),
)
_RPC_STATUS = {RPCError.INVALID_PARAMS: 422, RPCError.METHOD_NOT_FOUND: 404, _RESOURCE_NOT_FOUND: 404}


def cause_of(error: MCPClientError) -> str:
    """What went wrong, without the end of the standard error of the server's process: that is for administrators."""
    return error.message.partition("\n")[0].removesuffix("; its stderr ends:")


def problem_of(error: MCPClientError) -> Problem:
    """The problem that an error of a client is to the caller."""
    _, status, kind, title = next(row for row in _KINDS if isinstance(error, row[0]))
    problem = Problem(type=f"urn:mcp:{kind}", title=title, status=status, detail=cause_of(error), server=error.server)
    if status == 503 and error.delivery is Delivery.UNKNOWN:  # who is told 503 may call again
        problem.status = 504
    more: dict[str, Any] = {"delivery": str(error.delivery)}
    match error:
        case RPCError():
            problem.status = _RPC_STATUS.get(error.code, status)
            more |= {"code": error.code, "data": writable_data(error)}
        case AuthorizationRequired():
            more["url"] = error.url
        case CircuitOpenError() | HTTPStatusError() if error.retry_after:
            more["retry_after"] = error.retry_after
        case _:
            pass
    return problem.model_copy(update=more)


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A problem as a response."""
    content = problem.model_dump(mode="json", exclude_none=True)
    if "retry_after" in content:
        headers = {"Retry-After": str(max(1, round(content["retry_after"]))), **(headers or {})}
    return JSONResponse(content, problem.status, headers, MEDIA_TYPE)


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer besides success, for its OpenAPI description."""
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer for an error that no route raised; an ASGI application too."""
    return answer(Problem(title=HTTPStatus(status).phrase, status=status, detail=detail), headers)


UPSTREAM = (404, 502, 504)
"""What a route may answer that asks a server, besides what every route may."""


async def _of_client(_request: Request, error: Exception) -> JSONResponse:
    return answer(problem_of(cast("MCPClientError", error)))


async def _of_route(_request: Request, error: Exception) -> JSONResponse:
    return answer(cast("ProblemError", error).problem)


async def _of_store(_request: Request, error: Exception) -> JSONResponse:
    return problem(503, str(error), {"retry-after": "5"})


async def _of_framework(request: Request, error: Exception) -> JSONResponse:
    error = cast("HTTPException", error)
    headers = {"allow": _allowed(request)} if error.status_code == 405 else error.headers
    detail = str(error.detail)
    if error.status_code == 404 and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = "there is nothing at this path; MCP is spoken at /mcp, and /openapi.json describes the API"
    return problem(error.status_code, detail, headers)


def _allowed(request: Request) -> str:
    """The methods of a path (RFC 9110, 15.5.6): several routes may have it, and the framework names those of one."""
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    methods = [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return ", ".join(methods or ("GET", "HEAD"))  # files, which are mounted


async def _of_validation(request: Request, error: Exception) -> JSONResponse:
    found = cast("RequestValidationError", error).errors()
    errors = [{"at": [str(step) for step in one["loc"]], "message": one["msg"]} for one in found]
    detail = "; ".join(f"{'.'.join(one['at'])}: {one['message']}" for one in errors)
    if any(one["loc"] == ("body",) for one in found) and "json" not in request.headers.get("content-type", ""):
        detail += "; JSON is sent with the header Content-Type: application/json"
    more = {"errors": errors}
    problem = Problem(type="urn:mcp:request", title="The request is not right", status=422, detail=detail)
    return answer(problem.model_copy(update=more))


async def _of_gateway(_request: Request, _error: Exception) -> JSONResponse:
    return problem(500, "the gateway made a mistake; its log says which")


def install(app: FastAPI) -> None:
    """From now on all errors of the application are problem details; those that nobody expected, the server logs."""
    app.add_exception_handler(MCPClientError, _of_client)
    app.add_exception_handler(ProblemError, _of_route)
    app.add_exception_handler(StoreUnavailable, _of_store)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(Exception, _of_gateway)
