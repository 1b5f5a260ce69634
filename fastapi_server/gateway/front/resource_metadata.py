"""Where a client of `/mcp` learns who issues tokens for it (RFC 9728)."""

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel
from starlette.requests import HTTPConnection
from starlette.types import Scope

from fastapi_server.gateway.front.oidc import ADMIN_SCOPE, METRICS_SCOPE
from fastapi_server.gateway.front.path import path_within
from fastapi_server.gateway.problems import answers

_PATH = "/.well-known/oauth-protected-resource"


class ResourceMetadata(BaseModel):
    """RFC 9728, 2: what a client must know to get a token for us."""

    resource: str
    authorization_servers: list[str]
    scopes_supported: list[str] = [ADMIN_SCOPE, METRICS_SCOPE]
    bearer_methods_supported: list[str] = ["header"]


def metadata_url(scope: Scope) -> str:
    """Where the metadata of the resource that was asked for is: its path goes behind the well-known one (3.1).

    Of an application that is mounted at a path, all of it is below that path.
    """
    path = scope.get("root_path", "") + _PATH + path_within(scope)
    return str(HTTPConnection(scope).url.replace(path=path, query=""))


def metadata_router(issuer: str | None) -> APIRouter:
    """Serves the metadata; 404 where no OpenID provider is configured."""
    router = APIRouter(tags=["well-known"])

    @router.get(_PATH, include_in_schema=False)
    @router.get(_PATH + "/{path:path}", summary="Who issues tokens for a resource (RFC 9728)", responses=answers(404))
    async def resource_metadata(request: Request, path: str = "mcp") -> ResourceMetadata:  # pyright: ignore[reportUnusedFunction]
        if issuer is None or path.partition("/")[0] != "mcp":
            raise HTTPException(404, "there is no such resource, or it takes no bearer tokens")
        resource = request.url.replace(path=f"{request.scope.get('root_path', '')}/{path}", query="")
        return ResourceMetadata(resource=str(resource), authorization_servers=[issuer])

    return router
