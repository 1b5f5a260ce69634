"""Names lead back to the one server that they are of, whatever the servers call themselves and their things."""

import sys
from pathlib import Path
from typing import Any

import pytest
from mcp_types import TextResourceContents

from fastapi_server.mcp import Change, MCPClientError
from tests.servers import named
from tests.test_gateway.endpoint.conftest import HANDSHAKE, StartGateway
from tests.test_gateway.endpoint.test_changes import heard
from tests.test_gateway.endpoint.test_matrix import STATELESS, both_eras, client_of, text_of

LONG = "long_" * 40
TOOLS = ["c", "b__c", "_c", "__c", "über straße", "日本", "a.b-c/d", LONG]


def server(*names: str) -> dict[str, Any]:
    """One with tools, prompts and resources of these names, which say so."""
    return {"command": sys.executable, "args": ["-S", str(Path(named.__file__)), *names]}


@both_eras
async def test_whatever_they_are_called(gateway: StartGateway, era: str) -> None:
    servers = {"a": server(*TOOLS), "wörld 1": server(*TOOLS)}
    async with gateway(servers) as running, client_of(running, era) as client:
        tools = [tool.name for tool in await client.list_tools()]
        prompts = [prompt.name for prompt in await client.list_prompts()]
        said = [text_of(await client.call_tool(tool)) for tool in tools]
        got = [(await client.get_prompt(prompt)).messages[0].content for prompt in prompts]

    assert tools == prompts == [f"{name}__{tool}" for name in servers for tool in TOOLS]
    assert said == [f"tool {tool}" for _ in servers for tool in TOOLS]
    assert [content.text for content in got if content.type == "text"] == [f"prompt {tool}" for tool in TOOLS] * 2


@both_eras
async def test_a_server_whose_names_would_be_those_of_another_is_not_there(gateway: StartGateway, era: str) -> None:
    async with gateway({"a": server("b__c"), "a__b": server("c"), "a_": server("_c")}) as running:
        async with client_of(running, era) as client:
            assert [tool.name for tool in await client.list_tools()] == ["a__b__c"]
            assert text_of(await client.call_tool("a__b__c")) == "tool b__c"
            assert [prompt.name for prompt in await client.list_prompts()] == ["a__b__c"]
            assert {resource.uri for resource in await client.list_resources()} == {"mcp://a/named://b__c"}
        for hidden in ("a__b", "a_"):
            with pytest.raises(MCPClientError):
                async with client_of(running, HANDSHAKE, path=f"/{hidden}"):
                    pass


@both_eras
async def test_the_same_uri_of_two_servers(gateway: StartGateway, era: str) -> None:
    servers = {"a": server("same", "a"), "wörld 1": server("same", "b")}
    async with gateway(servers) as running, client_of(running, era) as client:
        uris = [resource.uri for resource in await client.list_resources()]
        reads = [(await client.read_resource(uri)).contents[0] for uri in uris]
        templates = [template.uri_template for template in await client.list_resource_templates()]
        filled = [(await client.read_resource(template.replace("{x}", "7"))).contents[0] for template in templates]

    second = "mcp://w%C3%B6rld%201/named://"
    assert uris == ["mcp://a/named://same", "mcp://a/named://a", f"{second}same", f"{second}b"]
    assert [read.uri for read in reads] == uris
    texts = [read.text for read in (*reads, *filled) if isinstance(read, TextResourceContents)]
    assert texts == ["same of a", "a of a", "same of b", "b of b", "t/7 of a", "t/7 of b"]
    assert templates == ["mcp://a/named://t/{x}", f"{second}t/{{x}}"]


@both_eras
async def test_a_subscription_is_to_one_server_and_ends_with_its_last_subscriber(
    gateway: StartGateway, upstreams: dict[str, Any], era: str
) -> None:
    uri = "test://watched-resource"
    servers = {"http": upstreams["http"], "stdio": upstreams["stdio"]}
    async with gateway(servers) as running, running.gateway.events.watch() as events:
        async with client_of(running, era) as one, client_of(running, era) as two:
            both = {f"mcp://{name}/{uri}" for name in servers}
            async with await one.listen(uris=both) as first, await two.listen(uris=both) as second:
                await one.call_tool("stdio__touch", {"uri": uri})
                await heard(first, Change("resource", f"mcp://stdio/{uri}"))
                await heard(second, Change("resource", f"mcp://stdio/{uri}"))
                await one.call_tool("http__touch", {"uri": uri})
                assert await anext(first) == await anext(second) == Change("resource", f"mcp://http/{uri}")
                await second.close()
                await one.call_tool("http__touch", {"uri": uri})
                assert await anext(first) == Change("resource", f"mcp://http/{uri}")
        left: set[str] = set()
        async for event in events:
            if event.data.get("method") == "resources/unsubscribe":
                left.add(event.server)
            if left == set(servers):
                break


@pytest.mark.parametrize("path", ["", "/http"])
async def test_what_is_said_of_a_uri_that_leads_nowhere(
    gateway: StartGateway, upstreams: dict[str, Any], path: str
) -> None:
    async with gateway({"http": upstreams["http"]}) as running, client_of(running, STATELESS, path=path) as client:
        for uri in ("mcp://other/test://static-text", "mcp://http/", "elsewhere://x"):
            with pytest.raises(MCPClientError):
                await client.read_resource(uri)


async def test_a_name_of_any_length_that_does_not_exist_is_not_repeated_whole(gateway: StartGateway) -> None:
    long = "x" * 100_000
    async with gateway({"a": server("b")}) as running, client_of(running, HANDSHAKE) as client:
        for asking in (
            client.call_tool(f"no__{long}"),
            client.get_prompt(f"no__{long}"),
            client.read_resource(long),
            client.read_resource(f"mcp://no/{long}"),
        ):
            with pytest.raises(MCPClientError, match=r"there is no .*x…") as refused:
                await asking
            assert len(str(refused.value)) < 1_000
