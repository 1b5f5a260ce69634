"""Who issues tokens for a server: what it says of itself (RFC 9728) without having refused anything."""

from http import HTTPStatus

from mcp.client.auth.utils import build_protected_resource_metadata_discovery_urls
from mcp.shared.auth import ProtectedResourceMetadata
from pydantic import ValidationError

from fastapi_server.mcp.auth.backchannel import Backchannel
from fastapi_server.mcp.errors import Delivery, HTTPStatusError
from fastapi_server.mcp.retry_after import retry_after


async def authorization_servers(server: str, channel: Backchannel, found_at: str | None = None) -> list[str]:
    """Those that a server's metadata names; none where there is no metadata.

    Args:
        server: URL of the MCP server.
        channel: Open.
        found_at: Where its metadata was, before where it belongs (RFC 9728, 3.1).

    Raises:
        MCPConnectionError: It cannot be reached, or fails in passing.
    """
    failure: HTTPStatusError | None = None
    for url in build_protected_resource_metadata_discovery_urls(found_at, server):
        reply = await channel.send("GET", url, {"Accept": "application/json"}, None)
        named = _named_in(reply.body) if reply.status == 200 else []
        if named:
            return named
        if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR or reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            failure = HTTPStatusError(
                f"whether the server takes tokens is unknown: its metadata (RFC 9728) answers with HTTP {reply.status}",
                status=reply.status,
                retry_after=retry_after(reply.headers),
                delivery=Delivery.NOT_SENT,
            )
    if failure is not None:
        raise failure
    return []


def _named_in(body: bytes) -> list[str]:
    try:
        return [str(url) for url in ProtectedResourceMetadata.model_validate_json(body).authorization_servers]
    except ValidationError:
        return []
