"""Whoever is cancelled while the database is asked leaves no connection behind."""

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastapi_server.gateway.store import Store, StoredServer

_POINTS = 100
_DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def uncollected() -> Iterator[None]:
    """What is forgotten stays open."""
    gc.disable()
    yield
    gc.enable()


def open_files(folder: Path) -> list[str]:
    found: list[str] = []
    for descriptor in _DESCRIPTORS.iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(str(folder))]


@pytest.mark.skipif(not _DESCRIPTORS.exists(), reason="needs /proc, to see which files are open")
@pytest.mark.parametrize("writing", [False, True])
async def test_no_file_stays_open(tmp_path: Path, sqlite: str, uncollected: None, writing: bool) -> None:
    async with Store(sqlite):
        pass
    for point in range(_POINTS):
        store = Store(sqlite)
        asking = asyncio.create_task(store.put_server(StoredServer("a", {})) if writing else store.servers())
        await asyncio.wait([asking], timeout=point / 20_000)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await store.__aexit__(None, None, None)
        assert open_files(tmp_path) == [], point


async def test_a_store_is_used_while_others_give_up(database: str) -> None:
    async with Store(database) as store:
        asking = [asyncio.create_task(store.servers()) for _ in range(30)]
        for one in asking:
            await asyncio.sleep(0)
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await store.put_server(StoredServer("b", {}))
        assert "b" in {one.name for one in await store.servers()}
        assert await store.remove_server("b")
