"""The history of metrics."""

from collections.abc import Sequence

import pytest

from fastapi_server.gateway.audit import Audit
from fastapi_server.gateway.caller import ANYONE
from fastapi_server.gateway.history import History
from fastapi_server.gateway.recent import Recent
from fastapi_server.gateway.store import AuditQuery, MetricsPoint, Store, StoreRefused, StoreUnavailable


async def test_a_minute_is_written_once(sqlite: str) -> None:
    async def keep(at: float) -> list[tuple[float, int, int]]:
        await history.keep(at)
        return [(one.at, one.calls, one.errors) for one in await store.history("weather", 0.0)]

    recent = Recent()
    async with Store(sqlite) as store:
        history = History({"weather": recent, "quiet": Recent()}, store, days=1)
        for seconds in (0.1, 0.2, 0.3):
            recent.record(seconds, failed=seconds > 0.25)
        assert await keep(120.0) == [(60.0, 3, 1)]
        assert await keep(180.0) == [(60.0, 3, 1)]
        recent.record(0.4, failed=False)
        assert await keep(240.3) == [(60.0, 3, 1), (180.0, 1, 0)]
        first, last = await store.history("weather", 0.0)
        assert (first.p50, first.p95, first.p99) == (0.2, 0.3, 0.3)
        assert last.p50 == 0.4
        assert await store.history("quiet", 0.0) == []


async def test_what_is_too_old_is_deleted_from_the_audit_log_too(sqlite: str) -> None:
    async with Store(sqlite) as store:
        audit = Audit(store, arguments=False)
        audit.record(ANYONE, "a", "tools/call", "t", "ok", 0.1)
        await audit.close()
        (entry,) = await store.audit(AuditQuery())
        history = History({}, store, days=1)
        await history.keep(entry.at + 86_399)
        assert len(await store.audit(AuditQuery())) == 1
        await history.keep(entry.at + 86_401)
        assert await store.audit(AuditQuery()) == []


async def test_what_could_not_be_written_is_written_later(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_points: Sequence[MetricsPoint]) -> None:
        raise StoreUnavailable("away")

    recent = Recent()
    async with Store(sqlite) as store:
        history = History({"weather": recent}, store, days=1)
        recent.record(0.1, failed=False)
        with monkeypatch.context() as away:
            away.setattr(store, "add_history", refuse)
            await history.keep(120.0)
        await history.keep(180.0)
        await history.keep(240.0)
        assert [(one.at, one.calls) for one in await store.history("weather", 0.0)] == [(60.0, 1)]


async def test_what_is_refused_is_lost_and_keeps_nothing_up(
    sqlite: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(_points: Sequence[MetricsPoint]) -> None:
        raise StoreRefused("no")

    recent = Recent()
    async with Store(sqlite) as store:
        history = History({"weather": recent}, store, days=1)
        recent.record(0.1, failed=False)
        with monkeypatch.context() as picky:
            picky.setattr(store, "add_history", refuse)
            await history.keep(120.0)
        assert "minutes of the history of metrics are lost: no" in caplog.text
        recent.record(0.1, failed=False)
        await history.keep(180.0)
        assert [(one.at, one.calls) for one in await store.history("weather", 0.0)] == [(120.0, 1)]
