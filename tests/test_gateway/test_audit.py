"""The audit log: what is written of a call, and that calls never wait for it."""

import logging
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from fastapi_server.gateway.audit import REDACTED, Audit, redacted
from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.store import AuditQuery, Store

ANN = Caller("ann", "ann@here")


def note(audit: Audit, target: str = "add", arguments: dict[str, Any] | None = None) -> None:
    audit.record(ANN, "calculator", "tools/call", target, "ok", 0.25, arguments)


async def test_who_what_when_and_how(sqlite: str) -> None:
    async with Store(sqlite) as store:
        audit = Audit(store, arguments=False)
        note(audit, arguments={"a": 1})
        await audit.flush()
        (entry,) = await store.audit(AuditQuery())
        assert (entry.caller, entry.principal, entry.server) == ("ann", "ann@here", "calculator")
        assert (entry.method, entry.target, entry.outcome, entry.seconds) == ("tools/call", "add", "ok", 0.25)
        assert entry.arguments is None
        await audit.close()


async def test_arguments_where_they_are_wanted(sqlite: str) -> None:
    async with Store(sqlite) as store:
        audit = Audit(store, arguments=True)
        note(audit, arguments={"a": 1, "password": "hunter2"})
        await audit.close()
        (entry,) = await store.audit(AuditQuery())
        assert entry.arguments == {"a": 1, "password": REDACTED}


async def test_what_is_recorded_is_written_when_it_closes_in_order(sqlite: str) -> None:
    async with Store(sqlite) as store:
        audit = Audit(store, arguments=False)
        for number in range(1_100):
            note(audit, str(number))
        await audit.close()
        entries = await store.audit(AuditQuery(limit=2_000))
        assert [entry.target for entry in reversed(entries)] == [str(number) for number in range(1_100)]


class _Away(Store):
    """A database that comes and goes."""

    away = True

    async def add_audit(self, entries: Any) -> None:
        if self.away:
            raise OperationalError("INSERT", {}, OSError("away"))
        await super().add_audit(entries)


async def test_entries_wait_for_a_database_that_is_away(sqlite: str, caplog: pytest.LogCaptureFixture) -> None:
    async with _Away(sqlite) as store:
        audit = Audit(store, arguments=False)
        note(audit, "first")
        with caplog.at_level(logging.WARNING):
            await audit.flush()
        assert "cannot be written" in caplog.text
        note(audit, "second")
        store.away = False
        await audit.close()
        assert [entry.target for entry in await store.audit(AuditQuery())] == ["second", "first"]


async def test_the_oldest_are_lost_and_counted(sqlite: str, caplog: pytest.LogCaptureFixture) -> None:
    async with _Away(sqlite) as store:
        audit = Audit(store, arguments=False)
        for number in range(20_003):
            note(audit, str(number))
        store.away = False
        with caplog.at_level(logging.WARNING):
            await audit.close()
        assert "3 entries of the audit log are lost" in caplog.text
        (newest, *_) = await store.audit(AuditQuery(limit=1))
        assert newest.target == "20002"


async def test_a_long_name_is_cut(database: str) -> None:
    async with Store(database) as store:
        audit = Audit(store, arguments=False)
        audit.record(Caller("c" * 300, "p" * 300), "s" * 300, "m" * 300, "t" * 300, "o" * 300, 0.1)
        await audit.close()
        (entry,) = await store.audit(AuditQuery(server="s" * 255))
        assert (entry.caller, entry.principal, entry.target) == ("c" * 255, "p" * 255, "t" * 300)


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "PASSWD",
        "db_password",
        "clientSecret",
        "access_token",
        "apiKey",
        "api-key",
        "Authorization",
        "Cookie",
    ],
)
def test_what_looks_like_a_secret(name: str) -> None:
    assert redacted({"outer": [{name: {"a": 1}}]}) == {"outer": [{name: REDACTED}]}


@pytest.mark.parametrize("name", ["city", "key", "author", "spin", "pass_count", "compass"])
def test_what_does_not(name: str) -> None:
    assert redacted({name: 1}) == {name: 1}


def test_what_is_long_or_deep_is_cut() -> None:
    deep: Any = "end"
    for _ in range(20):
        deep = {"in": deep}
    kept = redacted({"long": "x" * 600, "many": list(range(200)), "deep": deep, "none": None})
    assert kept["long"] == "x" * 500 + "… (600 characters)"
    assert kept["many"] == list(range(100))
    assert "end" not in repr(kept["deep"])
    assert kept["none"] is None
