"""The gateway as people run it: a real server on a free port, in front of real servers."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_server.gateway import Settings, create_app
from fastapi_server.gateway.caller import ANYONE, SCOPE_KEY, Caller
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.mcp import testing

CSP = "default-src 'self'; img-src 'self' data: blob:; media-src data: blob:"
WEATHER = {"command": sys.executable, "args": ["-m", "fastapi_server.mcp.demo.servers", "stdio"]}
PEER = {"command": sys.executable, "args": ["-S", str(Path(testing.__file__).with_name("stdio_peer.py"))]}
SHOW = {"command": sys.executable, "args": [str(Path(__file__).with_name("show_server.py"))]}


@dataclass
class Front:
    """What stands before the application: who everybody is, and what pages may load."""

    app: ASGIApp
    caller: Caller = ANYONE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"content-security-policy", CSP.encode())]
            await send(message)

        await self.app({**scope, SCOPE_KEY: self.caller}, receive, sent)


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
    async def served(servers: dict[str, Any], caller: Caller = ANYONE) -> AsyncGenerator[Served]:
        config = tmp_path / "mcp.json"
        config.write_text(json.dumps({"mcpServers": servers}))
        app = create_app(Settings(config=config))
        front = Front(app, caller)
        server = uvicorn.Server(uvicorn.Config(front, port=0, log_level="warning", timeout_graceful_shutdown=1))
        task = asyncio.create_task(server.serve())
        try:
            while not server.started:
                assert not task.done()
                await asyncio.sleep(0.01)
            url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            async with aiohttp.ClientSession() as http:
                running = Served(url, app, front, http)
                await running.settled(lambda: _ready(running))
                yield running
        finally:
            server.should_exit = True
            await task
            _end_watcher()

    return served


def _end_watcher() -> None:
    """The event streams' library looks every half second whether the server ends: longer than ours takes to."""
    for task in asyncio.all_tasks():
        if getattr(task.get_coro(), "__name__", "") == "_shutdown_watcher":
            task.cancel()


async def _ready(running: Served) -> bool:
    async with running.http.get(f"{running.url}/ready") as response:
        return response.status == 200
