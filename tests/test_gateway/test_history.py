"""The history of metrics."""

import pytest

from fastapi_server.gateway.audit import Audit
from fastapi_server.gateway.caller import ANYONE
from fastapi_server.gateway.history import History, Tally
from fastapi_server.gateway.store import AuditQuery, Store
from fastapi_server.mcp import ClientMetrics, ClientPool, MemoryMCPClient, ServerConfig
from fastapi_server.mcp.demo.servers import weather_server


def tally(*seconds: float) -> Tally:
    metrics = ClientMetrics()
    for one in seconds:
        metrics.record("tools/call", one)
    return Tally.of(metrics)


def test_quantiles_lie_between_the_bounds() -> None:
    counted = tally(*[0.02] * 90, *[0.2] * 10)
    assert counted.calls == 100
    assert 0.01 < counted.quantile(0.5) <= 0.025
    assert 0.1 < counted.quantile(0.95) <= 0.25
    assert counted.quantile(0.5) == pytest.approx(0.01 + 0.015 * 50 / 90)


def test_no_quantile_without_calls_and_the_last_bound_beyond_all() -> None:
    assert tally().quantile(0.5) == Tally().quantile(0.99) == 0.0
    assert tally(100.0).quantile(0.5) == 60.0


def test_what_has_come_since() -> None:
    before, now = tally(0.02), tally(0.02, 0.2)
    assert now.since(before).calls == 1
    assert now.since(before).quantile(0.5) > 0.1
    assert before.since(now) == before  # a new client counts from zero


async def test_a_minute_is_written_once(sqlite: str) -> None:
    async def keep(at: float) -> list[tuple[float, int, int]]:
        await history.keep(at)
        return [(one.at, one.calls, one.errors) for one in await store.history("weather", 0.0)]

    def make(config: ServerConfig, **_options: object) -> MemoryMCPClient:
        return MemoryMCPClient(config.name, weather_server("weather"))

    servers = {"weather": ServerConfig("weather", "http", {"url": "http://127.0.0.1:9/"})}
    async with Store(sqlite) as store, ClientPool(servers, make) as pool:
        history = History(pool, store, days=1)
        client = pool.client("weather")
        await client.list_tools()
        calls = client.metrics.calls.total()
        assert await keep(120.0) == [(60.0, calls, 0)]
        assert await keep(180.0) == [(60.0, calls, 0)]
        await client.ping()
        assert await keep(240.3) == [(60.0, calls, 0), (180.0, 1, 0)]


async def test_what_is_too_old_is_deleted_from_the_audit_log_too(sqlite: str) -> None:
    async with Store(sqlite) as store, ClientPool({}, lambda *_args, **_options: pytest.fail("no client")) as pool:
        audit = Audit(store, arguments=False)
        audit.record(ANYONE, "a", "tools/call", "t", "ok", 0.1)
        await audit.close()
        (entry,) = await store.audit(AuditQuery())
        history = History(pool, store, days=1)
        await history.keep(entry.at + 86_399)
        assert len(await store.audit(AuditQuery())) == 1
        await history.keep(entry.at + 86_401)
        assert await store.audit(AuditQuery()) == []
