"""API keys over REST."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi_server.gateway.front.keys import KeyGrant, KeyRing
from fastapi_server.gateway.store import Store
from tests.test_gateway.gateways import Served, gateway


async def made(served: Served, **grant: Any) -> dict[str, Any]:
    answer = await served.request("POST", "/api/keys", json={"name": "ann", **grant})
    assert answer.status == 201
    return await answer.json()


async def test_a_key_from_making_to_revoking(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        key = await made(served, admin=True, servers=["a*"], deny=["a__b"])
        assert key["key"].startswith(key["prefix"])
        headers = {"x-api-key": key["key"]}
        listed = await (await served.get("/api/keys", headers=headers)).json()
        assert listed["keys"] == [{name: value for name, value in key.items() if name != "key"}]
        assert key["key"] not in str(listed)
        revoked = await (await served.request("DELETE", f"/api/keys/{key['id']}")).json()
        assert datetime.fromisoformat(revoked["revoked"]) <= datetime.now(UTC)
        assert (await served.get("/api/keys", headers=headers)).status == 401


async def test_only_admins(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        headers = {"x-api-key": (await made(served))["key"]}
        for method, path in (
            ("GET", "/api/keys"),
            ("POST", "/api/keys"),
            ("DELETE", "/api/keys/x"),
            ("GET", "/api/audit"),
        ):
            answer = await served.request(method, path, headers=headers)
            assert answer.status == 403
            assert answer.content_type == "application/problem+json"


async def test_a_key_for_metrics_reads_them_and_nothing_else(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        key = await made(served, metrics=True, servers=[])
        headers = {"x-api-key": key["key"]}
        assert "mcp_pool" in await (await served.get("/metrics", headers=headers)).text()
        assert (await (await served.get("/api/servers", headers=headers)).json())["servers"] == []
        assert (await served.get("/api/keys", headers=headers)).status == 403
        other = {"x-api-key": (await made(served))["key"]}
        assert (await served.get("/metrics", headers=other)).status == 403


async def test_an_expiry_is_kept_and_must_be_to_come(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        key = await made(served, expires=tomorrow.isoformat())
        assert abs(datetime.fromisoformat(key["expires"]) - tomorrow) < timedelta(seconds=1)
        yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        answer = await served.request("POST", "/api/keys", json={"name": "a", "expires": yesterday})
        assert answer.status == 422


async def test_an_expiry_long_after_us_is_shown_as_it_is(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        for expires, shown in (
            ("2999-01-01T00:00:00Z", "2999-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59Z"),
        ):
            assert (await made(served, expires=expires))["expires"] == shown
        listed = await (await served.get("/api/keys")).json()
        assert [one["expires"][:4] for one in listed["keys"]] == ["2999", "9999", "9999"]


async def test_what_no_database_takes_is_refused(tmp_path: Path, database: str) -> None:
    async with gateway(tmp_path, database=database) as served:
        for grant in ({"name": "a\0"}, {"name": "a", "principal": "\0"}, {"name": "a", "servers": ["\0"]}):
            assert (await served.request("POST", "/api/keys", json=grant)).status == 422
        for method, path in (
            ("DELETE", "/api/keys/a%00b"),
            ("GET", "/api/history/a%00b"),
            ("GET", "/api/audit?caller=%00"),
            ("GET", "/api/audit?server=a%00b"),
        ):
            answer = await served.request(method, path)
            assert answer.status == 422
            assert "U+0000 is in no text" in (await answer.json(content_type=None))["detail"]


async def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        answer = await served.request("POST", "/api/keys", json={"nome": "ann"})
        problem = await answer.json(content_type="application/problem+json")
        assert problem["status"] == answer.status == 422
        assert {tuple(one["at"]) for one in problem["errors"]} == {("body", "name"), ("body", "nome")}
        answer = await served.request("DELETE", "/api/keys/nobody")
        assert (await answer.json(content_type=None))["detail"] == "there is no key 'nobody'"


async def test_a_key_made_by_another_process_opens(tmp_path: Path, sqlite: str) -> None:
    async with gateway(tmp_path, require_key=True) as served, Store(sqlite) as store:
        key, _ = await KeyRing(store).make(KeyGrant("ann", admin=True))
        assert (await served.get("/api/keys", headers={"x-api-key": key})).status == 200
