"""The gateway as people run it: a real server on a free port, in front of real servers."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_server.gateway import Settings, create_app
from fastapi_server.gateway.caller import ANYONE, SCOPE_KEY, Caller
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.mcp import testing
from tests.test_gateway.gateways import listening

WEATHER = {"command": sys.executable, "args": ["-m", "fastapi_server.mcp.demo.servers", "stdio"]}
PEER = {"command": sys.executable, "args": ["-S", str(Path(testing.__file__).with_name("stdio_peer.py"))]}
ODD = {"command": sys.executable, "args": [str(Path(__file__).with_name("odd_server.py"))]}
SHOW = {"command": sys.executable, "args": [str(Path(__file__).with_name("show_server.py"))]}


@dataclass
class Front:
    """Everybody before the application is a certain caller, whoever they were let in as."""

    app: ASGIApp
    caller: Caller = ANYONE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, SCOPE_KEY: self.caller}, receive, send)


@dataclass
class Served:
    """A gateway that runs."""

    url: str
    app: FastAPI
    front: Front
    http: aiohttp.ClientSession = field(repr=False)

    @property
    def gateway(self) -> Gateway:
        return self.app.state.gateway

    async def ask(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        async with self.http.request(method, self.url + path, json=body) as response:
            text = await response.text()
            assert response.status == status, text
            return json.loads(text) if text else None

    async def settled(self, condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(10):
            while not await condition():
                await asyncio.sleep(0.02)


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    @asynccontextmanager
    async def served(servers: dict[str, Any], caller: Caller = ANYONE, **settings: Any) -> AsyncGenerator[Served]:
        config = tmp_path / "mcp.json"
        config.write_text(json.dumps({"mcpServers": servers}))
        database = f"sqlite+aiosqlite:///{tmp_path}/gateway.db"
        app = create_app(Settings(config=config, database=database, patience=20, **settings))
        front = Front(app, caller)
        async with listening(front, grace=1) as url, aiohttp.ClientSession() as http:
            running = Served(url, app, front, http)
            await running.settled(lambda: _ready(running))
            yield running

    return served


async def _ready(running: Served) -> bool:
    async with running.http.get(f"{running.url}/ready") as response:
        return response.status == 200


# Databases to test against.


def _postgres_tools() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def _as_server_user(command: list[str]) -> list[str]:
    """PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an empty database of a real PostgreSQL, which is started for it."""
    tools = _postgres_tools()
    if tools is None:
        pytest.skip("PostgreSQL (initdb) is not installed")
    if os.geteuid() == 0 and subprocess.run(_as_server_user(["true"]), check=False, capture_output=True).returncode:
        pytest.skip("root cannot become the user postgres, and PostgreSQL does not run as root")
    data = Path(subprocess.check_output(_as_server_user(["mktemp", "-d", "/tmp/postgresql-XXXXXX"]), text=True).strip())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    try:
        subprocess.run(
            _as_server_user([str(tools / "initdb"), "-D", str(data), "-U", "gateway", "-A", "trust", "--no-sync"]),
            check=True,
            capture_output=True,
        )
        control = _as_server_user([str(tools / "pg_ctl"), "-D", str(data), "-w", "-l", str(data / "log")])
        options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1 -c fsync=off"
        subprocess.run([*control, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, cwd="/")
        try:
            yield f"postgresql+asyncpg://gateway@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")
    finally:
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """URL of a SQLite file that is not there yet."""
    return f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Each database in turn."""
    url: str = request.getfixturevalue(request.param)
    return url
