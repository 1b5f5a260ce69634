"""What routes are given: the gateway, who asks, and a server that is there for them."""

from typing import Annotated

from fastapi import Depends, Path, Request

from fastapi_server.gateway.caller import ANYONE, SCOPE_KEY, Caller
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.registry import ServerRegistry
from fastapi_server.gateway.rest.problems import ProblemError


def _gateway(request: Request) -> Gateway:
    return request.app.state.gateway


def _registry(request: Request) -> ServerRegistry:
    return request.app.state.registry


def _caller(request: Request) -> Caller:
    return request.scope.get(SCOPE_KEY, ANYONE)


TheGateway = Annotated[Gateway, Depends(_gateway)]
TheRegistry = Annotated[ServerRegistry, Depends(_registry)]
TheCaller = Annotated[Caller, Depends(_caller)]


def _admin(caller: TheCaller) -> Caller:
    if not caller.admin:
        raise ProblemError(403, "only an administrator may do this", kind="forbidden")
    return caller


Admin = Annotated[Caller, Depends(_admin)]


def _server(
    name: Annotated[str, Path(description="Name of a server", examples=["weather"])],
    gateway: TheGateway,
    caller: TheCaller,
) -> str:
    if name not in gateway.pool.servers or not caller.may_use(name):
        raise no_such_server(name)
    return name


Server = Annotated[str, Depends(_server)]
"""The name in the path, of a server that there is, and that the caller may use."""


def no_such_server(name: str) -> ProblemError:
    """The answer to who asks for a server that is not there, or not for them: the two look the same."""
    return ProblemError(404, f"there is no server {name!r}", kind="no-such-server", title="There is no such server")
