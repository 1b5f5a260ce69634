"""What routes are given: the gateway, who asks, and a server that is there for them."""

from typing import Annotated

from fastapi import Depends, Path, Request

from fastapi_server.gateway.audit import Audit
from fastapi_server.gateway.caller import SCOPE_KEY, Caller
from fastapi_server.gateway.front.keys import KeyRing
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.problems import ProblemError
from fastapi_server.gateway.roster import Roster
from fastapi_server.gateway.store import Store


def _gateway(request: Request) -> Gateway:
    return request.app.state.gateway


def _roster(request: Request) -> Roster:
    return request.app.state.roster


def _store(request: Request) -> Store:
    return request.app.state.store


def _audit(request: Request) -> Audit:
    return request.app.state.audit


def _key_ring(request: Request) -> KeyRing:
    return request.app.state.key_ring


def _caller(request: Request) -> Caller:
    return request.scope[SCOPE_KEY]


TheGateway = Annotated[Gateway, Depends(_gateway)]
TheRoster = Annotated[Roster, Depends(_roster)]
TheStore = Annotated[Store, Depends(_store)]
TheAudit = Annotated[Audit, Depends(_audit)]
TheKeyRing = Annotated[KeyRing, Depends(_key_ring)]
TheCaller = Annotated[Caller, Depends(_caller)]


def admins_only(caller: TheCaller) -> Caller:
    """Refuse whoever is no administrator."""
    if not caller.admin:
        raise ProblemError(403, "only an administrator may do this", kind="forbidden")
    return caller


Admin = Annotated[Caller, Depends(admins_only)]


def _server(
    name: Annotated[str, Path(description="Name of a server", examples=["weather"])],
    request: Request,
    gateway: TheGateway,
    audit: TheAudit,
    caller: TheCaller,
) -> str:
    if name not in gateway.pool.servers or not caller.may_use(name):
        if request.method == "POST":
            audit.refused(caller, name, request.method, request.url.path)
        raise no_such_server(name)
    return name


Server = Annotated[str, Depends(_server)]
"""The name in the path, of a server that there is, and that the caller may use."""


def no_such_server(name: str) -> ProblemError:
    """The answer to who asks for a server that is not there, or not for them: the two look the same."""
    return ProblemError(404, f"there is no server {name!r}", kind="no-such-server", title="There is no such server")
