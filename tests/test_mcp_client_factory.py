"""The factory, row by row of what was asked for."""

import asyncio
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastapi_server.mcp import (
    AutoMCPClient,
    Channel,
    ConfigError,
    ConnectionState,
    Handlers,
    HTTPConfig,
    HTTPMCPClient,
    MCPClient,
    MCPClientFactory,
    MCPConnectionError,
    ServerConfig,
    SSEConfig,
    SSEMCPClient,
    StdioConfig,
    StdioMCPClient,
    client_factory,
    testing,
)
from fastapi_server.mcp.client_factory import _TRANSPORTS

PEER = str(Path(testing.__file__).with_name("stdio_peer.py"))


def peer(name: str = "peer", *flags: str, **settings: Any) -> ServerConfig:
    config = StdioConfig(sys.executable, ["-S", PEER, *flags], shutdown_timeout=500, **settings)
    return ServerConfig(name, "stdio", config)


@pytest.mark.parametrize(
    ("transport", "config", "expected"),
    [
        ("stdio", {"command": "x"}, StdioMCPClient),
        ("STDIO", StdioConfig("x"), StdioMCPClient),
        ("Sse", {"endpoint": "http://h/sse"}, SSEMCPClient),
        ("sse", SSEConfig("http://h/sse"), SSEMCPClient),
        ("http", {"endpoint": "http://h/mcp"}, HTTPMCPClient),
        ("Streamable-HTTP", HTTPConfig("http://h/mcp"), HTTPMCPClient),
        ("auto", {"command": "x"}, StdioMCPClient),
        ("auto", {"endpoint": "http://h/mcp"}, AutoMCPClient),
        ("auto", StdioConfig("x"), StdioMCPClient),
        ("auto", SSEConfig("http://h/sse"), SSEMCPClient),
        ("auto", HTTPConfig("http://h/mcp"), AutoMCPClient),
    ],
)
def test_create_gives_the_client_of_the_transport(transport: str, config: object, expected: type[MCPClient]) -> None:
    client = MCPClientFactory.create(ServerConfig("a", transport, config))
    assert type(client) is expected
    assert client.state is ConnectionState.DISCONNECTED


def test_transport_may_be_left_out() -> None:
    assert isinstance(MCPClientFactory.create(ServerConfig("a", config={"command": "x"})), StdioMCPClient)


def test_an_unknown_transport_is_a_value_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown transport 'pigeon'; known are auto, http, sse, stdio"):
        MCPClientFactory.create(ServerConfig("a", "pigeon", {}))


async def test_two_creates_with_the_same_config_give_the_same_client_connected_or_not() -> None:
    first = MCPClientFactory.create(peer())
    assert MCPClientFactory.create(peer()) is first
    await first.connect()
    assert MCPClientFactory.create(peer()) is first
    assert await MCPClientFactory.create_and_connect(peer()) is first


async def test_the_same_name_with_another_config_is_an_error() -> None:
    MCPClientFactory.create(peer())
    with pytest.raises(ConfigError, match="another configuration"):
        MCPClientFactory.create(peer("peer", "--banner"))


async def test_reuse_existing_false_retires_the_old_client() -> None:
    old = await MCPClientFactory.create_and_connect(peer())
    new = MCPClientFactory.create(peer("peer", "--banner"), reuse_existing=False)
    assert new is not old
    assert MCPClientFactory.get_client("peer") is new
    async with asyncio.timeout(5):
        while old.state is not ConnectionState.DISCONNECTED:
            await asyncio.sleep(0.01)
    again = MCPClientFactory.create(peer("peer", "--banner"), reuse_existing=False)
    assert again is not new


def test_a_client_retired_outside_a_loop_is_closed_by_shutdown_all() -> None:
    async def connect() -> MCPClient:
        return await MCPClientFactory.create_and_connect(peer())

    with asyncio.Runner() as runner:
        old = runner.run(connect())
        MCPClientFactory.create(peer(), reuse_existing=False)
        assert old.state is ConnectionState.CONNECTED
        runner.run(MCPClientFactory.shutdown_all())
        assert old.state is ConnectionState.DISCONNECTED


async def test_create_and_connect_gives_a_connected_client() -> None:
    client = await MCPClientFactory.create_and_connect(peer())
    assert client.state is ConnectionState.CONNECTED


async def test_create_and_connect_raises_connection_error() -> None:
    config = ServerConfig("gone", "stdio", {"command": "no-such-program-anywhere"})
    with pytest.raises(ConnectionError, match="command not found") as caught:
        await MCPClientFactory.create_and_connect(config)
    assert isinstance(caught.value, MCPConnectionError)


async def test_create_and_connect_raises_connection_error_for_a_secret_that_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    settings = {"url": "http://127.0.0.1:9/mcp", "auth": {"type": "bearer", "token": {"env": "NO_SUCH_TOKEN"}}}
    with pytest.raises(ConnectionError, match="NO_SUCH_TOKEN") as failed:
        await MCPClientFactory.create_and_connect(ServerConfig("search", "http", settings))
    assert isinstance(failed.value.__cause__, ConfigError)
    assert str(failed.value).count("search") == 1


async def test_create_and_connect_raises_connection_error_for_a_timeout_too() -> None:
    arguments = ["-S", PEER, "--discover", "silent", "--initialize", "silent"]
    silent = StdioConfig(sys.executable, arguments, timeout=200, probe_timeout=50)
    client = MCPClientFactory.create(ServerConfig("silent", "stdio", silent))
    assert await client.connect(retry_count=1) is False
    assert isinstance(client.last_error, ConnectionError)


async def test_get_client_and_list_clients() -> None:
    assert MCPClientFactory.get_client("a") is None
    assert MCPClientFactory.list_clients() == []
    a, b = MCPClientFactory.create(peer("a")), MCPClientFactory.create(peer("b"))
    assert (MCPClientFactory.get_client("a"), MCPClientFactory.get_client("b")) == (a, b)
    assert MCPClientFactory.list_clients() == ["a", "b"]


async def test_shutdown_all_disconnects_every_client_at_once() -> None:
    configs = [peer(f"p{n}") for n in range(5)]
    clients = await asyncio.gather(*(MCPClientFactory.create_and_connect(config) for config in configs))
    await MCPClientFactory.shutdown_all()
    assert {client.state for client in clients} == {ConnectionState.DISCONNECTED}
    assert MCPClientFactory.list_clients() == []


async def test_clients_of_the_factory_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = dataclasses.replace(client_factory._KEEP_ALL, probe_seconds=0.05)
    monkeypatch.setattr(client_factory, "_KEEP_ALL", limits)
    monkeypatch.setattr(MCPClientFactory, "_unclaimed", [])
    client = await MCPClientFactory.create_and_connect(peer("peer", timeout=300))
    await client.call_tool("stop_reading")
    async with asyncio.timeout(5):
        while MCPClientFactory.pool().metrics.replaced == 0 or not await client.health_check():
            await asyncio.sleep(0.01)


async def test_a_client_does_not_outlive_shutdown_all() -> None:
    client = await MCPClientFactory.create_and_connect(peer())
    await MCPClientFactory.shutdown_all()
    assert await client.connect() is False
    assert await MCPClientFactory.create(peer()).connect() is True


async def test_handlers_are_given_when_a_client_is_made() -> None:
    handlers = Handlers(roots=[])
    client = await MCPClientFactory.create_and_connect(peer(), handlers=handlers)
    answer = await client.call_tool("ask", {"method": "roots/list"})
    assert getattr(answer.content[0], "text", "") == '{"result": {"roots": []}}'


class EchoClient(StdioMCPClient):
    """A transport of the user's own: all it says is how to connect."""

    transport = "echo"

    async def _establish_connection(self) -> Channel:  # type: ignore[override]
        return await super()._establish_connection()


@pytest.fixture
def own_transport() -> Iterator[None]:
    before = dict(_TRANSPORTS)
    MCPClientFactory.register_transport("Echo", EchoClient)
    yield
    _TRANSPORTS.clear()
    _TRANSPORTS.update(before)


async def test_register_transport(own_transport: None) -> None:
    config = StdioConfig(sys.executable, ["-S", PEER])
    client = await MCPClientFactory.create_and_connect(ServerConfig("mine", "ECHO", config))
    assert isinstance(client, EchoClient)
    assert await client.health_check()


async def test_what_is_no_configuration_is_refused() -> None:
    entry: Any = {"command": "python"}
    with pytest.raises(ConfigError, match="a ServerConfig is needed, not dict"):
        MCPClientFactory.create(entry)
