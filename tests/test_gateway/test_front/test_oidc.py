"""Bearer tokens against a real issuer."""

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from fastapi_server.gateway.front.issuer_keys import IssuerUnavailable
from fastapi_server.gateway.front.oidc import TokenRefused, TokenVerifier
from tests.test_gateway.gateways import gateway
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
        watcher = await verifier.caller(one.token(scope="mcp:metrics"))
        assert (watcher.admin, watcher.metrics) == (False, True)
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


@pytest.mark.parametrize(
    ("claim", "seconds", "why"), [("exp", -60, "expired"), ("nbf", 600, "not good"), ("iat", 600, "not good")]
)
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
        verifier = TokenVerifier(one.url, AUDIENCE, cooldown=0)
        one.down = True
        with pytest.raises(IssuerUnavailable, match=r"keys of .* answers 503"):
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


async def test_an_issuer_that_is_down_is_not_asked_for_each_token() -> None:
    async with issuer() as one:
        verifier = TokenVerifier(one.url, AUDIENCE)
        one.down = True
        for _ in range(5):
            with pytest.raises(IssuerUnavailable):
                await verifier.caller(one.token())
        assert one.fetches == 1


async def test_keys_stay_good_while_the_issuer_is_down() -> None:
    async with issuer() as one:
        verifier = TokenVerifier(one.url, AUDIENCE, cooldown=0)
        await verifier.caller(one.token())
        one.down = True
        good = one.token()
        one.rotate("unknown")
        with pytest.raises(TokenRefused):
            await verifier.caller(one.token())
        assert one.fetches == 2
        assert (await verifier.caller(good)).name == "ann"


async def test_many_tokens_at_once_make_us_ask_once() -> None:
    async with issuer() as one:
        verifier = TokenVerifier(one.url, AUDIENCE)
        await asyncio.gather(*(verifier.caller(one.token()) for _ in range(20)))
        assert one.fetches == 1


async def test_an_issuer_that_sends_us_elsewhere_is_not_followed() -> None:
    async with issuer() as one, issuer() as other:
        one.elsewhere = f"{other.url}/keys"
        with pytest.raises(IssuerUnavailable, match="answers 302"):
            await TokenVerifier(one.url, AUDIENCE).caller(one.token())
        assert other.fetches == 0


async def test_an_issuer_that_says_too_much() -> None:
    async with issuer() as one:
        one.padding = 2_000_000
        with pytest.raises(IssuerUnavailable, match="more than"):
            await TokenVerifier(one.url, AUDIENCE).caller(one.token())


async def test_secrets_among_the_keys_and_keys_for_encryption_sign_nothing() -> None:
    async with issuer() as one:
        secret = base64.urlsafe_b64encode(b"s" * 32).decode().rstrip("=")
        (signing,) = one.keys.values()
        encrypting = {**json.loads(ECAlgorithm.to_jwk(signing.public_key())), "kid": "enc", "use": "enc"}
        one.more_keys = [{"kty": "oct", "kid": "shared", "k": secret}, encrypting]
        verifier = TokenVerifier(one.url, AUDIENCE)
        assert (await verifier.caller(one.token())).name == "ann"
        for kid in ("shared", "enc"):
            forged = jwt.encode({"iss": one.url, "sub": "ann", "aud": AUDIENCE}, signing, "ES256", headers={"kid": kid})
            with pytest.raises(TokenRefused, match="no key of the issuer"):
                await verifier.caller(forged)


async def test_an_rsa_key_that_names_no_algorithm_signs_with_any_of_its_own() -> None:
    async with issuer() as one:
        signing = rsa.generate_private_key(65537, 2048)
        one.more_keys = [{**json.loads(RSAAlgorithm.to_jwk(signing.public_key())), "kid": "rsa"}]
        verifier = TokenVerifier(one.url, AUDIENCE)
        claims = {"iss": one.url, "sub": "ann", "aud": AUDIENCE, "exp": time.time() + 600}
        for algorithm in ("RS256", "PS256", "RS512"):
            token = jwt.encode(claims, signing, algorithm, headers={"kid": "rsa"})
            assert (await verifier.caller(token)).name == "ann"
        (other,) = one.keys.values()
        with pytest.raises(TokenRefused, match="not good"):
            await verifier.caller(jwt.encode(claims, other, "ES256", headers={"kid": "rsa"}))


async def test_a_gateway_starts_while_the_issuer_is_down(tmp_path: Path, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with issuer() as one, gateway(tmp_path, oidc_issuer=url, oidc_audience=AUDIENCE) as served:
        answer = await served.get("/api/servers", headers={"authorization": f"Bearer {one.token()}"})
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert (await served.get("/health")).status == 200
