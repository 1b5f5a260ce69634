"""What the routes ask for: the parts of the gateway, and who calls."""

from typing import Annotated, TypeAlias, cast

from fastapi import Depends, HTTPException, Request

from fastapi_server.gateway.audit import Audit
from fastapi_server.gateway.caller import SCOPE_KEY, Caller
from fastapi_server.gateway.front.keys import KeyRing
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.roster import Roster
from fastapi_server.gateway.store import Store


def _gateway(request: Request) -> Gateway:
    return cast("Gateway", request.app.state.gateway)


def _store(request: Request) -> Store:
    return cast("Store", request.app.state.store)


def _audit(request: Request) -> Audit:
    return cast("Audit", request.app.state.audit)


def _key_ring(request: Request) -> KeyRing:
    return cast("KeyRing", request.app.state.key_ring)


def _roster(request: Request) -> Roster:
    return cast("Roster", request.app.state.roster)


def _caller(request: Request) -> Caller:
    return cast("Caller", request.scope[SCOPE_KEY])


TheGateway: TypeAlias = Annotated[Gateway, Depends(_gateway)]
TheStore: TypeAlias = Annotated[Store, Depends(_store)]
TheAudit: TypeAlias = Annotated[Audit, Depends(_audit)]
TheKeyRing: TypeAlias = Annotated[KeyRing, Depends(_key_ring)]
TheRoster: TypeAlias = Annotated[Roster, Depends(_roster)]
TheCaller: TypeAlias = Annotated[Caller, Depends(_caller)]


def admins_only(caller: TheCaller) -> None:
    """A dependency: refuses whoever is no admin.

    Raises:
        HTTPException: 403.
    """
    if not caller.admin:
        raise HTTPException(403, "only an admin may do this")
