"""The entry of a server, to be changed by a person."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from fastapi_server.gateway.problems import answers
from fastapi_server.gateway.rest.dependencies import Admin, ConfiguredServer, TheRoster

router = APIRouter(prefix="/api/servers", tags=["servers"])


class HeldEntry(BaseModel):
    """How a server is configured, in the words of an `mcp.json`."""

    entry: dict[str, Any] | None = Field(
        description="With `***` for each secret; null for a server of the config file, or one that cannot be opened",
        examples=[{"url": "https://example.com/mcp", "headers": {"Authorization": "***"}}],
    )
    fixed: bool = Field(description="In the config file, or for demonstration: it cannot be changed here")


@router.get("/{name}/entry", summary="Its entry, to be changed", responses=answers(404))
async def get_entry(server: ConfiguredServer, roster: TheRoster, _admin: Admin) -> HeldEntry:
    """Sent back with `PUT /api/servers/{name}`, each `***` keeps the secret that is there."""
    return HeldEntry(entry=await roster.entry(server), fixed=server in roster.fixed)
