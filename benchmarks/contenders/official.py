"""The official SDK."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent

from benchmarks.stub import Server

IMPORTS = {
    "package": "import mcp",
    "stdio": "from mcp import Client, StdioServerParameters, stdio_client",
    "json": "from mcp import Client; from mcp.client.streamable_http import streamable_http_client",
}
DISTRIBUTIONS = ("mcp",)


class Official:
    """A session of the SDK's client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._told = 0

    async def echo(self, text: str) -> str:
        return await self._text("echo", {"text": text})

    async def weather(self, city: str) -> Any:
        return (await self._client.call_tool("weather", {"city": city})).structured_content

    async def large(self, size: int) -> str:
        return await self._text("large", {"bytes": size})

    async def tools(self) -> int:
        return len((await self._client.list_tools()).tools)

    async def progress(self, count: int) -> int:
        self._told = 0
        await self._client.call_tool("progress", {"count": count}, progress_callback=self._tell)
        return self._told

    async def _tell(self, progress: float, total: float | None, message: str | None) -> None:
        self._told += 1

    async def _text(self, tool: str, arguments: dict[str, Any]) -> str:
        content = (await self._client.call_tool(tool, arguments)).content[0]
        assert isinstance(content, TextContent)
        return content.text


def _client(server: Server) -> Client:
    match server.transport:
        case "stdio":
            command, *args = server.command
            return Client(stdio_client(StdioServerParameters(command=command, args=args)))
        case "sse":
            return Client(sse_client(server.url))
        case _:
            return Client(streamable_http_client(server.url, max_sse_event_size=None))  # by default 1 MB is too much


@contextlib.asynccontextmanager
async def opened(server: Server) -> AsyncGenerator[Official]:
    async with _client(server) as client:
        yield Official(client)
