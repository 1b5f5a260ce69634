"""Whether a server that has refused nothing takes tokens at all: what it says of itself (RFC 9728)."""

from mcp.client.auth.utils import build_protected_resource_metadata_discovery_urls
from mcp.shared.auth import ProtectedResourceMetadata
from pydantic import ValidationError

from fastapi_server.mcp.auth.backchannel import Backchannel


async def names_authorization_server(server: str, channel: Backchannel) -> bool:
    """Whether a server's metadata is where it belongs (RFC 9728, 3.1) and names who issues tokens for it.

    Args:
        server: URL of the MCP server.
        channel: Open.

    Raises:
        MCPConnectionError: It cannot be reached.
    """
    for url in build_protected_resource_metadata_discovery_urls(None, server):
        reply = await channel.send("GET", url, {"Accept": "application/json"}, None)
        if reply.status == 200 and _is_metadata(reply.body):
            return True
    return False


def _is_metadata(body: bytes) -> bool:
    try:
        return bool(ProtectedResourceMetadata.model_validate_json(body).authorization_servers)
    except ValidationError:
        return False
