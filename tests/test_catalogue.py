"""One list of tools over many servers."""

from collections.abc import Sequence

import pytest
from mcp_types import Tool

from fastapi_server.mcp.catalogue import catalogue_of, original_name, qualified, split
from fastapi_server.mcp.client_factory import make_client
from fastapi_server.mcp.config import ToolRules
from fastapi_server.mcp.errors import ConfigError, MCPClientError, MCPConnectionError
from fastapi_server.mcp.pool import ClientPool
from tests.test_pool import stdio


def tools(*names: str) -> Sequence[Tool]:
    return [Tool(name=name, input_schema={}) for name in names]


@pytest.mark.parametrize(("server", "tool"), [("files", "read"), ("my-files", "_read"), ("a_b", "c__d"), ("a", "___")])
def test_names_lead_back(server: str, tool: str) -> None:
    assert split(qualified(server, tool)) == (server, tool)


@pytest.mark.parametrize("server", ["a__b", "a_"])
def test_names_that_would_not_lead_back_are_refused(server: str) -> None:
    with pytest.raises(ConfigError, match="has no catalogue"):
        qualified(server, "read")
    assert isinstance(catalogue_of({server: tools("read")}, {}, ToolRules()).problems[server], ConfigError)


@pytest.mark.parametrize("name", ["read", "__read", "files__", ""])
def test_what_is_no_name_of_a_catalogue(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a catalogue"):
        split(name)


def test_problems_stand_beside_the_tools() -> None:
    listed: dict[str, Sequence[Tool] | MCPClientError] = {"a": tools("x"), "b": MCPConnectionError("away")}
    catalogue = catalogue_of(listed, {}, ToolRules())
    assert [tool.name for tool in catalogue.tools] == ["a__x"]
    assert catalogue.entries["a__x"].original == "x"
    assert str(catalogue.problems["b"]) == "away"


def test_allow_deny_rename_and_view() -> None:
    rules = {"a": ToolRules(allow=["read_*", "list"], deny=["read_secret"], rename={"list": "all"})}
    listed = {"a": tools("read_file", "read_secret", "write", "list")}
    assert list(catalogue_of(listed, rules, ToolRules()).entries) == ["a__read_file", "a__all"]
    assert list(catalogue_of(listed, rules, ToolRules(deny=["*_file"])).entries) == ["a__all"]
    assert original_name("all", rules["a"]) == "list"


def test_collisions_are_reported_and_the_renamed_tool_has_the_name() -> None:
    rules = {"a": ToolRules(rename={"y": "x"})}
    catalogue = catalogue_of({"a": tools("x", "y")}, rules, ToolRules())
    assert catalogue.collisions == ["a__x"]
    assert catalogue.entries["a__x"].original == "y"


async def test_a_pool_lists_and_calls_by_the_names_of_the_catalogue() -> None:
    rules = {"allow": ["echo", "structured"], "rename": {"echo": "say"}}
    servers = {**stdio("a", tools=rules), **stdio("b"), **stdio("gone", "--exit-at-start", "1")}
    async with ClientPool(servers, make_client) as pool:
        catalogue = await pool.tools()
        assert list(catalogue.entries)[:3] == ["a__say", "a__structured", "b__echo"]
        assert list(catalogue.problems) == ["gone"]
        answer = await pool.call("a__say", {"n": 1})
        assert getattr(answer.content[0], "text", "") == '{"n": 1}'
        for hidden in ("a__echo", "a__exit", "c__echo"):
            with pytest.raises(ConfigError, match="there is no tool"):
                await pool.call(hidden)
        view = ToolRules(allow=["b__*"])
        assert {entry.server for entry in (await pool.tools(view=view)).entries.values()} == {"b"}
        with pytest.raises(ConfigError):
            await pool.call("a__say", view=view)
        assert pool.metrics.created == 3  # the views share the connections
