"""PyPI's `mcp-server-git` and `mcp-server-time`, over stdio, in both eras."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastapi_server.mcp import EraName, MCPClient, MCPClientFactory, RPCError, ServerConfig
from tests.reference.servers import text_of

# What the configuration pins, and what is spoken then.
ERAS = pytest.mark.parametrize(
    ("pinned", "version", "era"),
    [
        (None, "2026-07-28", EraName.STATELESS),
        ("2026-07-28", "2026-07-28", EraName.STATELESS),
        ("2025-11-25", "2025-11-25", EraName.HANDSHAKE),
        ("2024-11-05", "2024-11-05", EraName.HANDSHAKE),
    ],
)


def client_of(module: str, *args: str, pinned: str | None = None) -> MCPClient:
    settings = {"command": sys.executable, "args": ["-m", module, *args], "protocol_version": pinned}
    return MCPClientFactory.create(ServerConfig(module, "auto", {**settings, "output_validation": "strict"}))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    path = tmp_path.resolve()
    for command in (["init"], ["config", "user.name", "Ada"], ["config", "user.email", "ada@example.org"]):
        subprocess.run([git, "-C", str(path), *command], check=True, capture_output=True)
    return path


@ERAS
async def test_a_time_is_converted(pinned: str | None, version: str, era: EraName) -> None:
    async with client_of("mcp_server_time", pinned=pinned) as client:
        info = await client.initialize()
        assert (info.name, info.protocol_version, info.era) == ("mcp-time", version, era)
        assert [tool.name for tool in await client.list_tools()] == ["get_current_time", "convert_time"]

        wanted = {"source_timezone": "Asia/Tokyo", "time": "12:00", "target_timezone": "Asia/Kathmandu"}
        converted = (await client.call_tool("convert_time", wanted)).structured_content
        assert converted is not None
        assert converted["time_difference"] == "-3.25h"
        assert converted["target"]["datetime"].endswith("T08:45:00+05:45")
        assert await client.health_check()


async def test_what_the_tool_refuses_is_a_result_and_an_unknown_tool_an_error() -> None:
    async with client_of("mcp_server_time") as client:
        refused = await client.call_tool("get_current_time", {"timezone": "Asia/Nowhere"})
        with pytest.raises(RPCError, match="Unknown tool: nobody") as raised:
            await client.call_tool("nobody")

    assert refused.is_error
    assert "Asia/Nowhere" in text_of(refused)
    assert raised.value.code == RPCError.INVALID_PARAMS


@ERAS
async def test_a_change_is_staged_committed_and_logged(
    repository: Path, pinned: str | None, version: str, era: EraName
) -> None:
    (repository / "poem.txt").write_text("one\n")

    async with client_of("mcp_server_git", "--repository", str(repository), pinned=pinned) as client:

        async def git(command: str, **arguments: object) -> str:
            result = await client.call_tool(f"git_{command}", {"repo_path": str(repository), **arguments})
            assert not result.is_error, result
            return text_of(result)

        info = await client.initialize()
        assert (info.name, info.protocol_version, info.era) == ("mcp-git", version, era)
        assert {"git_status", "git_commit", "git_log"} <= {tool.name for tool in await client.list_tools()}
        assert "Untracked files:" in await git("status")
        assert await git("add", files=["poem.txt"]) == "Files staged successfully"
        assert "+one" in await git("diff_staged")
        committed = await git("commit", message="The first line")
        log = await git("log", max_count=5)
        assert "nothing to commit" in await git("status")

    assert committed.rpartition(" ")[2] in log
    assert "Author: Ada" in log
    assert "Message: The first line" in log


async def test_git_refuses_another_repository(repository: Path) -> None:
    async with client_of("mcp_server_git", "--repository", str(repository)) as client:
        result = await client.call_tool("git_status", {"repo_path": str(repository.parent)})

    assert result.is_error
    assert "outside the allowed repository" in text_of(result)
