"""Whether a server that has refused nothing takes tokens at all: what it says of itself (RFC 9728)."""

from http import HTTPStatus

from mcp.client.auth.utils import build_protected_resource_metadata_discovery_urls
from mcp.shared.auth import ProtectedResourceMetadata
from pydantic import ValidationError

from fastapi_server.mcp.auth.backchannel import Backchannel
from fastapi_server.mcp.errors import Delivery, HTTPStatusError
from fastapi_server.mcp.retry_after import retry_after


async def names_authorization_server(server: str, channel: Backchannel) -> bool:
    """Whether a server's metadata is where it belongs (RFC 9728, 3.1) and names who issues tokens for it.

    Args:
        server: URL of the MCP server.
        channel: Open.

    Raises:
        MCPConnectionError: It cannot be reached, or fails in passing.
    """
    failure: HTTPStatusError | None = None
    for url in build_protected_resource_metadata_discovery_urls(None, server):
        reply = await channel.send("GET", url, {"Accept": "application/json"}, None)
        if reply.status == 200 and _is_metadata(reply.body):
            return True
        if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR or reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            failure = HTTPStatusError(
                f"whether the server takes tokens is unknown: its metadata (RFC 9728) answers with HTTP {reply.status}",
                status=reply.status,
                retry_after=retry_after(reply.headers),
                delivery=Delivery.NOT_SENT,
            )
    if failure is not None:
        raise failure
    return False


def _is_metadata(body: bytes) -> bool:
    try:
        return bool(ProtectedResourceMetadata.model_validate_json(body).authorization_servers)
    except ValidationError:
        return False
