"""`mcp-clients demo`, run as the program that it is, and the fleet it starts."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastapi_server.mcp import MCPClientError, MCPClientFactory, ProcessExitedError, ServerConfig, load_config
from fastapi_server.mcp.cli import demo
from fastapi_server.mcp.cli.run import Missed, Reached
from fastapi_server.mcp.cli.target import Options
from fastapi_server.mcp.demo import fleet

DEMO = [sys.executable, "-m", "fastapi_server.mcp", "demo"]
SERVERS = {
    "stdio": ("stdio", "stateless", "2026-07-28"),
    "sse": ("sse", "handshake", "2025-11-25"),
    "handshake": ("http", "handshake", "2025-11-25"),
    "stateless": ("http", "stateless", "2026-07-28"),
}


def run_demo(*options: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    return subprocess.run([*DEMO, *options], check=False, env={**env, **more}, capture_output=True, text=True)


def processes_at_home_in(folder: Path) -> list[str]:
    """Every process whose `HOME` is `folder`: it is handed on to servers, too, and so marks them all."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"HOME={folder}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.mark.parametrize("columns", ["100", "120", None])
def test_the_demo_shows_every_server_and_leaves_nothing(columns: str | None, tmp_path: Path) -> None:
    run = run_demo(HOME=str(tmp_path), **({"COLUMNS": columns} if columns else {}))
    assert processes_at_home_in(tmp_path) == []
    assert (run.returncode, run.stderr) == (0, "")
    assert max(map(len, run.stdout.splitlines())) <= int(columns or 120)
    assert "\x1b" not in run.stdout
    assert "…" not in run.stdout
    for name, (_transport, era, revision) in SERVERS.items():
        assert f"weather-{name} 1.0.0" in run.stdout
        assert era in run.stdout
        assert revision in run.stdout
    assert run.stdout.count("forecast city=Lisbon") == 4
    assert run.stdout.count("24.5 °C, sunny") == 4
    assert "4 of 4 servers answered" in run.stdout


def test_the_demo_for_machines() -> None:
    run = run_demo("--json")
    assert run.returncode == 0, run.stderr
    servers = json.loads(run.stdout)["servers"]
    found = {one["name"]: (one["transport"], one["era"], one["revision"]) for one in servers}
    assert found == SERVERS
    for one in servers:
        assert one["server"] == {"name": f"weather-{one['name']}", "version": "1.0.0"}
        assert one["tools"] == ["forecast", "survey"]
        assert one["call"]["answer"] == {"city": "Lisbon", "celsius": 24.5, "sky": "sunny"}
        assert 0 < one["call_seconds"] < one["connect_seconds"] + 5


async def test_the_fleet_is_reached_through_one_file_and_leaves_nothing() -> None:
    async with fleet.demo_fleet() as path:
        folder, file = path.parent, load_config(path)
        assert list(file.servers) == list(SERVERS)
        assert not file.problems
        visits = await demo.tour(list(file.servers.values()))
    assert [visit.transport for visit in visits if isinstance(visit, Reached)] == ["stdio", "sse", "http", "http"]
    assert not folder.exists()


async def test_a_server_that_fails_is_a_row_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_TOOL", "no-such-tool")
    assert await demo.show_demo(Options()) == 1
    assert capsys.readouterr().out.count("no-such-tool") == 4
    assert await demo.show_demo(Options(as_json=True)) == 1
    servers = json.loads(capsys.readouterr().out)["servers"]
    assert [one["error"]["type"] for one in servers] == ["MCPClientError"] * 4


async def test_one_failure_does_not_touch_the_others(stateless_server: str) -> None:
    dead = ServerConfig("dead", "stdio", {"command": sys.executable, "args": ["-c", "raise SystemExit(3)"]})
    alive = ServerConfig("alive", config={"endpoint": stateless_server})
    first, second = await demo.tour([dead, alive])
    assert isinstance(first, Missed)
    assert isinstance(first.error, MCPClientError)
    assert isinstance(second, Reached)


async def test_a_demo_server_that_does_not_start_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fleet, "_SERVERS", ["-c", "raise SystemExit('no luck')"])
    with pytest.raises(ProcessExitedError, match="no luck"):
        async with fleet.demo_fleet():
            pass
    assert await demo.show_demo(Options()) == 1
    assert "no luck" in capsys.readouterr().err


async def test_a_demo_server_that_will_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    monkeypatch.setattr(fleet, "_SERVERS", ["-c", deaf])
    monkeypatch.setattr(fleet, "_END_SECONDS", 0.1)
    started = time.monotonic()
    async with fleet.demo_fleet() as path:
        assert '"url": "http://127.0.0.1:1/sse"' in path.read_text()
    assert time.monotonic() - started < 20


async def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None: ...

    monkeypatch.setattr("importlib.util.find_spec", missing)
    with pytest.raises(ValueError, match=r"mcp-client-factory\[cli,demo\]"):
        async with fleet.demo_fleet():
            pass


@pytest.mark.parametrize(("kind", "path"), [("sse", "/sse"), ("handshake", "/mcp"), ("stateless", "/mcp")])
async def test_a_server_listens_before_it_tells_its_port_and_answers_everything(kind: str, path: str) -> None:
    command = [sys.executable, "-m", "fastapi_server.mcp.demo.servers", kind]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        socket.create_connection(("127.0.0.1", port)).close()
        await everything_at(ServerConfig(kind, config={"endpoint": f"http://127.0.0.1:{port}{path}"}))
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()


async def test_the_server_over_stdio_answers_everything(stdio_server: dict[str, object]) -> None:
    await everything_at(ServerConfig("stdio", config={**stdio_server, "inherit_env": True}))


async def everything_at(server: ServerConfig) -> None:
    client = await MCPClientFactory.create_and_connect(server)
    assert (await client.initialize()).name == f"weather-{server.name}"
    survey = await client.call_tool("survey", {"cities": ["Oslo", "Ur"]})
    assert survey.structured_content == {"result": "Oslo: rain"}
    failed = await client.call_tool("forecast", {"city": "Ur"})
    assert failed.is_error
    assert [resource.uri for resource in await client.list_resources()] == ["weather://cities"]
    assert (await client.read_resource("weather://cities")).contents
    assert (await client.get_prompt("packing", {"city": "Oslo"})).messages
    await client.disconnect()
