"""Changes reach whoever listens, in both eras; and no server holds up what the others list."""

import json
import sys
from typing import Any

import pytest

from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.directory import Kind, ListChange
from fastapi_server.mcp import Change, Handlers, MCPClientError, Subscription, ToolRules
from tests.test_gateway.endpoint.conftest import EVERYTHING, HANDSHAKE, StartGateway
from tests.test_gateway.endpoint.test_matrix import STATELESS, both_eras, client_of, every_upstream, person, text_of

NEVER_ANSWERS = {"command": sys.executable, "args": ["-c", "import sys; sys.stdin.read()"]}
NOT_THERE = {"url": "http://127.0.0.1:9/mcp"}


async def heard(changes: Subscription, wanted: Change) -> None:
    """Wait until it comes."""
    async for change in changes:
        if change == wanted:
            return
    raise AssertionError(f"the stream has ended without {wanted}")


@both_eras
@every_upstream
async def test_a_list_that_changes_is_told_and_is_the_new_one(
    gateway: StartGateway, upstreams: dict[str, Any], era: str, behind: str
) -> None:
    async with gateway({behind: upstreams[behind]}) as running, client_of(running, era) as client:
        before = {tool.name for tool in await client.list_tools()}
        async with await client.listen(tools=True) as changes:
            for _ in range(2):  # there, and away again
                await client.call_tool(f"{behind}__test_trigger_tool_change")
                after = before
                while after == before:  # that the gateway has heard of the server at all may be told late
                    await heard(changes, Change("tools"))
                    after = {tool.name for tool in await client.list_tools()}
                assert before ^ after == {f"{behind}__late"}
                before = after


@both_eras
async def test_servers_that_come_and_go_are_told(gateway: StartGateway, upstreams: dict[str, Any], era: str) -> None:
    async with gateway({"stdio": upstreams["stdio"], "http": upstreams["http"]}) as running:
        pool = running.gateway.pool
        both = {name: pool.config_of(name) for name in pool.servers}
        stdio = {"stdio": both["stdio"]}
        async with client_of(running, era) as client, await client.listen(tools=True, prompts=True) as changes:
            assert any(tool.name.startswith("http__") for tool in await client.list_tools())
            await running.gateway.reload(stdio)  # pyright: ignore[reportArgumentType]
            await heard(changes, Change("tools"))
            assert {tool.name.partition("__")[0] for tool in await client.list_tools()} == {"stdio"}
            with pytest.raises(MCPClientError, match="there is no"):
                await client.call_tool("http__echo", {"text": "gone"})
            await running.gateway.reload(both)  # pyright: ignore[reportArgumentType]
            await heard(changes, Change("tools"))
            assert {tool.name.partition("__")[0] for tool in await client.list_tools()} == {"stdio", "http"}


@both_eras
@every_upstream
async def test_resources_are_subscribed_to_under_the_names_of_here(
    gateway: StartGateway, upstreams: dict[str, Any], era: str, behind: str
) -> None:
    theirs = "test://watched-resource"
    ours = f"mcp://{behind}/{theirs}"
    async with gateway({behind: upstreams[behind]}) as running, client_of(running, era) as client:
        assert ours in {resource.uri for resource in await client.list_resources()}
        async with await client.subscribe(ours) as changes:
            await client.call_tool(f"{behind}__touch", {"uri": "test://static-text"})
            await client.call_tool(f"{behind}__touch", {"uri": theirs})
            await heard(changes, Change("resource", ours))
        async with await client.subscribe(ours) as changes:  # again, after it was ended
            await client.call_tool(f"{behind}__touch", {"uri": theirs})
            await heard(changes, Change("resource", ours))


@both_eras
async def test_a_subscription_outlives_the_configuration_of_its_server(
    gateway: StartGateway, upstreams: dict[str, Any], era: str
) -> None:
    ours = "mcp://http/test://watched-resource"
    async with gateway({"http": upstreams["http"]}) as running, client_of(running, era) as client:
        pool = running.gateway.pool
        servers = {name: pool.config_of(name) for name in pool.servers}
        async with await client.subscribe(ours) as changes:
            await running.gateway.reload({})
            await running.gateway.reload(servers)  # pyright: ignore[reportArgumentType]
            await heard(changes, Change("resource", ours))


async def test_two_streams_of_a_caller_are_each_told_once(gateway: StartGateway, upstreams: dict[str, Any]) -> None:
    ours = "mcp://http/test://watched-resource"
    told: list[str] = []
    handlers = Handlers(resource_updated=lambda _context, uri: told.append(uri))
    async with (
        gateway({"http": upstreams["http"]}) as running,
        client_of(running, STATELESS, handlers) as client,
        await client.subscribe(ours) as first,
        await client.subscribe(ours) as second,
    ):
        for _ in range(2):
            await client.call_tool("http__touch", {"uri": "test://watched-resource"})
            await heard(first, Change("resource", ours))
            await heard(second, Change("resource", ours))

    assert told == [ours] * 4


async def test_what_nobody_can_subscribe_to_is_not_agreed_to(gateway: StartGateway, upstreams: dict[str, Any]) -> None:
    servers = {"http": upstreams["http"], "dead": NOT_THERE}
    async with gateway(servers) as running, client_of(running, STATELESS) as client:
        uris = ["mcp://http/test://watched-resource", "mcp://dead/test://x", "mcp://missing/test://x", "test://x"]
        async with await client.listen(tools=True, uris=uris) as changes:
            agreed = changes.honoured

    assert agreed == {"toolsListChanged": True, "resourceSubscriptions": uris[:1]}


@both_eras
async def test_nobody_waits_for_the_slow_and_the_dead(
    gateway: StartGateway, upstreams: dict[str, Any], era: str
) -> None:
    servers = {"mute": NEVER_ANSWERS, "dead": NOT_THERE, "stdio": upstreams["stdio"]}
    async with gateway(servers, patience=0) as running:
        async with client_of(running, era) as client:
            await running.gateway.directory.refresh("stdio")
            tools = {tool.name for tool in await client.list_tools()}
            assert "stdio__echo" in tools
            assert text_of(await client.call_tool("stdio__echo", {"text": "quick"})) == "quick"
            with pytest.raises(MCPClientError):
                await client.call_tool("dead__echo", {"text": "?"})
        listing = await running.gateway.directory.refresh("dead")
        assert listing.error is not None


@both_eras
@pytest.mark.parametrize("answers", [False, True], ids=["quiet", "answering"])
async def test_a_killed_server_heals_and_its_list_is_fresh(gateway: StartGateway, era: str, answers: bool) -> None:
    command, *args = [*EVERYTHING, "stdio"]
    servers = {"stdio": {"command": command, "args": args}}
    handlers = person() if answers else None
    async with gateway(servers) as running, client_of(running, era, handlers) as client:
        await client.list_tools()
        async with await client.listen(tools=True) as changes:
            quiet = running.gateway.pool.client("stdio")
            await quiet.call_tool("test_trigger_tool_change")
            await heard(changes, Change("tools"))
            assert "stdio__late" in {tool.name for tool in await client.list_tools()}
            with pytest.raises(MCPClientError):
                await client.call_tool("stdio__die")
            with pytest.raises(MCPClientError):
                await quiet.call_tool("die")
            assert text_of(await client.call_tool("stdio__echo", {"text": "back"})) == "back"
            await quiet.initialize()
            await heard(changes, Change("tools"))
            assert "stdio__late" not in {tool.name for tool in await client.list_tools()}


@both_eras
async def test_everybody_sees_and_does_what_they_may(
    gateway: StartGateway, upstreams: dict[str, Any], era: str
) -> None:
    callers = {
        "one": Caller("one", "p-1", servers=["st*"], tools=ToolRules(deny=["*__die"])),
        "two": Caller("two", "p-2", servers=["http"], tools=ToolRules(allow=["http__echo"])),
    }
    servers = {"stateless": upstreams["stateless"], "http": upstreams["http"]}
    async with gateway(servers, callers=callers) as running:
        one = client_of(running, era, headers={"X-Caller": "one"})
        two = client_of(running, era, headers={"X-Caller": "two"})
        async with one as first, two as second:
            names = {tool.name for tool in await first.list_tools()}
            assert "stateless__echo" in names
            assert "stateless__die" not in names
            assert {tool.name for tool in await second.list_tools()} == {"http__echo"}
            assert {resource.uri[:10] for resource in await first.list_resources()} == {"mcp://stat"}
            assert {prompt.name[:6] for prompt in await second.list_prompts()} == {"http__"}
            for client, forbidden in ((first, "stateless__die"), (first, "http__echo"), (second, "http__ask")):
                with pytest.raises(MCPClientError, match="there is no"):
                    await client.call_tool(forbidden)
            with pytest.raises(MCPClientError, match="there is no"):
                await second.read_resource("mcp://stateless/test://static-text")
            with pytest.raises(MCPClientError, match="there is no"):
                await second.get_prompt("stateless__test_simple_prompt")
            async with await second.listen(tools=True, resources=True) as changes:
                others: list[tuple[str, Kind, str]] = [("stateless", "tools", "p-2"), ("http", "tools", "p-1")]
                for server, kind, principal in others:
                    running.gateway.directory._tell(ListChange(server, kind, principal))  # not for the second
                running.gateway.directory._tell(ListChange("http", "resources", "p-2"))
                assert await anext(changes) == Change("resources")


@both_eras
async def test_nobody_is_told_of_tools_that_they_do_not_see(
    gateway: StartGateway, upstreams: dict[str, Any], era: str
) -> None:
    callers = {"some": Caller("some", "p", tools=ToolRules(deny=["*__late"])), "all": Caller("all", "p")}
    async with (
        gateway({"stdio": upstreams["stdio"]}, callers=callers) as running,
        client_of(running, era, headers={"X-Caller": "some"}) as some,
        client_of(running, era, headers={"X-Caller": "all"}) as everything,
    ):
        await some.list_tools()
        async with (
            await some.listen(tools=True, prompts=True) as few_changes,
            await everything.listen(tools=True) as changes,
        ):
            await everything.call_tool("stdio__test_trigger_tool_change")
            await heard(changes, Change("tools"))
            await everything.call_tool("stdio__test_trigger_prompt_change")
            assert await anext(few_changes) == Change("prompts")


async def test_one_server_by_its_own_names(gateway: StartGateway, upstreams: dict[str, Any]) -> None:
    async with gateway({"http": upstreams["http"]}) as running:
        async with client_of(running, STATELESS, path="/http") as client:
            assert "echo" in {tool.name for tool in await client.list_tools()}
            assert text_of(await client.call_tool("echo", {"text": "plain"})) == "plain"
            assert "test://static-text" in {resource.uri for resource in await client.list_resources()}
            read = await client.read_resource("test://static-text")
            assert read.contents[0].uri == "test://static-text"
        with pytest.raises(MCPClientError):
            async with client_of(running, HANDSHAKE, path="/missing"):
                pass


async def test_what_results_link_to_leads_back(gateway: StartGateway, upstreams: dict[str, Any]) -> None:
    async with gateway({"http": upstreams["http"]}) as running, client_of(running, STATELESS) as client:
        link = (await client.call_tool("http__link")).content[0]
        assert link.type == "resource_link"
        read = await client.read_resource(link.uri)
        embedded = (await client.call_tool("http__test_embedded_resource")).content[0]
        assert embedded.type == "resource"
        again = await client.read_resource(embedded.resource.uri)
        asked = {"resourceUri": "test://static-text"}
        prompt = await client.get_prompt("http__test_prompt_with_embedded_resource", asked)
        templates = [template.uri_template for template in await client.list_resource_templates()]
        filled = await client.read_resource(templates[0].replace("{id}", "7"))

    assert link.uri == read.contents[0].uri == "mcp://http/test://static-text"
    assert again.contents[0].uri == "mcp://http/test://embedded-resource"
    assert prompt.messages[0].content.type == "resource"
    assert prompt.messages[0].content.resource.uri == "mcp://http/test://static-text"
    assert json.loads(filled.contents[0].text)["id"] == "7"  # pyright: ignore[reportAttributeAccessIssue]


@both_eras
@every_upstream
async def test_prompts_and_completion(gateway: StartGateway, upstreams: dict[str, Any], era: str, behind: str) -> None:
    from mcp_types import PromptReference, ResourceTemplateReference

    async with gateway({behind: upstreams[behind]}) as running, client_of(running, era, person()) as client:
        plain = await client.get_prompt(f"{behind}__test_prompt_with_arguments", {"arg1": "a", "arg2": "b"})
        prompt = PromptReference(name=f"{behind}__test_simple_prompt")
        suggested = await client.complete(prompt, "city", "p", context={"country": "fr"})
        template = ResourceTemplateReference(uri=f"mcp://{behind}/test://template/{{id}}/data")
        numbers = await client.complete(template, "id", "1")
        asked = await client.get_prompt(f"{behind}__test_input_required_result_prompt")

    assert plain.messages[0].content.type == "text"
    assert "arg1='a', arg2='b'" in plain.messages[0].content.text
    assert suggested.values == ["paris", "perth", "fr"]
    assert numbers.values == ["1aris", "1erth"]
    assert asked.messages[0].content.type == "text"
    assert "Ada" in asked.messages[0].content.text
