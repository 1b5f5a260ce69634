"""Requests that a browser was tricked into are refused, and browsers told what our pages may do."""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_server.gateway.problems import problem
from fastapi_server.gateway.settings import Settings

_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class SecurityHeaders:
    """Adds to every answer what browsers may do with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("content-security-policy", _POLICY)
                headers["x-content-type-options"] = "nosniff"
                headers["x-frame-options"] = "DENY"
                headers["referrer-policy"] = "no-referrer"
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Guard:
    """Refuses a `Host` that is not ours (421), against DNS rebinding, and an `Origin` that is not welcome (403).

    A page of ours may call us: an origin that is the very host that was asked is welcome.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = settings.allowed_hosts
        self._origins = [*settings.allowed_origins, *settings.cors_origins]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        answer = None
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host, origin = headers.get("host", ""), headers.get("origin")
            if not host_is_allowed(host, self._hosts):
                answer = problem(421, f"this server is not {host!r}; the setting allowed_hosts says what it is called")
            elif origin is not None and not origin_is_allowed(origin, host, self._origins):
                answer = problem(403, f"pages of {origin!r} may not call this server; see the setting allowed_origins")
        await (answer or self._app)(scope, receive, send)


def host_is_allowed(host: str, allowed: Sequence[str]) -> bool:
    """Whether a `Host` is loopback, or matches one of `name`, `name:port` and `name:*`, of which the last means any."""
    name, port = _split(host)
    if name is None:
        return False
    if is_loopback(name):
        return True
    named = [(*_split(one.removesuffix(":*")), one.endswith(":*")) for one in allowed]
    return any(name == its_name and (any_port or port == its_port) for its_name, its_port, any_port in named)


def origin_is_allowed(origin: str, host: str, allowed: Sequence[str]) -> bool:
    """Whether an `Origin` is loopback, that of the host asked, or matches `scheme://` and one of a host's patterns."""
    scheme, slashes, authority = origin.partition("://")
    if not slashes or scheme not in {"http", "https"}:
        return False  # `null`, or an application's own
    if authority == host:
        return True
    return host_is_allowed(authority, [one[len(scheme) + 3 :] for one in allowed if one.startswith(f"{scheme}://")])


def is_loopback(name: str) -> bool:
    """Whether a host is this machine by its very name, without asking anybody."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _split(authority: str) -> tuple[str | None, int | None]:
    """Name and port; no name where it is none."""
    try:
        parts = urlsplit(f"//{authority}")
        if parts.netloc != authority or "@" in authority:
            return None, None
        return parts.hostname, parts.port
    except ValueError:
        return None, None
