"""Which transport a configuration means."""

import pytest

from fastapi_server.mcp.detection import candidate_transports, canonical_transport, detect_transport
from fastapi_server.mcp.errors import ConfigError, Delivery


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("stdio", "stdio"),
        ("STDIO", "stdio"),
        ("local", "stdio"),
        ("sse", "sse"),
        ("SSE", "sse"),
        ("http+sse", "sse"),
        ("HTTP-SSE", "sse"),
        ("http_sse", "sse"),
        ("http", "http"),
        ("HTTP", "http"),
        ("https", "http"),
        ("streamable", "http"),
        ("streamable-http", "http"),
        ("Streamable-HTTP", "http"),
        ("streamable_http", "http"),
        ("streamableHttp", "http"),
        ("Streamable HTTP", "http"),
        (" http\n", "http"),
        ("auto", "auto"),
        ("remote", "auto"),
        ("", "auto"),
        (" ", "auto"),
    ],
)
def test_a_transport_may_be_spelled_in_the_usual_ways(spelling: str, name: str) -> None:
    assert canonical_transport(spelling) == name


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("WebSocket", "websocket"), (" My-Own_one ", "my-own_one"), ("http2", "http2"), ("Grüße", "grüße")],
)
def test_a_name_of_your_own_is_only_lower_cased(spelling: str, name: str) -> None:
    assert canonical_transport(spelling) == name


def test_a_command_means_stdio() -> None:
    assert detect_transport({"command": "npx", "args": []}) == "stdio"


def test_an_endpoint_is_to_be_asked() -> None:
    assert detect_transport({"endpoint": "https://example.com/mcp", "headers": {}}) == "auto"


@pytest.mark.parametrize("config", [{}, {"args": ["a"]}, {"headers": {}}])
def test_neither_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"^config: needs a command .* or a url") as caught:
        detect_transport(config)
    assert caught.value.delivery is Delivery.NOT_SENT


def test_what_is_nearly_one_of_them_is_asked_about() -> None:
    with pytest.raises(ConfigError, match="is 'comand' meant to be 'command'"):
        detect_transport({"comand": "python"})


def test_both_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^config: has both a command and an endpoint"):
        detect_transport({"command": "npx", "endpoint": "https://example.com"})


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://example.com",
        "https://example.com/",
        "https://example.com/mcp",
        "https://example.com/sse/mcp",
        "https://example.com/assess",
        "https://example.com/mcp?next=/sse",
        "https://example.com/mcp#/sse",
        "https://sse",
        "https://example.com/SSE",
    ],
)
def test_streamable_http_is_tried_first(endpoint: str) -> None:
    assert candidate_transports(endpoint) == ("http", "sse", "rest")


@pytest.mark.parametrize(
    "endpoint", ["https://example.com/sse", "https://example.com/a/sse/", "https://example.com/sse?key=1#top"]
)
def test_an_event_stream_is_tried_first_where_the_path_says_so(endpoint: str) -> None:
    assert candidate_transports(endpoint) == ("sse", "http", "rest")
