"""What routes are given: the gateway, who asks, and a server that is there for them."""

from collections.abc import Coroutine
from typing import Annotated, Any, NoReturn

from fastapi import Depends, Path, Request

from fastapi_server.gateway.audit import Audit
from fastapi_server.gateway.background import ResultT, first
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


def _watchers_only(caller: TheCaller) -> Caller:
    if not (caller.admin or caller.metrics):
        raise ProblemError(403, "only an administrator, or a key for metrics, may do this", kind="forbidden")
    return caller


Watcher = Annotated[Caller, Depends(_watchers_only)]


async def while_there(request: Request, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """What comes of a call; when its caller hangs up, it is given up.

    Raises:
        ProblemError: They have, so that nobody will see it.
    """
    return await first(work, _gone(request))


async def _gone(request: Request) -> NoReturn:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise ProblemError(499, "the caller has hung up", kind="gone", title="Nobody is there")


_Name = Annotated[str, Path(description="Name of a server", examples=["weather"])]


def _server(
    name: _Name, request: Request, gateway: TheGateway, roster: TheRoster, audit: TheAudit, caller: TheCaller
) -> str:
    if name in gateway.pool.servers and caller.may_use(name):
        return name
    if request.method == "POST":
        audit.refused(caller, name, request.method, request.url.path)
    raise not_served(roster, name) if _is_unserved(name, roster, caller) else no_such_server(name)


def _configured_server(
    name: _Name, request: Request, gateway: TheGateway, roster: TheRoster, audit: TheAudit, caller: TheCaller
) -> str:
    if _is_unserved(name, roster, caller):
        return name
    return _server(name, request, gateway, roster, audit, caller)


def _is_unserved(name: str, roster: Roster, caller: Caller) -> bool:
    return name in roster.unserved and caller.admin and caller.may_use(name)


Server = Annotated[str, Depends(_server)]
"""The name in the path, of a server that there is, and that the caller may use."""

ConfiguredServer = Annotated[str, Depends(_configured_server)]
"""The same; for administrators also of one in the database that cannot be served."""


def no_such_server(name: str) -> ProblemError:
    """The answer to who asks for a server that is not there, or not for them: the two look the same."""
    return ProblemError(404, f"there is no server {name!r}", kind="no-such-server", title="There is no such server")


def not_served(roster: Roster, name: str, status: int = 404) -> ProblemError:
    """The answer to an administrator about a server in the database that cannot be served."""
    title = "The server is stored, but not served"
    return ProblemError(status, roster.unserved[name].message, kind="not-served", title=title, server=name)
