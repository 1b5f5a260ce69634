"""The fake that we ship, so that nobody has to patch."""

import asyncio
from typing import Any

import pytest
from mcp_types import TextContent

from fastapi_server.mcp import (
    EraName,
    HandlerContext,
    Handlers,
    MCPConnectionError,
    MemoryMCPClient,
    RPCError,
)
from fastapi_server.mcp.demo.servers import weather_server


def answer(params: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": params["name"]}]}


async def later(params: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0)
    return answer(params)


async def test_a_script_answers_by_method() -> None:
    client = MemoryMCPClient("fake", {"tools/list": {"tools": []}, "tools/call": answer})
    async with client:
        assert await client.list_tools() == []
        assert (await client.call_tool("a")).content == [TextContent(type="text", text="a")]
        assert await client.health_check()
        with pytest.raises(RPCError, match="not in the script: prompts/list"):
            await client.list_prompts()
        sent = [message["method"] for message in client.scripted.sent]
    assert sent[:3] == ["server/discover", "initialize", "notifications/initialized"]
    assert sent[-1] == "prompts/list"


async def test_a_script_may_answer_later_and_raise() -> None:
    client = MemoryMCPClient("fake", {"tools/call": later, "resources/read": RPCError("gone", code=-32602)})
    async with client:
        results = await asyncio.gather(*(client.call_tool(str(n)) for n in range(5)))
        assert [getattr(result.content[0], "text", "") for result in results] == list("01234")
        with pytest.raises(RPCError, match="gone") as caught:
            await client.read_resource("x://1")
        assert caught.value.code == -32602


async def test_a_script_tells_and_breaks_off() -> None:
    told: list[str] = []

    def changed(_context: HandlerContext, kind: str) -> None:
        told.append(kind)

    script = {"tools/call": MCPConnectionError("pulled the plug")}
    client = MemoryMCPClient("fake", script, handlers=Handlers(list_changed=changed))
    async with client:
        client.scripted.tell("notifications/prompts/list_changed")
        assert told == ["prompts"]
        with pytest.raises(MCPConnectionError, match="pulled the plug"):
            await client.call_tool("a")
        await client.ping()
        client.scripted.break_off()
        await client.ping()
        assert client.metrics.reconnects == 2


async def test_a_script_has_no_channel_before_it_is_connected() -> None:
    with pytest.raises(TypeError):
        _ = MemoryMCPClient("fake", {}).scripted


async def test_a_server_object_of_the_official_sdk_runs_in_this_process() -> None:
    async with MemoryMCPClient("weather", weather_server("in-process")) as client:
        assert client.server_info is not None
        assert (client.server_info.name, client.server_info.era) == ("in-process", EraName.STATELESS)
        result = await client.call_tool("forecast", {"city": "Oslo"})
        assert result.structured_content == {"city": "Oslo", "celsius": 7.0, "sky": "rain"}
