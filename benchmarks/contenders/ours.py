"""This library."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from mcp_types import CallToolResult, TextContent

from benchmarks.stub import Server
from fastapi_server.mcp import (
    Hooks,
    HTTPConfig,
    HTTPMCPClient,
    MCPClient,
    SSEConfig,
    SSEMCPClient,
    StdioConfig,
    StdioMCPClient,
)

IMPORTS = {
    "package": "import fastapi_server.mcp",
    "stdio": "from fastapi_server.mcp import StdioConfig, StdioMCPClient",
    "json": "from fastapi_server.mcp import HTTPConfig, HTTPMCPClient",
}
DISTRIBUTIONS = ("mcp-client-factory", "aiohttp", "msgspec")


class Ours:
    """A session of our client."""

    def __init__(self, client: MCPClient) -> None:
        self.client = client
        self._told = 0

    async def echo(self, text: str) -> str:
        return text_of(await self.client.call_tool("echo", {"text": text}))

    async def weather(self, city: str) -> Any:
        return (await self.client.call_tool("weather", {"city": city})).structured_content

    async def large(self, size: int) -> str:
        return text_of(await self.client.call_tool("large", {"bytes": size}))

    async def tools(self) -> int:
        return len(await self.client.list_tools())

    async def progress(self, count: int) -> int:
        self._told = 0
        await self.client.call_tool("progress", {"count": count}, progress=self._tell)
        return self._told

    def _tell(self, _progress: float, _total: float | None, _message: str | None) -> None:
        self._told += 1


def text_of(result: CallToolResult) -> str:
    """The text of a result that is one."""
    content = result.content[0]
    assert isinstance(content, TextContent)
    return content.text


def client_of(server: Server, hooks: Hooks | None = None, **settings: Any) -> MCPClient:
    """A client that is not connected; `settings` are fields of its configuration."""
    given = {name: value for name, value in settings.items() if value is not None}
    match server.transport:
        case "stdio":
            command, *args = server.command
            return StdioMCPClient("stub", StdioConfig(command=command, args=args, **given), hooks=hooks)
        case "sse":
            return SSEMCPClient("stub", SSEConfig(endpoint=server.url, **given), hooks=hooks)
        case _:
            return HTTPMCPClient("stub", HTTPConfig(endpoint=server.url, **given), hooks=hooks)


@contextlib.asynccontextmanager
async def opened(server: Server) -> AsyncGenerator[Ours]:
    async with client_of(server) as client:
        yield Ours(client)
