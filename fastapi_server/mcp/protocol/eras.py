"""The two eras of MCP, and bare JSON-RPC: what each adds to a request, its headers, its way to cancel."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    LOG_LEVEL_META_KEY,
    PROTOCOL_VERSION_META_KEY,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from fastapi_server.mcp.protocol.headers import encode_header_value
from fastapi_server.mcp.protocol.jsonrpc import as_object

HANDSHAKE_VERSIONS = HANDSHAKE_PROTOCOL_VERSIONS
"""Revisions that open with `initialize`, oldest first."""
STATELESS_VERSIONS = MODERN_PROTOCOL_VERSIONS
"""Revisions in which every request carries everything, oldest first."""
KNOWN_VERSIONS = (*HANDSHAKE_VERSIONS, *STATELESS_VERSIONS)

_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_SINCE_VERSION_HEADER = HANDSHAKE_VERSIONS.index("2025-06-18")


class EraName(StrEnum):
    """Which family of revisions a server speaks."""

    HANDSHAKE = "handshake"
    STATELESS = "stateless"
    BARE = "bare"
    """JSON-RPC without any of MCP's negotiation (`handshake=False`, or one of the dialects)."""


class Era(Protocol):
    """What differs between the eras, for one negotiated revision.

    Attributes:
        name: Of the era.
        version: The revision; empty where there is none.
        has_result_types: Each result says whether it is the last word (`resultType`).
    """

    name: EraName
    version: str
    has_result_types: bool

    def stamp(self, params: Mapping[str, Any] | None, meta: Mapping[str, Any]) -> dict[str, Any] | None:
        """The parameters to send: those given, with `_meta` as the era wants it."""
        ...

    def headers(self, method: str, params: Mapping[str, Any] | None) -> dict[str, str]:
        """The HTTP headers that mirror the request."""
        ...

    def cancel_notice(self, request_id: int, method: str, *, shared_stream: bool) -> dict[str, Any] | None:
        """Parameters of the `notifications/cancelled` to send, or `None` where none must be sent.

        Args:
            request_id: The request given up.
            method: Its method.
            shared_stream: Whether replies share one stream (stdio, HTTP+SSE), so that closing it is no answer.
        """
        ...


def _with_meta(
    params: Mapping[str, Any] | None, meta: Mapping[str, Any], ours: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """`params` with `meta` added to the `_meta` that they may have, and `ours` over both."""
    if not meta and not ours:
        return None if params is None else dict(params)
    given = params or {}
    return {**given, "_meta": {**as_object(given.get("_meta")), **meta, **(ours or {})}}


class HandshakeEra:
    """Revisions 2024-11-05 to 2025-11-25: the session knows who we are, requests carry nothing extra."""

    name = EraName.HANDSHAKE
    has_result_types = False

    def __init__(self, version: str) -> None:
        self.version = version
        known = version in HANDSHAKE_VERSIONS
        self._sends_version = known and HANDSHAKE_VERSIONS.index(version) >= _SINCE_VERSION_HEADER

    def stamp(self, params: Mapping[str, Any] | None, meta: Mapping[str, Any]) -> dict[str, Any] | None:
        return _with_meta(params, meta)

    def headers(self, method: str, params: Mapping[str, Any] | None) -> dict[str, str]:
        if method == "initialize" or not self._sends_version:
            return {}
        return {"MCP-Protocol-Version": self.version}

    def cancel_notice(self, request_id: int, method: str, *, shared_stream: bool) -> dict[str, Any] | None:
        if method == "initialize":  # 2025-11-25, basic/utilities/cancellation: it must not be cancelled
            return None
        return {"requestId": request_id, "reason": "the caller gave up"}


class StatelessEra:
    """Revision 2026-07-28: version, client and capabilities travel with each request.

    Args:
        version: The revision.
        client_info: Wire form of our `Implementation`.
        capabilities: Wire form of our `ClientCapabilities`.
    """

    name = EraName.STATELESS
    has_result_types = True

    def __init__(self, version: str, client_info: Mapping[str, Any], capabilities: Mapping[str, Any]) -> None:
        self.version = version
        self.log_level: str | None = None
        self._meta = {
            PROTOCOL_VERSION_META_KEY: version,
            CLIENT_INFO_META_KEY: dict(client_info),
            CLIENT_CAPABILITIES_META_KEY: dict(capabilities),
        }

    def stamp(self, params: Mapping[str, Any] | None, meta: Mapping[str, Any]) -> dict[str, Any] | None:
        if self.log_level is None and not meta and (params is None or "_meta" not in params):
            return {**(params or {}), "_meta": self._meta}
        level = {} if self.log_level is None else {LOG_LEVEL_META_KEY: self.log_level}
        return _with_meta(params, {**level, **meta}, self._meta)

    def headers(self, method: str, params: Mapping[str, Any] | None) -> dict[str, str]:
        headers = {"MCP-Protocol-Version": self.version, "Mcp-Method": method}
        named_by = _NAMED_BY.get(method)
        name = (params or {}).get(named_by) if named_by else None
        if isinstance(name, str):
            headers["Mcp-Name"] = encode_header_value(name)
        return headers

    def cancel_notice(self, request_id: int, method: str, *, shared_stream: bool) -> dict[str, Any] | None:
        if not shared_stream:  # closing the response's stream is the signal
            return None
        return {"requestId": request_id, "reason": "the caller gave up"}


class BareEra:
    """A JSON-RPC peer that knows nothing of MCP's life cycle: requests go out as they are."""

    name = EraName.BARE
    has_result_types = False
    version = ""

    def stamp(self, params: Mapping[str, Any] | None, meta: Mapping[str, Any]) -> dict[str, Any] | None:
        return _with_meta(params, meta)

    def headers(self, method: str, params: Mapping[str, Any] | None) -> dict[str, str]:
        return {}

    def cancel_notice(self, request_id: int, method: str, *, shared_stream: bool) -> dict[str, Any] | None:
        return None
