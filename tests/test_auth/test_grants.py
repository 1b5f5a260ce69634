"""Programs that sign in as themselves, and employers who do it for their people."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fastapi_server.mcp import (
    AuthenticationError,
    ClientCredentials,
    ConfigError,
    EnterpriseManaged,
    HTTPMCPClient,
    MCPClientError,
    MCPConnectionError,
    WorkloadIdentity,
)
from fastapi_server.mcp.testing.authorization_server import (
    JWT_BEARER,
    TOKEN_EXCHANGE,
    AuthorizationServer,
    GuardedPeer,
    authorization_server,
    basic_credentials,
)

Make = Callable[..., HTTPMCPClient]
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"


async def list_tools(client: HTTPMCPClient) -> None:
    try:
        await client.list_tools()
    finally:
        await client.disconnect()


@pytest.fixture(autouse=True)
def without_a_page(issuer: AuthorizationServer) -> None:
    """Servers for programs have no authorization endpoint (RFC 8414, 2)."""
    issuer.metadata_changes = {"authorization_endpoint": None, "registration_endpoint": None}
    issuer.refreshes = False


async def test_client_secret_basic(client: Make, issuer: AuthorizationServer, peer: GuardedPeer) -> None:
    await list_tools(client(auth=ClientCredentials("a:b", client_secret="s/e+c r", scopes=["read"])))

    (form,) = issuer.forms
    assert basic_credentials(form) == ("a:b", "s/e+c r")
    assert form.fields == {"grant_type": "client_credentials", "resource": f"{peer.url}/mcp", "scope": "read"}


async def test_client_secret_post(client: Make, issuer: AuthorizationServer) -> None:
    auth = ClientCredentials("ours", client_secret="s3cret-1", token_endpoint_auth_method="client_secret_post")
    await list_tools(client(auth=auth))

    (form,) = issuer.forms
    assert (form.fields["client_id"], form.fields["client_secret"]) == ("ours", "s3cret-1")
    assert "Authorization" not in form.headers


async def test_private_key_jwt(client: Make, issuer: AuthorizationServer, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    auth: Any = {"client_id": "ours", "private_key": {"file": str(tmp_path / "key.pem")}}
    await list_tools(client(auth=ClientCredentials(**auth)))

    (form,) = issuer.forms
    assert form.fields["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    claims = jwt.decode(form.fields["client_assertion"], key.public_key(), ["ES256"], audience=issuer.issuer)
    assert (claims["iss"], claims["sub"]) == ("ours", "ours")
    assert claims["exp"] - claims["iat"] == 300


async def test_a_private_key_that_is_none(client: Make, issuer: AuthorizationServer) -> None:
    with pytest.raises(AuthenticationError, match="no key that signs with ES256"):
        await list_tools(client(auth=ClientCredentials("ours", private_key="no-key-at-all")))
    assert not issuer.forms


async def test_an_expired_token_is_got_anew(client: Make, issuer: AuthorizationServer) -> None:
    one = client(auth=ClientCredentials("ours", client_secret="s3cret-1"))
    await one.list_tools()
    issuer.revoke_all()
    await list_tools(one)

    assert issuer.grants() == ["client_credentials"] * 2


async def test_the_secret_goes_to_the_issuer_configured_and_no_other(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    auth = ClientCredentials("ours", client_secret="s3cret-1", issuer="https://ours.example")
    with pytest.raises(AuthenticationError, match=r"https://ours\.example"):
        await list_tools(client(auth=auth))
    assert not issuer.forms


async def test_workload_identity(client: Make, issuer: AuthorizationServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("the.workload.jwt\n")
    auth: Any = {"assertion": {"file": str(tmp_path / "token")}, "client_id": "job"}
    await list_tools(client(auth=WorkloadIdentity(**auth)))

    (form,) = issuer.forms
    assert form.grant == JWT_BEARER
    assert (form.fields["assertion"], form.fields["client_id"]) == ("the.workload.jwt", "job")


async def test_workload_identity_asks_a_callable_for_the_audience(client: Make, issuer: AuthorizationServer) -> None:
    asked: list[str] = []

    async def mint(audience: str) -> str:
        asked.append(audience)
        return "minted.jwt.here"

    await list_tools(client(auth=WorkloadIdentity(mint)))
    assert asked == [issuer.issuer]
    assert issuer.forms[0].fields["assertion"] == "minted.jwt.here"


@pytest.mark.parametrize("given", [None, "", b"a.j.wt"])
async def test_a_callable_that_gives_no_jwt_is_told_so(client: Make, issuer: AuthorizationServer, given: Any) -> None:
    async def mint(_audience: str) -> Any:
        return given

    with pytest.raises(MCPClientError, match=rf"auth\.assertion returned {type(given).__name__}, not a JWT"):
        await list_tools(client(auth=WorkloadIdentity(mint)))
    assert not issuer.forms


async def test_a_callable_that_fails_is_named_and_not_quoted(client: Make) -> None:
    async def mint(_audience: str) -> str:
        raise RuntimeError("planted-secret")

    with pytest.raises(AuthenticationError, match=r"auth\.assertion failed: RuntimeError") as raised:
        await list_tools(client(auth=WorkloadIdentity(mint)))
    assert "planted-secret" not in str(raised.value)


@pytest.mark.parametrize("error", ["invalid_grant", "invalid_scope", "unauthorized_client"])
async def test_a_refused_assertion_is_presented_once(client: Make, issuer: AuthorizationServer, error: str) -> None:
    issuer.fail.append((400, {"error": error, "error_description": "says no to the.workload.jwt"}))
    one = client(auth=WorkloadIdentity("the.workload.jwt"))
    assert not await one.connect()
    assert isinstance(one.last_error, AuthenticationError)
    assert one.last_error.status == 400
    assert f"{error}: says no to ***" in str(one.last_error)
    await one.disconnect()
    assert issuer.grants() == [JWT_BEARER]


async def test_a_missing_variable_is_named(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    auth: Any = {"assertion": {"env": "NO_SUCH_TOKEN"}}
    with pytest.raises((ConfigError, MCPConnectionError), match="NO_SUCH_TOKEN"):
        await list_tools(client(auth=WorkloadIdentity(**auth)))


@pytest.fixture
async def idp(nothing_left: None) -> AsyncIterator[AuthorizationServer]:
    async with authorization_server() as server:
        yield server


def enterprise(idp: AuthorizationServer, idp_client_secret: str | None = None) -> EnterpriseManaged:
    return EnterpriseManaged(
        "ours",
        client_secret="s3cret-1",
        idp_token_endpoint=f"{idp.url}/token",
        idp_client_id="at-the-idp",
        idp_client_secret=idp_client_secret,
        id_token="an.id.token",
    )


@pytest.mark.parametrize("secret", [{}, {"client_secret": "s3cret-2"}])
async def test_enterprise_managed(
    client: Make, issuer: AuthorizationServer, idp: AuthorizationServer, peer: GuardedPeer, secret: dict[str, str]
) -> None:
    """A client with a secret at the identity provider proves itself there, too (SEP-990, 4)."""

    def exchange(scope: str, bound: str = "") -> web.Response:
        return web.json_response({"access_token": "the.id.jag", "issued_token_type": ID_JAG, "token_type": "N_A"})

    idp.issue = exchange  # type: ignore[method-assign]
    idp.answers[TOKEN_EXCHANGE] = ""
    await list_tools(client(auth=enterprise(idp, secret.get("client_secret"))))

    (first,), (second,) = idp.forms, issuer.forms
    assert first.fields == {
        "grant_type": TOKEN_EXCHANGE,
        "requested_token_type": ID_JAG,
        "audience": issuer.issuer,
        "resource": f"{peer.url}/mcp",
        "subject_token": "an.id.token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "client_id": "at-the-idp",
        **secret,
    }
    assert (second.grant, second.fields["assertion"]) == (JWT_BEARER, "the.id.jag")
    assert basic_credentials(second) == ("ours", "s3cret-1")
    assert "s3cret-2" not in str(second)


async def test_an_identity_provider_that_refuses_is_named(
    client: Make, issuer: AuthorizationServer, idp: AuthorizationServer
) -> None:
    idp.fail = [(400, {"error": "invalid_grant"})] * 9
    with pytest.raises(AuthenticationError, match=rf"{idp.url}/token gives no token \(HTTP 400\): invalid_grant"):
        await list_tools(client(auth=enterprise(idp)))
    assert not issuer.forms


@pytest.mark.parametrize("answer", [None, "<!doctype html>", "[]", '{"issued_token_type": 5}'])
async def test_what_is_no_id_jag_goes_nowhere(
    client: Make,
    issuer: AuthorizationServer,
    idp: AuthorizationServer,
    monkeypatch: pytest.MonkeyPatch,
    answer: str | None,
) -> None:
    async def say(_request: web.Request) -> web.Response:
        return web.Response(text=answer)

    idp.answers[TOKEN_EXCHANGE] = ""
    if answer is not None:
        monkeypatch.setattr(idp, "_token", say)
    with pytest.raises(MCPClientError, match="something else than an ID-JAG"):
        await list_tools(client(auth=enterprise(idp)))
    assert not issuer.forms


def test_settings_show_no_secret(idp: AuthorizationServer) -> None:
    shown = repr(enterprise(idp)) + repr(WorkloadIdentity("the.workload.jwt"))
    assert "s3cret-1" not in shown
    assert "the.workload" not in shown
    assert json.dumps(shown)
