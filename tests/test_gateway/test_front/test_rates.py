"""How often somebody may ask."""

import threading
import time
from pathlib import Path

import pytest
from limits.storage import MemoryStorage

from fastapi_server.gateway.audit import REFUSED
from fastapi_server.gateway.front.keys import KeyGrant, KeyRing
from fastapi_server.gateway.front.rates import Rates
from fastapi_server.gateway.store import AuditQuery, Store
from fastapi_server.mcp import ConfigError
from tests.test_gateway.gateways import gateway


def test_each_has_an_allowance_of_their_own() -> None:
    rates = Rates("2/minute")
    assert [(one.granted, one.remaining) for one in (rates.ask("ann") for _ in range(3))] == [
        (True, 1),
        (True, 0),
        (False, 0),
    ]
    assert rates.ask("bob").granted


def test_counting_starts_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Timer] = []

    def start(timer: threading.Timer) -> None:
        started.append(timer)

    monkeypatch.setattr(threading.Timer, "start", start)
    rates = Rates("60/minute")
    of_the_library = len(started)
    assert all(rates.ask("ann").granted for _ in range(50))
    assert len(started) == of_the_library


def test_what_is_over_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Rates("1/second")
    rates.ask("ann")
    monkeypatch.setattr("fastapi_server.gateway.front.rates._SWEEP_SECONDS", 0.0)
    time.sleep(1.1)
    rates.ask("bob")
    storage = rates._limiter.storage
    assert isinstance(storage, MemoryStorage)
    assert [key for key, entries in storage.events.items() if entries and "ann" in key] == []


def test_a_limit_that_is_none() -> None:
    with pytest.raises(ConfigError, match="rate_limit: 'often'"):
        Rates("often")


async def test_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with gateway(tmp_path, rate_limit="2/hour") as served:
        first = await served.get("/api/keys")
        assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == ("2", "1")
        await served.get("/api/keys")
        refused = await served.get("/api/keys")
        assert refused.status == 429
        assert refused.content_type == "application/problem+json"
        assert 0 < int(refused.headers["retry-after"]) <= 3600
        assert refused.headers["ratelimit-remaining"] == "0"
        assert (await served.get("/health")).status != 429


async def test_each_key_has_an_allowance_of_its_own(tmp_path: Path, sqlite: str) -> None:
    async with Store(sqlite) as store:
        keys = [(await KeyRing(store).make(KeyGrant(name, admin=True)))[0] for name in ("ann", "bob")]
    async with gateway(tmp_path, rate_limit="1/hour") as served:
        for expected in (200, 429):
            assert [(await served.get("/api/keys", headers={"x-api-key": key})).status for key in keys] == [
                expected
            ] * 2


async def test_who_guesses_keys_is_slowed_down_and_others_are_not(tmp_path: Path, sqlite: str) -> None:
    async with Store(sqlite) as store:
        key, _ = await KeyRing(store).make(KeyGrant("ann", admin=True))
    async with gateway(tmp_path) as served:
        guesses = [(await served.get("/api/keys", headers={"x-api-key": f"mcpgw_{n}_x"})).status for n in range(62)]
        assert guesses == [401] * 60 + [429] * 2
        assert (await served.get("/api/keys", headers={"x-api-key": key})).status == 200


async def test_a_call_that_is_refused_for_its_rate_stands_in_the_audit_log(tmp_path: Path, sqlite: str) -> None:
    async with Store(sqlite) as store:
        key, _ = await KeyRing(store).make(KeyGrant("ann"))
        async with gateway(tmp_path, rate_limit="1/hour") as served:
            for path in ("/api/tools/a__b/call", "/api/tools/a__b/call", "/mcp"):
                await served.request("POST", path, json={}, headers={"x-api-key": key})
            await served.app.state.audit.flush()
            entries = [(one.caller, one.method, one.target, one.outcome) for one in await store.audit(AuditQuery())]
    assert entries == [
        ("ann", "POST", "/mcp", REFUSED),
        ("ann", "POST", "/api/tools/a__b/call", REFUSED),
        ("ann", "tools/call", "b", REFUSED),
    ]
