"""A database that goes away while the gateway runs, and comes back."""

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from fastapi_server.gateway.front.keys import KeyGrant
from tests.test_gateway.conftest import WEATHER
from tests.test_gateway.gateways import Served, gateway

SOON = 20


class Relay:
    """Stands between the gateway and its database; cut, there is nobody at its port."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self._database = (host, port)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def connect(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(*self._database)
        self._open |= {writer, there[1]}
        await asyncio.gather(_pass(reader, there[1]), _pass(there[0], writer))
        self._open -= {writer, there[1]}


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def behind_relay(folder: Path, postgresql: str, **given: Any) -> AsyncGenerator[tuple[Served, Relay]]:
    url = make_url(postgresql)
    relay = Relay(url.host or "", url.port or 0)
    await relay.connect()
    config = folder / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"weather": WEATHER}}))
    database = url.set(host="127.0.0.1", port=relay.port).render_as_string()
    try:
        async with gateway(folder, database=database, config=config, patience=20, **given) as served:
            yield served, relay
    finally:
        await relay.cut()


async def test_calls_go_on_while_the_database_is_away_and_are_written_when_it_is_back(
    tmp_path: Path, postgresql: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = secrets.token_hex(6)
    async with behind_relay(tmp_path, postgresql) as (served, relay):

        async def ask(method: str, path: str, body: Any = None, *, key: str = "") -> tuple[int, Any]:
            answer = await served.request(method, path, json=body, headers={"x-api-key": key or ours})
            return answer.status, await answer.json(content_type=None)

        ours, _ = await served.app.state.key_ring.make(KeyGrant(name, admin=True))
        other, _ = await served.app.state.key_ring.make(KeyGrant(name))
        call = ("POST", "/api/tools/weather__forecast/call", {"arguments": {"city": "Oslo"}})
        assert (await ask(*call))[0] == 200
        await relay.cut()
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert (await ask(*call))[0] == 200
                await asyncio.sleep(1.1)  # longer than a key is remembered, and than the log waits
        assert caplog.text.count("audit log cannot be written") == 1
        assert "Traceback" not in caplog.text
        for status, problem in (
            await ask(*call, key=other),
            await ask("GET", "/api/audit"),
            await ask("GET", "/api/keys"),
            await ask("POST", "/api/servers", {"name": "new", "entry": WEATHER}),
        ):
            assert status == 503
            assert problem["detail"].startswith("the database does not answer")
        await relay.connect()
        async with asyncio.timeout(SOON):
            while True:
                status, page = await ask("GET", f"/api/audit?caller={name}")
                if status == 200 and len(page["entries"]) >= 4:
                    break
                await asyncio.sleep(0.1)
        assert {(one["target"], one["outcome"]) for one in page["entries"]} == {("forecast", "ok")}
        assert (await ask(*call, key=other))[0] == 200
        scraped = await served.get("/metrics", headers={"x-api-key": ours})
        assert "mcp_gateway_audit_lost 0.0" in await scraped.text()


async def test_a_changed_file_is_served_while_the_database_is_away(tmp_path: Path, postgresql: str) -> None:
    async with behind_relay(tmp_path, postgresql) as (served, relay):
        await relay.cut()
        (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"changed": WEATHER}}))
        async with asyncio.timeout(SOON):
            while "changed" not in served.app.state.gateway.pool.servers:
                await asyncio.sleep(0.05)


async def test_the_gateway_ends_while_the_database_is_away_and_says_what_is_lost(
    tmp_path: Path, postgresql: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with behind_relay(tmp_path, postgresql) as (served, relay):
            await relay.cut()
            await served.request("POST", "/api/tools/weather__forecast/call", json={"arguments": {"city": "Oslo"}})
    assert "1 entries of the audit log are lost" in caplog.text
