"""What clients of servers reached by URL share."""

from functools import cached_property
from typing import Any

import aiohttp

from fastapi_server.mcp.auth.choose import authenticator_for
from fastapi_server.mcp.clients.base_client import MCPClient
from fastapi_server.mcp.clients.http_origin import Identity


class RemoteMCPClient(MCPClient):
    """A client with cookies and credentials of its own, which outlive its channels."""

    @cached_property
    def identity(self) -> Identity:
        """What the server knows this client by; `unsafe` lets a server at an IP address have cookies, too."""
        return Identity(aiohttp.CookieJar(unsafe=True), authenticator_for(self.config, self.principal))

    async def disconnect(self) -> None:
        """End the session and release everything; calls in flight fail at once. Safe in any state, and twice."""
        await super().disconnect()
        identity: Any = self.__dict__.get("identity")  # nothing to close where nothing was made
        if isinstance(identity, Identity) and identity.authenticator is not None:
            await identity.authenticator.close()
