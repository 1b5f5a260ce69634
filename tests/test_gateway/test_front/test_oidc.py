"""Bearer tokens against a real issuer."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fastapi_server.gateway.front.oidc import IssuerUnavailable, TokenRefused, TokenVerifier
from tests.test_gateway.test_front.issuer import AUDIENCE, issuer


async def test_what_a_token_gives() -> None:
    async with issuer() as one:
        verifier = TokenVerifier(one.url, AUDIENCE)
        caller = await verifier.caller(one.token())
        assert (caller.name, caller.principal, caller.admin) == ("ann", f"{one.url}#ann", False)
        assert caller.servers is None
        token = one.token(
            preferred_username="Ann",
            scope="openid mcp:admin",
            mcp_servers=["weather"],
            mcp_tools=["weather__*"],
            mcp_tools_denied=["weather__delete"],
        )
        caller = await verifier.caller(token)
        assert (caller.name, caller.admin, caller.servers) == ("Ann", True, ["weather"])
        assert (caller.tools.allow, caller.tools.deny) == (["weather__*"], ["weather__delete"])
        assert (await verifier.caller(one.token(scp=["mcp:admin"]))).admin
        assert one.fetches == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exp": None}, "no exp"),
        ({"aud": "https://other.example"}, "not meant"),
        ({"aud": None}, "no aud|not meant"),
        ({"iss": "https://other.example"}, "another issuer"),
        ({"sub": None}, "no sub"),
        ({"sub": ""}, "claims"),
        ({"mcp_servers": "all"}, "claims"),
    ],
)
async def test_a_token_that_is_not_good(changes: dict[str, Any], why: str) -> None:
    async with issuer() as one:
        with pytest.raises(TokenRefused, match=why):
            await TokenVerifier(one.url, AUDIENCE).caller(one.token(**changes))


@pytest.mark.parametrize(("claim", "seconds", "why"), [("exp", -60, "expired"), ("nbf", 600, "not good")])
async def test_a_token_before_or_after_its_time(claim: str, seconds: int, why: str) -> None:
    async with issuer() as one:
        with pytest.raises(TokenRefused, match=why):
            await TokenVerifier(one.url, AUDIENCE).caller(one.token(**{claim: time.time() + seconds}))


async def test_a_token_signed_with_another_key_of_the_same_name() -> None:
    async with issuer() as one:
        verifier = TokenVerifier(one.url, AUDIENCE)
        await verifier.caller(one.token())
        one.keys = {"first": ec.generate_private_key(ec.SECP256R1())}
        with pytest.raises(TokenRefused, match="not good"):
            await verifier.caller(one.token())


@pytest.mark.parametrize("algorithm", ["HS256", "none"])
async def test_only_asymmetric_algorithms(algorithm: str) -> None:
    async with issuer() as one:
        claims = {"iss": one.url, "sub": "ann", "aud": AUDIENCE, "exp": time.time() + 600}
        secret = "s" * 32 if algorithm == "HS256" else ""
        token = jwt.encode(claims, secret, algorithm, headers={"kid": "first"})
        with pytest.raises(TokenRefused, match="algorithm"):
            await TokenVerifier(one.url, AUDIENCE).caller(token)
        assert one.fetches == 0


async def test_keys_are_rotated() -> None:
    async with issuer() as one:
        verifier = TokenVerifier(one.url, AUDIENCE, cooldown=0)
        await verifier.caller(one.token())
        one.rotate("second")
        assert (await verifier.caller(one.token())).name == "ann"
        assert one.fetches == 2


async def test_unknown_keys_do_not_make_us_ask_again_and_again() -> None:
    async with issuer() as one:
        verifier = TokenVerifier(one.url, AUDIENCE)
        await verifier.caller(one.token())
        one.rotate("unknown")
        for _ in range(3):
            with pytest.raises(TokenRefused):
                await verifier.caller(one.token())
        assert one.fetches == 1


async def test_an_issuer_that_cannot_be_asked() -> None:
    async with issuer() as one:
        verifier = TokenVerifier(one.url, AUDIENCE)
        one.down = True
        with pytest.raises(IssuerUnavailable, match="keys"):
            await verifier.caller(one.token())
        one.down = False
        assert (await verifier.caller(one.token())).name == "ann"
    with pytest.raises(IssuerUnavailable, match="metadata"):
        await TokenVerifier(one.url, AUDIENCE).caller(one.token())


async def test_an_issuer_that_is_another_one() -> None:
    async with issuer() as one:
        one.says = "https://other.example"
        with pytest.raises(IssuerUnavailable, match=r"other\.example"):
            await TokenVerifier(one.url, AUDIENCE).caller(one.token())
