"""The audit log: what is written of a call, and that calls never wait for it."""

import asyncio
import logging
import secrets
from typing import Any

import pytest

from fastapi_server.gateway import audit as audit_module
from fastapi_server.gateway.audit import REFUSED, Audit
from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.redaction import REDACTED
from fastapi_server.gateway.store import AuditQuery, Store, StoreRefused, StoreUnavailable

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
            raise StoreUnavailable("away")
        await super().add_audit(entries)


async def test_entries_wait_for_a_database_that_is_away(sqlite: str, caplog: pytest.LogCaptureFixture) -> None:
    async with _Away(sqlite) as store:
        audit = Audit(store, arguments=False)
        note(audit, "first")
        with caplog.at_level(logging.WARNING):
            await audit.flush()
            await audit.flush()
        assert caplog.text.count("cannot be written") == 1
        note(audit, "second")
        store.away = False
        await audit.close()
        assert "is written again" in caplog.text
        assert [entry.target for entry in await store.audit(AuditQuery())] == ["second", "first"]


async def test_what_the_database_refuses_keeps_nothing_up(sqlite: str, caplog: pytest.LogCaptureFixture) -> None:
    class Picky(Store):
        async def add_audit(self, entries: Any) -> None:
            if entries[0].target == "bad":
                raise StoreRefused("no")
            await super().add_audit(entries)

    async with Picky(sqlite) as store:
        audit = Audit(store, arguments=False)
        note(audit, "bad")
        await audit.flush()
        note(audit, "good")
        await audit.close()
        assert [entry.target for entry in await store.audit(AuditQuery())] == ["good"]
        assert audit.lost == 1
        assert [record.levelname for record in caplog.records] == ["ERROR"]


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
        audit.record(Caller("c" * 300, "p" * 300), "s" * 300, "m" * 300, "t" * 100_000, "o" * 300, 0.1)
        await audit.close()
        (entry,) = await store.audit(AuditQuery(server="s" * 255))
        assert (entry.caller, entry.principal, entry.target) == ("c" * 255, "p" * 255, "t" * 2_000)


async def test_what_cannot_be_written_at_the_end_is_counted(sqlite: str, caplog: pytest.LogCaptureFixture) -> None:
    async with _Away(sqlite) as store:
        audit = Audit(store, arguments=False)
        for _ in range(3):
            note(audit)
        await audit.close()
        assert "3 entries of the audit log are lost" in caplog.text
        assert audit.lost == 3


async def test_nothing_is_lost_unseen_where_a_batch_is_put_back(sqlite: str) -> None:
    class Slow(_Away):
        async def add_audit(self, entries: Any) -> None:
            if self.away:
                for number in range(20_000):
                    note(audit, str(number))
            await super().add_audit(entries)

    async with Slow(sqlite) as store:
        audit = Audit(store, arguments=False)
        for _ in range(7):
            note(audit, "first")
        await audit.flush()
        assert audit.lost == 7
        store.away = False
        await audit.close()
        assert audit.lost == 7


async def test_a_database_that_does_not_answer_is_not_waited_for(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(Store):
        async def add_audit(self, entries: Any) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(audit_module, "_WRITE_SECONDS", 0.01)
    async with Stuck(sqlite) as store:
        audit = Audit(store, arguments=False)
        note(audit)
        await audit.close()
        assert audit.lost == 1


async def test_a_refused_call_has_its_entry(sqlite: str) -> None:
    async with Store(sqlite) as store:
        audit = Audit(store, arguments=True)
        audit.refused(ANN, "files", "tools/call", "read", {"path": "/"})
        await audit.close()
        (entry,) = await store.audit(AuditQuery())
        assert (entry.server, entry.target, entry.outcome, entry.arguments) == ("files", "read", REFUSED, {"path": "/"})


async def test_what_no_database_takes_as_text_is_replaced(database: str) -> None:
    server, arguments = "odd" + "\0" + secrets.token_hex(6), {"a\0": "\ud800", "b": [float("nan"), float("-inf")]}
    async with Store(database) as store:
        audit = Audit(store, arguments=True)
        audit.record(Caller("\ud800"), server, "tools/call", "a\0b", "ok", 0.1, arguments)
        await audit.close()
        (entry,) = await store.audit(AuditQuery(server=server.replace("\0", "\ufffd")))
        assert (entry.caller, entry.target) == ("?", "a\ufffdb")
        assert entry.arguments == {"a\ufffd": "?", "b": ["nan", "-inf"]}


async def test_what_the_schema_says_is_a_secret_is_not_kept(sqlite: str) -> None:
    schema = {"properties": {"code": {"type": "string", "writeOnly": True}}}
    async with Store(sqlite) as store:
        audit = Audit(store, arguments=True, schema_of=lambda *of: schema if of[::2] == ("calculator", "add") else None)
        note(audit, "add", {"code": "1234"})
        note(audit, "sub", {"code": "1234"})
        await audit.close()
        sub, add = await store.audit(AuditQuery())
        assert (add.arguments, sub.arguments) == ({"code": REDACTED}, {"code": "1234"})
