"""`mcp-clients serve`, as a program."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from mcp_types import ElicitRequestFormParams, ElicitResult, TextContent

from fastapi_server.gateway import Settings
from fastapi_server.gateway.serve import check_binding
from fastapi_server.gateway.store import AuditQuery, Store
from fastapi_server.mcp import (
    ConfigError,
    Delivery,
    HandlerContext,
    Handlers,
    HTTPConfig,
    HTTPMCPClient,
    MCPClientError,
)
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer
from tests.test_gateway.conftest import SHOW
from tests.test_gateway.endpoint.conftest import EVERYTHING

SERVE = [sys.executable, "-W", "error", "-m", "fastapi_server.mcp", "serve", "--port", "0"]


UVICORN = [sys.executable, "-W", "error", "-m", "uvicorn", "fastapi_server.gateway:app", "--port", "0"]


@contextmanager
def started(command: list[str], folder: Path, env: dict[str, str]) -> Generator[subprocess.Popen[str]]:
    environment = {**os.environ, **env}
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def program(folder: Path, *arguments: str, **env: str) -> Generator[subprocess.Popen[str]]:
    with started([*SERVE, *arguments], folder, env) as process:
        yield process


@contextmanager
def under(server: str, folder: Path, **env: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """By `mcp-clients serve`, or by plain uvicorn; the process, and where it is."""
    env["GATEWAY_CONFIG"] = config(folder, studio=SHOW)
    with started(SERVE if server == "serve" else UVICORN, folder, env) as process:
        lines = process.stdout if server == "serve" else process.stderr
        assert lines is not None
        found = (re.search(r"(?:MCP +|running on )(http://[\w.:]+)", line) for line in lines)
        yield process, next(url[1] for url in found if url)


_TOLD = r"\S+ \S+ INFO \S+ takes no more requests; still open: \d, which have 10 s to end\n"
SERVERS = pytest.mark.parametrize("server", ["serve", "uvicorn"])


def said(process: subprocess.Popen[str]) -> str:
    """What it says until it is there."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "callers" in line:
            break
    return "".join(lines)


def config(folder: Path, **servers: Any) -> str:
    path = folder / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers or {"one": {"command": "none"}}}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_needs_no_key(host: str) -> None:
    check_binding(Settings(), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gateway.example", ""])
def test_other_machines_do(host: str) -> None:
    with pytest.raises(ConfigError, match="--require-key"):
        check_binding(Settings(), host)
    check_binding(Settings(require_key=True), host)
    check_binding(Settings(oidc_issuer="https://issuer.example", oidc_audience="a"), host)


def test_an_issuer_without_an_audience_is_refused() -> None:
    with pytest.raises(ValueError, match="oidc_issuer needs oidc_audience"):
        Settings(oidc_issuer="https://issuer.example")
    with pytest.raises(ValueError, match="oidc_audience needs oidc_issuer"):
        Settings(oidc_audience="mcp")


@pytest.mark.parametrize(
    ("arguments", "env", "problem"),
    [
        (["--host", "0.0.0.0"], {}, "--require-key"),
        (["--config", "none.json"], {}, "cannot be read"),
        ([], {"GATEWAY_RATE_LIMIT": "often"}, "rate_limit"),
        ([], {"GATEWAY_DATABASE": "nonsense"}, "database"),
        ([], {"GATEWAY_DATABASE": "postgresql+asyncpg://gateway@127.0.0.1:9/gateway"}, "database does not answer"),
        ([], {"GATEWAY_DATABASE": "sqlite+aiosqlite:////proc/gateway.db"}, "database: /proc/gateway.db"),
        ([], {"GATEWAY_DATABASE": "sqlite+aiosqlite:///damaged.db"}, "file is not a database"),
        ([], {"GATEWAY_DATABASE": "sqlite+aiosqlite:///newer.db"}, "newer version of the gateway"),
        ([], {"GATEWAY_MAX_REQUEST_BYTES": "few"}, "max_request_bytes"),
        ([], {"GATEWAY_SECRET": "short"}, "secret"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, arguments: list[str], env: dict[str, str], problem: str
) -> None:
    (tmp_path / "damaged.db").write_text("this is no database " * 100, encoding="utf-8")
    with contextlib.closing(sqlite3.connect(tmp_path / "newer.db")) as newer, newer:
        newer.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        newer.execute("INSERT INTO alembic_version VALUES ('9999')")
    with program(tmp_path, *arguments, **env) as process:
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 2
        assert problem in stderr
        assert len(stderr.strip().splitlines()) == 1


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with program(tmp_path, "--port", str(port)) as process:
            _, stderr = process.communicate(timeout=30)
    assert process.returncode == 2
    assert f"127.0.0.1:{port}: Address already in use" in stderr
    assert len(stderr.strip().splitlines()) == 1


async def test_it_says_where_it_is_and_ends_when_it_is_told(tmp_path: Path) -> None:
    with program(tmp_path, "--config", config(tmp_path)) as process:
        text = said(process)
        assert "1: one" in text
        assert "everybody on this machine" in text
        (url,) = re.findall(r"MCP +(http://\S+)/mcp", text)
        async with aiohttp.ClientSession() as http, http.get(f"{url}/api/keys") as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 130
        (line,) = stderr.splitlines()
        assert line.endswith("server 'one' does not say what it has: command not found: none")


async def test_the_first_key_is_shown_once(tmp_path: Path) -> None:
    file = config(tmp_path)
    with program(tmp_path, "--config", file, "--require-key") as process:
        text = said(process)
        (key,) = re.findall(r"mcpgw_\S+", text)
        (url,) = re.findall(r"MCP +(http://\S+)/mcp", text)
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}/api/keys") as answer:
                assert answer.status == 401
            async with http.get(f"{url}/api/keys", headers={"x-api-key": key}) as answer:
                assert [one["name"] for one in (await answer.json())["keys"]] == ["admin"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    with program(tmp_path, "--config", file, "--require-key") as process:
        assert "mcpgw_" not in said(process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode in {-signal.SIGTERM, 143}


async def call(http: aiohttp.ClientSession, url: str, frames: int) -> aiohttp.ClientResponse:
    """A call under way, whose answer is a stream."""
    answer = await http.post(
        f"{url}/api/tools/studio__render/call",
        json={"arguments": {"frames": frames}, "timeout": 600},
        headers={"accept": "text/event-stream"},
    )
    assert answer.status == 200
    assert b"progress" in await answer.content.readany()
    return answer


async def until_it_drains(http: aiohttp.ClientSession, url: str) -> None:
    ready = True
    while ready:
        async with http.get(f"{url}/ready") as answer:
            ready = (await answer.json())["ready"]


@SERVERS
async def test_it_lets_calls_end_and_takes_no_new_ones_when_it_is_told_to_end(tmp_path: Path, server: str) -> None:
    with under(server, tmp_path) as (process, url):
        async with aiohttp.ClientSession() as http:
            called = await call(http, url, frames=60)
            async with http.get(f"{url}/api/events") as events:
                await events.content.readany()
                process.send_signal(signal.SIGTERM)
                await events.content.read()  # ends, and in good order
            async with http.get(f"{url}/ready") as answer:
                assert (answer.status, (await answer.json())["ready"]) == (503, False)
            async with http.post(f"{url}/api/tools/studio__render/call", json={}) as answer:
                assert (answer.status, answer.headers["retry-after"]) == (503, "5")
                assert answer.content_type == "application/problem+json"
            assert b"60 frames, draft" in await called.content.read()
        _, stderr = process.communicate(timeout=30)
        assert "Traceback" not in stderr
        assert server == "uvicorn" or re.fullmatch(_TOLD, stderr)
        assert process.returncode in {-signal.SIGTERM, 143}


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_it_lets_calls_over_mcp_end_and_ends_the_streams_that_tell_of_changes(
    tmp_path: Path, revision: str
) -> None:
    begun = asyncio.Event()
    with program(tmp_path, "--config", config(tmp_path, studio=SHOW)) as process:
        (url,) = re.findall(r"(http://\S+/mcp)", said(process))
        settings = HTTPConfig(url, protocol_version=revision)
        async with (
            HTTPMCPClient("caller", settings) as caller,
            HTTPMCPClient("listener", settings) as listener,
            await listener.listen(tools=True),
        ):
            calling = asyncio.create_task(
                caller.call_tool("studio__render", {"frames": 60}, progress=lambda *_: begun.set())
            )
            await begun.wait()
            process.send_signal(signal.SIGTERM)
            result = await calling
        assert isinstance(result.content[0], TextContent)
        assert result.content[0].text == "60 frames, draft"
        _, stderr = process.communicate(timeout=5)  # far less than calls would have got
        assert re.fullmatch(_TOLD, stderr)


@SERVERS
async def test_calls_that_do_not_end_are_given_up_and_stand_in_the_audit_log(tmp_path: Path, server: str) -> None:
    with under(server, tmp_path, GATEWAY_DRAIN_SECONDS="1") as (process, url):
        async with aiohttp.ClientSession() as http:
            called = await call(http, url, frames=100_000)
            process.send_signal(signal.SIGTERM)
            *_, last = (await called.content.read()).strip().split(b"\r\n\r\n")
        kind, data = last.split(b"\r\n")
        assert kind == b"event: error"
        assert json.loads(data.removeprefix(b"data: "))["status"] == 504
        _, stderr = process.communicate(timeout=30)
        assert "Traceback" not in stderr
        async with Store(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}") as store:
            (entry,) = await store.audit(AuditQuery())
        assert (entry.target, entry.outcome) == ("render", "CancelledError")


@SERVERS
async def test_who_asks_a_second_time_is_not_kept_waiting(tmp_path: Path, server: str) -> None:
    with under(server, tmp_path, GATEWAY_DRAIN_SECONDS="600") as (process, url):
        async with aiohttp.ClientSession() as http:
            called = await call(http, url, frames=100_000)
            process.send_signal(signal.SIGINT)
            await until_it_drains(http, url)
            process.send_signal(signal.SIGINT)
            assert b"event: result" not in await called.content.read()
        _, stderr = process.communicate(timeout=30)
    assert server == "uvicorn" or process.returncode == 130
    assert "Traceback" not in stderr
    async with Store(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}") as store:
        assert [entry.outcome for entry in await store.audit(AuditQuery())] == ["CancelledError"]


@SERVERS
async def test_sigterm_twice_is_sigterm_once(tmp_path: Path, server: str) -> None:
    """As from who tells all of a group, and from the parent of several workers."""
    with under(server, tmp_path) as (process, url):
        async with aiohttp.ClientSession() as http:
            called = await call(http, url, frames=60)
            process.send_signal(signal.SIGTERM)
            await until_it_drains(http, url)
            process.send_signal(signal.SIGTERM)
            assert b"60 frames, draft" in await called.content.read()
        process.communicate(timeout=30)


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_who_is_asked_something_may_still_answer(tmp_path: Path, revision: str) -> None:
    async def answer(_context: HandlerContext, _params: ElicitRequestFormParams) -> ElicitResult:
        process.send_signal(signal.SIGTERM)
        async with aiohttp.ClientSession() as http:
            await until_it_drains(http, url)
        return ElicitResult(action="accept", content={"name": "Ada"})

    command, *args = EVERYTHING
    root = str(Path(__file__).parents[2])
    file = config(tmp_path, everything={"command": command, "args": [*args, "stdio"], "cwd": root})
    with program(tmp_path, "--config", file) as process:
        (url,) = re.findall(r"MCP +(http://\S+)/mcp", said(process))
        settings, handlers = HTTPConfig(f"{url}/mcp", protocol_version=revision), Handlers(elicitation=answer)
        async with HTTPMCPClient("caller", settings, handlers=handlers) as caller:
            result = await caller.call_tool("everything__ask", {"kinds": ["form"], "about": "tea"})
        assert isinstance(result.content[0], TextContent)
        assert "Ada" in result.content[0].text
        process.communicate(timeout=30)


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_calls_over_mcp_that_do_not_end_stand_in_the_audit_log_too(tmp_path: Path, revision: str) -> None:
    begun = asyncio.Event()
    with program(tmp_path, "--config", config(tmp_path, studio=SHOW), GATEWAY_DRAIN_SECONDS="1") as process:
        (url,) = re.findall(r"(http://\S+/mcp)", said(process))
        async with HTTPMCPClient("caller", HTTPConfig(url, protocol_version=revision, retries=0)) as caller:
            frames = {"frames": 100_000}
            calling = asyncio.create_task(
                caller.call_tool("studio__render", frames, timeout=600, progress=lambda *_: begun.set())
            )
            await begun.wait()
            process.send_signal(signal.SIGTERM)
            with pytest.raises(MCPClientError):
                await calling
        _, stderr = process.communicate(timeout=30)
    assert "Traceback" not in stderr
    async with Store(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}") as store:
        (entry,) = await store.audit(AuditQuery())
    assert (entry.target, entry.outcome) == ("render", "CancelledError")


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_a_call_that_is_cut_off_is_not_taken_for_one_that_was_refused(tmp_path: Path, revision: str) -> None:
    """Or else the client would make it again."""
    made, begun = 0, asyncio.Event()

    async def never_ends(_seen: Seen) -> web.StreamResponse:
        nonlocal made
        made += 1
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with http_peer(HTTPPeer({"tools/call": never_ends}, stateless=True)) as peer:
        file = config(tmp_path, peer={"url": f"{peer.url}/mcp"})
        with program(tmp_path, "--config", file, GATEWAY_DRAIN_SECONDS="1") as process:
            (url,) = re.findall(r"(http://\S+/mcp)", said(process))
            async with HTTPMCPClient("caller", HTTPConfig(url, protocol_version=revision)) as caller:
                calling = asyncio.create_task(caller.call_tool("peer__echo", timeout=600))
                await begun.wait()
                process.send_signal(signal.SIGTERM)
                with pytest.raises(MCPClientError) as failed:
                    await calling
            process.communicate(timeout=30)
    assert failed.value.delivery is Delivery.UNKNOWN
    assert made == 1


def test_without_any_servers_there_are_the_demo_servers(tmp_path: Path) -> None:
    with program(tmp_path) as process:
        assert "4: stdio, sse, handshake, stateless" in said(process)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        assert stderr == ""


def test_without_the_extra_its_name_is_said(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['watchfiles'] = None; from fastapi_server.mcp.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hide, "serve"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 2
    assert 'install "mcp-client-factory[gateway]"' in done.stderr
