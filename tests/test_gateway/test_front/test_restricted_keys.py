"""A key that is good for one server and some tools, at `/mcp`: what it does not open does not exist."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fastapi_server.gateway.front.keys import KeyGrant
from fastapi_server.mcp import HTTPConfig, HTTPMCPClient, MCPClientError, ToolRules
from tests.test_gateway.conftest import WEATHER
from tests.test_gateway.gateways import Served, gateway
from tests.test_gateway.test_watch import write

ANN = KeyGrant("ann", servers=["weather"], tools=ToolRules(allow=["weather__forecast"]))
REVISIONS = pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])


@asynccontextmanager
async def guarded(folder: Path) -> AsyncGenerator[tuple[Served, str]]:
    """A gateway that requires keys, and one of Ann's."""
    file = folder / "mcp.json"
    write(file, {"weather": WEATHER, "hidden": WEATHER})
    async with gateway(folder, config=file, require_key=True, patience=20) as served:
        key, _ = await served.app.state.key_ring.make(ANN)
        yield served, key


def client(served: Served, key: str, revision: str, path: str = "/mcp") -> HTTPMCPClient:
    return HTTPMCPClient("front", HTTPConfig(served.url + path, api_key=key, protocol_version=revision))


async def refusal(call: Awaitable[Any], name: str) -> tuple[type, str]:
    """What a caller is told, but for the name that they gave."""
    with pytest.raises(MCPClientError) as caught:
        await call
    return type(caught.value), caught.value.message.replace(name, "…")


@REVISIONS
async def test_lists_show_what_it_opens(tmp_path: Path, revision: str) -> None:
    async with guarded(tmp_path) as (served, key):
        async with client(served, key, revision) as front:
            assert [tool.name for tool in await front.list_tools()] == ["weather__forecast"]
            assert [one.name for one in await front.list_prompts()] == ["weather__packing"]
            assert [str(one.uri) for one in await front.list_resources()] == ["mcp://weather/weather://cities"]
        async with client(served, key, revision, "/mcp/weather") as front:
            assert [tool.name for tool in await front.list_tools()] == ["forecast"]
            result = await front.call_tool("forecast", {"city": "Oslo"})
            assert result.structured_content == {"city": "Oslo", "celsius": 7.0, "sky": "rain"}
        principals = {one.principal for one in served.app.state.gateway.pool.members() if one.client.metrics.tool_calls}
        assert len(principals) == 1
        assert None not in principals


@REVISIONS
@pytest.mark.parametrize(
    ("verb", "hidden", "unknown"),
    [
        (HTTPMCPClient.call_tool, "hidden__forecast", "nowhere__forecast"),
        (HTTPMCPClient.call_tool, "weather__survey", "weather__nothing"),
        (HTTPMCPClient.get_prompt, "hidden__packing", "nowhere__packing"),
        (HTTPMCPClient.read_resource, "mcp://hidden/weather://cities", "mcp://nowhere/weather://cities"),
    ],
)
async def test_what_is_hidden_is_refused_like_what_does_not_exist(
    tmp_path: Path, revision: str, verb: Callable[..., Awaitable[Any]], hidden: str, unknown: str
) -> None:
    async with guarded(tmp_path) as (served, key), client(served, key, revision) as front:
        assert await refusal(verb(front, hidden), hidden) == await refusal(verb(front, unknown), unknown)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_path_of_a_hidden_server_is_none(tmp_path: Path, method: str) -> None:
    async with guarded(tmp_path) as (served, key):
        answers = [
            await served.request(method, f"/mcp/{name}", headers={"authorization": f"Bearer {key}"})
            for name in ("hidden", "nowhere")
        ]
        assert [answer.status for answer in answers] == [404, 404]
        assert await answers[0].text() == await answers[1].text()
