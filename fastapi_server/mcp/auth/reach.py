"""Where a server may lead us: to public hosts over https, and to special addresses only where it has one itself."""

import ipaddress
import socket
from collections.abc import Iterable
from typing import Literal, TypeAlias

from yarl import URL

Special: TypeAlias = Literal["loopback", "link-local", "private"]


def special_of(host: str) -> Special | None:
    """What a host is that cannot be reached from everywhere; `None` for public addresses and for all other names."""
    if host == "localhost" or host.endswith(".localhost"):
        return "loopback"
    address = _address(host)
    if address is None:
        return None
    if address.is_loopback or address.is_unspecified:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    return None if address.is_global else "private"


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Of a literal address; the old ways to write IPv4 (`127.1`, `0x7f000001`) are such, too."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    return getattr(address, "ipv4_mapped", None) or address


class Reach:
    """Which URLs may be followed while signing in.

    Args:
        server: URL of the MCP server.
        configured: URLs of which the whole origin is allowed, as that of the server is.
    """

    def __init__(self, server: str, configured: Iterable[str] = ()) -> None:
        self._server = special_of(URL(server).host or "")
        self._origins = {URL(url).origin() for url in (server, *configured)}

    def allows_request(self, url: URL) -> bool:
        """Whether a request may go there: over https; without, to this machine and to the origins that are named."""
        if url.scheme not in {"http", "https"} or not url.host:
            return False
        return url.origin() in self._origins or self.allows_page(url)

    def allows_page(self, url: URL) -> bool:
        """Whether a person may be sent there: over https; without, to this machine."""
        if url.scheme not in {"http", "https"} or not url.host:
            return False
        special = special_of(url.host)
        if url.scheme == "http" and special != "loopback":
            return False
        return special is None or special == self._server or url.origin() in self._origins
