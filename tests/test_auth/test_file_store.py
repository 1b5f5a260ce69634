"""The encrypted file: real files, real processes, and every way in which it can be unusable."""

import asyncio
import base64
import errno
import logging
import os
import random
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_server.mcp import ConfigError, Delivery, FileTokenStore, TokenStoreError
from fastapi_server.mcp.auth import private_files
from fastapi_server.mcp.auth.sealing import Seal, SealError
from tests.test_auth.processes import ended, started
from tests.test_auth.worker import KEY

RAW_KEY = bytes(range(100, 132))
OTHER_KEY = bytes(32)
NOBODY = "65534"
SECRET = "planted-secret"
VALUE = {"access_token": f"{SECRET}-access", "expires_in": 3600}

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes and signals of POSIX")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MCP_TOKEN_KEY", raising=False)
    return tmp_path / "tokens"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestProcesses:
    """What several processes do to one file."""

    async def test_two_processes_that_increment_lose_no_update(self, path: Path) -> None:
        rounds = 25
        with started("increment", path, str(rounds)) as one, started("increment", path, str(rounds)) as other:
            assert await asyncio.to_thread(one.wait, 50) == 0
            assert await asyncio.to_thread(other.wait, 50) == 0
        assert await FileTokenStore(path).get(KEY) == {"n": 2 * rounds}

    async def test_a_process_that_is_killed_gives_up_its_lock(self, path: Path) -> None:
        store = FileTokenStore(path)
        with started("hold", path) as process:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(take(store), 0.3)
            process.kill()
            await asyncio.to_thread(process.wait)
            await asyncio.wait_for(take(store), 5)

    @pytest.mark.parametrize("function", ["fsync", "replace"])
    async def test_a_writer_killed_midway_leaves_the_old_file_whole(self, path: Path, function: str) -> None:
        store = FileTokenStore(path)
        await store.set(KEY, {"n": "old"})
        done = await asyncio.to_thread(ended, "die_at", path, function)
        assert done.returncode == -9
        assert path.with_name("tokens.new").exists()
        assert await store.get(KEY) == {"n": "old"}
        await store.set(KEY, {"n": "newer"})
        assert await store.get(KEY) == {"n": "newer"}
        assert not path.with_name("tokens.new").exists()

    async def test_a_writer_killed_at_any_moment_leaves_a_whole_file(self, path: Path) -> None:
        store = FileTokenStore(path)
        for _ in range(4):
            with started("set_forever", path) as process:
                await asyncio.sleep(random.uniform(0.02, 0.2))
                process.kill()
                await asyncio.to_thread(process.wait)
            found = await store.get(KEY)
            assert found is None or len(found["padding"]) == 50_000

    async def test_waiting_for_another_process_blocks_no_event_loop_and_can_be_cancelled(self, path: Path) -> None:
        store = FileTokenStore(path)
        with started("hold_writing", path):
            waiting = asyncio.create_task(store.set(KEY, {"n": 1}))
            longest = 0.0
            for _ in range(20):
                before = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - before)
            assert not waiting.done()
            assert await store.get(KEY) is None
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await asyncio.wait_for(store.set(KEY, {"n": 2}), 5)
        assert longest < 1

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit that other systems do not keep")
    async def test_a_disk_that_fills_up_leaves_the_old_file_whole(self, path: Path) -> None:
        store = FileTokenStore(path)
        await store.set(KEY, {"n": "old"})
        done = await asyncio.to_thread(ended, "fill_disk", path)
        assert done.stdout == f"TokenStoreError: {path}: cannot be written: File too large\n"
        assert await store.get(KEY) == {"n": "old"}
        assert not path.with_name("tokens.new").exists()

    @pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
    async def test_a_folder_that_this_user_may_not_write(self) -> None:
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            os.chmod(folder, 0o755)
            done = await asyncio.to_thread(ended, "say_error_as", Path(folder) / "tokens", NOBODY)
            assert "TokenStoreError: " in done.stdout, done.stderr
            assert "Permission denied; let this user read and write it" in done.stdout


async def take(store: FileTokenStore) -> None:
    async with store.lock(KEY):
        pass


async def test_a_lock_survives_a_storm_of_cancelled_waiters(path: Path) -> None:
    stores = [FileTokenStore(path), FileTokenStore(path)]
    for _ in range(40):
        tasks = [asyncio.create_task(take(random.choice(stores))) for _ in range(4)]
        await asyncio.sleep(random.uniform(0, 0.01))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for store in stores:
        await asyncio.wait_for(take(store), 5)


async def test_a_cancelled_set_is_done_before_its_caller_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileTokenStore(path)
    sync, writing = os.fsync, asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(descriptor: int) -> None:
        loop.call_soon_threadsafe(writing.set)
        time.sleep(0.05)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slowly)
    task = asyncio.create_task(store.set(KEY, {"n": 1}))
    await writing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.get(KEY) == {"n": 1}


# Round trips.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None, max_examples=40)
@given(values=st.dictionaries(st.text(), st.dictionaries(st.text(), JSON, max_size=4), max_size=4))
def test_every_json_object_comes_back_as_it_was(values: dict[str, dict[str, Any]]) -> None:
    async def write_and_read(folder: str) -> None:
        for key, value in values.items():
            await FileTokenStore(f"{folder}/tokens").set(key, value)
        for key, value in values.items():
            assert await FileTokenStore(f"{folder}/tokens").get(key) == value

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(write_and_read(folder))


async def test_what_has_no_json_form_is_refused_and_changes_nothing(path: Path) -> None:
    store = FileTokenStore(path)
    await store.set(KEY, VALUE)
    with pytest.raises(ValueError, match="not JSON compliant"):
        await store.set(KEY, {"n": float("nan")})
    with pytest.raises(TypeError, match="not JSON serializable"):
        await store.set(KEY, {"n": object()})
    assert await store.get(KEY) == VALUE


async def test_deleting_what_is_not_there_makes_no_file(path: Path) -> None:
    await FileTokenStore(path).set(KEY, None)
    assert not path.exists()
    assert not path.with_name("tokens.key").exists()


# Keys.


async def test_a_key_may_be_bytes_or_base64_in_the_call_or_in_the_environment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await FileTokenStore(path, key=RAW_KEY).set(KEY, VALUE)
    padded = base64.b64encode(RAW_KEY).decode()
    for key in (RAW_KEY, padded, padded.rstrip("="), f"{base64.urlsafe_b64encode(RAW_KEY).decode()}\n"):
        assert await FileTokenStore(path, key=key).get(KEY) == VALUE
    monkeypatch.setenv("MCP_TOKEN_KEY", padded)
    assert await FileTokenStore(path).get(KEY) == VALUE
    assert not path.with_name("tokens.key").exists()
    monkeypatch.setenv("MCP_TOKEN_KEY", base64.b64encode(OTHER_KEY).decode())
    assert await FileTokenStore(path, key=RAW_KEY).get(KEY) == VALUE


@pytest.mark.parametrize("key", [b"", b"short", RAW_KEY + b"x", "", SECRET, "ü" * 44, "A" * 45, "=" * 8])
def test_a_key_of_the_wrong_size_is_refused(path: Path, key: bytes | str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^key: must be 32 random bytes, or their base64 text: openssl"):
        FileTokenStore(path, key=key)
    if isinstance(key, str):
        monkeypatch.setenv("MCP_TOKEN_KEY", key)
        with pytest.raises(ConfigError, match=r"^MCP_TOKEN_KEY: must be 32 random bytes") as caught:
            FileTokenStore(path)
        assert "planted" not in repr(caught.value)


async def test_without_a_key_one_is_made_beside_the_file(path: Path) -> None:
    await FileTokenStore(path).set(KEY, VALUE)
    key = path.with_name("tokens.key").read_text()
    assert await FileTokenStore(path, key=key).get(KEY) == VALUE
    path.unlink()
    await FileTokenStore(path).set(KEY, VALUE)
    assert path.with_name("tokens.key").read_text() == key


async def test_the_file_shows_nothing_and_never_the_same(path: Path) -> None:
    store = FileTokenStore(path, key=RAW_KEY)
    written = set[bytes]()
    for _ in range(3):
        await store.set(f"{SECRET}-key", VALUE)
        written.add(path.read_bytes()[18:30])
        assert SECRET.encode() not in path.read_bytes()
    assert len(written) == 3


# What is wrong with the file.


async def refused(store: FileTokenStore, message: str) -> TokenStoreError:
    """Neither reading nor writing works, and both say the same."""
    with pytest.raises(TokenStoreError) as reading:
        await store.get(KEY)
    with pytest.raises(TokenStoreError) as writing:
        await store.set(KEY, {"n": 2})
    assert str(reading.value) == str(writing.value) == f"{store.path}: {message}"
    assert reading.value.delivery is Delivery.NOT_SENT
    return reading.value


async def test_another_key(path: Path) -> None:
    await FileTokenStore(path, key=RAW_KEY).set(KEY, VALUE)
    before = path.read_bytes()
    await refused(
        FileTokenStore(path, key=OTHER_KEY),
        "was encrypted with another key; give that key, or delete the file and sign in again",
    )
    assert path.read_bytes() == before


async def test_a_key_file_that_is_gone(path: Path) -> None:
    await FileTokenStore(path).set(KEY, VALUE)
    key_path = path.with_name("tokens.key")
    key_path.unlink()
    await refused(
        FileTokenStore(path),
        f"its key file {key_path} is missing; put it back, give the key, or delete the token file and sign in again",
    )
    assert not key_path.exists()


async def test_a_key_file_that_holds_no_key(path: Path) -> None:
    await FileTokenStore(path).set(KEY, VALUE)
    path.with_name("tokens.key").write_text("")
    with pytest.raises(ConfigError, match=r"tokens\.key: must be 32 random bytes"):
        await FileTokenStore(path).get(KEY)


def test_no_byte_can_be_changed_and_none_can_be_missing() -> None:
    sealed = Seal(RAW_KEY).wrap(b"content")
    assert Seal(RAW_KEY).unwrap(sealed) == b"content"
    for position in range(len(sealed)):
        for bit in (1, 128):
            changed = bytearray(sealed)
            changed[position] ^= bit
            with pytest.raises(SealError):
                Seal(RAW_KEY).unwrap(bytes(changed))
        with pytest.raises(SealError):
            Seal(RAW_KEY).unwrap(sealed[:position])
    with pytest.raises(SealError):
        Seal(RAW_KEY).unwrap(sealed + b"\0")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda sealed: b"", "is cut short; delete it and sign in again"),
        (lambda sealed: sealed[:5], "is cut short; delete it and sign in again"),
        (lambda sealed: sealed[:45], "is cut short; delete it and sign in again"),
        (lambda sealed: sealed[:-1], "was changed or damaged; delete it and sign in again"),
        (lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1]), "was changed or damaged; delete it and sign in again"),
        (
            lambda sealed: b'{"tokens": {}}',
            "is no token file of this package; choose another path, or delete it and sign in again",
        ),
        (
            lambda sealed: sealed[:9] + b"\x02" + sealed[10:],
            "has a format that this version does not know; use the version that wrote it",
        ),
    ],
)
async def test_a_damaged_file(path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    store = FileTokenStore(path, key=RAW_KEY)
    await store.set(KEY, VALUE)
    path.write_bytes(damage(path.read_bytes()))
    await refused(store, message)


# Modes.


async def test_nobody_else_can_read_anything_of_it_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[tuple[str, int]]()
    really_open = os.open

    def watched(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        descriptor = really_open(path, flags, mode, **more)
        if flags & os.O_CREAT:
            made.append((Path(path).name, stat.S_IMODE(os.fstat(descriptor).st_mode)))
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    before = os.umask(0)
    try:
        store = FileTokenStore(tmp_path / "new" / "deep" / "tokens")
        await store.set(KEY, VALUE)
        async with store.lock(KEY):
            pass
    finally:
        os.umask(before)
    assert {"tokens.new", "tokens.key.new"} <= {name for name, _ in made}
    assert {mode for _, mode in made} == {0o600}
    for each in (tmp_path / "new").rglob("*"):
        assert mode_of(each) == (0o700 if each.is_dir() else 0o600), each
    assert mode_of(tmp_path / "new") == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
async def test_a_file_that_others_can_use(path: Path, mode: int) -> None:
    store = FileTokenStore(path)
    await store.set(KEY, VALUE)
    path.chmod(mode)
    await refused(store, f"others can use it (mode {mode:04o}); run: chmod 600 {path}")
    path.chmod(0o400)
    assert await store.get(KEY) == VALUE


async def test_a_key_file_that_others_can_use(path: Path) -> None:
    await FileTokenStore(path).set(KEY, VALUE)
    key_path = path.with_name("tokens.key")
    key_path.chmod(0o644)
    with pytest.raises(TokenStoreError) as caught:
        await FileTokenStore(path).get(KEY)
    assert str(caught.value) == f"{key_path}: others can use it (mode 0644); run: chmod 600 {key_path}"


# Paths.


async def test_a_directory_in_the_way(path: Path) -> None:
    path.mkdir()
    await refused(FileTokenStore(path), "cannot be read: Is a directory; name a file, not a directory")


async def test_a_symbolic_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    await FileTokenStore(target).set(KEY, VALUE)
    path.symlink_to(target)
    error = await refused(
        FileTokenStore(path),
        "cannot be read: Too many levels of symbolic links; name the file that the symbolic link points to",
    )
    assert isinstance(error.__cause__, OSError)


async def test_a_pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)
    await refused(FileTokenStore(path), "is no plain file; choose another path")


async def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = FileTokenStore(tmp_path / "file" / "tokens")
    with pytest.raises(TokenStoreError, match="cannot be read: Not a directory; a part of the path is no directory"):
        await store.get(KEY)
    with pytest.raises(TokenStoreError, match=r"tokens\.locks.*: cannot be made: .*a part of the path is no directory"):
        await store.set(KEY, VALUE)


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.EROFS, "choose a path on a disk that can be written"), (errno.ENOSPC, "make room")],
)
async def test_a_disk_that_cannot_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    store = FileTokenStore(path)
    await store.set(KEY, VALUE)

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(private_files, "_open_for_writing", refuse)
    with pytest.raises(TokenStoreError) as caught:
        await store.set(KEY, {"n": 2})
    assert str(caught.value).startswith(f"{path}: cannot be written: {os.strerror(number)}; {advice}")
    assert await store.get(KEY) == VALUE


async def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(TokenStoreError, match="cannot be locked: Function not implemented"):
        await FileTokenStore(path).set(KEY, VALUE)


async def test_the_path_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    await FileTokenStore("~/state/tokens").set(KEY, VALUE)
    assert (tmp_path / "state" / "tokens").exists()


# Secrets.


async def test_no_secret_is_seen_in_reprs_errors_and_logs(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = base64.b64encode(f"{SECRET}-key-of-32-bytes-!".encode()).decode()
    store = FileTokenStore(path, key=key)
    await store.set(f"{SECRET}-principal", VALUE)
    sealed = path.read_bytes()
    seen = [repr(store), str(store), repr(vars(store))]
    for damaged in (sealed[:-1], sealed[:20], SECRET.encode() + sealed):
        path.write_bytes(damaged)
        try:
            await store.set(f"{SECRET}-principal", VALUE)
        except TokenStoreError as error:
            seen += [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
    seen += [repr(vars(record)) for record in caplog.records]
    seen += [str(each) for each in path.parent.rglob("*")]
    for text in seen:
        assert SECRET not in text.replace(str(path.parent), "")
        assert key not in text


@pytest.mark.parametrize("module", ["filelock", "cryptography.exceptions"])
def test_without_the_extra_it_says_what_to_install(path: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("fastapi_server.mcp.auth.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf'^FileTokenStore needs {module}: install "mcp-client-factory\[oauth\]"$'):
        FileTokenStore(path)
