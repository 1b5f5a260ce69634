"""The config file and the database: what is served, and what a change changes."""

import asyncio
import errno
import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from fastapi_server.gateway.events import Event
from fastapi_server.gateway.front.keys import KeyGrant
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.store import Seal, Store, StoredServer
from fastapi_server.mcp import ConfigError
from tests.test_gateway.gateways import gateway

DEMO = {"command": sys.executable, "args": ["-m", "fastapi_server.mcp.demo.servers", "stdio"]}


def write(path: Path, servers: dict[str, Any]) -> None:
    path.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")


async def read_again(events: AsyncGenerator[Event]) -> list[str]:
    """What is wrong in the file, once it has been read again."""
    async with asyncio.timeout(20):
        while True:
            event = await anext(events)
            if event.kind == "config":
                return event.data["problems"]


async def test_a_changed_file_is_served_and_what_is_the_same_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    write(file, {"stays": DEMO, "goes": {"command": "none"}})
    async with gateway(tmp_path, config=file) as served:
        behind: Gateway = served.app.state.gateway
        client = behind.pool.client("stays")
        await client.ping()
        async with behind.events.watch() as events:
            write(file, {"stays": DEMO, "comes": {"command": "none"}})
            assert await read_again(events) == []
        assert behind.pool.servers == ["stays", "comes"]
        assert behind.pool.client("stays") is client


async def test_a_broken_file_changes_nothing_and_a_mended_one_does(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    write(file, {"one": {"command": "none"}})
    async with gateway(tmp_path, config=file) as served:
        behind: Gateway = served.app.state.gateway
        async with behind.events.watch() as events:
            file.write_text("{", encoding="utf-8")
            (problem,) = await read_again(events)
            assert "is not JSON" in problem
            write(file, {"two": {"command": "none"}, "wrong": {"comand": "none"}})
            (problem,) = await read_again(events)
            assert "wrong" in problem
            file.unlink()
            (problem,) = await read_again(events)
            assert "cannot be read" in problem
            assert behind.pool.servers == ["one"]
            other = tmp_path / "other.json"
            write(other, {"two": {"command": "none"}})
            other.replace(file)  # as editors do
            assert await read_again(events) == []
        assert behind.pool.servers == ["two"]


async def test_an_entry_nested_too_deep_is_a_problem_as_any_other(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    write(file, {"one": {"command": "none"}})
    async with gateway(tmp_path, config=file) as served:
        behind: Gateway = served.app.state.gateway
        async with behind.events.watch() as events:
            env = '{"a":' * 700 + "1" + "}" * 700
            file.write_text(f'{{"mcpServers": {{"q": {{"command": "x", "env": {env}}}}}}}', encoding="utf-8")
            (problem,) = await read_again(events)
            assert "mcpServers.q.env: is nested too deep" in problem
            write(file, {"two": {"command": "none"}})
            assert await read_again(events) == []
        assert behind.pool.servers == ["two"]


async def test_the_file_is_watched_on_when_a_look_at_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def mistaken(_servers: Any) -> None:
        raise RuntimeError("a mistake")

    file = tmp_path / "mcp.json"
    write(file, {"one": {"command": "none"}})
    async with gateway(tmp_path, config=file) as served:
        behind: Gateway = served.app.state.gateway
        monkeypatch.setattr(behind, "reload", mistaken)
        async with behind.events.watch() as events:
            write(file, {"two": {"command": "none"}})
            (problem,) = await read_again(events)
            assert problem.endswith("failed to be applied: RuntimeError")
            monkeypatch.undo()
            write(file, {"three": {"command": "none"}})
            assert await read_again(events) == []
        assert behind.pool.servers == ["three"]
    assert "RuntimeError: a mistake" in caplog.text


async def test_the_database_is_followed_on_when_a_look_at_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path) as here, gateway(tmp_path) as there:
        failed = asyncio.Event()

        async def mistaken() -> None:
            failed.set()
            raise RuntimeError("a mistake")

        monkeypatch.setattr(there.app.state.store, "servers", mistaken)
        async with asyncio.timeout(20), there.app.state.gateway.events.watch() as events:
            await failed.wait()
            monkeypatch.undo()
            await here.app.state.roster.put("added", {"command": "none"})
            while (await anext(events)).kind != "server":
                pass
        assert there.app.state.gateway.pool.servers == ["added"]
    assert "RuntimeError: a mistake" in caplog.text


async def test_wrong_entries_at_the_start_leave_the_others(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    write(file, {"one": {"command": "none"}, "wrong": {"comand": "none"}})
    async with gateway(tmp_path, config=file) as served:
        assert served.app.state.gateway.pool.servers == ["one"]


@pytest.mark.parametrize("name", ["a/b", "a__b", "a_"])
async def test_a_name_that_no_path_leads_to_is_a_problem_of_the_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / "mcp.json"
    write(file, {"My Server": {"command": "none"}, name: {"command": "none"}})
    async with gateway(tmp_path, config=file) as served:
        assert served.app.state.gateway.pool.servers == ["My Server"]
        listed = await (await served.get("/api/servers")).json()
        assert [problem for problem in listed["problems"] if repr(name) in problem]


async def test_servers_of_the_database_are_served_too_and_the_file_wins(tmp_path: Path, sqlite: str) -> None:
    file = tmp_path / "mcp.json"
    write(file, {"both": {"command": "file"}})
    async with Store(sqlite) as store:
        seal = Seal(await store.secret("sealing"))
        for name in ("both", "stored"):
            await store.put_server(StoredServer(name, seal.sealed(name, {"command": "stored"})))
        await store.put_server(StoredServer("wrong", seal.sealed("wrong", {"command": "${NO_SUCH_VARIABLE}"})))
    async with gateway(tmp_path, config=file) as served:
        pool = served.app.state.gateway.pool
        assert pool.servers == ["both", "stored"]
        assert pool.config_of("both").config.command == "file"
        assert list(served.app.state.roster.unserved) == ["wrong"]


async def test_what_is_added_while_it_runs_is_there_after_a_restart(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        roster = served.app.state.roster
        await roster.put("added", {"command": "none", "disabled": True})
        assert served.app.state.gateway.pool.servers == ["added"]
        with pytest.raises(ConfigError, match="no such setting"):
            await roster.put("wrong", {"command": "none", "colour": "red"})
    async with gateway(tmp_path) as served:
        roster = served.app.state.roster
        assert served.app.state.gateway.pool.servers == ["added"]
        assert await roster.remove("added")
        assert not await roster.remove("added")
        assert served.app.state.gateway.pool.servers == []


async def test_servers_of_the_file_are_changed_there(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    write(file, {"one": {"command": "none"}})
    async with gateway(tmp_path, config=file) as served:
        with pytest.raises(ConfigError, match="config file"):
            await served.app.state.roster.put("one", {"command": "none"})
        with pytest.raises(ConfigError, match="config file"):
            await served.app.state.roster.remove("one")


async def test_a_link_that_leads_elsewhere_is_seen(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        write(tmp_path / f"..{version}" / "mcp.json", {f"v{version}": {"command": "none"}})
    (tmp_path / "..data").symlink_to("..1")  # as Kubernetes mounts a ConfigMap
    file = tmp_path / "mcp.json"
    file.symlink_to("..data/mcp.json")
    async with gateway(tmp_path, config=file) as served:
        behind: Gateway = served.app.state.gateway
        assert behind.pool.servers == ["v1"]
        async with behind.events.watch() as events:
            (tmp_path / "..new").symlink_to("..2")
            (tmp_path / "..new").replace(tmp_path / "..data")
            assert await read_again(events) == []
        assert behind.pool.servers == ["v2"]


async def test_a_folder_that_is_exchanged_is_seen(tmp_path: Path) -> None:
    folder, other = tmp_path / "etc", tmp_path / "other"
    for path, name in ((folder, "one"), (other, "two")):
        path.mkdir()
        write(path / "mcp.json", {name: {"command": "none"}})
    async with gateway(tmp_path, config=folder / "mcp.json") as served:
        behind: Gateway = served.app.state.gateway
        async with behind.events.watch() as events:
            folder.rename(tmp_path / "gone")
            (problem,) = await read_again(events)
            assert "cannot be read" in problem
            other.rename(folder)
            assert await read_again(events) == []
        assert behind.pool.servers == ["two"]


async def test_a_change_while_another_is_applied_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mcp.json"
    write(file, {"one": {"command": "none"}})
    async with gateway(tmp_path, config=file) as served:
        behind: Gateway = served.app.state.gateway
        reload = behind.reload

        async def reload_while_it_changes(servers: Any) -> None:
            monkeypatch.undo()
            write(file, {"three": {"command": "none"}})
            await reload(servers)

        monkeypatch.setattr(behind, "reload", reload_while_it_changes)
        async with behind.events.watch() as events:
            write(file, {"two": {"command": "none"}})
            await read_again(events)
            await read_again(events)
        assert behind.pool.servers == ["three"]


async def test_problems_of_the_file_and_the_database_are_told_to_administrators(tmp_path: Path, sqlite: str) -> None:
    file = tmp_path / "mcp.json"
    write(file, {"one": {"command": "none"}})
    async with Store(sqlite) as store:
        await store.put_server(StoredServer("foreign", {"command": "stored"}))
    async with gateway(tmp_path, config=file) as served:
        key, _ = await served.app.state.key_ring.make(KeyGrant("ann"))
        async with served.app.state.gateway.events.watch() as events:
            file.write_text("{", encoding="utf-8")
            await read_again(events)
        told = await (await served.get("/api/servers")).json()
        assert [one["name"] for one in told["servers"]] == ["one"]
        assert ["is not JSON" in problem for problem in told["problems"]] == [True]
        assert [(one["name"], "another secret" in one["problem"]) for one in told["unserved"]] == [("foreign", True)]
        told = await (await served.get("/api/servers", headers={"x-api-key": key})).json()
        assert (told["problems"], told["unserved"]) == ([], [])


async def test_what_one_process_changes_is_served_by_the_others(tmp_path: Path, database: str) -> None:
    async def until(names: list[str]) -> None:
        async with asyncio.timeout(10):
            while there.app.state.gateway.pool.servers != names:
                await asyncio.sleep(0.02)

    async with gateway(tmp_path, database=database) as here, gateway(tmp_path, database=database) as there:
        await here.app.state.roster.put("added", {"command": "none"})
        await until(["added"])
        config = there.app.state.gateway.pool.config_of("added")
        await here.app.state.roster.put("added", {"command": "other"})
        async with asyncio.timeout(10):
            while there.app.state.gateway.pool.config_of("added") == config:
                await asyncio.sleep(0.02)
        await here.app.state.roster.remove("added")
        await until([])


async def test_secrets_of_stored_servers_are_sealed(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        await served.app.state.roster.put("one", {"command": "none", "env": {"TOKEN": "s3cr3t"}})
        (stored,) = await served.app.state.store.servers()
        assert "s3cr3t" not in repr(stored.entry)
        answer = await served.get("/api/servers/one")
        assert "s3cr3t" not in await answer.text()


async def test_a_file_is_looked_at_where_the_system_refuses_to_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "OS file watch limit reached.")

    monkeypatch.setattr("watchfiles.main.RustNotify", refused)
    monkeypatch.setattr("fastapi_server.gateway.watch._LOOK_MILLISECONDS", 20)
    file = tmp_path / "mcp.json"
    write(file, {"one": {"command": "none"}})
    async with gateway(tmp_path, config=file) as served:
        behind: Gateway = served.app.state.gateway
        async with behind.events.watch() as events:
            for name in ("two", "three"):
                write(tmp_path / name, {name: {"command": "none"}})
                (tmp_path / name).replace(file)
                assert await read_again(events) == []
                assert behind.pool.servers == [name]
    assert "looked at every 0.02 s only" in caplog.text
    assert "watch limit reached" in caplog.text
