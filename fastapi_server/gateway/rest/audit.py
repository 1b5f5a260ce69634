"""The audit log, for admins."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from fastapi_server.gateway.rest.dependencies import TheAudit, TheStore, admins_only
from fastapi_server.gateway.rest.models import Text
from fastapi_server.gateway.store import AuditQuery

router = APIRouter(prefix="/api/audit", tags=["audit"], dependencies=[Depends(admins_only)])

_LARGEST_ID = 2**63 - 1


class Entry(BaseModel):
    """One call that has ended."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    caller: str = Field(description="Name of the API key, or of the person.")
    principal: str | None
    server: str
    method: str = Field(description="Of the protocol, such as `tools/call`.")
    target: str | None = Field(description="Tool, URI or prompt.")
    outcome: str = Field(description="`ok`, or what went wrong, in one word.")
    seconds: float
    arguments: dict[str, Any] | None = Field(description="Redacted; null where they are not kept.")


class Page(BaseModel):
    """A page of the log, the newest first."""

    entries: list[Entry]
    next: int | None = Field(description="Give it as `before` for the next page; null on the last.")


@router.get("", summary="Read the audit log")
async def read_audit(
    store: TheStore,
    audit: TheAudit,
    caller: Text | None = None,
    server: Text | None = None,
    since: AwareDatetime | None = None,
    before: Annotated[int | None, Query(ge=1, le=_LARGEST_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Page:
    """Calls that have ended in this process stand there at once; those of other processes within a second."""
    await audit.flush()
    query = AuditQuery(caller, server, since.timestamp() if since is not None else None, before, limit + 1)
    entries = [Entry.model_validate(entry) for entry in await store.audit(query)]
    return Page(entries=entries[:limit], next=entries[limit - 1].id if len(entries) > limit else None)
