"""Where a server may lead us: to public hosts over https, and to special addresses only where it has one itself."""

import ipaddress
import socket
from collections.abc import Iterable
from typing import Literal, TypeAlias

from yarl import URL

from fastapi_server.mcp.redaction import redacted

Special: TypeAlias = Literal["loopback", "link-local", "private", "multicast"]
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_TRANSLATED = (
    ipaddress.IPv6Network("64:ff9b::/96"),  # RFC 6052, 2.1
    ipaddress.IPv6Network("::ffff:0:0:0/96"),  # RFC 2765, 2.1
)
_LOCAL = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # RFC 6890
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # RFC 8215
    ipaddress.IPv6Network("3fff::/20"),  # RFC 9637
    ipaddress.IPv6Network("5f00::/16"),  # RFC 9602
    ipaddress.IPv6Network("fec0::/10"),  # RFC 3879
)
"""Not public either, which not every Python knows."""


def special_of(host: str) -> Special | None:
    """What a host is that cannot be reached from everywhere; `None` for public addresses and for all other names."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return "loopback"
    address = _address(name)
    if address is None:
        return None
    carried = _carried_by(address)
    return (None if carried is None else _kind_of(carried)) or _kind_of(address)


def _address(name: str) -> Address | None:
    """Of a literal address; the old ways to write IPv4 (`127.1`, `0x7f000001`) are such, too."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, ValueError):
            return None
    return getattr(address, "ipv4_mapped", None) or address


def _carried_by(address: Address) -> ipaddress.IPv4Address | None:
    """Where a tunnel or a translator takes it: 6to4, Teredo, NAT64, SIIT, and RFC 4291, 2.5.5.1."""
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback or address.is_unspecified:
        return None
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    last = ipaddress.IPv4Address(address.packed[12:])
    translated = any(address in network for network in _TRANSLATED)
    return last if translated or not any(address.packed[:12]) else None


def _kind_of(address: Address) -> Special | None:
    if address.is_loopback or address.is_unspecified:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    return "private" if not address.is_global or any(address in network for network in _LOCAL) else None


class Reach:
    """Which URLs may be followed while signing in.

    Args:
        server: URL of the MCP server.
        configured: URLs of which the whole origin is allowed, as that of the server is; a person may be sent there,
            too, and without TLS.
    """

    def __init__(self, server: str, configured: Iterable[str] = ()) -> None:
        self.server = URL(server)
        self._special = special_of(self.server.host or "")
        self._configured = {URL(url).origin() for url in configured}

    def refusal_of(self, url: URL) -> str | None:
        """Why no request may go there; `None` where it may: over https, to this machine, and to what is named."""
        if url.scheme in {"http", "https"} and url.host and url.origin() == self.server.origin():
            return None
        return self.page_refusal_of(url)

    def page_refusal_of(self, url: URL) -> str | None:
        """Why no person may be sent there; `None` where they may: over https, to this machine, and where configured."""
        if url.scheme not in {"http", "https"} or not url.host:
            return "it is no URL of a web server"
        if url.origin() in self._configured:
            return None
        special = special_of(url.host)
        if url.scheme == "http" and special != "loopback":
            return f"it is not https ({_not_named(url)})"
        return None if special in {None, self._special} else special_refusal(url, special)

    def names(self, host: str, port: int) -> bool:
        """Whether the configuration names what listens there."""
        return any((origin.host, origin.port) == (host, port) for origin in (self.server, *self._configured))


def special_refusal(url: URL, special: Special | None) -> str:
    """Why a special address is not followed."""
    return f"its address is {special}, and the server's is not ({_not_named(url)})"


def _not_named(url: URL) -> str:
    return f"config: auth.insecure_origins does not name {url.origin()}"


def shown(url: URL) -> str:
    """A URL for an error: user information, query and fragment may hold secrets."""
    return redacted(str(url.with_user(None).with_query(None).with_fragment(None))) if url.host else url.scheme + ":…"
