"""What each era adds to a request."""

from collections.abc import Mapping
from typing import Any

import pytest

from fastapi_server.mcp.protocol.eras import (
    HANDSHAKE_VERSIONS,
    KNOWN_VERSIONS,
    STATELESS_VERSIONS,
    BareEra,
    Era,
    EraName,
    HandshakeEra,
    StatelessEra,
)

CLIENT = {"name": "tests", "version": "1"}
CAPABILITIES = {"sampling": {}}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": CAPABILITIES,
}


def stateless() -> StatelessEra:
    return StatelessEra("2026-07-28", CLIENT, CAPABILITIES)


ERAS: list[Era] = [HandshakeEra("2025-11-25"), stateless(), BareEra()]
each_era = pytest.mark.parametrize("era", ERAS, ids=lambda era: era.name)
eras_that_add_nothing = pytest.mark.parametrize("era", [ERAS[0], ERAS[2]], ids=lambda era: era.name)


def test_versions_are_oldest_first_and_in_one_era_each() -> None:
    assert list(KNOWN_VERSIONS) == ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]
    assert [*HANDSHAKE_VERSIONS, *STATELESS_VERSIONS] == list(KNOWN_VERSIONS)
    assert list(STATELESS_VERSIONS) == ["2026-07-28"]


@pytest.mark.parametrize(
    ("era", "name", "version"),
    [
        (HandshakeEra("2025-06-18"), "handshake", "2025-06-18"),
        (stateless(), "stateless", "2026-07-28"),
        (BareEra(), "bare", ""),
    ],
)
def test_an_era_says_its_name_and_revision(era: Era, name: str, version: str) -> None:
    assert (era.name, era.version) == (EraName(name), version)


# Parameters.


@eras_that_add_nothing
@pytest.mark.parametrize(
    ("params", "meta", "stamped"),
    [
        (None, {}, None),
        ({}, {}, {}),
        ({"a": 1}, {}, {"a": 1}),
        (None, {"progressToken": 1}, {"_meta": {"progressToken": 1}}),
        ({"a": 1}, {"progressToken": 1}, {"a": 1, "_meta": {"progressToken": 1}}),
        ({"_meta": {"a": 1}}, {}, {"_meta": {"a": 1}}),
        ({"_meta": {"a": 1}}, {"progressToken": 1}, {"_meta": {"a": 1, "progressToken": 1}}),
        ({"_meta": {"progressToken": 7}}, {"progressToken": 1}, {"_meta": {"progressToken": 1}}),
        ({"_meta": "odd"}, {"progressToken": 1}, {"_meta": {"progressToken": 1}}),
    ],
)
def test_only_the_stateless_era_adds_to_parameters(
    era: Era, params: dict[str, Any] | None, meta: dict[str, Any], stamped: dict[str, Any] | None
) -> None:
    assert era.stamp(params, meta) == stamped


@pytest.mark.parametrize("params", [None, {}, {"name": "t"}])
def test_each_stateless_request_carries_version_client_and_capabilities(params: dict[str, Any] | None) -> None:
    assert stateless().stamp(params, {}) == {**(params or {}), "_meta": ENVELOPE}
    assert stateless().stamp(params, {"progressToken": 7}) == {
        **(params or {}),
        "_meta": {**ENVELOPE, "progressToken": 7},
    }


def test_the_level_of_logs_is_asked_for_with_each_stateless_request() -> None:
    era = stateless()
    era.log_level = "warning"
    assert era.stamp(None, {}) == {"_meta": {**ENVELOPE, "io.modelcontextprotocol/logLevel": "warning"}}
    era.log_level = None
    assert era.stamp(None, {}) == {"_meta": ENVELOPE}


def test_a_request_may_ask_for_another_level_than_the_era() -> None:
    era = stateless()
    era.log_level = "warning"
    for params, meta in [
        (None, {"io.modelcontextprotocol/logLevel": "debug"}),
        ({"a": 1}, {"io.modelcontextprotocol/logLevel": "debug"}),
    ]:
        stamped = era.stamp(params, meta)
        assert stamped is not None
        assert stamped["_meta"]["io.modelcontextprotocol/logLevel"] == "debug"


def test_nobody_else_sets_what_the_stateless_era_says_of_us() -> None:
    forged = dict.fromkeys(ENVELOPE, "forged")
    assert stateless().stamp({"_meta": {**forged, "a": 1}}, {**forged, "b": 2}) == {
        "_meta": {**ENVELOPE, "a": 1, "b": 2}
    }


@each_era
def test_what_the_caller_gave_is_left_alone(era: Era) -> None:
    params, meta = {"a": 1, "_meta": {"x": 0}}, {"b": 2}
    stamped = era.stamp(params, meta)
    assert stamped is not None
    stamped["_meta"]["c"] = 3
    stamped["d"] = 4
    assert (params, meta) == ({"a": 1, "_meta": {"x": 0}}, {"b": 2})
    assert stateless().stamp(None, {}) == {"_meta": ENVELOPE}


# Headers.


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("2024-11-05", {}),
        ("2025-03-26", {}),
        ("2025-06-18", {"MCP-Protocol-Version": "2025-06-18"}),
        ("2025-11-25", {"MCP-Protocol-Version": "2025-11-25"}),
        ("1999-01-01", {}),
        ("", {}),
    ],
)
def test_a_session_names_its_revision_since_2025_06_18(version: str, headers: dict[str, str]) -> None:
    era = HandshakeEra(version)
    assert era.headers("tools/call", {"name": "t"}) == headers
    assert era.headers("notifications/initialized", None) == headers
    assert era.headers("initialize", {"protocolVersion": version}) == {}


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("tools/call", {"name": "get_weather"}, "get_weather"),
        ("prompts/get", {"name": "review"}, "review"),
        ("resources/read", {"uri": "file:///a/b.json"}, "file:///a/b.json"),
        ("tools/call", {"name": "wetter für morgen"}, "=?base64?d2V0dGVyIGbDvHIgbW9yZ2Vu?="),
        ("tools/call", {"uri": "file:///a"}, None),
        ("tools/call", {"name": 7}, None),
        ("tools/call", {}, None),
        ("tools/call", None, None),
        ("resources/read", {"name": "a"}, None),
        ("tools/list", {"name": "a"}, None),
        ("tools/list", {"": "a"}, None),
    ],
)
def test_stateless_headers_mirror_the_request(method: str, params: Mapping[str, Any] | None, name: str | None) -> None:
    expected = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
    if name is not None:
        expected["Mcp-Name"] = name
    assert stateless().headers(method, params) == expected


def test_a_bare_peer_gets_no_headers() -> None:
    assert BareEra().headers("tools/call", {"name": "t"}) == {}


# Cancelling.


@pytest.mark.parametrize(
    ("era", "method", "shared_stream", "told"),
    [
        (HandshakeEra("2025-11-25"), "tools/call", True, True),
        (HandshakeEra("2025-11-25"), "tools/call", False, True),
        (HandshakeEra("2025-11-25"), "initialize", True, False),
        (HandshakeEra("2025-11-25"), "initialize", False, False),
        (stateless(), "tools/call", True, True),
        (stateless(), "server/discover", True, True),
        (stateless(), "tools/call", False, False),
        (BareEra(), "anything", True, False),
        (BareEra(), "anything", False, False),
    ],
)
def test_how_a_server_is_told_that_a_call_was_given_up(era: Era, method: str, shared_stream: bool, told: bool) -> None:
    notice = era.cancel_notice(7, method, shared_stream=shared_stream)
    assert notice == ({"requestId": 7, "reason": "the caller gave up"} if told else None)
