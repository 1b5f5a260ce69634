"""The audit log and the history over REST."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.front.keys import KeyGrant, KeyRing
from fastapi_server.gateway.store import MetricsPoint, Store
from tests.test_gateway.gateways import Served, gateway


async def page(served: Served, **query: Any) -> dict[str, Any]:
    answer = await served.get("/api/audit", params=query)
    assert answer.status == 200
    return await answer.json()


async def test_the_log_is_read_by_pages_and_filtered(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        for number in range(5):
            caller = Caller("ann" if number % 2 else "bob", "p")
            served.app.state.audit.record(caller, f"s{number}", "tools/call", "t", "ok", 0.1, {"a": 1})
        seen: list[str] = []
        one: dict[str, Any] = {"next": 2**63 - 1}
        while one["next"] is not None:
            one = await page(served, limit=2, before=one["next"])
            seen.extend(entry["server"] for entry in one["entries"])
        assert seen == ["s4", "s3", "s2", "s1", "s0"]
        assert [entry["server"] for entry in (await page(served, caller="ann"))["entries"]] == ["s3", "s1"]
        (entry,) = (await page(served, server="s2"))["entries"]
        assert entry["arguments"] is None
        future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        assert await page(served, since=future) == {"entries": [], "next": None}


async def test_arguments_are_kept_redacted_where_they_are_wanted(tmp_path: Path) -> None:
    async with gateway(tmp_path, audit_arguments=True) as served:
        served.app.state.audit.record(Caller(), "s", "tools/call", "t", "ok", 0.1, {"token": "x", "a": 1})
        (entry,) = (await page(served))["entries"]
        assert entry["arguments"] == {"token": "[redacted]", "a": 1}


async def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        for query in (
            {"limit": 0},
            {"limit": 1001},
            {"before": 2**63},
            {"since": "yesterday"},
            {"since": "2026-01-01T00:00"},
        ):
            assert (await served.get("/api/audit", params=query)).status == 422


async def test_history_of_servers_that_the_caller_may_use(tmp_path: Path, sqlite: str) -> None:
    now = datetime.now(UTC).timestamp()
    async with Store(sqlite) as store:
        key, _ = await KeyRing(store).make(KeyGrant("ann", servers=["weather"]))
        await store.add_history([MetricsPoint(at, "weather", 3, 1, 0.1, 0.2, 0.3) for at in (now - 7200, now - 60)])
    async with gateway(tmp_path) as served:
        headers = {"x-api-key": key}
        history = await (await served.get("/api/history/weather", headers=headers)).json()
        assert [(one["calls"], one["errors"], one["p99"]) for one in history["minutes"]] == [(3, 1, 0.3)]
        since = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        history = await (await served.get("/api/history/weather", headers=headers, params={"since": since})).json()
        assert len(history["minutes"]) == 2
        assert (await served.get("/api/history/files", headers=headers)).status == 404
