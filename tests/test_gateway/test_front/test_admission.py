"""Who is let in, as whom, and what is said to those who are not."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse

from fastapi_server.gateway import Settings
from fastapi_server.gateway.caller import ANYONE, SCOPE_KEY
from fastapi_server.gateway.draining import Draining
from fastapi_server.gateway.front.admission import Admission
from fastapi_server.gateway.front.door import front_door
from fastapi_server.gateway.front.keys import KeyGrant, KeyRing
from fastapi_server.gateway.front.rates import Rates
from fastapi_server.gateway.store import Store
from tests.test_gateway.gateways import gateway, serving, settings_at
from tests.test_gateway.test_front.issuer import AUDIENCE, issuer


def mirror(settings: Settings, ring: KeyRing) -> FastAPI:
    """Behind the whole front door: tells who it thinks is calling."""
    app = FastAPI(middleware=front_door(settings, ring, Draining()))

    async def who(request: Request) -> dict[str, Any]:
        caller = request.scope[SCOPE_KEY]
        return {"name": caller.name, "principal": caller.principal, "admin": caller.admin}

    for path in ("/who", "/mcp", "/mcp/weather", "/", "/dashboard/a.js", "/health"):
        app.add_api_route(path, who, methods=["GET", "POST"])
    return app


async def test_nobody_has_to_say_who_they_are_on_this_machine(tmp_path: Path, sqlite: str) -> None:
    async with Store(sqlite) as store, serving(mirror(settings_at(tmp_path), KeyRing(store))) as served:
        answer = await served.get("/who")
        assert await answer.json() == {"name": "anonymous", "principal": None, "admin": True}


async def test_a_key_is_taken_from_either_header(tmp_path: Path, sqlite: str) -> None:
    async with Store(sqlite) as store:
        ring = KeyRing(store)
        key, _ = await ring.make(KeyGrant("ann", principal="ann"))
        async with serving(mirror(settings_at(tmp_path, require_key=True), ring)) as served:
            for headers in (
                {"authorization": f"Bearer {key}"},
                {"authorization": f"bearer  {key}"},
                {"x-api-key": key},
            ):
                answer = await served.get("/who", headers=headers)
                assert await answer.json() == {"name": "ann", "principal": "ann", "admin": False}


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    "headers",
    [{"x-api-key": "mcpgw_1_2"}, {"authorization": "Bearer x"}, {"authorization": "Basic YTpi"}, {"x-api-key": ""}],
)
async def test_what_is_brought_must_be_good(
    tmp_path: Path, sqlite: str, required: bool, headers: dict[str, str]
) -> None:
    async with Store(sqlite) as store:
        app = mirror(settings_at(tmp_path, require_key=required), KeyRing(store))
        async with serving(app) as served:
            for path in ("/who", "/", "/health"):
                answer = await served.get(path, headers=headers)
                assert answer.status == 401
                assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_only_open_pages_are_served_to_who_brings_nothing(tmp_path: Path, sqlite: str) -> None:
    async with Store(sqlite) as store:
        app = mirror(settings_at(tmp_path, require_key=True), KeyRing(store))
        async with serving(app) as served:
            for path in ("/", "/dashboard/a.js", "/health"):
                answer = await served.get(path)
                assert await answer.json() == {"name": "anonymous", "principal": None, "admin": False}
                assert (await served.request("POST", path)).status == 401
            for path in ("/who", "/mcp", "/mcp/weather", "//who", "/dashboard/../who"):
                answer = await served.get(path)
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), path


async def test_open_pages_have_a_head_too(tmp_path: Path) -> None:
    async with gateway(tmp_path, require_key=True) as served:
        for path in ("/", "/health", "/ready", "/openapi.json", "/dashboard/app.js"):
            whole, head = await served.get(path), await served.request("HEAD", path)
            assert head.status == whole.status, path
            assert head.headers["content-type"] == whole.headers["content-type"]
            assert "head" not in served.app.openapi()["paths"].get(path, {})


async def test_who_is_not_on_this_machine_needs_a_key_whatever_the_settings(sqlite: str) -> None:
    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope[SCOPE_KEY])

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    seen: list[Any] = []
    statuses: list[Any] = []
    async with Store(sqlite) as store:
        admission = Admission(
            app, key_ring=KeyRing(store), verifier=None, must_identify=False, refusals=Rates("9/minute")
        )
        for client in (("127.0.0.1", 1), ("::1", 1), None, ("192.0.2.1", 1)):
            scope = {"type": "http", "method": "GET", "path": "/who", "headers": [], "client": client}
            await admission(scope, asyncio.Event().wait, send)  # pyright: ignore[reportArgumentType]
    assert seen == [ANYONE] * 3
    assert statuses[0] == 401


async def test_a_token_makes_its_subject_the_principal(tmp_path: Path, sqlite: str) -> None:
    async with issuer() as one, Store(sqlite) as store:
        ring = KeyRing(store)
        key, _ = await ring.make(KeyGrant("robot", principal="robot"))
        settings = settings_at(tmp_path, oidc_issuer=one.url, oidc_audience=AUDIENCE)
        async with serving(mirror(settings, ring)) as served:
            token = one.token(scope="mcp:admin")
            answer = await served.get("/who", headers={"authorization": f"Bearer {token}"})
            assert await answer.json() == {"name": "ann", "principal": f"{one.url}#ann", "admin": True}
            answer = await served.get("/who", headers={"authorization": f"Bearer {key}"})
            assert (await answer.json())["name"] == "robot"
            assert (await served.get("/who")).status == 401
            one.down, one.keys = True, {}
            one.rotate("unknown")
            answer = await served.get("/who", headers={"authorization": f"Bearer {one.token()}"})
            assert answer.status == 401


async def test_who_cannot_be_checked_is_told_to_come_back(tmp_path: Path, sqlite: str) -> None:
    async with issuer() as one, Store(sqlite) as store:
        one.down = True
        settings = settings_at(tmp_path, oidc_issuer=one.url, oidc_audience=AUDIENCE)
        async with serving(mirror(settings, KeyRing(store))) as served:
            answer = await served.get("/who", headers={"authorization": f"Bearer {one.token()}"})
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")


async def test_mcp_clients_learn_who_issues_tokens(tmp_path: Path) -> None:
    async with issuer() as one, gateway(tmp_path, oidc_issuer=one.url, oidc_audience=AUDIENCE) as served:
        for path in ("/mcp", "/mcp/weather"):
            answer = await served.request("POST", path)
            url = f"{served.url}/.well-known/oauth-protected-resource{path}"
            assert answer.headers["www-authenticate"] == f'Bearer resource_metadata="{url}"'
            metadata = await (await served.get(f"/.well-known/oauth-protected-resource{path}")).json()
            assert metadata["resource"] == served.url + path
            assert metadata["authorization_servers"] == [one.url]
            assert metadata["scopes_supported"] == ["mcp:admin", "mcp:metrics"]
        assert "resource_metadata" not in (await served.get("/api/keys")).headers["www-authenticate"]
        assert (await served.get("/.well-known/oauth-protected-resource")).status == 200
        assert (await served.get("/.well-known/oauth-protected-resource/api")).status == 404


async def test_without_an_issuer_there_is_no_metadata(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        assert (await served.get("/.well-known/oauth-protected-resource/mcp")).status == 404


async def test_a_stream_passes_piece_by_piece(tmp_path: Path, sqlite: str) -> None:
    heard = asyncio.Event()

    async def pieces() -> AsyncGenerator[str]:
        yield "first"
        await heard.wait()
        yield "second"

    async with Store(sqlite) as store:
        app = mirror(settings_at(tmp_path, cors_origins=["https://pages.example"]), KeyRing(store))
        app.add_api_route("/stream", lambda: StreamingResponse(pieces()), response_class=StreamingResponse)
        async with serving(app) as served, served.http.get(served.url + "/stream") as answer:
            assert await answer.content.readany() == b"first"
            heard.set()
            assert await answer.content.read() == b"second"
