"""Which hosts and origins are ours, what browsers are told, and how large a request may be."""

from pathlib import Path

import pytest

from fastapi_server.gateway.front.guard import host_is_allowed, origin_is_allowed
from tests.test_gateway.gateways import gateway


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("127.0.0.1:8000", True),
        ("127.9.9.9", True),
        ("[::1]:8000", True),
        ("gw.example", True),
        ("GW.example", True),
        ("gw.example:1", False),
        ("any.example:5", True),
        ("any.example", True),
        ("one.example:443", True),
        ("one.example:444", False),
        ("one.example", False),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("0.0.0.0", False),
        ("evil@localhost", False),
        ("localhost/x", False),
        ("localhost:x", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_hosts(host: str, allowed: bool) -> None:
    assert host_is_allowed(host, ["gw.example", "any.example:*", "one.example:443"]) == allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", True),
        ("https://[::1]", True),
        ("https://gw.example", True),
        ("https://pages.example", True),
        ("http://pages.example", False),
        ("https://evil.example", False),
        ("null", False),
        ("vscode://localhost", False),
        ("", False),
    ],
)
def test_origins(origin: str, allowed: bool) -> None:
    assert origin_is_allowed(origin, "gw.example", ["https://pages.example"]) == allowed


async def test_a_rebound_host_and_a_foreign_page_are_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        rebound = await served.get("/api/keys", headers={"host": "evil.example"})
        assert rebound.status == 421
        assert (await rebound.json(content_type=None))["title"] == "Misdirected Request"
        foreign = await served.request("POST", "/api/keys", headers={"origin": "https://evil.example"}, json={})
        assert foreign.status == 403
        assert foreign.content_type == "application/problem+json"
        assert "evil.example" in (await foreign.json(content_type=None))["detail"]
        assert (await served.get("/api/keys", headers={"origin": "http://localhost:3000"})).status == 200


async def test_browsers_are_told_what_pages_may_do(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        for path in ("/api/keys", "/nowhere", "/docs"):
            headers = (await served.get(path)).headers
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert "access-control-allow-origin" not in headers
        assert "cdn" not in (await served.get("/api/keys")).headers["content-security-policy"]


async def test_a_large_request_is_refused_declared_or_not(tmp_path: Path) -> None:
    async def chunks():
        for _ in range(20):
            yield b"x" * 100

    async with gateway(tmp_path, max_request_bytes=1_000) as served:
        json = {"content-type": "application/json"}
        assert (await served.request("POST", "/api/keys", data=b"x" * 1_001, headers=json)).status == 413
        assert (await served.request("POST", "/api/keys", data=chunks(), headers=json)).status == 413
        assert (await served.request("POST", "/api/keys", data=b"x" * 1_000, headers=json)).status == 422


async def test_pages_of_other_origins_read_answers_where_they_may(tmp_path: Path) -> None:
    origin = "https://pages.example"
    async with gateway(tmp_path, cors_origins=[origin], require_key=True) as served:
        asked = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-api-key",
        }
        preflight = await served.request("OPTIONS", "/api/keys", headers=asked)
        assert preflight.status == 200
        assert preflight.headers["access-control-allow-origin"] == origin
        assert "x-api-key" in preflight.headers["access-control-allow-headers"]
        refused = await served.get("/api/keys", headers={"origin": origin})
        assert refused.status == 401
        assert refused.headers["access-control-allow-origin"] == origin
        assert "WWW-Authenticate" in refused.headers["access-control-expose-headers"]
