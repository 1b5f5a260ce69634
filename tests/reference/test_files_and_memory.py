"""npm's `server-filesystem` and `server-memory`, over stdio."""

import asyncio
import json
from pathlib import Path

import pytest
from mcp_types import TextResourceContents
from pydantic import FileUrl

from fastapi_server.mcp import Change, Handlers, MCPClient, Root, StdioMCPClient
from tests.reference.servers import node_server, text_of

GRAPH = "memory://knowledge-graph"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Under the name that the server gives it."""
    return tmp_path.resolve()


def files_in(directory: Path, handlers: Handlers | None = None) -> MCPClient:
    node, script = node_server("server-filesystem")
    settings = {"command": node, "args": [script, str(directory)], "output_validation": "strict"}
    return StdioMCPClient("files", settings, handlers=handlers)


def memory_in(path: Path) -> MCPClient:
    node, script = node_server("server-memory")
    settings = {"command": node, "args": [script], "env": {"MEMORY_FILE_PATH": str(path)}}
    return StdioMCPClient("memory", {**settings, "output_validation": "strict"})


async def test_a_file_is_written_read_changed_and_moved(directory: Path) -> None:
    path, moved = directory / "poem.txt", directory / "moved.txt"
    async with files_in(directory) as client:
        assert {"write_file", "read_text_file"} <= {tool.name for tool in await client.list_tools()}
        await client.call_tool("write_file", {"path": str(path), "content": "Grüße\nzwei\n"})
        assert path.read_text(encoding="utf-8") == "Grüße\nzwei\n"

        edits = [{"oldText": "zwei", "newText": "drei"}]
        diff = await client.call_tool("edit_file", {"path": str(path), "edits": edits})
        assert "-zwei\n+drei\n" in text_of(diff)
        read = await client.call_tool("read_text_file", {"path": str(path)})
        assert text_of(read) == "Grüße\ndrei\n"
        assert read.structured_content == {"content": "Grüße\ndrei\n"}

        await client.call_tool("move_file", {"source": str(path), "destination": str(moved)})
        assert text_of(await client.call_tool("list_directory", {"path": str(directory)})) == "[FILE] moved.txt"


async def test_a_file_outside_is_refused_in_a_result(directory: Path) -> None:
    async with files_in(directory) as client:
        result = await client.call_tool("read_text_file", {"path": str(directory.parent / "elsewhere.txt")})

    assert result.is_error
    assert "Access denied" in text_of(result)


async def test_a_file_of_a_megabyte_comes_in_one_piece(directory: Path) -> None:
    text = "0123456789abcde\n" * 65_536
    (directory / "large.txt").write_text(text)
    async with files_in(directory) as client:
        assert text_of(await client.call_tool("read_text_file", {"path": str(directory / "large.txt")})) == text


async def test_the_roots_of_the_client_replace_the_directories_of_the_command_line(directory: Path) -> None:
    other = directory / "other"
    other.mkdir()
    handlers = Handlers(roots=[Root(uri=FileUrl(other.as_uri()))])
    async with files_in(directory, handlers) as client, asyncio.timeout(20):
        allowed = ""
        while allowed != f"Allowed directories:\n{other}":  # the server asks for the roots after the handshake
            allowed = text_of(await client.call_tool("list_allowed_directories"))


async def test_a_graph_is_created_read_and_kept(directory: Path) -> None:
    ada = {"name": "Ada", "entityType": "person", "observations": ["wrote notes"]}
    engine = {"name": "Engine", "entityType": "machine", "observations": []}
    programs = {"from": "Ada", "to": "Engine", "relationType": "programs"}
    graph = {"entities": [ada, engine], "relations": [programs]}
    path = directory / "graph.jsonl"

    async with memory_in(path) as client:
        assert "create_entities" in {tool.name for tool in await client.list_tools()}
        created = await client.call_tool("create_entities", {"entities": [ada, engine]})
        await client.call_tool("create_relations", {"relations": [programs]})
        found = await client.call_tool("open_nodes", {"names": ["Ada"]})
    async with memory_in(path) as client:  # another process
        kept = await client.call_tool("read_graph")
        (content,) = (await client.read_resource(GRAPH)).contents

    assert created.structured_content == {"entities": [ada, engine]}
    assert found.structured_content == {"entities": [ada], "relations": [programs]}
    assert kept.structured_content == graph
    assert isinstance(content, TextResourceContents)
    assert json.loads(content.text) == graph


async def test_a_subscriber_to_the_graph_is_told_of_each_change(directory: Path) -> None:
    client = memory_in(directory / "graph.jsonl")
    async with client, await client.subscribe(GRAPH) as changes, asyncio.timeout(20):
        for name in ("Ada", "Grace"):
            entity = {"name": name, "entityType": "person", "observations": []}
            await client.call_tool("create_entities", {"entities": [entity]})
            assert await anext(changes) == Change("resource", GRAPH)
