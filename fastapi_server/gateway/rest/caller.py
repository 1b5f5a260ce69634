"""`/api/caller`: who one is to the gateway."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from fastapi_server.gateway.rest.dependencies import TheCaller

router = APIRouter(tags=["gateway"])


class WhoCalls(BaseModel):
    """Who one is, and what one may do."""

    name: str = Field(description="Of the API key, or the subject of a bearer token", examples=["anonymous"])
    admin: bool = Field(description="May change servers and keys, and see logs and the audit log")


@router.get("/api/caller", summary="Who you are")
async def get_caller(caller: TheCaller) -> WhoCalls:
    """Whose key this is; also a way to find out whether a key is good."""
    return WhoCalls(name=caller.name, admin=caller.admin)
