"""FastMCP."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import ClientTransport, SSETransport, StdioTransport, StreamableHttpTransport
from mcp_types import TextContent

from benchmarks.stub import Server

IMPORTS = {
    "package": "import fastmcp.client",
    "stdio": "from fastmcp import Client; from fastmcp.client.transports import StdioTransport",
    "json": "from fastmcp import Client; from fastmcp.client.transports import StreamableHttpTransport",
}
DISTRIBUTIONS = ("fastmcp",)


class FastMCP:
    """A session of FastMCP's client."""

    def __init__(self, client: Client[Any]) -> None:
        self._client = client
        self._told = 0

    async def echo(self, text: str) -> str:
        return await self._text("echo", {"text": text})

    async def weather(self, city: str) -> Any:
        return (await self._client.call_tool("weather", {"city": city})).structured_content

    async def large(self, size: int) -> str:
        return await self._text("large", {"bytes": size})

    async def tools(self) -> int:
        return len(await self._client.list_tools())

    async def progress(self, count: int) -> int:
        self._told = 0
        await self._client.call_tool("progress", {"count": count}, progress_handler=self._tell)
        return self._told

    async def _tell(self, progress: float, total: float | None, message: str | None) -> None:
        self._told += 1

    async def _text(self, tool: str, arguments: dict[str, Any]) -> str:
        content = (await self._client.call_tool(tool, arguments)).content[0]
        assert isinstance(content, TextContent)
        return content.text


def _transport(server: Server) -> ClientTransport:
    match server.transport:
        case "stdio":
            command, *args = server.command
            return StdioTransport(command, args, keep_alive=False)
        case "sse":
            return SSETransport(server.url)
        case _:
            return StreamableHttpTransport(server.url, max_sse_event_size=None)  # by default 1 MB is too much


@contextlib.asynccontextmanager
async def opened(server: Server) -> AsyncGenerator[FastMCP]:
    async with Client(_transport(server)) as client:
        yield FastMCP(client)
