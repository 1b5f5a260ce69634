"""The server that exercises everything in the protocol, over each transport; each way of reaching it is a parameter."""

from collections.abc import Iterator
from typing import Any

import pytest

from fastapi_server.mcp import ServerConfig
from tests.reference.servers import listening, node_server


@pytest.fixture(scope="session")
def everything_stdio() -> dict[str, Any]:
    node, script = node_server("server-everything")
    return {"command": node, "args": [script, "stdio"], "shutdown_timeout": 300}


@pytest.fixture(scope="session")
def everything_sse() -> Iterator[dict[str, Any]]:
    with listening([*node_server("server-everything"), "sse"]) as port:
        yield {"endpoint": f"http://127.0.0.1:{port}/sse"}


@pytest.fixture(scope="session")
def everything_http() -> Iterator[dict[str, Any]]:
    with listening([*node_server("server-everything"), "streamableHttp"]) as port:
        yield {"endpoint": f"http://127.0.0.1:{port}/mcp"}


@pytest.fixture(
    scope="session",
    params=[("stdio", "stdio"), ("sse", "sse"), ("http", "http"), ("auto", "sse"), ("auto", "http")],
    ids=["stdio", "sse", "http", "auto-sse", "auto-http"],
)
def everything(request: pytest.FixtureRequest) -> ServerConfig:
    """A configuration; outputs that break their schema are errors."""
    transport, spoken = request.param
    settings = request.getfixturevalue(f"everything_{spoken}")
    return ServerConfig("everything", transport, {**settings, "output_validation": "strict"})
