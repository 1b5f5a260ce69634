"""Whose tokens are whose: what of a configuration tells one holder from another, and what tells identities apart."""

from typing import Any

import pytest

from fastapi_server.mcp import ClientCredentials, EnterpriseManaged, OAuth, Secret, WorkloadIdentity
from fastapi_server.mcp.auth.holders import holder_of, identity_of


async def somebody(_audience: str) -> str:
    return "jwt"


def enterprise(id_token: Any, idp: str = "https://idp.example/token") -> EnterpriseManaged:
    return EnterpriseManaged(
        "app", client_secret="s3cret", idp_client_id="app", idp_token_endpoint=idp, id_token=id_token
    )


def test_no_two_are_one() -> None:
    configured = [
        (enterprise("id-token-of-ann"), "a"),
        (enterprise("id-token-of-bob"), "a"),
        (enterprise("id-token-of-ann", "https://other.example/token"), "a"),
        (enterprise(Secret(env="ANN")), "a"),
        (enterprise(Secret(env="BOB")), "a"),
        (enterprise(somebody), "a"),
        (enterprise(somebody), "b"),  # the same function may speak for somebody else there
        (WorkloadIdentity("jwt-of-one"), "a"),
        (WorkloadIdentity("jwt-of-two"), "a"),
        (ClientCredentials("app", client_secret="s"), "a"),
        (ClientCredentials("app", client_secret="s", scopes=["read"]), "a"),
        (ClientCredentials("app", client_secret="s", scopes=["admin"]), "a"),
        (ClientCredentials("app", client_secret="s", issuer="https://login.example"), "a"),
        (OAuth("app"), "a"),
        (OAuth(), "a"),
        (OAuth(client_metadata_url="https://app.example/client"), "a"),
    ]
    known = {str([holder_of(config), identity_of(config, own)]) for config, own in configured}
    assert len(known) == len(configured)
    assert "id-token-of-ann" not in str(known)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ClientCredentials("a", client_secret="s"), ClientCredentials("a", client_secret="t")),
        (OAuth(scopes=["a", "b"]), OAuth(scopes=["b", "a"])),
        (OAuth(client_name="desk", redirect_uri="http://127.0.0.1:1/"), OAuth(redirect_uri="http://127.0.0.1:2/")),
        (enterprise(Secret(env="ANN")), enterprise(Secret(env="ANN"))),
    ],
)
def test_what_makes_no_other_holder(one: Any, other: Any) -> None:
    assert (holder_of(one), identity_of(one, "x")) == (holder_of(other), identity_of(other, "y"))


@pytest.mark.parametrize("sources", [("jwt-of-today", "jwt-of-tomorrow"), (somebody, enterprise)])
def test_an_assertion_that_changes_leaves_no_trail_in_the_store(sources: tuple[Any, Any]) -> None:
    one, other = (WorkloadIdentity(source) for source in sources)
    assert holder_of(one) == holder_of(other)
