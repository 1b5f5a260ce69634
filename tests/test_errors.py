"""The tree of errors, as its page says."""

import copy
import inspect
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from fastapi_server.mcp import errors
from fastapi_server.mcp.errors import (
    AuthenticationError,
    AuthorizationRequired,
    BusyError,
    CallTimeoutError,
    CircuitOpenError,
    ClientClosedError,
    CommandNotFoundError,
    ConfigError,
    ConnectTimeoutError,
    Delivery,
    HandshakeError,
    HTTPStatusError,
    InputRequiredError,
    InvalidResultError,
    MCPClientError,
    MCPConnectionError,
    MessageTooLargeError,
    OutcomeUnknownError,
    ProcessExitedError,
    ProtocolError,
    RateLimitError,
    RPCError,
    SessionExpiredError,
    SkillRejected,
    StructuredOutputError,
    TokenStoreError,
)


class Row(NamedTuple):
    """What the page says of a class, and what its own parameters are for a full example."""

    parent: type[BaseException]
    builtin: type[BaseException] | None
    delivery: str
    attributes: dict[str, Any] = {}  # noqa: RUF012  # never changed


TREE: dict[type[MCPClientError], Row] = {
    MCPClientError: Row(Exception, None, "unknown"),
    ConfigError: Row(MCPClientError, ValueError, "not_sent"),
    MCPConnectionError: Row(MCPClientError, ConnectionError, "unknown"),
    CommandNotFoundError: Row(MCPConnectionError, None, "not_sent"),
    ProcessExitedError: Row(MCPConnectionError, None, "unknown", {"exit_code": -9, "stderr": "boom"}),
    ConnectTimeoutError: Row(MCPConnectionError, TimeoutError, "not_sent"),
    HandshakeError: Row(MCPConnectionError, None, "not_sent"),
    ClientClosedError: Row(MCPConnectionError, None, "unknown"),
    BusyError: Row(MCPConnectionError, None, "not_sent"),
    CircuitOpenError: Row(MCPConnectionError, None, "not_sent", {"retry_after": 1.5}),
    OutcomeUnknownError: Row(MCPConnectionError, None, "unknown"),
    HTTPStatusError: Row(MCPConnectionError, None, "unknown", {"status": 500, "body": "oops"}),
    AuthenticationError: Row(HTTPStatusError, None, "rejected", {"status": 401, "body": "who?"}),
    AuthorizationRequired: Row(
        AuthenticationError,
        None,
        "rejected",
        {"url": "https://as.example/authorize?state=s", "state": "s", "status": 401},
    ),
    RateLimitError: Row(HTTPStatusError, None, "rejected", {"status": 429, "body": "slow", "retry_after": 1.5}),
    SessionExpiredError: Row(HTTPStatusError, None, "rejected", {"status": 404, "body": "gone"}),
    CallTimeoutError: Row(MCPClientError, TimeoutError, "unknown"),
    TokenStoreError: Row(MCPClientError, None, "not_sent"),
    RPCError: Row(MCPClientError, None, "unknown", {"code": -32601, "data": {"hint": [1]}}),
    ProtocolError: Row(MCPClientError, ValueError, "unknown"),
    MessageTooLargeError: Row(ProtocolError, None, "unknown", {"limit": 10}),
    InvalidResultError: Row(ProtocolError, None, "unknown"),
    StructuredOutputError: Row(ProtocolError, None, "unknown"),
    SkillRejected: Row(ProtocolError, None, "unknown"),
    InputRequiredError: Row(ProtocolError, None, "unknown"),
}

each = pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)


def full(kind: type[MCPClientError]) -> MCPClientError:
    """One with everything set that can be."""
    error = kind("it broke", **TREE[kind].attributes)
    return error.at("weather", "http", "call")


def page() -> Iterator[tuple[str, str, str | None]]:
    """Name, parent and builtin of each class drawn on the page."""
    trail: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"((?:[│ ]   )*(?:[├└]── )?)(\w+(?:Error|Required|Rejected))\b(?: {2,}(\w+Error)\b)?", line)
        if match:
            depth = len(match[1]) // 4
            del trail[depth:]
            yield match[2], trail[-1] if trail else "Exception", match[3]
            trail.append(match[2])


# The tree.


def test_the_page_draws_the_tree() -> None:
    drawn = {name: (parent, builtin) for name, parent, builtin in page()}
    assert drawn == {
        kind.__name__: (row.parent.__name__, row.builtin.__name__ if row.builtin else None)
        for kind, row in TREE.items()
    }


def test_the_page_has_every_class() -> None:
    defined = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, BaseException)}
    assert defined == set(TREE)


@each
def test_parents(kind: type[MCPClientError]) -> None:
    row = TREE[kind]
    assert kind.__bases__ == ((row.parent, row.builtin) if row.builtin else (row.parent,))
    assert issubclass(kind, MCPClientError)


@pytest.mark.parametrize(
    ("builtin", "caught"),
    [
        (
            ValueError,
            {"ConfigError", "ProtocolError"} | {kind.__name__ for kind in TREE if TREE[kind].parent is ProtocolError},
        ),
        (TimeoutError, {"ConnectTimeoutError", "CallTimeoutError"}),
        (ConnectionError, {kind.__name__ for kind in TREE if issubclass(kind, MCPConnectionError)}),
        (OSError, {"CallTimeoutError"} | {kind.__name__ for kind in TREE if issubclass(kind, MCPConnectionError)}),
    ],
)
def test_a_builtin_catches_what_a_reader_expects(builtin: type[BaseException], caught: set[str]) -> None:
    assert {kind.__name__ for kind in TREE if issubclass(kind, builtin)} == caught


# What they say.


@each
def test_the_message_alone_until_a_client_has_touched_the_error(kind: type[MCPClientError]) -> None:
    error = kind("it broke")
    assert str(error) == ("it broke (code -32603)" if kind is RPCError else "it broke")
    assert error.message == "it broke"
    assert (error.server, error.transport, error.phase) == (None, None, kind.default_phase)


@each
def test_the_server_and_its_transport_once_it_has(kind: type[MCPClientError]) -> None:
    error = kind("it broke").at("weather", "stdio", "connect")
    suffix = " (code -32603)" if kind is RPCError else ""
    assert str(error) == f"server 'weather' (stdio): it broke{suffix}"
    assert error.message == "it broke"
    assert (error.server, error.transport, error.phase) == ("weather", "stdio", kind.default_phase or "connect")


@each
def test_an_error_needs_no_message(kind: type[MCPClientError]) -> None:
    assert kind().message == ""


def test_the_deepest_layer_says_where_it_was() -> None:
    error = MCPClientError("it broke")
    assert error.at("weather", "http", "handshake") is error
    assert error.at("other", "stdio", "call") is error
    assert (error.server, error.transport, error.phase) == ("weather", "http", "handshake")


# Delivery.


@each
def test_default_delivery(kind: type[MCPClientError]) -> None:
    assert kind("it broke").delivery is Delivery(TREE[kind].delivery)


@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize(
    "kind",
    [kind for kind in TREE if "delivery" in inspect.signature(kind).parameters],
    ids=lambda kind: kind.__name__,
)
def test_delivery_may_be_known_better(kind: Callable[..., MCPClientError], delivery: Delivery) -> None:
    assert kind("it broke", delivery=delivery).delivery is delivery


@pytest.mark.parametrize(
    ("code", "delivery"),
    [
        (-32700, "rejected"),
        (-32600, "rejected"),
        (-32601, "rejected"),
        (-32602, "unknown"),
        (-32603, "unknown"),
        (-32020, "rejected"),
        (-32021, "rejected"),
        (-32022, "rejected"),
        (-32042, "rejected"),
        (-32000, "unknown"),
        (0, "unknown"),
        (1, "unknown"),
    ],
)
def test_the_code_of_a_json_rpc_error_tells_whether_a_tool_ran(code: int, delivery: str) -> None:
    assert RPCError("no", code=code).delivery is Delivery(delivery)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("PARSE_ERROR", -32700),
        ("INVALID_REQUEST", -32600),
        ("METHOD_NOT_FOUND", -32601),
        ("INVALID_PARAMS", -32602),
        ("INTERNAL_ERROR", -32603),
        ("HEADER_MISMATCH", -32020),
        ("MISSING_CLIENT_CAPABILITY", -32021),
        ("UNSUPPORTED_PROTOCOL_VERSION", -32022),
        ("URL_ELICITATION_REQUIRED", -32042),
    ],
)
def test_codes_are_those_of_json_rpc_and_mcp(name: str, code: int) -> None:
    assert getattr(RPCError, name) == code


def test_deliveries_are_the_words_of_the_documentation() -> None:
    assert [str(delivery) for delivery in Delivery] == ["not_sent", "rejected", "unknown"]


# Attributes.


@pytest.mark.parametrize(
    ("error", "attributes"),
    [
        (ProcessExitedError(), {"exit_code": None, "stderr": ""}),
        (HTTPStatusError(), {"status": 0, "body": ""}),
        (AuthenticationError(), {"status": 0, "body": ""}),
        (SessionExpiredError(), {"status": 0, "body": ""}),
        (RateLimitError(), {"status": 429, "body": "", "retry_after": None}),
        (RPCError(), {"code": -32603, "data": None}),
        (MessageTooLargeError(), {"limit": 0}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_attributes_left_out(error: MCPClientError, attributes: dict[str, object]) -> None:
    assert {name: getattr(error, name) for name in attributes} == attributes


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": (lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol)))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@each
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_keeps_everything(kind: type[MCPClientError], copied: Callable[[Any], Any]) -> None:
    error = full(kind)
    error.delivery = Delivery.REJECTED
    error.add_note("while testing")
    twin = copied(error)
    assert type(twin) is kind
    assert twin is not error
    assert vars(twin) == vars(error)
    assert {name: getattr(twin, name) for name in TREE[kind].attributes} == TREE[kind].attributes
    assert (twin.args, str(twin), repr(twin)) == (error.args, str(error), repr(error))
    assert twin.__notes__ == ["while testing"]


@each
def test_a_copy_is_changed_without_the_original(kind: type[MCPClientError]) -> None:
    error = kind("it broke", **TREE[kind].attributes)
    copy.copy(error).at("weather", "http", "call")
    assert (error.server, error.transport, error.phase) == (None, None, kind.default_phase)
