"""Every error over REST is a problem (RFC 9457), whoever refuses."""

import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from fastapi_server.gateway.front.keys import KeyGrant, KeyRing
from fastapi_server.gateway.problems import problem_of
from fastapi_server.gateway.store import Store
from fastapi_server.mcp import ClientClosedError, Delivery
from tests.test_gateway.gateways import Served, gateway


async def problem(served: Served, method: str, path: str, **options: Any) -> dict[str, Any]:
    answer = await served.request(method, path, **options)
    found = await answer.json(content_type="application/problem+json")
    assert found["status"] == answer.status
    assert found["type"]
    assert found["title"]
    return found


async def chunks() -> AsyncGenerator[bytes]:
    for _ in range(20):
        yield b"x" * 100


@pytest.mark.parametrize("path", ["/api/servers", "/mcp", "/nowhere"])
async def test_a_body_that_is_too_large(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path, max_request_bytes=1_000) as served:
        for body in (b"x" * 1_001, chunks()):
            found = await problem(served, "POST", path, data=body)
            assert (found["status"], found["detail"]) == (413, "more than 1000 bytes")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/dashboard/nowhere.js", 404),
        ("POST", "/nowhere", 404),
        ("PATCH", "/api/servers", 405),
        ("POST", "/", 405),
        ("POST", "/dashboard/app.js", 405),
        ("POST", "/api/keys", 422),
    ],
)
async def test_what_is_not_there_or_not_right(tmp_path: Path, method: str, path: str, status: int) -> None:
    async with gateway(tmp_path) as served:
        assert (await problem(served, method, path))["status"] == status


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/servers", "GET, POST"),
        ("/api/servers/one", "GET, PUT, DELETE"),
        ("/", "GET, HEAD"),
        ("/health", "GET, HEAD"),
        ("/ready", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/api/tools", "GET"),
        ("/dashboard/app.js", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_allowed_is_told_which_are(tmp_path: Path, path: str, allowed: str) -> None:
    async with gateway(tmp_path) as served:
        answer = await served.request("PATCH", path)
        assert (answer.status, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/api/servers", "/mcp"])
async def test_who_is_not_let_in(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path, require_key=True, rate_limit="1/minute") as served:
        assert (await problem(served, "GET", path))["status"] == 401
        assert (await problem(served, "GET", path, headers={"host": "evil.example"}))["status"] == 421
        assert (await problem(served, "GET", path, headers={"origin": "https://evil.example"}))["status"] == 403
        key, _ = await served.app.state.key_ring.make(KeyGrant("ann"))
        await served.get(path, headers={"x-api-key": key})
        assert (await problem(served, "GET", path, headers={"x-api-key": key}))["status"] == 429


async def test_what_is_wrong_says_what_to_do(tmp_path: Path) -> None:
    async with gateway(tmp_path, require_key=True) as served:
        bad = await problem(served, "GET", "/api/servers", headers={"x-api-key": "mcpgw_none"})
        assert "revoked" in bad["detail"]
        assert "X-API-Key" in bad["detail"]
        key, _ = await served.app.state.key_ring.make(KeyGrant("ann", admin=True))
        headers = {"x-api-key": key}
        nowhere = await problem(served, "GET", "/tools/list", headers=headers)
        assert "/mcp" in nowhere["detail"]
        plain = {**headers, "content-type": "text/plain"}
        unread = await problem(served, "POST", "/api/keys", headers=plain, data=b'{"name": "bob"}')
        assert "Content-Type: application/json" in unread["detail"]
        unknown = await problem(served, "POST", "/api/servers", headers=headers, json={"name": "a", "entri": {}})
        assert "body.entri" in unknown["detail"]


async def test_a_gateway_that_ends_or_has_no_database(tmp_path: Path, sqlite: str) -> None:
    async with Store(sqlite) as store:
        key, _ = await KeyRing(store).make(KeyGrant("ann"))
    async with gateway(tmp_path) as served:
        with pytest.MonkeyPatch.context() as patching:
            nowhere = async_sessionmaker(create_async_engine("sqlite+aiosqlite:////nowhere/gateway.db"))
            patching.setattr(served.app.state.store, "_reading", nowhere)
            assert (await problem(served, "GET", "/api/servers", headers={"x-api-key": key}))["status"] == 503
            assert (await problem(served, "GET", "/api/keys"))["status"] == 503
        served.app.state.draining.begun.set()
        assert (await problem(served, "GET", "/api/servers"))["status"] == 503


@pytest.mark.parametrize("path", ["/api/servers", "/mcp"])
async def test_a_mistake_of_ours_is_logged_and_tells_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async with gateway(tmp_path) as served:

        def mistaken(*_: Any) -> None:
            raise RuntimeError("s3cr3t")

        monkeypatch.setattr(served.app.state.endpoint, "_sessions", mistaken)
        monkeypatch.setattr("fastapi_server.gateway.rest.overview.summaries", mistaken)
        monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
        found = await problem(served, "GET", path)
        assert found["status"] == 500
        assert "s3cr3t" not in str(found)
        assert "Traceback" not in str(found)
        assert "s3cr3t" in caplog.text


@pytest.mark.parametrize(("delivery", "status"), [(Delivery.NOT_SENT, 503), (Delivery.UNKNOWN, 504)])
def test_only_what_was_not_done_is_answered_with_a_status_that_has_it_done_again(
    delivery: Delivery, status: int
) -> None:
    assert problem_of(ClientClosedError("the client was closed", delivery=delivery)).status == status
