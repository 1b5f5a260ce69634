"""What clients of servers reached by URL share."""

from functools import cached_property

import aiohttp

from fastapi_server.mcp.clients.base_client import MCPClient


class RemoteMCPClient(MCPClient):
    """A client with cookies of its own, which outlive its channels: a load balancer finds its way back by them."""

    @cached_property
    def cookies(self) -> aiohttp.CookieJar:
        """The jar; `unsafe` lets a server at an IP address have cookies, too."""
        return aiohttp.CookieJar(unsafe=True)
