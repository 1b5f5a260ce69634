"""API keys: what is kept of them, and what opens the door."""

import asyncio
import hashlib
from collections.abc import Callable

import pytest

from fastapi_server.gateway.front.keys import KeyGrant, KeyRefused, KeyRing
from fastapi_server.gateway.store import Store
from fastapi_server.mcp import ToolRules


async def test_a_key_opens_what_it_is_for(sqlite: str) -> None:
    async with Store(sqlite) as store:
        ring = KeyRing(store)
        grant = KeyGrant("ann", "team", True, None, ["weather*"], ToolRules(allow=["w*"], deny=["a__b"]))
        key, kept = await ring.make(grant)
        caller = await ring.caller(key)
        assert (caller.name, caller.principal, caller.admin) == ("ann", "team", True)
        assert caller.may_use("weather2")
        assert not caller.may_use("files")
        assert (caller.tools.allow, caller.tools.deny) == (["w*"], ["a__b"])
        assert key.startswith(f"mcpgw_{kept.id}_")


async def test_only_a_hash_is_kept(sqlite: str) -> None:
    async with Store(sqlite) as store:
        key, kept = await KeyRing(store).make(KeyGrant("ann"))
        secret = key.removeprefix(f"mcpgw_{kept.id}_")
        assert kept.hash == hashlib.sha256(secret.encode()).hexdigest()
        assert secret not in repr(vars(await store.key(kept.id)))
        assert kept.hash not in repr(kept)


async def test_each_key_is_a_principal_of_its_own_unless_told(sqlite: str) -> None:
    async with Store(sqlite) as store:
        ring = KeyRing(store)
        keys = [(await ring.make(KeyGrant("ann")))[0] for _ in range(2)]
        assert len({(await ring.caller(key)).principal for key in keys}) == 2


@pytest.mark.parametrize("change", [lambda key: key[:-1], lambda key: key + "x", lambda key: key[6:], lambda _: ""])
async def test_what_is_almost_a_key_is_refused(sqlite: str, change: Callable[[str], str]) -> None:
    async with Store(sqlite) as store:
        ring = KeyRing(store)
        key, _ = await ring.make(KeyGrant("ann"))
        with pytest.raises(KeyRefused):
            await ring.caller(change(key))
        await ring.caller(key)


@pytest.mark.parametrize("key", ["mcpgw_", "mcpgw__", "mcpgw_00_", "mcpgw_ä_ö", "other_1_2"])
async def test_what_is_no_key_is_refused(sqlite: str, key: str) -> None:
    async with Store(sqlite) as store:
        with pytest.raises(KeyRefused):
            await KeyRing(store).caller(key)


async def test_a_key_expires(sqlite: str) -> None:
    now = 100.0
    async with Store(sqlite) as store:
        ring = KeyRing(store, clock=lambda: now)
        key, _ = await ring.make(KeyGrant("ann", expires=101.0))
        await ring.caller(key)
        now = 101.0
        with pytest.raises(KeyRefused):
            await ring.caller(key)


async def test_a_revoked_key_opens_nothing_at_once(sqlite: str) -> None:
    async with Store(sqlite) as store:
        ring = KeyRing(store)
        key, kept = await ring.make(KeyGrant("ann"))
        await ring.caller(key)
        assert await ring.revoke(kept.id) is not None
        with pytest.raises(KeyRefused):
            await ring.caller(key)
        assert await ring.revoke("nobody") is None


async def test_of_several_processes_that_start_at_once_one_makes_the_first_key(database: str) -> None:
    async with Store(database) as one, Store(database) as other:
        made = await asyncio.gather(*(KeyRing(store).make_first(KeyGrant("admin")) for store in (one, other) * 2))
        assert len([key for key in made if key is not None]) <= 1  # none where other tests have made some
        assert await KeyRing(one).make_first(KeyGrant("admin")) is None
