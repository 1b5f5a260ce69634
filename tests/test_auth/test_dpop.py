"""Tokens bound to a key (RFC 9449); the servers check every proof."""

import asyncio
from collections.abc import Callable, Iterable

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from fastapi_server.mcp import AuthenticationError, ClientCredentials, HTTPMCPClient, MemoryTokenStore
from fastapi_server.mcp.auth import dpop
from fastapi_server.mcp.auth.dpop import MOST_NONCES, ProofKey
from fastapi_server.mcp.testing.authorization_server import AuthorizationServer, Form, GuardedPeer, proof_in, thumbprint
from fastapi_server.mcp.testing.http_peer import Seen
from tests.test_auth.conftest import Person

Make = Callable[..., HTTPMCPClient]


async def test_every_request_carries_a_proof_of_its_own(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    issuer.dpop = True
    async with client(dpop=True) as one:
        await one.list_tools()
        await one.call_tool("echo", {})

    assert len(peer.proofs) >= 3
    assert len({proof["jkt"] for proof in peer.proofs}) == 1


async def test_who_binds_no_tokens_renews_with_their_key_those_that_somebody_else_has_bound(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, person: Person
) -> None:
    issuer.dpop = True
    async with client(dpop=True) as bound, client() as other:
        issuer.revoke_all()
        await other.call_tool("echo", {})
        await bound.call_tool("echo", {})
    first, renewal = issuer.forms
    assert renewal.grant == "refresh_token"
    assert thumbprint_in(first) == thumbprint_in(renewal)
    assert len({proof["jkt"] for proof in peer.proofs}) == len(person.opened) == 1


def thumbprint_in(form: Form) -> str:
    return thumbprint(jwt.get_unverified_header(form.headers["DPoP"])["jwk"])


async def test_nonces_of_both_servers_are_kept_to(client: Make, issuer: AuthorizationServer, peer: GuardedPeer) -> None:
    issuer.dpop, issuer.nonce, peer.nonce = True, "of-the-issuer", "of-the-server"
    async with client(dpop=True) as one:
        await one.call_tool("echo", {})
        peer.nonce = "the-next-one"
        await one.call_tool("echo", {})
        await one.call_tool("echo", {})

    assert issuer.grants() == ["authorization_code"] * 2
    assert peer.refused == [401, 401, 401]


async def test_a_nonce_is_asked_for_beside_a_challenge_for_bearer_tokens(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, person: Person
) -> None:
    issuer.dpop = True
    peer.challenges_before = ['Bearer error="invalid_token"']
    async with client(dpop=True) as one:
        for nonce in ("one", "another"):
            peer.nonce = nonce
            await one.call_tool("echo", {})
    assert len(person.opened) == 1
    assert issuer.grants() == ["authorization_code"]


async def test_fifty_calls_at_once_with_nonces_that_are_good_once(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    issuer.dpop = True
    async with client(dpop=True) as one:
        peer.single_use_nonces = set()
        await asyncio.gather(*(one.call_tool("echo", {"n": n}) for n in range(50)))


async def test_twenty_callers_with_nonces_that_change_all_the_time(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    issuer.dpop = True
    async with client(dpop=True) as one:
        peer.nonce, peer.nonce_lasts = "first", 3
        for _ in range(3):
            await asyncio.gather(*(one.call_tool("echo", {"n": n}) for n in range(20)))
    assert issuer.grants() == ["authorization_code"]


async def test_a_client_without_a_key_keeps_to_no_nonce(
    client: Make, issuer: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[web.Request]()

    async def demand(request: web.Request) -> web.Response:
        asked.append(request)
        return web.json_response({"error": "use_dpop_nonce"}, status=400, headers={"DPoP-Nonce": f"nonce-{len(asked)}"})

    monkeypatch.setattr(issuer, "_token", demand)
    one = client(auth=ClientCredentials("nightly", client_secret="s3cret-of-ours"))
    with pytest.raises(AuthenticationError, match="use_dpop_nonce"):
        await one.list_tools()
    await one.disconnect()
    assert len(asked) == 1


async def test_ten_sign_ins_with_nonces_that_change_all_the_time(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer, store: MemoryTokenStore
) -> None:
    issuer.dpop, issuer.nonce, issuer.nonce_lasts = True, "first", 3
    auth = ClientCredentials("nightly", client_secret="s3cret-of-ours", dpop=True, store=store)
    clients = [client(auth=auth, principal=str(number)) for number in range(10)]
    await asyncio.gather(*(one.list_tools() for one in clients))
    for one in clients:
        await one.disconnect()
    assert len(issuer.granted) == 10


@pytest.mark.parametrize(("nonces", "requests"), [(["same"] * 9, 2), (map(str, range(100)), 1 + MOST_NONCES)])
async def test_a_server_that_is_content_with_no_nonce(
    client: Make,
    issuer: AuthorizationServer,
    peer: GuardedPeer,
    monkeypatch: pytest.MonkeyPatch,
    nonces: Iterable[str],
    requests: int,
) -> None:
    monkeypatch.setattr(dpop, "_LONGEST_WAIT", 0.0)
    issuer.dpop, given = True, iter(nonces)

    @peer.on("tools/call")
    async def _(seen: Seen) -> web.StreamResponse:
        headers = {"WWW-Authenticate": 'DPoP error="use_dpop_nonce"', "DPoP-Nonce": next(given)}
        return web.Response(status=401, headers=headers)

    async with client(dpop=True) as one:
        with pytest.raises(AuthenticationError):
            await one.call_tool("echo", {})
    assert peer.methods().count("tools/call") == requests
    assert issuer.grants() == ["authorization_code"]


async def test_an_authorization_server_that_is_content_with_no_nonce(
    client: Make, issuer: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dpop, "_LONGEST_WAIT", 0.0)
    nonces = list[object]()

    async def demand(request: web.Request) -> web.Response:
        nonces.append(proof_in(request).get("nonce"))
        headers = {"DPoP-Nonce": f"nonce-{len(nonces)}"}
        return web.json_response({"error": "use_dpop_nonce"}, status=400, headers=headers)

    monkeypatch.setattr(issuer, "_token", demand)
    one = client(auth=ClientCredentials("nightly", client_secret="s3cret-of-ours", dpop=True))
    with pytest.raises(AuthenticationError, match="use_dpop_nonce"):
        await one.list_tools()
    await one.disconnect()
    assert len(nonces) == len(set(nonces)) == 1 + MOST_NONCES


async def test_the_key_outlives_the_process_with_the_token(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    issuer.dpop = True
    for _ in range(2):
        async with client(dpop=True) as one:
            await one.list_tools()

    assert issuer.grants() == ["authorization_code"]
    assert len({proof["jkt"] for proof in peer.proofs}) == 1


async def test_a_refresh_is_bound_to_the_same_key(client: Make, issuer: AuthorizationServer, peer: GuardedPeer) -> None:
    issuer.dpop = True
    async with client(dpop=True) as one:
        issuer.revoke_all()
        await one.list_tools()

    assert issuer.grants() == ["authorization_code", "refresh_token"]
    assert len({proof["jkt"] for proof in peer.proofs}) == 1


async def test_a_token_kept_from_before_that_is_not_bound_is_not_used(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    async with client():
        pass
    issuer.dpop = True
    async with client(dpop=True) as one:
        await one.list_tools()
    assert issuer.grants() == ["authorization_code"] * 2
    assert len(peer.proofs) == 2


async def test_a_token_that_is_not_bound_is_not_used(
    client: Make, issuer: AuthorizationServer, peer: GuardedPeer
) -> None:
    one = client(dpop=True)
    assert not await one.connect()
    assert isinstance(one.last_error, AuthenticationError)
    assert "gave a token of type Bearer, where it must be DPoP (config: auth.dpop)" in str(one.last_error)
    assert not any(peer.tokens)
    await one.disconnect()


def test_a_proof_says_what_the_rfc_wants() -> None:
    key = ProofKey()
    proof = key.proof("POST", "https://h.example/mcp?secret=1#part", nonce="n", token="t")
    header = jwt.get_unverified_header(proof)
    claims = jwt.decode(proof, jwt.PyJWK(header["jwk"], "ES256"), algorithms=["ES256"])

    assert header["typ"] == "dpop+jwt"
    assert set(header["jwk"]) == {"kty", "crv", "x", "y"}
    assert claims["htu"] == "https://h.example/mcp"
    assert (claims["htm"], claims["nonce"]) == ("POST", "n")
    assert set(claims) == {"jti", "htm", "htu", "iat", "nonce", "ath"}
    assert thumbprint(header["jwk"]) == key.thumbprint == ProofKey(key.pem).thumbprint
    assert "PRIVATE" not in repr(key)


def pem_of(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, password: bytes | None = None) -> str:
    how = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()


P256 = ec.generate_private_key(ec.SECP256R1())
NO_KEYS = {
    "no PEM": "planted-secret",
    "another curve": pem_of(ec.generate_private_key(ec.SECP384R1())),
    "another kind": pem_of(ed25519.Ed25519PrivateKey.generate()),
    "under a password": pem_of(P256, b"planted-secret"),
}


@pytest.mark.parametrize("pem", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_key_for_proofs(pem: str) -> None:
    assert ProofKey(pem_of(P256)).pem == pem_of(P256)
    with pytest.raises(ValueError, match=r"no P-256 key|PEM") as raised:
        ProofKey(pem)
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_two_proofs_are_never_the_same(method: str) -> None:
    key = ProofKey()
    assert key.proof(method, "https://h.example/") != key.proof(method, "https://h.example/")
