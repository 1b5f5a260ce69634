"""The store, on SQLite and on PostgreSQL. One PostgreSQL serves all tests: each uses names of its own."""

import asyncio
import secrets
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from fastapi_server.gateway.store import (
    APIKey,
    AuditEntry,
    AuditQuery,
    MetricsPoint,
    Store,
    StoredServer,
    StoreRefused,
)
from fastapi_server.gateway.store.engine import WRITING, open_engine
from fastapi_server.gateway.store.migrate import migrate
from fastapi_server.gateway.store.tables import Table
from fastapi_server.mcp import ConfigError


def unique() -> str:
    return secrets.token_hex(6)


def key(key_id: str) -> APIKey:
    return APIKey(key_id, "one", "0" * 64, "mcpgw_", None, False, 1.0, servers=["a*"], deny=["b"])


def entry(server: str, at: float = 1.0, caller: str = "ann") -> AuditEntry:
    return AuditEntry(at, caller, None, server, "tools/call", "add", "ok", 0.1, {"a": [1, None]})


async def test_the_migrations_lead_to_the_tables(database: str) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), Table.metadata))

    async with Store(database):
        engine = open_engine(database)
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
        await engine.dispose()


async def test_what_the_first_version_kept_is_there(sqlite: str) -> None:
    engine = open_engine(sqlite)
    await migrate(engine, "0001")
    async with engine.execution_options(**WRITING).begin() as connection:
        await connection.execute(
            text("INSERT INTO servers (name, entry, enabled, source) VALUES ('one', '{}', 1, 'api')")
        )
        await connection.execute(
            text(
                "INSERT INTO api_keys (id, name, hash, prefix, admin, created, deny) "
                "VALUES ('k', 'ann', 'h', 'mcpgw_k', 1, 1.0, '[]')"
            )
        )
    await engine.dispose()
    async with Store(sqlite) as store:
        assert [(server.name, server.entry) for server in await store.servers()] == [("one", {})]
        (kept,) = await store.keys()
        assert (kept.name, kept.admin, kept.metrics) == ("ann", True, False)


async def test_several_stores_start_at_once_on_a_new_database(database: str) -> None:
    stores = [Store(database) for _ in range(4)]
    await asyncio.gather(*(store.__aenter__() for store in stores))
    name = unique()
    assert len(set(await asyncio.gather(*(store.secret(name) for store in stores)))) == 1
    for store in stores:
        await store.__aexit__(None, None, None)


def test_processes_start_at_once_on_a_new_database(sqlite: str) -> None:
    program = f"""
import asyncio
from fastapi_server.gateway.store import Store
async def main():
    async with Store({sqlite!r}) as store:
        print(await store.secret("sealing"))
asyncio.run(main())
"""
    started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate()[0] for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(said) == 1


async def test_a_file_is_for_its_owner_only(tmp_path: Path, sqlite: str) -> None:
    async with Store(sqlite) as store:
        await store.put_server(StoredServer("a", {"command": "x"}))
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


async def test_a_file_that_others_may_read_is_made_private(tmp_path: Path, sqlite: str) -> None:
    file = tmp_path / "gateway.db"
    file.touch(0o644)
    async with Store(sqlite):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "sqlite:///x.db",
        "oracle+nothing://",
        "postgresql+pg8000://h/d",
        "sqlite+aiosqlite:////nowhere/at/all/x.db",
    ],
)
def test_a_wrong_url_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match="database"):
        Store(url)


async def test_servers(database: str) -> None:
    name = unique()
    async with Store(database) as store:
        await store.put_server(StoredServer(name, {"command": "x", "env": {"A": "b"}}))
        await store.put_server(StoredServer(name, {"url": "http://h/"}))
        (server,) = [one for one in await store.servers() if one.name == name]
        assert server.entry == {"url": "http://h/"}
        assert await store.remove_server(name)
        assert not await store.remove_server(name)
        assert name not in {one.name for one in await store.servers()}


async def test_keys_are_revoked_once(database: str) -> None:
    name = unique()
    async with Store(database) as store:
        await store.add_key(key(name))
        kept = await store.key(name)
        assert kept is not None
        assert (kept.servers, kept.allow, kept.deny, kept.revoked) == (["a*"], None, ["b"], None)
        for at in (5.0, 6.0):
            revoked = await store.revoke_key(name, at)
            assert revoked is not None
            assert revoked.revoked == 5.0
        assert name in {one.id for one in await store.keys()}
        assert await store.key(unique()) is await store.revoke_key(unique(), 1.0) is None


async def test_the_audit_log_is_read_by_pages(database: str) -> None:
    name = unique()
    async with Store(database) as store:
        await store.add_audit([entry(name, float(at), "ann" if at % 2 else "bob") for at in range(5)])
        first = await store.audit(AuditQuery(server=name, limit=2))
        rest = await store.audit(AuditQuery(server=name, before=first[-1].id))
        assert [one.at for one in [*first, *rest]] == [4.0, 3.0, 2.0, 1.0, 0.0]
        assert [one.at for one in await store.audit(AuditQuery(server=name, caller="ann", since=2.0))] == [3.0]
        assert first[0].arguments == {"a": [1, None]}


async def test_history_and_what_is_forgotten(database: str) -> None:
    name = unique()
    async with Store(database) as store:
        await store.add_history([MetricsPoint(at, name, 3, 1, 0.1, 0.2, 0.3) for at in (60.0, 120.0, 180.0)])
        await store.add_audit([entry(name, 60.0), entry(name, 120.0)])
        assert [one.at for one in await store.history(name, 120.0)] == [120.0, 180.0]
        await store.forget_before(120.0)
        assert [one.at for one in await store.history(name, 0.0)] == [120.0, 180.0]
        assert [one.at for one in await store.audit(AuditQuery(server=name))] == [120.0]


async def test_a_secret_stays(database: str) -> None:
    name = unique()
    async with Store(database) as store:
        secret = await store.secret(name)
        assert len(secret) >= 43
        assert await store.secret(unique()) != secret
    async with Store(database) as again:
        assert await again.secret(name) == secret


async def test_writers_wait_for_each_other(sqlite: str) -> None:
    async with Store(sqlite) as one, Store(sqlite) as other:
        await asyncio.gather(*(store.add_audit([entry("a")]) for store in (one, other) for _ in range(20)))
        assert len(await one.audit(AuditQuery())) == 40


async def test_data_that_is_refused_is_no_outage(database: str) -> None:
    name = unique()
    async with Store(database) as store:
        await store.add_key(key(name))
        with pytest.raises(StoreRefused, match="the database does not take this"):
            await store.add_key(key(name))
        assert await store.key(name) is not None


async def test_a_text_that_postgresql_refuses_is_no_outage(postgresql: str) -> None:
    async with Store(postgresql) as store:
        with pytest.raises(StoreRefused, match="invalid byte sequence"):
            await store.key("a\0b")


async def test_a_database_of_a_newer_version_is_said_to_be_one(sqlite: str) -> None:
    async with Store(sqlite):
        pass
    engine = open_engine(sqlite)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(ConfigError, match="newer version of the gateway, with tables of revision 9999"):
        async with Store(sqlite):
            pass
