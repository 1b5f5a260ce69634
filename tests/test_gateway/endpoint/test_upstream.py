"""The connections of callers who answer questions change with their servers."""

import asyncio
import gc
import weakref
from dataclasses import replace

import pytest

from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.endpoint import upstream
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.mcp import ConnectionState, MCPClientError, ServerConfig, StdioConfig
from tests.test_gateway.endpoint.conftest import HANDSHAKE, StartGateway
from tests.test_gateway.endpoint.test_errors import troubled
from tests.test_gateway.endpoint.test_matrix import STATELESS, client_of, person, text_of


async def connecting(running: Gateway) -> None:
    """Wait until somebody who answers questions is about to be connected."""
    async with asyncio.timeout(10):
        while not any(
            member.key.session and member.client.state is ConnectionState.CONNECTING
            for member in running.pool.members()
        ):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("era", [HANDSHAKE, STATELESS])
@pytest.mark.parametrize("stays", [True, False])
async def test_a_server_that_changes_while_it_connects(gateway: StartGateway, era: str, stays: bool) -> None:
    async with (
        gateway({"troubled": troubled("--silent", "initialize")}, patience=0.1) as running,
        client_of(running, era, person()) as client,
    ):
        call = asyncio.create_task(client.call_tool("troubled__life-1"))
        await connecting(running.gateway)
        now = troubled()
        config = ServerConfig("troubled", "stdio", StdioConfig(command=now["command"], args=now["args"]))
        await running.gateway.reload({"troubled": config} if stays else {})
        if stays:
            assert text_of(await call) == "life 1"
        else:
            with pytest.raises(MCPClientError, match="closed while connecting"):
                await call


@pytest.mark.parametrize("leaves", ["server", "callers"])
async def test_what_the_pool_has_closed_is_forgotten(
    gateway: StartGateway, monkeypatch: pytest.MonkeyPatch, leaves: str
) -> None:
    monkeypatch.setattr(upstream, "_TIDY_SECONDS", 0.0)
    names = [f"caller-{number}" for number in range(3)]
    callers = {name: Caller(name, name) for name in [*names, "last"]}
    async with gateway({"left": troubled(), "stays": troubled()}, callers=callers) as running:
        pool = running.gateway.pool

        async def call(name: str, tool: str) -> str:
            async with client_of(running, HANDSHAKE, person(), headers={"X-Caller": name}) as client:
                return text_of(await client.call_tool(tool))

        for name in names:
            await call(name, "left__life-1")
        seated = [weakref.ref(member.client) for member in pool.members() if member.key.session]
        assert len(seated) == 3
        if leaves == "server":
            stays = pool.config_of("stays")
            assert stays is not None
            await running.gateway.reload({"stays": stays})
            await asyncio.gather(*(task for task in pool._leaving.values() if task is not None))
        else:
            pool._supervisor._limits = replace(pool.limits, idle_seconds=0)
            await pool.supervise_once()
            pool._supervisor._limits = pool.limits
        for _ in range(2):
            assert await call("last", "stays__life-1") == "life 1"
        gc.collect()
        assert [client() for client in seated] == [None, None, None]
        assert sum(member.principal == "last" and bool(member.key.session) for member in pool.members()) == 1
