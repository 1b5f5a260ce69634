"""Configuration: typed and plain, one server and a whole `mcp.json`."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fastapi_server.mcp import redacted_settings
from fastapi_server.mcp.config import (
    CommonConfig,
    ConfigFile,
    HTTPConfig,
    ServerConfig,
    SSEConfig,
    StdioConfig,
    ToolRules,
    TransportConfig,
    load_config,
    parse_config,
)
from fastapi_server.mcp.errors import ConfigError, Delivery

URL = "https://example.com/mcp"
SECRET = "pl4nted-s3cret"  # looked for in everything that is said


def parsed(entry: Any, env: Mapping[str, str] | None = None) -> ConfigFile:
    return parse_config({"mcpServers": {"it": entry}}, env or {})


def only(entry: Any, env: Mapping[str, str] | None = None) -> ServerConfig:
    """The one server of a file with this entry."""
    file = parsed(entry, env)
    assert file.problems == []
    return file.servers["it"]


def problem(entry: Any, env: Mapping[str, str] | None = None) -> str:
    """What is wrong with this entry."""
    file = parsed(entry, env)
    assert file.servers == {}
    (error,) = file.problems
    return error.message


# Typed.


def test_configs_are_built_by_position_and_by_keyword() -> None:
    assert StdioConfig("npx", ["-y", "server"], {"A": "b"}) == StdioConfig(
        command="npx", args=["-y", "server"], env={"A": "b"}
    )
    assert SSEConfig(URL, {"A": "b"}, timeout=5) == SSEConfig(endpoint=URL, headers={"A": "b"}, timeout=5)
    assert HTTPConfig(URL, "key", {"A": "b"}) == HTTPConfig(endpoint=URL, api_key="key", headers={"A": "b"})
    assert ServerConfig("it", "http", HTTPConfig(URL)) == ServerConfig(
        name="it", transport="http", config=HTTPConfig(URL)
    )


@pytest.mark.parametrize(
    "config", [StdioConfig("a"), SSEConfig(URL), HTTPConfig(URL)], ids=lambda each: type(each).__name__
)
def test_defaults_of_every_transport(config: CommonConfig) -> None:
    assert config.timeout == 30_000
    assert config.probe_timeout == 5_000
    assert config.protocol_version is None
    assert config.handshake is True
    assert config.max_message_bytes == 64 * 1024 * 1024
    assert config.output_validation == "warn"


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        (StdioConfig, ("a", [], {})),
        (SSEConfig, (URL, {})),
        (HTTPConfig, (URL, None, {})),
    ],
)
def test_everything_else_is_given_by_keyword_only(kind: Any, most: tuple[Any, ...]) -> None:
    kind(*most)
    for further in (None, False, 5, "mcp"):
        with pytest.raises(ValidationError):
            kind(*most, further)


def test_a_millisecond_and_a_byte_are_enough() -> None:
    config = StdioConfig("a", timeout=1, probe_timeout=1, shutdown_timeout=1, max_message_bytes=1)
    assert (config.timeout, config.probe_timeout, config.shutdown_timeout, config.max_message_bytes) == (1, 1, 1, 1)


def test_defaults_of_stdio() -> None:
    config = StdioConfig("server")
    assert (config.args, config.env, config.cwd) == ([], {}, None)
    assert (config.inherit_env, config.stderr_file, config.stderr_log) == (False, None, False)
    assert config.shutdown_timeout == 2_000


def test_defaults_of_http_and_sse() -> None:
    assert (HTTPConfig(URL).api_key, HTTPConfig(URL).headers, HTTPConfig(URL).dialect) == (None, {}, "mcp")
    assert (SSEConfig(URL).headers, SSEConfig(URL).dialect) == ({}, "mcp")


def test_configs_do_not_share_their_defaults() -> None:
    StdioConfig("a").args.append("x")
    assert StdioConfig("a").args == []


def test_configs_cannot_be_changed() -> None:
    config = HTTPConfig(URL)
    with pytest.raises(AttributeError):
        config.endpoint = "https://elsewhere.example"  # pyright: ignore[reportAttributeAccessIssue]
    server = ServerConfig("it", "http", config)
    with pytest.raises(AttributeError):
        server.name = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_headers_may_be_a_provider() -> None:
    async def provider() -> dict[str, str]:
        return {}

    assert HTTPConfig(URL, headers=provider).headers is provider
    assert SSEConfig(URL, headers=provider).headers is provider
    assert ServerConfig("it", "http", {"endpoint": URL, "headers": provider}).config.headers is provider


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(HTTPConfig, id="no endpoint"),  # pyright: ignore[reportCallIssue]
        pytest.param(lambda: SSEConfig(""), id="an empty endpoint"),
        pytest.param(lambda: StdioConfig(""), id="an empty command"),
        pytest.param(lambda: StdioConfig("a", colour="red"), id="an unknown field"),  # pyright: ignore[reportCallIssue]
        pytest.param(lambda: HTTPConfig(URL, timeout=0), id="no time at all"),
        pytest.param(lambda: HTTPConfig(URL, protocol_version="1999-01-01"), id="an unknown revision"),
    ],
)
def test_typed_configs_are_checked_when_they_are_built(build: Any) -> None:
    with pytest.raises(ValidationError):
        build()


# One server.


@pytest.mark.parametrize(
    ("transport", "settings", "config"),
    [
        ("stdio", {"command": "a", "args": ["b"], "env": {"C": "d"}}, StdioConfig("a", ["b"], {"C": "d"})),
        ("stdio", {"command": "a", "cwd": "/tmp"}, StdioConfig("a", cwd=Path("/tmp"))),
        ("sse", {"endpoint": URL, "dialect": "rpc"}, SSEConfig(URL, dialect="rpc")),
        ("http", {"endpoint": URL, "api_key": "k", "dialect": "rest"}, HTTPConfig(URL, "k", dialect="rest")),
        ("http", {"endpoint": URL, "protocol_version": "2026-07-28"}, HTTPConfig(URL, protocol_version="2026-07-28")),
        ("http", {"url": URL, "timeout": "500"}, HTTPConfig(URL, timeout=500)),
        ("sse", {"server_url": URL}, SSEConfig(URL)),
        ("auto", {"endpoint": URL}, HTTPConfig(URL)),
    ],
)
def test_plain_settings_become_the_typed_model(
    transport: str, settings: dict[str, Any], config: TransportConfig
) -> None:
    before = copy.deepcopy(settings)
    assert ServerConfig("it", transport, settings) == ServerConfig("it", transport, config)
    assert settings == before


@pytest.mark.parametrize(
    ("config", "transport"),
    [
        ({"command": "a"}, "stdio"),
        ({"endpoint": URL}, "auto"),
        ({"url": URL}, "auto"),
        (StdioConfig("a"), "stdio"),
        (SSEConfig(URL), "sse"),
        (HTTPConfig(URL), "auto"),
    ],
)
def test_a_transport_left_out_is_found_in_the_config(config: object, transport: str) -> None:
    assert ServerConfig("it", config=config).transport == transport
    assert ServerConfig("it", "auto", config).transport == transport


@pytest.mark.parametrize("spelling", ["HTTP", "Streamable-HTTP", "streamableHttp", " http "])
def test_spellings_of_a_transport_make_no_difference(spelling: str) -> None:
    assert ServerConfig("it", spelling, {"endpoint": URL}) == ServerConfig("it", "http", HTTPConfig(URL))


def test_a_transport_of_the_users_own_gets_its_settings_as_they_are() -> None:
    server = ServerConfig("it", "Carrier-Pigeon", {"loft": 7, "url": URL})
    assert (server.transport, server.config) == ("carrier-pigeon", {"loft": 7, "endpoint": URL})
    settings = object()
    assert ServerConfig("it", "carrier-pigeon", settings).config is settings


@pytest.mark.parametrize(
    ("transport", "settings", "message"),
    [
        ("http", {}, "config.endpoint: is required"),
        ("sse", {}, "config.endpoint: is required"),
        ("stdio", {}, "config.command: is required"),
        ("stdio", {"command": ""}, "config.command: String should have at least 1 character"),
        ("http", {"endpoint": URL, "colour": "red"}, "config.colour: there is no such setting"),
        ("http", {"endpoint": URL, "command": "a"}, "config.command: there is no such setting"),
        ("stdio", {"command": "a", "env": {"PORT": 80}}, "config.env.PORT: Input should be a valid string"),
        ("stdio", {"command": "a", "args": ["b", 7]}, "config.args.1: Input should be a valid string"),
        ("stdio", {"command": "a", "shutdown_timeout": 0}, "config.shutdown_timeout: Input should be greater than 0"),
        ("http", {"endpoint": URL, "timeout": -1}, "config.timeout: Input should be greater than 0"),
        ("http", {"endpoint": URL, "dialect": "rpc"}, "config.dialect: Input should be 'mcp' or 'rest'"),
        ("sse", {"endpoint": URL, "dialect": "rest"}, "config.dialect: Input should be 'mcp' or 'rpc'"),
        (
            "http",
            {"endpoint": URL, "protocol_version": "1999-01-01"},
            "config.protocol_version: unknown revision; known are "
            "2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25, 2026-07-28",
        ),
        (
            "http",
            {"endpoint": URL, "output_validation": "maybe"},
            "config.output_validation: Input should be 'strict', 'warn' or 'off'",
        ),
        ("auto", {}, "config: needs a command (a server to start) or a url (a server to reach)"),
        (
            "auto",
            {"command": "a", "endpoint": URL},
            "config: has both a command and an endpoint; keep the one that is meant",
        ),
        ("http", {"colour": "red"}, "config.endpoint: is required; config.colour: there is no such setting"),
    ],
)
def test_what_is_missing_or_wrong_is_named_by_its_path(transport: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerConfig("it", transport, settings)
    assert caught.value.message == f"server 'it': {message}"
    assert caught.value.delivery is Delivery.NOT_SENT
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", ["X-Team", "callable", "dict[str]", "callable-id"])
def test_a_header_that_is_wrong_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.headers") as caught:
        ServerConfig("it", "http", {"endpoint": URL, "headers": {name: 7}})
    if name != "callable":
        assert f"config.headers.{name}: Input should be a valid string" in caught.value.message


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("", "must be a URL that starts with http:// or https:// and names a host"),
        ("example.com/mcp", "must be a URL that starts with http:// or https:// and names a host"),
        ("ftp://example.com", "must be a URL that starts with http:// or https:// and names a host"),
        ("http://", "must be a URL that starts with http:// or https:// and names a host"),
        ("http:///path", "must be a URL that starts with http:// or https:// and names a host"),
        ("https://user@example.com", "must not carry credentials; put them into headers or api_key"),
        ("https://user:pw@example.com", "must not carry credentials; put them into headers or api_key"),
        ("https://:pw@example.com", "must not carry credentials; put them into headers or api_key"),
        ("http://[::1", "is not a URL"),
        ("http://[host]", "is not a URL"),
        ("http://example.com:port", "is not a URL"),
        ("http://example.com:65536", "is not a URL"),
    ],
)
@pytest.mark.parametrize("transport", ["http", "sse", "auto"])
def test_an_endpoint_is_an_http_url_without_credentials(transport: str, endpoint: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerConfig("it", transport, {"endpoint": endpoint})
    assert caught.value.message == f"server 'it': config.endpoint: {message}"


@pytest.mark.parametrize("endpoint", ["http://localhost", "https://[::1]:8443/mcp?x=1", "HTTPS://EXAMPLE.com:1/"])
def test_endpoints_that_are_right(endpoint: str) -> None:
    assert ServerConfig("it", "http", {"endpoint": endpoint}).config.endpoint == endpoint


@pytest.mark.parametrize(
    ("transport", "config", "message"),
    [
        ("stdio", HTTPConfig(URL), "transport 'stdio' takes StdioConfig, not HTTPConfig"),
        ("sse", HTTPConfig(URL), "transport 'sse' takes SSEConfig, not HTTPConfig"),
        ("http", SSEConfig(URL), "transport 'http' takes HTTPConfig, not SSEConfig"),
        ("http", None, "transport 'http' takes HTTPConfig, not NoneType"),
        ("auto", "npx", "transport 'auto' takes HTTPConfig, not str"),
    ],
)
def test_the_typed_config_must_be_that_of_the_transport(transport: str, config: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerConfig("it", transport, config)
    assert caught.value.message == f"server 'it': config: {message}"


def test_a_server_needs_a_name() -> None:
    with pytest.raises(ConfigError, match="name must not be empty"):
        ServerConfig("", "http", HTTPConfig(URL))


def test_a_server_without_settings_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a command"):
        ServerConfig("it")


# Secrets.


@pytest.mark.parametrize(
    "config",
    [
        HTTPConfig(URL, SECRET, {"Authorization": SECRET}),
        SSEConfig(URL, {"Authorization": SECRET}),
        StdioConfig("a", ["--token", SECRET], {"TOKEN": SECRET}),
    ],
    ids=lambda config: type(config).__name__,
)
def test_no_secret_is_in_a_repr(config: TransportConfig) -> None:
    server = ServerConfig("it", config=config)
    for shown in (
        repr(config),
        str(config),
        repr(server),
        str(server),
        f"{server!r}",
        repr(ConfigFile({"it": server}, [])),
    ):
        assert SECRET not in shown
    assert "ServerConfig(name='it', transport=" in repr(server)
    assert type(config).__name__ in repr(server)


def test_of_a_transport_of_the_users_own_only_the_names_of_settings_are_shown() -> None:
    server = ServerConfig("it", "carrier-pigeon", {"loft": 7, "password": SECRET})
    assert repr(server) == "ServerConfig(name='it', transport='carrier-pigeon', config=['loft', 'password'])"


@pytest.mark.parametrize(
    ("transport", "settings"),
    [
        ("http", {"api_key": SECRET}),
        ("http", {"endpoint": URL, "api_key": [SECRET]}),
        ("http", {"endpoint": URL, "headers": SECRET}),
        ("http", {"endpoint": URL, "headers": [SECRET]}),
        ("http", {"endpoint": URL, "headers": {"Authorization": [SECRET]}}),
        ("http", {"endpoint": URL, "timeout": SECRET}),
        ("http", {"endpoint": URL, "dialect": SECRET}),
        ("http", {"endpoint": URL, "protocol_version": SECRET}),
        ("http", {"endpoint": URL, "handshake": SECRET}),
        ("http", {"endpoint": URL, "colour": SECRET}),
        ("http", {"endpoint": SECRET}),
        ("http", {"endpoint": f"https://user:{SECRET}@example.com"}),
        ("http", {"endpoint": f"https://user:{SECRET}@exam\u2100ple.com"}),
        ("http", {"endpoint": f"https://[{SECRET}]"}),
        ("http", {"endpoint": f"https://[{SECRET}"}),
        ("http", {"endpoint": f"https://user:{SECRET}"}),
        ("sse", {"endpoint": URL, "headers": {"Authorization": [SECRET]}}),
        ("stdio", {"command": "a", "env": SECRET}),
        ("stdio", {"command": "a", "env": {"TOKEN": [SECRET]}}),
        ("stdio", {"command": "a", "args": SECRET}),
        ("stdio", {"command": "a", "env": {"TOKEN": SECRET}, "colour": "red"}),
        ("auto", {"api_key": SECRET}),
        ("auto", {"command": SECRET, "endpoint": SECRET}),
    ],
)
def test_no_secret_is_in_an_error(transport: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerConfig("it", transport, settings)
    shown = [str(caught.value), repr(caught.value)]
    file = parsed({"type": transport, **settings})
    shown += [str(file.problems), repr(file), *map(str, file.problems)]
    assert not [text for text in shown if SECRET in text]


@pytest.mark.parametrize(
    "build",
    [
        lambda: HTTPConfig(URL, [SECRET]),  # pyright: ignore[reportArgumentType]
        lambda: HTTPConfig(f"https://user:{SECRET}@example.com"),
        lambda: StdioConfig("a", [], {"TOKEN": [SECRET]}),  # pyright: ignore[reportArgumentType]
        lambda: SSEConfig(URL, SECRET),  # pyright: ignore[reportArgumentType]
    ],
    ids=["api_key", "endpoint", "env", "headers"],
)
def test_no_secret_is_in_an_error_of_a_typed_config(build: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        build()
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)


# `mcp.json`.


@pytest.mark.parametrize(
    ("entry", "server"),
    [
        (
            {"command": "npx", "args": ["-y", "server"], "env": {"KEY": "v"}},
            ServerConfig("it", "stdio", StdioConfig("npx", ["-y", "server"], {"KEY": "v"})),
        ),
        ({"type": "stdio", "command": "uvx"}, ServerConfig("it", "stdio", StdioConfig("uvx"))),
        ({"url": URL}, ServerConfig("it", "auto", HTTPConfig(URL))),
        ({"serverUrl": URL}, ServerConfig("it", "auto", HTTPConfig(URL))),
        ({"endpoint": URL}, ServerConfig("it", "auto", HTTPConfig(URL))),
        ({"httpUrl": URL}, ServerConfig("it", "http", HTTPConfig(URL))),
        ({"httpUrl": URL, "type": "sse"}, ServerConfig("it", "sse", SSEConfig(URL))),
        (
            {"type": "http", "url": URL, "headers": {"A": "b"}},
            ServerConfig("it", "http", HTTPConfig(URL, None, {"A": "b"})),
        ),
        ({"type": "streamable-http", "url": URL}, ServerConfig("it", "http", HTTPConfig(URL))),
        ({"type": "streamableHttp", "url": URL}, ServerConfig("it", "http", HTTPConfig(URL))),
        ({"type": "remote", "url": URL}, ServerConfig("it", "auto", HTTPConfig(URL))),
        ({"type": "local", "command": "a"}, ServerConfig("it", "stdio", StdioConfig("a"))),
        ({"type": "sse", "url": URL}, ServerConfig("it", "sse", SSEConfig(URL))),
        ({"transport": "http+sse", "url": URL}, ServerConfig("it", "sse", SSEConfig(URL))),
        ({"transport": "SSE", "url": URL}, ServerConfig("it", "sse", SSEConfig(URL))),
        ({"type": "sse", "transport": "sse", "url": URL}, ServerConfig("it", "sse", SSEConfig(URL))),
        ({"type": "", "transport": "sse", "url": URL}, ServerConfig("it", "sse", SSEConfig(URL))),
        (
            {"url": URL, "apiKey": "k", "maxMessageBytes": 5, "protocolVersion": "2025-06-18"},
            ServerConfig("it", "auto", HTTPConfig(URL, "k", max_message_bytes=5, protocol_version="2025-06-18")),
        ),
        (
            {"command": "a", "disabled": False, "alwaysAllow": ["x"], "autoApprove": [], "description": "d"}
            | {"gallery": "g", "icon": "i", "name": "n", "trust": True},
            ServerConfig("it", "stdio", StdioConfig("a")),
        ),
        (
            {"command": "a", "tools": ["*"]},
            ServerConfig("it", "stdio", StdioConfig("a", tools=ToolRules(allow=["*"]))),
        ),
        (
            {"url": URL, "tools": []},
            ServerConfig("it", "auto", HTTPConfig(URL, tools=ToolRules(allow=[]))),
        ),
        (
            {"command": "a", "tools": {"allow": ["read_*"], "deny": ["*_all"], "rename": {"readFile": "read"}}},
            ServerConfig("it", "stdio", StdioConfig("a", tools=ToolRules(["read_*"], ["*_all"], {"readFile": "read"}))),
        ),
    ],
)
@pytest.mark.parametrize("key", ["mcpServers", "servers"])
def test_the_shapes_that_hosts_write(key: str, entry: dict[str, Any], server: ServerConfig) -> None:
    document = {key: {"it": entry}, "inputs": []}
    before = copy.deepcopy(document)
    file = parse_config(document, {})
    assert file == ConfigFile({"it": server}, [])
    assert document == before


def test_names_within_env_and_headers_are_left_alone() -> None:
    assert only({"command": "a", "env": {"someName": "b"}}).config.env == {"someName": "b"}
    assert only({"url": URL, "headers": {"xApiKey": "b"}}).config.headers == {"xApiKey": "b"}


def test_mcp_servers_come_before_servers() -> None:
    document = {"servers": {"b": {"command": "b"}}, "mcpServers": {"a": {"command": "a"}}}
    assert list(parse_config(document, {}).servers) == ["a"]
    assert list(parse_config({**document, "mcpServers": None}, {}).servers) == ["b"]


def test_servers_keep_their_order() -> None:
    entries = {name: {"command": name} for name in "zebra"}
    assert list(parse_config({"mcpServers": entries}, {}).servers) == list("zebra")


def test_a_file_may_name_no_server_at_all() -> None:
    assert parse_config({"mcpServers": {}}, {}) == ConfigFile({}, [])


def test_disabled_servers_are_left_out_whatever_they_say() -> None:
    entries = {"off": {"disabled": True, "command": "${NOWHERE}"}, "broken": {"disabled": True}, "on": {"command": "a"}}
    file = parse_config({"mcpServers": entries}, {})
    assert (list(file.servers), file.problems) == (["on"], [])


@pytest.mark.parametrize("document", [None, 7, "mcpServers", [], {}, {"mcpServers": []}, {"servers": "a"}, {"mcp": {}}])
def test_a_document_without_servers_is_refused(document: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(document, {}, source="here.json")
    assert caught.value.message == 'here.json: has no servers; expected {"mcpServers": {"name": {"command": …}}}'


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (7, "mcpServers.it: must be an object"),
        (None, "mcpServers.it: must be an object"),
        ([], "mcpServers.it: must be an object"),
        ({}, "mcpServers.it: needs a command (a server to start) or a url (a server to reach)"),
        (
            {"command": "a", "url": URL},
            "mcpServers.it: has both a command and an endpoint; keep the one that is meant",
        ),
        ({"type": "stdio"}, "mcpServers.it.command: is required"),
        (
            {"type": "http", "command": "a"},
            "mcpServers.it.endpoint: is required; mcpServers.it.command: there is no such setting",
        ),
        ({"command": "a", "config.x": 1}, "mcpServers.it.config.x: there is no such setting"),
        ({"command": "a", "args": ["b", {}]}, "mcpServers.it.args.1: Input should be a valid string"),
        (
            {"type": "pigeon", "url": URL},
            "mcpServers.it.type: unknown transport 'pigeon'; known are auto, http, sse, stdio",
        ),
        ({"type": 7, "url": URL}, "mcpServers.it.type: unknown transport 7; known are auto, http, sse, stdio"),
    ],
)
def test_a_wrong_entry_is_reported_by_its_path_in_the_file(entry: object, message: str) -> None:
    assert problem(entry) == f"mcp.json: {message}"


def test_a_wrong_entry_does_not_take_the_others_down() -> None:
    entries = {"a": {"command": "a"}, "b": {"comand": "b"}, "c": 7, "": {"command": "d"}, "e": {"url": URL}}
    file = parse_config({"servers": entries}, {}, source="/etc/mcp.json")
    assert list(file.servers) == ["a", "e"]
    assert [error.message.split(":")[:2] for error in file.problems] == [
        ["/etc/mcp.json", " servers.b"],
        ["/etc/mcp.json", " servers.c"],
        ["/etc/mcp.json", " servers"],
    ]
    assert all(isinstance(error, ConfigError) for error in file.problems)


@pytest.mark.parametrize("name", ["a.b", "with space", r"back\1slash", "quo'te", "; config"])
def test_any_name_can_be_reported(name: str) -> None:
    (error,) = parse_config({"mcpServers": {name: {"type": "stdio"}}}, {}).problems
    assert error.message == f"mcp.json: mcpServers.{name}.command: is required"


# Variables.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${HOST}", "example.com"),
        ("${env:HOST}", "example.com"),
        ("https://${HOST}:${PORT}/", "https://example.com:80/"),
        ("${HOST:-localhost}", "example.com"),
        ("${env:HOST:-localhost}", "example.com"),
        ("${NONE:-localhost}", "localhost"),
        ("${env:NONE:-localhost}", "localhost"),
        ("${NONE:-}", ""),
        ("${NONE:-a:-b}", "a:-b"),
        ("${EMPTY:-instead}", "instead"),
        ("${EMPTY}", ""),
        ("${HOST}${HOST}", "example.comexample.com"),
        ("${REFERENCE}", "${HOST}"),
        ("$HOST", "$HOST"),
        ("${}", "${}"),
        ("${1A}", "${1A}"),
        ("${workspaceFolder}/x", "/w/x"),
    ],
)
def test_variables(text: str, value: str) -> None:
    env = {"HOST": "example.com", "PORT": "80", "EMPTY": "", "REFERENCE": "${HOST}", "workspaceFolder": "/w"}
    config = only({"command": "a", "args": [text], "env": {"A": text}}, env).config
    assert (config.args, config.env) == ([value], {"A": value})


def test_variables_stand_for_whole_settings_too() -> None:
    entry = {
        "type": "${KIND}",
        "url": "${URL}",
        "timeout": "${TIMEOUT:-5}",
        "headers": {"Authorization": "Bearer ${T}"},
    }
    server = only(entry, {"KIND": "sse", "URL": URL, "T": "t"})
    assert server == ServerConfig("it", "sse", SSEConfig(URL, {"Authorization": "Bearer t"}, timeout=5))


def test_what_is_no_text_has_no_variables() -> None:
    assert only({"command": "a", "timeout": 5, "handshake": False, "cwd": None}, {}).config == StdioConfig(
        "a", timeout=5, handshake=False
    )


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"command": "${NONE}"}, "command"),
        ({"command": "a", "args": ["b", "${env:NONE}"]}, "args.1"),
        ({"url": URL, "headers": {"Authorization": "Bearer ${NONE}"}}, "headers.Authorization"),
    ],
)
def test_a_variable_that_is_not_set_is_reported_with_its_place(entry: dict[str, Any], path: str) -> None:
    assert problem(entry) == (
        f"mcp.json: mcpServers.it.{path}: the environment has no NONE; set it, or write ${{NONE:-default}}"
    )


def test_variables_come_from_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_CONFIG_COMMAND", "npx")
    file = parse_config({"mcpServers": {"it": {"command": "${TEST_CONFIG_COMMAND}"}}})
    assert file.servers["it"].config == StdioConfig("npx")


def test_an_environment_given_replaces_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_CONFIG_COMMAND", "npx")
    assert "the environment has no TEST_CONFIG_COMMAND" in problem({"command": "${TEST_CONFIG_COMMAND}"}, {})


def test_values_of_variables_are_in_no_message() -> None:
    assert SECRET not in problem({"url": URL, "apiKey": "${KEY}", "colour": "${KEY}"}, {"KEY": SECRET})
    assert SECRET not in problem({"url": "${KEY}"}, {"KEY": SECRET})


# Files.


def written(path: Path, document: object, encoding: str = "utf-8") -> Path:
    path.write_text(json.dumps(document, ensure_ascii=False), encoding=encoding)
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "mcp.json", {"mcpServers": {"grüße": {"command": "${CMD}"}, "b": {}}})
    for spelled in (path, str(path)):
        file = load_config(spelled, {"CMD": "npx"})
        assert file.servers == {"grüße": ServerConfig("grüße", "stdio", StdioConfig("npx"))}
        (error,) = file.problems
        assert error.message.startswith(f"{path}: mcpServers.b: ")


def test_a_file_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = written(tmp_path / "mcp.json", {"mcpServers": {"a": {"command": "b"}}}, "utf-8-sig")
    assert list(load_config(path, {}).servers) == ["a"]


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read: No such file or directory$"):
        load_config(tmp_path / "none.json")
    with pytest.raises(ConfigError, match=r": cannot be read: "):
        load_config(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"mcpServers": {}} // comment',
        b"\xff\xfe",
        f'{{"api_key": "{SECRET}",}}'.encode(),
        pytest.param(b"[" * 100_000, id="nested too deep"),
    ],
)
def test_a_file_that_is_no_json_is_reported_without_its_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mcp.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.message.startswith(f"{path}: is not JSON: ")
    assert SECRET not in str(caught.value)


def test_a_file_without_servers_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "mcp.json", {"servers": []})
    with pytest.raises(ConfigError, match=r"mcp\.json: has no servers; "):
        load_config(path)


def test_an_entry_nested_too_deep_is_reported_and_the_others_work() -> None:
    deep: Any = "end"
    for _ in range(5_000):
        deep = {"a": [deep]}
    file = parse_config({"servers": {"deep": {"command": "x", "env": deep}, "one": {"command": "x"}}})
    assert list(file.servers) == ["one"]
    assert [problem.message for problem in file.problems] == [
        "mcp.json: servers.deep.env: is nested too deep; 16 levels are the most"
    ]


def test_an_input_of_vs_code_is_reported_as_what_it_is() -> None:
    entry = {"url": "http://h/mcp", "headers": {"Authorization": "Bearer ${input:token}"}}
    (problem,) = parse_config({"servers": {"web": entry}}).problems
    assert "servers.web.headers.Authorization: ${input:…} asks a person" in str(problem)


def test_redacted_settings_show_what_is_set_and_no_secret() -> None:
    stdio = ServerConfig(
        "a",
        "stdio",
        {"command": "x", "args": ["--token", "s3cr3t-1"], "env": {"KEY": "s3cr3t-2"}, "cwd": "/tmp", "timeout": 5},
    )
    assert redacted_settings(stdio) == {
        "timeout": 5,
        "command": "x",
        "args": ["--token", "***"],
        "env": {"KEY": "***"},
        "cwd": "/tmp",
    }
    rules = {"deny": ["rm"]}
    http = ServerConfig("b", "http", {"url": "http://x/y?key=s3cr3t", "headers": {"X": "s3cr3t"}, "tools": rules})
    assert redacted_settings(http) == {
        "tools": {"allow": None, "deny": ["rm"], "rename": {}},
        "endpoint": "http://x/y?…",
        "headers": {"X": "***"},
    }
    assert redacted_settings(ServerConfig("c", "own", {"password": "s3cr3t"})) == {"password": "***"}


def test_settings_in_the_place_of_the_transport_are_told_from_it() -> None:
    settings: Any = {"command": "python"}
    with pytest.raises(ConfigError, match="transport: must be a text, not dict"):
        ServerConfig("weather", settings)
