"""A gateway under a real uvicorn, on a port of its own, in the loop of the test."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from fastapi_server.gateway import Settings, create_app


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@dataclass
class Served:
    """Where it is, and a session that goes there."""

    app: FastAPI
    url: str
    http: aiohttp.ClientSession

    async def get(self, path: str, **options: Any) -> aiohttp.ClientResponse:
        return await self.request("GET", path, **options)

    async def request(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        async with self.http.request(method, self.url + path, **options) as answer:
            await answer.read()
            return answer


def settings_at(folder: Path, **given: Any) -> Settings:
    """Settings with a database in this folder, and no servers of their own accord."""
    settings: dict[str, Any] = {"database": f"sqlite+aiosqlite:///{folder / 'gateway.db'}", "demo": False, **given}
    return Settings(**settings)


@asynccontextmanager
async def listening(app: ASGIApp, grace: int | None = 5) -> AsyncGenerator[str]:
    """The URL of an application; it is given so many seconds to end, or as long as it takes."""
    server = _Server(uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=grace))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        up = asyncio.create_task(server.up.wait())
        await asyncio.wait({task, up}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
            end_watcher()


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncGenerator[Served]:
    async with listening(app) as url, aiohttp.ClientSession() as http:
        yield Served(app, url, http)


def end_watcher() -> None:
    """The event streams' library looks every half second whether the server ends: longer than ours takes to."""
    for task in asyncio.all_tasks():
        if getattr(task.get_coro(), "__name__", "") == "_shutdown_watcher":
            task.cancel()


@asynccontextmanager
async def gateway(folder: Path, **given: Any) -> AsyncGenerator[Served]:
    """A whole gateway."""
    async with serving(create_app(settings_at(folder, **given))) as served:
        yield served
