"""The connections of callers who answer questions change with their servers."""

import asyncio

import pytest

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
