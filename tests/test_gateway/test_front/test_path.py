"""The gateway below a path: mounted there, or behind a proxy that says so."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_server.gateway import create_app
from fastapi_server.gateway.front.keys import KeyGrant
from fastapi_server.gateway.front.path import path_within
from fastapi_server.mcp import HTTPConfig, HTTPMCPClient
from tests.test_gateway.gateways import Served, serving, settings_at
from tests.test_gateway.test_front.issuer import AUDIENCE, issuer


@pytest.mark.parametrize(
    ("root", "path", "within"),
    [
        ("", "/health", "/health"),
        ("/gw", "/gw/health", "/health"),
        ("/gw", "/gw/", "/"),
        ("/gw", "/gw", ""),
        ("/gw", "/gwealth", "/gwealth"),
        ("/gw", "/health", "/health"),
    ],
)
def test_the_path_below_the_root(root: str, path: str, within: str) -> None:
    assert path_within({"path": path, "root_path": root}) == within


def test_without_a_root() -> None:
    assert path_within({"path": "/health"}) == "/health"


def _told_by_the_server(app: ASGIApp) -> ASGIApp:
    """As under `uvicorn --root-path /gw`, which puts it before the path that it was asked for."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": "/gw"}, receive, send)

    return told


@asynccontextmanager
async def below(way: str, folder: Path, **settings: Any) -> AsyncGenerator[Served]:
    app = create_app(settings_at(folder, **settings))

    @asynccontextmanager
    async def lifespan(_outer: Starlette) -> AsyncGenerator[None]:
        async with app.router.lifespan_context(app):
            yield

    outer: Any = _told_by_the_server(app)
    if way == "mounted":
        outer = Starlette(routes=[Mount("/gw", app)], lifespan=lifespan)
    async with serving(outer) as served:
        yield Served(app, f"{served.url}/gw", served.http)


either_way = pytest.mark.parametrize("way", ["mounted", "root path"])


@either_way
async def test_everything_works_below_a_path(tmp_path: Path, way: str) -> None:
    async with below(way, tmp_path, require_key=True) as served:
        for path in ("/", "/health", "/openapi.json"):
            assert (await served.get(path)).status == 200, path
        assert "ratelimit-limit" not in (await served.get("/health")).headers
        page = await (await served.get("/")).text()
        files = re.findall(r'(?:href|src)="(dashboard/[^"]+)"', page)
        assert len(files) >= 3
        for file in files:
            assert urljoin(f"{served.url}/", file) == f"{served.url}/{file}"
            assert (await served.get(f"/{file}")).status == 200, file
        for path in ("/api/caller", "/mcp", "/dashboard"):
            assert (await served.get(path, allow_redirects=False)).status == 401, path
        key, _ = await served.app.state.key_ring.make(KeyGrant("ann"))
        assert (await served.get("/api/caller", headers={"x-api-key": key})).status == 200
        async with HTTPMCPClient("gateway", HTTPConfig(f"{served.url}/mcp", headers={"x-api-key": key})) as client:
            assert await client.list_tools() == []


@either_way
async def test_who_issues_tokens_is_told_below_the_path(tmp_path: Path, way: str) -> None:
    async with issuer() as one, below(way, tmp_path, oidc_issuer=one.url, oidc_audience=AUDIENCE) as served:
        answer = await served.request("POST", "/mcp")
        place = "/.well-known/oauth-protected-resource/mcp"
        assert answer.headers["www-authenticate"] == f'Bearer resource_metadata="{served.url}{place}"'
        assert (await (await served.get(place)).json())["resource"] == f"{served.url}/mcp"
