"""Clients that nobody here wrote, in front: the official SDK's and fastmcp's."""

import asyncio
from typing import Any

import pytest
from mcp.client import Client, ClientRequestContext
from mcp_types import CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult, TextContent

from tests.test_gateway.endpoint.conftest import StartGateway
from tests.test_gateway.endpoint.test_matrix import STATELESS, every_upstream, said, text_of


async def _fill_in(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    return ElicitResult(action="accept", content={"name": params.message})


async def _sample(context: ClientRequestContext, params: CreateMessageRequestParams) -> CreateMessageResult:
    return CreateMessageResult(role="assistant", content=TextContent(text="sampled"), model="m")


@every_upstream
@pytest.mark.usefixtures("few_at_work")
@pytest.mark.parametrize("mode", ["legacy", STATELESS, "auto"])
async def test_the_official_client(gateway: StartGateway, upstreams: dict[str, Any], mode: str, behind: str) -> None:
    async with (
        gateway({behind: upstreams[behind]}) as running,
        Client(running.url, mode=mode, elicitation_callback=_fill_in, sampling_callback=_sample) as client,
    ):
        tools = (await client.list_tools()).tools
        answers = said(await client.call_tool(f"{behind}__ask", {"kinds": ["form", "sampling"], "about": "it"}))
        heard: list[float] = []

        async def told(progress: float, total: float | None, message: str | None) -> None:
            heard.append(progress)

        await client.call_tool(f"{behind}__test_tool_with_progress", progress_callback=told)
        read = await client.read_resource(f"mcp://{behind}/test://static-text")
        many = await asyncio.gather(
            *(client.call_tool(f"{behind}__echo", {"text": str(number)}) for number in range(20))
        )

    assert f"{behind}__echo" in {tool.name for tool in tools}
    assert answers["form"]["content"] == {"name": "About it?"}
    assert answers["sampling"]["content"]["text"] == "sampled"
    assert heard == [0, 50, 100]
    assert read.contents[0].uri == f"mcp://{behind}/test://static-text"
    assert [text_of(one) for one in many] == [str(number) for number in range(20)]


@every_upstream
async def test_the_fastmcp_client(gateway: StartGateway, upstreams: dict[str, Any], behind: str) -> None:
    fastmcp = pytest.importorskip("fastmcp", reason="of the group `bench`")

    async def fill_in(message: str, *_more: object) -> dict[str, str]:
        return {"name": message}

    async with (
        gateway({behind: upstreams[behind]}) as running,
        fastmcp.Client(running.url, elicitation_handler=fill_in) as client,
    ):
        tools = await client.list_tools()
        answers = said(await client.call_tool_mcp(f"{behind}__ask", {"kinds": ["form"], "about": "it"}))
        prompt = await client.get_prompt(f"{behind}__test_simple_prompt")

    assert f"{behind}__echo" in {tool.name for tool in tools}
    assert answers["form"]["content"] == {"name": "About it?"}
    assert prompt.messages
