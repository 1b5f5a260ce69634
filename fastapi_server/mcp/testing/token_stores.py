"""A check that any token store can be given: does it keep the rules of the protocol?"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from fastapi_server.mcp.auth.stores import TokenStore

_PLANTED = "planted-secret"
_LONG = 20_000
_WAIT_SECONDS = 0.2
_SETTLE_SECONDS = 30.0


async def check_token_store(store: TokenStore, other: TokenStore | None = None) -> None:
    """Use a store in every way that sign-in does, and put its entries away afterwards.

    Args:
        store: Any; what it keeps already is left alone.
        other: A second object over the same storage, as another process would have it; left out, `store` is used. What
            only two real processes show is not checked: that a process which dies gives up its locks.

    Raises:
        AssertionError: It breaks a rule; the message is the rule.
    """
    check = _Check(store, other or store, secrets.token_hex(8))
    try:
        for rule in check.rules():
            await rule()
    finally:
        for key in check.used:
            with suppress(Exception):
                await store.set(key, None)


class _Check:
    def __init__(self, store: TokenStore, other: TokenStore, run: str) -> None:
        self._store = store
        self._other = other
        self._run = run
        self.used: set[str] = set()

    def rules(self) -> list[Callable[[], Awaitable[None]]]:
        return [
            self._keeps_and_deletes,
            self._keeps_any_json_object,
            self._takes_any_key,
            self._gives_copies,
            self._shows_no_secret,
            self._loses_no_key_of_others,
            self._excludes,
            self._loses_no_update,
            self._holds_up_no_other_key,
            self._releases_after_an_error,
        ]

    def _key(self, name: str) -> str:
        key = f"{self._run} {name}"
        self.used.add(key)
        return key

    async def _keeps_and_deletes(self) -> None:
        key = self._key("keep")
        _require(await self._store.get(key) is None, "a key that was never set gives None")
        await self._store.set(key, None)
        _require(await self._store.get(key) is None, "deleting a key that is not there does nothing")
        for value in ({"n": 1}, {"n": 2, "more": True}, {}):
            await self._store.set(key, value)
            _require(await self._store.get(key) == value, "get gives what was set last")
            _require(await self._other.get(key) == value, "everyone who shares the store sees what was set")
        await self._store.set(key, None)
        _require(await self._store.get(key) is None, "setting None deletes")
        _require(await self._other.get(key) is None, "everyone who shares the store sees what was deleted")

    async def _keeps_any_json_object(self) -> None:
        key = self._key("values")
        text = 'quotes " \\ and\nlines, ünïcödé, \U0001f511, \x00'
        values: tuple[dict[str, Any], ...] = (
            {"text": text, "nested": {"list": [1, -1.5, None, True, {"": 0}], text: ""}},
            {"token": _PLANTED * (_LONG // len(_PLANTED))},
        )
        for value in values:
            await self._store.set(key, value)
            _require(await self._store.get(key) == value, "any JSON object comes back as it was, a long one too")
        await self._store.set(key, {"short": True})
        _require(await self._store.get(key) == {"short": True}, "a short value takes the place of a long one")

    async def _takes_any_key(self) -> None:
        names = ["", "https://as.example/x?y=z&ä=1", "a/../b", "A", "a", "\n\x00", "k" * 2000]
        keys = [self._key(name) for name in names]
        for number, key in enumerate(keys):
            await self._store.set(key, {"number": number})
        found = [await self._store.get(key) for key in keys]
        _require(found == [{"number": number} for number in range(len(keys))], "any text is a key of its own")

    async def _gives_copies(self) -> None:
        key = self._key("copies")
        given: dict[str, Any] = {"list": [1]}
        await self._store.set(key, given)
        given["list"].append(2)
        found = await self._store.get(key)
        _require(found == {"list": [1]}, "what is changed after set is not kept")
        if found is not None:
            found["list"].append(3)
        _require(await self._store.get(key) == {"list": [1]}, "what is changed after get is not kept")

    async def _shows_no_secret(self) -> None:
        await self._store.set(self._key(_PLANTED), {"token": _PLANTED})
        _require(_PLANTED not in f"{self._store!r} {self._store!s}", "repr and str show nothing of what is kept")

    async def _loses_no_key_of_others(self) -> None:
        keys = [self._key(f"many {number}") for number in range(10)]
        stores = (self._store, self._other)
        await asyncio.gather(*(stores[n % 2].set(key, {"n": n}) for n, key in enumerate(keys)))
        found = [await self._store.get(key) for key in keys]
        _require(found == [{"n": n} for n in range(len(keys))], "setting keys at the same time loses none")

    async def _excludes(self) -> None:
        key = self._key("exclude")
        async with self._store.lock(key):
            _require(not await _gets(self._other, key), "two do not hold the lock of one key at the same time")
            await self._store.set(key, {"n": 1})
            _require(await self._store.get(key) == {"n": 1}, "get and set work while the lock is held")
        _require(
            await _gets(self._other, key, _SETTLE_SECONDS),
            "a lock that was released can be had, whoever gave up waiting",
        )

    async def _loses_no_update(self) -> None:
        key = self._key("count")

        async def increment(store: TokenStore) -> None:
            async with store.lock(key):
                count = (await store.get(key) or {"n": 0})["n"]
                await asyncio.sleep(0)
                await store.set(key, {"n": count + 1})

        await asyncio.gather(*(increment(store) for store in [self._store, self._other] * 5))
        _require(await self._store.get(key) == {"n": 10}, "no update made under the lock is lost")

    async def _holds_up_no_other_key(self) -> None:
        async with self._store.lock(self._key("one")):
            free = await _gets(self._other, self._key("another"), _SETTLE_SECONDS)
        _require(free, "the lock of one key does not hold up another")

    async def _releases_after_an_error(self) -> None:
        key = self._key("error")
        with suppress(KeyError):
            async with self._store.lock(key):
                raise KeyError(key)
        _require(await _gets(self._other, key, _SETTLE_SECONDS), "an error in the block releases the lock")


async def _gets(store: TokenStore, key: str, seconds: float = _WAIT_SECONDS) -> bool:
    """Whether the lock can be had within a time."""

    async def take() -> None:
        async with store.lock(key):
            pass

    try:
        await asyncio.wait_for(take(), seconds)
    except TimeoutError:
        return False
    return True


def _require(kept: bool, rule: str) -> None:
    if not kept:
        raise AssertionError(rule)
