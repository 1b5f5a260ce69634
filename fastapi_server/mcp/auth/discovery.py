"""Who issues tokens for a server: what it says of itself (RFC 9728)."""

from mcp.client.auth.utils import build_protected_resource_metadata_discovery_urls
from mcp.shared.auth import ProtectedResourceMetadata
from mcp.shared.auth_utils import check_resource_allowed, resource_url_from_server_url
from pydantic import ValidationError
from yarl import URL

from fastapi_server.mcp.auth.backchannel import Backchannel
from fastapi_server.mcp.auth.quoting import faulty_members, object_in
from fastapi_server.mcp.auth.reach import shown
from fastapi_server.mcp.errors import AuthenticationError, MCPConnectionError

_MEMBERS = frozenset({"resource", "authorization_servers"})


async def authorization_servers(server: str, channel: Backchannel, found_at: str | None = None) -> list[str]:
    """Those that a server's metadata names, without its having refused anything; none where there is no metadata.

    Args:
        server: URL of the MCP server.
        channel: Open.
        found_at: Where its metadata was, before where it belongs (RFC 9728, 3.1).

    Raises:
        AuthenticationError: The metadata is malformed, or of another resource.
        MCPConnectionError: It cannot be reached, or fails in passing.
    """
    failure: MCPConnectionError | None = None
    for url in build_protected_resource_metadata_discovery_urls(found_at, server):
        reply = await channel.send("GET", url, {"Accept": "application/json"}, None)
        failure = failure or reply.failure_in_passing(
            f"whether the server takes tokens is unknown: its metadata (RFC 9728) answers with HTTP {reply.status}"
        )
        try:
            found = metadata_in(url, reply.status, reply.body)
        except AuthenticationError as error:
            failure = failure or error
            continue
        if found is not None:
            _check_resource(url, found, server)
            return [str(one) for one in found.authorization_servers]
    if failure is not None:
        raise failure
    return []


def metadata_in(url: str, status: int, body: bytes) -> ProtectedResourceMetadata | None:
    """The metadata of a server, as an answer has it; `None` where that is about something else.

    Raises:
        AuthenticationError: It is malformed.
    """
    if status != 200 or not _MEMBERS & object_in(body).keys():
        return None
    try:
        return ProtectedResourceMetadata.model_validate_json(body)
    except ValidationError as error:
        raise AuthenticationError(
            f"the server's metadata (RFC 9728) at {shown(URL(url))} is malformed ({faulty_members(error)})"
        ) from None


def _check_resource(url: str, found: ProtectedResourceMetadata, server: str) -> None:
    """It must not be used where it is of another resource (RFC 9728, 3.3)."""
    wanted, resource = resource_url_from_server_url(server), str(found.resource)
    if not check_resource_allowed(requested_resource=wanted, configured_resource=resource):
        raise AuthenticationError(
            f"the server's metadata (RFC 9728) at {shown(URL(url))} is of another resource: {shown(URL(resource))}"
        )
