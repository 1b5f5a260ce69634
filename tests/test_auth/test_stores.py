"""The rules that every token store keeps, and what belongs to the one in memory."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fastapi_server.mcp import FileTokenStore, MemoryTokenStore, TokenStore
from fastapi_server.mcp.auth.locks import KeyedLocks, to_the_end
from fastapi_server.mcp.testing.token_stores import check_token_store


async def test_memory_keeps_the_rules() -> None:
    await check_token_store(MemoryTokenStore())


async def test_a_file_keeps_the_rules(tmp_path: Path) -> None:
    await check_token_store(FileTokenStore(tmp_path / "tokens"))


async def test_two_stores_over_one_file_keep_the_rules(tmp_path: Path) -> None:
    await check_token_store(FileTokenStore(tmp_path / "tokens"), FileTokenStore(tmp_path / "tokens"))


async def test_the_check_puts_its_entries_away() -> None:
    store = MemoryTokenStore()
    await store.set("mine", {"n": 1})
    await check_token_store(store)
    assert repr(store) == "MemoryTokenStore(1 kept)"


# The check finds what is wrong: stores that break one rule each.


class Wrong(MemoryTokenStore):
    pass


class Forgets(Wrong):
    async def get(self, key: str) -> dict[str, Any] | None:
        await super().get(key)


class NeverDeletes(Wrong):
    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        if value is not None:
            await super().set(key, value)


class CutsLongValues(Wrong):
    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        await super().set(key, value if len(str(value)) < 2000 else {})


class FoldsKeys(Wrong):
    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        await super().set(key.lower(), value)

    async def get(self, key: str) -> dict[str, Any] | None:
        return await super().get(key.lower())


class KeepsWhatItWasGiven(Wrong):
    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        await super().set(key, {})
        if value is None:
            await super().set(key, None)
        else:
            self._kept[key] = value


class GivesWhatItKeeps(Wrong):
    async def get(self, key: str) -> dict[str, Any] | None:
        return self._kept.get(key)


class Shows(Wrong):
    def __repr__(self) -> str:
        return f"Shows({self._kept})"


class WritesAllItHasRead(Wrong):
    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        before = dict(self._kept)
        await asyncio.sleep(0.001)
        self._kept = before
        await super().set(key, value)


@asynccontextmanager
async def no_lock() -> AsyncGenerator[None]:
    yield


class NeverExcludes(Wrong):
    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        return no_lock()


class LocksEverything(Wrong):
    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        return super().lock("")


class StaysLocked(Wrong):
    @asynccontextmanager
    async def _held(self, key: str) -> AsyncGenerator[None]:
        await self._locks._wait_for_turn(key)
        yield
        self._locks._pass_on(key)

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        return self._held(key)


class GivesToWhoLeft(Wrong):
    @asynccontextmanager
    async def _held(self, key: str) -> AsyncGenerator[None]:
        waiting = asyncio.ensure_future(self._locks._wait_for_turn(key))
        await asyncio.shield(waiting)
        try:
            yield
        finally:
            self._locks._pass_on(key)

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        return self._held(key)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (Forgets, "get gives what was set last"),
        (NeverDeletes, "setting None deletes"),
        (CutsLongValues, "any JSON object comes back as it was, a long one too"),
        (FoldsKeys, "any text is a key of its own"),
        (KeepsWhatItWasGiven, "what is changed after set is not kept"),
        (GivesWhatItKeeps, "what is changed after get is not kept"),
        (Shows, "repr and str show nothing of what is kept"),
        (WritesAllItHasRead, "setting keys at the same time loses none"),
        (NeverExcludes, "two do not hold the lock of one key at the same time"),
        (LocksEverything, "the lock of one key does not hold up another"),
        (StaysLocked, "an error in the block releases the lock"),
        (GivesToWhoLeft, "a lock that was released can be had, whoever gave up waiting"),
    ],
)
async def test_the_check_finds_a_store_that_breaks_a_rule(
    make: Callable[[], TokenStore], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_server.mcp.testing.token_stores._SETTLE_SECONDS", 0.3)
    before = asyncio.all_tasks()
    with pytest.raises(AssertionError) as caught:
        await check_token_store(make())
    assert str(caught.value) == rule
    for task in asyncio.all_tasks() - before:  # of the wrong store
        task.cancel()


async def test_the_check_finds_two_that_share_nothing() -> None:
    with pytest.raises(AssertionError, match="everyone who shares the store sees what was set"):
        await check_token_store(MemoryTokenStore(), MemoryTokenStore())


# Locks within a process.


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_lock_is_granted_in_the_order_of_asking() -> None:
    locks, order = KeyedLocks(), list[int]()

    async def take(number: int) -> None:
        async with locks.hold("key"):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(take(number) for number in range(20)))
    assert order == list(range(20))
    assert not locks._queues


async def test_cancelled_waiters_are_passed_over() -> None:
    locks, got = KeyedLocks(), list[int]()

    async def take(number: int) -> None:
        async with locks.hold("key"):
            got.append(number)

    async with locks.hold("key"):
        waiting = [asyncio.create_task(take(number)) for number in range(10)]
        await settle()
        for task in waiting[::2]:
            task.cancel()
        await settle()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert got == [1, 3, 5, 7, 9]
    assert not locks._queues


async def test_who_is_cancelled_as_its_turn_comes_passes_it_on() -> None:
    locks = KeyedLocks()
    await locks._wait_for_turn("key")
    waiting = [asyncio.create_task(locks._wait_for_turn("key")) for _ in range(2)]
    await settle()
    locks._pass_on("key")
    waiting[0].cancel()  # it does not know yet that it has the lock
    await asyncio.wait_for(waiting[1], 5)
    locks._pass_on("key")
    with suppress(asyncio.CancelledError):
        await waiting[0]
    assert not locks._queues


def test_event_loops_in_several_threads_exclude_each_other() -> None:
    store, rounds = MemoryTokenStore(), 50

    async def count() -> None:
        for _ in range(rounds):
            async with store.lock("key"):
                found = await store.get("key") or {"n": 0}
                await asyncio.sleep(0)
                await store.set("key", {"n": found["n"] + 1})

    threads = [threading.Thread(target=lambda: asyncio.run(count())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert asyncio.run(store.get("key")) == {"n": 4 * rounds}


# Work that is not left half done.


async def test_work_ends_before_its_caller_is_cancelled() -> None:
    done = list[str]()

    async def work() -> None:
        await asyncio.sleep(0.05)
        done.append("work")

    async def caller() -> None:
        try:
            await to_the_end(work())
        finally:
            done.append("caller")

    task = asyncio.create_task(caller())
    await settle()
    for _ in range(3):
        task.cancel()
        await settle()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["work", "caller"]


async def test_work_that_fails_after_a_cancel_leaves_no_complaint() -> None:
    async def work() -> None:
        await asyncio.sleep(0.01)
        raise OSError

    task = asyncio.create_task(to_the_end(work()))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_is_itself_cancelled_cancels() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await to_the_end(work())


# What importing costs.


def test_importing_the_package_imports_no_extra() -> None:
    code = (
        "import sys, json, fastapi_server.mcp\n"
        "print(json.dumps([name for name in ('cryptography', 'filelock', 'keyring') if name in sys.modules]))"
    )
    assert json.loads(subprocess.check_output([sys.executable, "-c", code])) == []
