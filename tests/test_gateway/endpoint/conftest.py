"""A gateway under uvicorn, in front of real servers, and clients of either era."""

import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_server.gateway import Settings, create_app
from fastapi_server.gateway.caller import SCOPE_KEY, Caller
from fastapi_server.gateway.endpoint import upstream
from fastapi_server.gateway.gateway import Gateway
from tests.test_gateway.gateways import listening

HANDSHAKE = "2025-11-25"
EVERYTHING = [sys.executable, "-m", "tests.servers.everything"]


@dataclass(frozen=True)
class Running:
    """A gateway that serves.

    Attributes:
        url: Of `/mcp`.
        gateway: What is behind it.
    """

    url: str
    gateway: Gateway


Servers: TypeAlias = Mapping[str, dict[str, Any]]
"""By name, as an `mcp.json` has them."""
StartGateway: TypeAlias = Callable[..., AbstractAsyncContextManager[Running]]


class _As:
    """Lets everybody in as the caller whose name a header gives."""

    def __init__(self, app: ASGIApp, callers: Mapping[str, Caller]) -> None:
        self._app, self._callers = app, callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            name = dict(scope["headers"]).get(b"x-caller", b"").decode()
            if name in self._callers:
                scope = {**scope, SCOPE_KEY: self._callers[name]}
        await self._app(scope, receive, send)


@pytest.fixture
def gateway(tmp_path: Path) -> StartGateway:
    """`async with gateway({"files": {"command": …}}) as running: …`; settings and callers by keyword."""

    @asynccontextmanager
    async def start(
        servers: Servers, *, callers: Mapping[str, Caller] | None = None, **settings: Any
    ) -> AsyncGenerator[Running]:
        config = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        config.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
        settings = {"database": f"sqlite+aiosqlite:///{config}.db", "patience": 20, **settings}
        app = create_app(Settings(config=config, **settings))
        async with listening(_As(app, callers or {}), grace=2) as url:
            yield Running(f"{url}/mcp", app.state.gateway)

    return start


@pytest.fixture
def few_at_work(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many calls are worked on at once: so few that each may have a process of its own."""
    monkeypatch.setattr(upstream, "_MOST_AT_WORK", 3)
    return 3


@pytest.fixture(scope="session")
def everything_port() -> Iterator[int]:
    """Port of the `everything` server over both HTTP transports."""
    with subprocess.Popen([*EVERYTHING, "http"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def upstreams(everything_port: int) -> dict[str, dict[str, Any]]:
    """The `everything` server in every way that it can be reached, by name."""
    url = f"http://127.0.0.1:{everything_port}"
    command, *args = [*EVERYTHING, "stdio"]
    return {
        "stdio": {"command": command, "args": args, "protocolVersion": HANDSHAKE},
        "http": {"url": f"{url}/mcp", "protocolVersion": HANDSHAKE},
        "sse": {"type": "sse", "url": f"{url}/sse"},
        "stateless": {"url": f"{url}/mcp"},
    }
