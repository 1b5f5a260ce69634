"""API keys, for admins: who has which, new ones, and revoking."""

import time
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from fastapi_server.gateway.front.keys import KeyGrant
from fastapi_server.gateway.problems import ProblemError, answers
from fastapi_server.gateway.rest.dependencies import TheKeyRing, TheStore, admins_only
from fastapi_server.gateway.rest.models import Text
from fastapi_server.gateway.store import APIKey
from fastapi_server.mcp import ToolRules

router = APIRouter(prefix="/api/keys", tags=["keys"], dependencies=[Depends(admins_only)])

_Text = Annotated[Text, Field(min_length=1, max_length=200)]
_Patterns = Annotated[list[_Text], Field(max_length=1_000)]
_LATEST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
"""In another time zone, an expiry can be later than that."""


class NewKey(BaseModel):
    """What a new key is for. Patterns are those of file names: `read_*`."""

    model_config = ConfigDict(extra="forbid")

    name: _Text = Field(description="What the audit log calls its holder.")
    principal: _Text | None = Field(
        default=None, description="On whose behalf its calls are made; left out, the key is a principal of its own."
    )
    admin: bool = Field(default=False, description="It may change servers and keys, and read the audit log.")
    metrics: bool = Field(default=False, description="It may read `/metrics`, which an administrator's may, too.")
    expires: AwareDatetime | None = Field(default=None, description="Left out, it does not expire.")
    servers: _Patterns | None = Field(default=None, description="Only these servers, or none (`[]`); left out, all.")
    allow: _Patterns | None = Field(default=None, description="Only these tools (`server__tool`); left out, all.")
    deny: _Patterns = Field(default_factory=list[str], description="Not these tools, allowed or not.")


def _at(seconds: object) -> object:
    """Seconds since the epoch as a time: pydantic takes many of them for milliseconds."""
    return datetime.fromtimestamp(min(seconds, _LATEST), UTC) if isinstance(seconds, float) else seconds


_Time = Annotated[datetime, BeforeValidator(_at)]


class Key(BaseModel):
    """A key, without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    prefix: str = Field(description="The start of the key, to recognise it by.")
    principal: str | None
    admin: bool
    metrics: bool
    created: _Time
    expires: _Time | None
    revoked: _Time | None
    servers: list[str] | None
    allow: list[str] | None
    deny: list[str]


class MadeKey(Key):
    """A new key, the only time that it is shown."""

    key: str = Field(description="Send it as `Authorization: Bearer …` or `X-API-Key: …`.")


class Keys(BaseModel):
    """All keys."""

    keys: list[Key]


@router.get("", summary="List the keys, revoked ones too")
async def list_keys(store: TheStore) -> Keys:
    """The oldest first."""
    return Keys(keys=[_shown(key) for key in await store.keys()])


@router.post("", status_code=201, summary="Make a key")
async def make_key(new: NewKey, key_ring: TheKeyRing) -> MadeKey:
    """The answer is the only place where the key itself stands."""
    if new.expires is not None and new.expires.timestamp() <= time.time():
        raise ProblemError(422, "body.expires: is past", kind="request", title="The request is not right")
    grant = KeyGrant(
        name=new.name,
        principal=new.principal,
        admin=new.admin,
        expires=new.expires.timestamp() if new.expires is not None else None,
        servers=new.servers,
        tools=ToolRules(allow=new.allow, deny=new.deny),
        metrics=new.metrics,
    )
    key, kept = await key_ring.make(grant)
    return MadeKey(**_shown(kept).model_dump(), key=key)


@router.delete("/{key_id}", summary="Revoke a key", responses=answers(404))
async def revoke_key(key_id: Text, key_ring: TheKeyRing) -> Key:
    """It opens nothing any more, and stays in the list. Other processes notice within a second or so."""
    key = await key_ring.revoke(key_id)
    if key is None:
        raise HTTPException(404, f"there is no key {key_id!r}")
    return _shown(key)


def _shown(key: APIKey) -> Key:
    return Key.model_validate(key)
