"""How long an answer may go on."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from fastapi_server.gateway.front import oidc, stay
from fastapi_server.gateway.front.keys import KeyGrant, KeyRing
from fastapi_server.gateway.store import Store
from fastapi_server.mcp import HTTPConfig, HTTPMCPClient
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer
from tests.test_gateway.conftest import SHOW
from tests.test_gateway.gateways import Served, gateway
from tests.test_gateway.test_front.issuer import AUDIENCE, issuer

SOON = 10
AN_HOUR = 3_600


@asynccontextmanager
async def stream(served: Served, key: str, path: str = "/api/events", **options: Any) -> AsyncGenerator[Any]:
    """An open stream, of which the first event has come."""
    method = options.pop("method", "GET")
    headers = {"authorization": f"Bearer {key}", **options.pop("headers", {})}
    async with served.http.request(method, served.url + path, headers=headers, **options) as answer:
        assert answer.status == 200
        await answer.content.readany()
        yield answer


async def complete(answer: aiohttp.ClientResponse) -> bytes:
    """What still comes of a stream, which must end in good order."""
    async with asyncio.timeout(SOON):
        return await answer.content.read()


async def test_a_stream_ends_when_its_key_is_revoked_and_no_other_does(tmp_path: Path) -> None:
    async with gateway(tmp_path) as served:
        ring: KeyRing = served.app.state.key_ring
        (key, kept), (other, _) = await ring.make(KeyGrant("ann")), await ring.make(KeyGrant("bob"))
        async with stream(served, key) as anns, stream(served, other) as bobs:
            await ring.revoke(kept.id)
            await complete(anns)
            assert not bobs.content.at_eof()


async def test_a_stream_ends_when_another_process_revokes_the_key(tmp_path: Path, sqlite: str) -> None:
    async with gateway(tmp_path) as served, Store(sqlite) as elsewhere:
        key, kept = await served.app.state.key_ring.make(KeyGrant("ann"))
        async with stream(served, key) as answer:
            await KeyRing(elsewhere).revoke(kept.id)
            await complete(answer)


async def test_a_stream_ends_when_its_key_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(tmp_path) as served:
        ring: KeyRing = served.app.state.key_ring
        key, _ = await ring.make(KeyGrant("ann", expires=time.time() + AN_HOUR))
        async with stream(served, key) as answer:
            monkeypatch.setattr(ring, "_clock", lambda: time.time() + AN_HOUR)
            await complete(answer)


async def test_a_stream_ends_when_its_token_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "_LEEWAY_SECONDS", AN_HOUR)
    async with issuer() as one, gateway(tmp_path, oidc_issuer=one.url, oidc_audience=AUDIENCE) as served:
        token = one.token(exp=time.time() - 1)  # so long ago is allowed to clocks that differ
        async with stream(served, token) as answer:
            monkeypatch.setattr(oidc, "_LEEWAY_SECONDS", 0)
            await complete(answer)


async def test_the_progress_of_a_call_ends_and_the_call_is_given_up(tmp_path: Path) -> None:
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"studio": SHOW}}))
    async with gateway(tmp_path, config=config, patience=20) as served:
        ring: KeyRing = served.app.state.key_ring
        key, kept = await ring.make(KeyGrant("ann"))
        asked: dict[str, Any] = {"method": "POST", "json": {"arguments": {"frames": 10_000}}}
        path, headers = "/api/tools/studio__render/call", {"accept": "text/event-stream"}
        async with stream(served, key, path, headers=headers, **asked) as answer:
            await ring.revoke(kept.id)
            assert b"result" not in await complete(answer)
        async with asyncio.timeout(SOON):
            while not (entries := (await (await served.get("/api/audit")).json())["entries"]):
                await asyncio.sleep(0.05)
        assert entries[0]["outcome"] == "CancelledError"


async def test_a_call_goes_on_that_was_made_while_its_key_was_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been carried out: to say that its caller may not make it would have them make it again."""
    monkeypatch.setattr(stay, "_LOOK_SECONDS", 0.05)
    begun, answer = asyncio.Event(), asyncio.Event()

    async def call(seen: Seen) -> web.StreamResponse:
        begun.set()
        await answer.wait()
        return seen.json({"resultType": "complete", "content": []})

    config = tmp_path / "mcp.json"
    async with http_peer(HTTPPeer({"tools/call": call}, stateless=True)) as peer:
        config.write_text(json.dumps({"mcpServers": {"peer": {"url": f"{peer.url}/mcp"}}}))
        async with gateway(tmp_path, config=config, patience=20) as served:
            ring: KeyRing = served.app.state.key_ring
            key, kept = await ring.make(KeyGrant("ann"))
            settings = HTTPConfig(f"{served.url}/mcp", headers={"x-api-key": key}, protocol_version="2026-07-28")
            client = HTTPMCPClient("caller", settings)
            calling = asyncio.create_task(client.call_tool("peer__echo"))
            await begun.wait()
            async with stream(served, key) as events:
                await ring.revoke(kept.id)
                await complete(events)
            await asyncio.wait([calling], timeout=0.3)
            answer.set()
            assert not (await calling).is_error
            await client.disconnect()


async def test_the_streams_of_mcp_end_with_the_key_in_both_eras(tmp_path: Path) -> None:
    accept = {"accept": "application/json, text/event-stream"}
    async with gateway(tmp_path) as served:
        ring: KeyRing = served.app.state.key_ring
        key, kept = await ring.make(KeyGrant("ann"))
        hello = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        }
        opened = await served.request(
            "POST", "/mcp", json=message("initialize", hello), headers={**accept, "x-api-key": key}
        )
        session = {
            **accept,
            "x-api-key": key,
            "mcp-session-id": opened.headers["mcp-session-id"],
            "mcp-protocol-version": "2025-11-25",
        }
        await served.request(
            "POST", "/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session
        )
        listen = message("subscriptions/listen", {"notifications": {"toolsListChanged": True}, "_meta": STATELESS})
        modern = {
            **accept,
            "x-api-key": key,
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "subscriptions/listen",
        }
        async with (
            served.http.get(served.url + "/mcp", headers=session) as standing,
            served.http.post(served.url + "/mcp", headers=modern, json=listen) as listening,
        ):
            assert (standing.status, listening.status) == (200, 200)
            await listening.content.readany()
            await ring.revoke(kept.id)
            await complete(standing)
            await complete(listening)


STATELESS = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def message(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
