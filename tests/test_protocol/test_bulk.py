import gc
from collections.abc import Generator

import pytest

from fastapi_server.mcp.protocol import bulk
from fastapi_server.mcp.protocol.bulk import uncollected


@pytest.fixture(autouse=True)
def collecting() -> Generator[None]:
    was = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if was else gc.disable)()


@pytest.mark.parametrize("fails", [False, True])
def test_the_collector_waits_and_goes_on(monkeypatch: pytest.MonkeyPatch, *, fails: bool) -> None:
    monkeypatch.setattr(bulk, "_WAITS_BY_ITSELF", False)
    try:
        with uncollected():
            assert not gc.isenabled()
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_WAITS_BY_ITSELF", False)
    gc.disable()
    with uncollected():
        assert not gc.isenabled()
    assert not gc.isenabled()


def test_where_it_waits_by_itself_nothing_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_WAITS_BY_ITSELF", True)
    with uncollected():
        assert gc.isenabled()
