"""What `auth` may be, and what is said of what it may not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fastapi_server.mcp import (
    AutoMCPClient,
    BearerAuth,
    ConfigError,
    FlowAuth,
    HTTPConfig,
    HTTPMCPClient,
    OAuth,
    Secret,
    ServerConfig,
    SSEConfig,
    load_config,
    parse_config,
)
from fastapi_server.mcp.auth import choose
from fastapi_server.mcp.auth.keys import store_key
from fastapi_server.mcp.auth_config import revealed
from fastapi_server.mcp.resilience import BreakerState
from fastapi_server.mcp.testing.authorization_server import AuthorizationServer, GuardedPeer


def parsed(auth: Any, **more: Any) -> Any:
    return ServerConfig("x", "http", {"endpoint": "http://h.example/mcp", "auth": auth, **more}).config.auth


MISSING = {"file": "/not/there"}
ENTERPRISE = {
    "type": "enterprise_managed",
    "client_id": "a",
    "idp_client_id": "b",
    "idp_token_endpoint": "https://idp.example/token",
}
TYPES = "bearer, oauth, client_credentials, workload_identity, enterprise_managed"


@pytest.mark.parametrize(
    ("auth", "says"),
    [
        ("a-token", f"config.auth: needs a type: {TYPES}"),
        ({}, f"config.auth: needs a type: {TYPES}"),
        ({"type": "basic"}, f"config.auth: needs a type: {TYPES}"),
        ({"type": "bearer"}, "config.auth.token: is required"),
        ({"type": "bearer", "token": 5}, "config.auth.token: must be a string"),
        ({"type": "bearer", "token": {"env": "A", "file": "b"}}, "config.auth.token: must be a string"),
        ({"type": "bearer", "token": {"env": 5}}, "config.auth.token: must be a string"),
        ({"type": "bearer", "token": {"file": ["s3cret"]}}, "config.auth.token: must be a string"),
        ({"type": "bearer", "token": {"env": ""}}, "config.auth.token: must be a string"),
        ({"type": "bearer", "token": {}}, "config.auth.token: must be a string"),
        (
            {"type": "bearer", "token": {"env": "sk-s3cret"}},
            "config.auth.token: env must be the name of an environment",
        ),
        ({"type": "oauth", "issuer": "https://h:s3cret"}, "config.auth.issuer: must be a URL"),
        ({"type": "oauth", "issuer": "https://h℀s3cret/"}, "config.auth.issuer: must be a URL"),
        ({"type": "oauth", "client_metadata_url": "https://a:s3cret@h/x"}, "config.auth.client_metadata_url: must be"),
        ({"type": "bearer", "token": {"value": "s3cret"}}, "config.auth.token: must be a string"),
        ({"type": "bearer", "tokn": "s3cret"}, "config.auth.tokn: there is no such setting"),
        ({"type": "s3cret"}, f"config.auth: needs a type: {TYPES}"),
        ({"type": ["bearer"]}, f"config.auth: needs a type: {TYPES}"),
        (["s3cret"], f"config.auth: needs a type: {TYPES}"),
        ({"type": "oauth", "client_id": 5}, "config.auth.client_id: Input should be a valid string"),
        ({"type": "oauth", "dpop": "s3cret"}, "config.auth.dpop: Input should be a valid boolean"),
        ({"type": "oauth", "interaction": "s3cret"}, "config.auth.interaction: Input should be an instance of"),
        ({"type": "oauth", "issuer": "https://a:s3cret@h.example"}, "config.auth.issuer: must be a URL"),
        ({"type": "oauth", "redirect_uri": "s3cret"}, "config.auth.redirect_uri: must be a URL"),
        ({"type": "oauth", "token_endpoint_auth_method": "s3cret"}, "config.auth.token_endpoint_auth_method: Input"),
        ({"type": "client_credentials", "client_secret": "s3cret"}, "config.auth.client_id: is required"),
        ({"type": "client_credentials", "client_id": "a", "private_key": "s3cret", "algorithm": "HS256"}, "algorithm:"),
        ({"type": "workload_identity", "assertion": ["s3cret"]}, "config.auth.assertion: must be a string"),
        ({"type": "oauth", "scope": ["a"]}, "config.auth.scope: there is no such setting"),
        ({"type": "oauth", "scopes": "a b"}, "config.auth.scopes: Input should be a valid list"),
        ({"type": "oauth", "issuer": "login"}, "config.auth.issuer: must be a URL"),
        ({"type": "oauth", "issuer": "http://auth:8080"}, "config.auth.issuer: must start with https://"),
        ({"type": "oauth", "insecure_origins": ["https://auth/?a"]}, "config.auth.insecure_origins: must be origins"),
        ({"type": "oauth", "insecure_origins": ["http://auth/realm"]}, "config.auth.insecure_origins: must be origins"),
        ({"type": "oauth", "insecure_origins": ["http://auth:99999"]}, "config.auth.insecure_origins: must be a URL"),
        ({"type": "oauth", "insecure_origins": ["auth:8080"]}, "config.auth.insecure_origins: must be a URL"),
        ({"type": "oauth", "client_secret": "s3cret"}, "config.auth: client_secret needs a client_id"),
        ({"type": "oauth", "client_metadata_url": "https://h.example/"}, "config.auth.client_metadata_url: must be"),
        ({"type": "oauth", "store": "file"}, "config.auth.store: Input should be an instance of Store"),
        ({"type": "client_credentials", "client_id": "a"}, "config.auth: needs exactly one of client_secret and"),
        ({"type": "workload_identity"}, "config.auth.assertion: is required"),
        ({"type": "enterprise_managed", "client_id": "a"}, "config.auth.client_secret: is required"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(auth: Any, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parsed(auth)
    assert str(raised.value).startswith("server 'x': ")
    assert says in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_exactly_the_origins_that_are_named_need_no_tls() -> None:
    origins = ["http://Auth:8080/", "http://idp:80", "https://10.1.2.3:443"]
    named = {"insecure_origins": origins, "client_id": "a", "client_secret": "b"}
    auth = parsed(
        {"type": "enterprise_managed", "issuer": "http://auth:8080/realm", "idp_token_endpoint": "http://idp/token"}
        | {"idp_client_id": "c", "id_token": "d", **named}
    )
    assert auth.insecure_origins == ["http://auth:8080", "http://idp", "https://10.1.2.3"]
    assert parsed({"type": "oauth", "redirect_uri": "http://auth:8080/back", **named}).redirect_uri
    for other in ("http://auth:8081", "http://auth", "http://auth.example:8080"):
        with pytest.raises(ConfigError, match=r"config\.auth\.issuer: must start with https"):
            parsed({"type": "oauth", "issuer": other, **named})


def test_an_auth_flow_has_such_origins_too() -> None:
    flow = httpx2.BasicAuth("ann", "s3cret")
    auth = parsed(FlowAuth(flow, insecure_origins=["http://Auth:8080/"]))
    assert (auth.flow, auth.insecure_origins) == (flow, ["http://auth:8080"])
    assert "BasicAuth" not in repr(auth)
    with pytest.raises(ValueError, match="must be origins"):
        FlowAuth(flow, insecure_origins=["http://auth/realm"])


def test_there_is_one_way_to_sign_in() -> None:
    with pytest.raises(ConfigError, match=r"config\.auth: excludes api_key"):
        parsed({"type": "bearer", "token": "a"}, api_key="b")


@pytest.mark.parametrize("model", [HTTPConfig, SSEConfig])
def test_no_secret_shows(model: Any) -> None:
    config = model("http://h.example/mcp", auth=BearerAuth("s3cret"))
    assert "s3cret" not in repr(config) + repr(config.auth) + repr(ServerConfig("x", config=config))


def test_a_secret_has_one_source() -> None:
    with pytest.raises(ValueError, match="exactly one of env and file"):
        Secret()


def test_secrets_that_are_not_there_are_named(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    (tmp_path / "empty").touch()
    (tmp_path / "no text").write_bytes(b"\xff")
    for secret, says in [
        (Secret(env="NOT_SET"), r"config\.auth: the environment variable NOT_SET is empty or not set; set it"),
        (Secret(file=tmp_path / "none"), "config.auth: the file .*none cannot be read: No such file or directory"),
        (Secret(file=tmp_path), "cannot be read: Is a directory"),
        (Secret(file=tmp_path / "no text"), "cannot be read: UnicodeDecodeError"),
        (Secret(file=tmp_path / "empty"), "the file .*empty is empty; write the secret into it"),
        (Secret(value=""), "config.auth: is empty"),
    ]:
        with pytest.raises(ConfigError, match=says):
            secret.reveal()
    with pytest.raises(ConfigError, match=r"config\.auth\.client_secret: the environment variable NOT_SET"):
        revealed(Secret(env="NOT_SET"), "client_secret")
    assert revealed("plain", "token") == revealed(Secret(value="plain"), "token") == "plain"


def test_a_file_may_be_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").write_text(" s3cret\n")
    assert parsed({"type": "bearer", "token": {"file": "~/token"}}).token.reveal() == "s3cret"


@pytest.mark.parametrize(
    ("auth", "field"),
    [
        ({"type": "bearer", "token": MISSING}, "token"),
        ({"type": "oauth", "client_id": "a", "client_secret": MISSING}, "client_secret"),
        ({"type": "client_credentials", "client_id": "a", "client_secret": MISSING}, "client_secret"),
        ({"type": "client_credentials", "client_id": "a", "private_key": MISSING}, "private_key"),
        ({"type": "workload_identity", "assertion": MISSING}, "assertion"),
        ({**ENTERPRISE, "client_secret": MISSING, "id_token": "t"}, "client_secret"),
        ({**ENTERPRISE, "client_secret": "s", "id_token": MISSING}, "id_token"),
    ],
)
async def test_a_secret_that_is_not_there_when_it_is_needed(
    auth: dict[str, Any], field: str, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    """It is no fault of the server's: no other transport is tried, and nothing again."""
    config = ServerConfig("guarded", "http", {"endpoint": f"{peer.url}/mcp", "auth": auth})
    for client in (HTTPMCPClient("guarded", config.config), AutoMCPClient("guarded", config.config)):
        with pytest.raises(ConfigError) as raised:
            await client.list_tools()
        assert client.last_error is not None
        assert client.metrics.failed_connects == 1
        assert client._connector.breaker.state is BreakerState.CLOSED
        await client.disconnect()
        assert str(raised.value).startswith("server 'guarded' (")
        assert str(raised.value).endswith(
            f"): config.auth.{field}: the file /not/there cannot be read: No such file or directory"
        )
    assert not issuer.forms


def test_a_file_is_read_with_its_own_environment() -> None:
    auth = {"type": "oauth", "clientId": "ours", "clientSecret": {"env": "OURS"}, "scopes": ["read"]}
    document = {
        "mcpServers": {
            "right": {"url": "https://h.example/mcp", "auth": auth},
            "wrong": {"url": "https://h.example/mcp", "auth": {"type": "bearer", "token": {"env": "NONE"}}},
            "worse": {"url": "https://h.example/mcp", "auth": {"type": "bearer", "token": {"env": "sk-s3cret"}}},
        }
    }
    file = parse_config(document, {"OURS": "s3cret"})

    settings = file.servers["right"].config.auth
    assert isinstance(settings, OAuth)
    assert (settings.client_id, settings.scopes) == ("ours", ["read"])
    assert revealed(settings.client_secret or "", "client_secret") == "s3cret"
    assert [str(problem) for problem in file.problems] == [
        "mcp.json: mcpServers.wrong.auth.token: the environment has no NONE; set it",
        "mcp.json: mcpServers.worse.auth.token: env must be the name of an environment variable, not what it holds",
    ]


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("issuer", {"type": "oauth"}),
        ("redirect_uri", {"type": "oauth"}),
        ("idp_token_endpoint", {"type": "enterprise_managed", "client_id": "a", "client_secret": "b"}),
    ],
)
def test_urls_that_secrets_go_to_are_https(tmp_path: Path, field: str, settings: dict[str, str]) -> None:
    whole = settings | ({"idp_client_id": "c", "id_token": "d"} if field == "idp_token_endpoint" else {})
    for number, (url, right) in enumerate((("http://h.example/x", False), ("http://127.0.0.1:8/x", True))):
        servers = {"one": {"url": "https://h.example/mcp", "auth": {**whole, field: url}}}
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps({"mcpServers": servers}))
        problems = [str(problem) for problem in load_config(file).problems]
        assert (not problems) is right
        if not right:
            assert f"mcpServers.one.auth.{field}: must start with https://" in problems[0]


def test_a_key_is_for_event_streams_too() -> None:
    assert "s3cret" not in repr(SSEConfig("https://h.example/sse", api_key="s3cret"))
    with pytest.raises(ValueError, match="excludes api_key"):
        SSEConfig("https://h.example/sse", api_key="s3cret", auth=BearerAuth("t0ken"))


async def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "find_spec", lambda _name: None)
    client = HTTPMCPClient("x", HTTPConfig("http://h.example/mcp", auth=OAuth()))
    assert not await client.connect()
    assert isinstance(client.last_error, ConfigError)
    assert "mcp-client-factory[oauth]" in str(client.last_error)
    await client.disconnect()


def test_importing_the_package_brings_nothing_heavy() -> None:
    program = (
        "import sys, fastapi_server.mcp; "
        "print(sorted({'mcp', 'httpx2', 'httpx', 'cryptography', 'jwt', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_keys_differ_wherever_anything_does() -> None:
    server = "https://h.example/mcp"
    keys = {
        store_key("tokens", server=server),
        store_key("client", server=server),
        store_key("tokens", server=server + "2"),
        store_key("tokens", server=server, principal="ann"),
        store_key("tokens", server=server, issuer="ann"),
        store_key("tokens", server=server, principal="None"),
        store_key("tokens", server=server, principal="a", issuer="b"),
        store_key("tokens", server=server, principal="ab"),
        store_key("tokens", server=server, holder=["ann"]),
        store_key("tokens", server=server, holder=["ann", None]),
        store_key("tokens", server=server, holder=[None, "ann"]),
    }
    assert len(keys) == 11
    assert all(key.replace("-", "").isalnum() for key in keys)
