"""The keyring: a real backend that keeps its entries in a file, and backends that fail."""

import asyncio
import logging
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import keyring
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.errors import KeyringLocked, PasswordDeleteError

from fastapi_server.mcp import ConfigError, KeyringTokenStore, TokenStoreError
from fastapi_server.mcp.auth import keyring_store
from fastapi_server.mcp.auth.keyring_store import PART_CHARACTERS
from fastapi_server.mcp.testing.token_stores import check_token_store
from tests.test_auth.processes import started
from tests.test_auth.worker import KEY, open_store

SECRET = "planted-secret"
LONG = {"token": "x" * (3 * PART_CHARACTERS)}


class Memory(KeyringBackend):
    """Bounded as the one of Windows is: 2560 bytes in UTF-16."""

    priority = cast("Any", 1)

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, str] = {}
        self.writes_left = sys.maxsize

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get(username)

    def set_password(self, service: str, username: str, password: str) -> None:
        assert len(password.encode("utf-16-le")) <= 2560
        if self.writes_left == 0:
            raise OSError(f"the stub received {password}")
        self.writes_left -= 1
        self.entries[username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.entries.pop(username, None) is None:
            raise PasswordDeleteError("there is none")


class Locked(Memory):
    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked(f"no {SECRET}")


@pytest.fixture(autouse=True)
def keyring_as_before() -> Iterator[None]:
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "entries.keyring"


@pytest.fixture
def memory() -> Memory:
    backend = Memory()
    keyring.set_keyring(backend)
    return backend


@pytest.fixture
def store(memory: Memory, tmp_path: Path) -> KeyringTokenStore:
    return KeyringTokenStore("test", lock_folder=tmp_path)


async def test_it_keeps_the_rules(path: Path) -> None:
    await check_token_store(open_store(str(path)))


async def test_two_stores_over_one_keyring_keep_the_rules(path: Path) -> None:
    await check_token_store(open_store(str(path)), open_store(str(path)))


async def test_two_processes_that_increment_lose_no_update(path: Path) -> None:
    rounds = 15
    with started("increment", path, str(rounds)) as one, started("increment", path, str(rounds)) as other:
        assert await asyncio.to_thread(one.wait, 50) == 0
        assert await asyncio.to_thread(other.wait, 50) == 0
    assert await open_store(str(path)).get(KEY) == {"n": 2 * rounds}


async def test_a_process_that_is_killed_gives_up_its_lock(path: Path) -> None:
    store = open_store(str(path))

    async def take() -> None:
        async with store.lock(KEY):
            pass

    with started("hold", path) as process:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(take(), 0.3)
        process.kill()
        await asyncio.to_thread(process.wait)
        await asyncio.wait_for(take(), 5)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.text(max_size=2 * PART_CHARACTERS), max_size=3))
def test_values_of_any_length_come_back_as_they_were(
    memory: Memory, store: KeyringTokenStore, values: list[str]
) -> None:
    async def write_and_read() -> None:
        for value in values:
            await store.set(KEY, {"value": value})
            assert await store.get(KEY) == {"value": value}
        await store.set(KEY, None)

    asyncio.run(write_and_read())
    assert memory.entries == {}


async def test_a_long_value_is_split_and_nothing_of_it_stays(memory: Memory, store: KeyringTokenStore) -> None:
    await store.set(KEY, LONG)
    assert len(memory.entries) == 5
    await store.set(KEY, {**LONG, "again": True})
    assert len(memory.entries) == 5
    await store.set(KEY, {"n": 1})
    assert list(memory.entries.values()) == ['{"n": 1}']


@pytest.mark.parametrize("writes", range(5))
async def test_a_write_that_stops_midway_leaves_the_old_value(
    memory: Memory, store: KeyringTokenStore, writes: int
) -> None:
    await store.set(KEY, {**LONG, "old": True})
    memory.writes_left = writes
    with pytest.raises(TokenStoreError) as caught:
        await store.set(KEY, {**LONG, "new": True})
    assert "xxx" not in "".join(traceback.format_exception(caught.value))
    memory.writes_left = sys.maxsize
    assert await store.get(KEY) == {**LONG, "old": True}


@pytest.mark.parametrize("damage", ["missing part", SECRET, "+x:1", "+9:ab", "[]", "5"])
async def test_a_damaged_entry_can_be_deleted(memory: Memory, store: KeyringTokenStore, damage: str) -> None:
    await store.set(KEY, LONG)
    head, part = next(iter(sorted(memory.entries))), sorted(memory.entries)[1]
    if damage == "missing part":
        del memory.entries[part]
    else:
        memory.entries[head] = damage
    with pytest.raises(TokenStoreError) as caught:
        await store.get(KEY)
    assert str(caught.value) == "keyring 'test': an entry is damaged; sign out and in again"
    await store.set(KEY, None)
    assert await store.get(KEY) is None


async def test_a_machine_without_a_keyring(tmp_path: Path) -> None:
    keyring.set_keyring(NoKeyring())
    store = KeyringTokenStore(lock_folder=tmp_path)
    for use in (store.get(KEY), store.set(KEY, {"n": 1})):
        with pytest.raises(TokenStoreError, match=r"^this machine has no keyring: start one .* or use FileTokenStore$"):
            await use


async def test_a_keyring_that_refuses(tmp_path: Path) -> None:
    keyring.set_keyring(Locked())
    with pytest.raises(TokenStoreError) as caught:
        await KeyringTokenStore("test", lock_folder=tmp_path).get(KEY)
    assert str(caught.value) == (
        "keyring 'test': cannot get an entry (KeyringLocked); is the keyring unlocked, and may this program use it?"
    )
    assert SECRET not in "".join(traceback.format_exception(caught.value))


async def test_no_secret_is_seen_in_reprs_and_logs(
    memory: Memory, store: KeyringTokenStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await store.set(f"{SECRET}-principal", {"token": SECRET})
    async with store.lock(f"{SECRET}-principal"):
        pass
    seen = [repr(store), str(store), repr(vars(store)), *memory.entries, *map(str, tmp_path.rglob("*"))]
    seen += [repr(vars(record)) for record in caplog.records]
    for text in seen:
        assert SECRET not in text


def test_the_locks_have_one_place_for_each_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = keyring_store._lock_folder("one")
    assert folder == keyring_store._lock_folder("one") != keyring_store._lock_folder("two")
    assert folder.parent == tmp_path / "home" / ".local" / "state" / "mcp-client-factory"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert keyring_store._lock_folder("one").parent == tmp_path / "state" / "mcp-client-factory"
    assert KeyringTokenStore("one")._locks.folder == keyring_store._lock_folder("one")


@pytest.mark.parametrize("module", ["keyring", "filelock"])
def test_without_the_extra_it_says_what_to_install(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastapi_server.mcp.auth.file_locks", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ConfigError, match=rf'^KeyringTokenStore needs {module}: install "mcp-client-factory\[keyring\]"$'
    ):
        KeyringTokenStore()
