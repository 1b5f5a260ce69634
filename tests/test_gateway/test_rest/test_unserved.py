"""Servers in the database that cannot be served: they are seen, replaced and removed all the same."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.front.keys import KeyGrant
from fastapi_server.mcp import ToolRules
from tests.test_gateway.conftest import WEATHER
from tests.test_gateway.gateways import Served, gateway

OTHER, OURS = "other" * 8, "ours" * 8
SECRETIVE = {**WEATHER, "env": {"TOKEN": "s3cr3t"}}


@pytest.fixture
async def sealed(tmp_path: Path) -> Path:
    """A folder whose database has servers that were stored under another secret than `OURS`."""
    async with gateway(tmp_path, secret=OTHER) as served:
        for name in ("lost", "gone"):
            await served.app.state.roster.put(name, SECRETIVE)
    return tmp_path


async def problem_of(answer: aiohttp.ClientResponse, status: int) -> dict[str, Any]:
    problem = await answer.json(content_type="application/problem+json")
    assert answer.status == problem["status"] == status
    return problem


async def unserved(served: Served, **headers: str) -> list[str]:
    listed = await (await served.get("/api/servers", headers=headers)).json()
    return [one["name"] for one in listed["unserved"]]


async def test_one_that_cannot_be_opened_is_seen_and_removed(sealed: Path) -> None:
    async with gateway(sealed, secret=OURS) as served:
        listed = await (await served.get("/api/servers")).json()
        assert (listed["servers"], listed["problems"]) == ([], [])
        assert [one["name"] for one in listed["unserved"]] == ["gone", "lost"]
        assert "another secret" in listed["unserved"][0]["problem"]
        assert (await served.request("DELETE", "/api/servers/gone")).status == 204
        assert await unserved(served) == ["lost"]
        assert [one.name for one in await served.app.state.store.servers()] == ["lost"]
        await problem_of(await served.request("DELETE", "/api/servers/gone"), 404)


async def test_one_that_cannot_be_opened_is_replaced(sealed: Path) -> None:
    async with gateway(sealed, secret=OURS) as served:
        held = await (await served.get("/api/servers/lost/entry")).json()
        assert held == {"entry": None, "fixed": False}
        masked = {**WEATHER, "env": {"TOKEN": "***"}}
        problem = await problem_of(await served.request("PUT", "/api/servers/lost", json=masked), 422)
        assert problem["detail"].startswith("env.TOKEN: ***")
        answer = await served.request("PUT", "/api/servers/lost", json=WEATHER)
        assert (answer.status, (await answer.json())["name"]) == (200, "lost")
        preview = await served.request("POST", "/api/servers/import", json={"mcpServers": {"gone": WEATHER}})
        assert (await preview.json())["changed"] == ["gone"]
        assert await unserved(served) == []


async def test_what_is_asked_of_it_besides_is_told_why_not(sealed: Path) -> None:
    async with gateway(sealed, secret=OURS) as served:
        new = {"name": "lost", "entry": WEATHER}
        for status, answer in (
            (409, await served.request("POST", "/api/servers", json=new)),
            (404, await served.get("/api/servers/lost")),
            (404, await served.get("/api/servers/lost/logs")),
            (404, await served.request("POST", "/api/servers/lost/reconnect")),
        ):
            problem = await problem_of(answer, status)
            assert (problem["type"], problem["server"]) == ("urn:mcp:not-served", "lost")
            assert "another secret" in problem["detail"]


async def test_one_whose_variable_is_missing_keeps_its_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"command": "${NO_SUCH_PROGRAM}", "env": {"TOKEN": "s3cr3t"}}
    monkeypatch.setenv("NO_SUCH_PROGRAM", "none")
    async with gateway(tmp_path) as served:
        await served.app.state.roster.put("bare", entry)
    monkeypatch.delenv("NO_SUCH_PROGRAM")
    async with gateway(tmp_path) as served:
        assert await unserved(served) == ["bare"]
        held = await (await served.get("/api/servers/bare/entry")).json()
        assert held["entry"] == {**entry, "env": {"TOKEN": "***"}}
        mended = {**held["entry"], "command": "none"}
        assert (await served.request("PUT", "/api/servers/bare", json=mended)).status == 200
        assert served.app.state.gateway.pool.config_of("bare").config.env == {"TOKEN": "s3cr3t"}


@pytest.mark.parametrize(
    ("grant", "status"),
    [
        (KeyGrant("ann"), 404),
        (KeyGrant("bob", admin=True, servers=["other"]), 404),
        (KeyGrant("eve", admin=True, tools=ToolRules(allow=["lost__*"])), 204),
    ],
)
async def test_it_is_there_for_those_only_who_may_mend_it(sealed: Path, grant: KeyGrant, status: int) -> None:
    async with gateway(sealed, secret=OURS) as served:
        key, _ = await served.app.state.key_ring.make(grant)
        caller: Caller = await served.app.state.key_ring.caller(key)
        assert await unserved(served, **{"x-api-key": key}) == (
            ["lost"] if caller.may_use("lost") and caller.admin else []
        )
        removed = await served.request("DELETE", "/api/servers/lost", headers={"x-api-key": key})
        assert removed.status == status
