"""The REST interface over real servers."""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from mcp_types import PromptReference, TextContent

from fastapi_server.gateway import directory
from fastapi_server.gateway.caller import ANYONE, Caller
from fastapi_server.gateway.directory import ListChange
from fastapi_server.mcp import (
    HandlerContext,
    HTTPConfig,
    HTTPMCPClient,
    MCPClientError,
    RPCError,
    StdioMCPClient,
    ToolRules,
)
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer
from tests.test_gateway.conftest import ODD, PEER, SHOW, WEATHER, Serve, Served

TROUBLED = str(Path(__file__).parents[2] / "servers/troubled.py")


def troubled(*flags: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": ["-S", TROUBLED, *flags]}


async def events_of(response: aiohttp.ClientResponse) -> list[tuple[str, Any]]:
    """All events of a stream that ends."""
    blocks = (await response.text()).replace("\r\n", "\n").strip().split("\n\n")
    parsed = (dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks)
    return [(one["event"], json.loads(one["data"])) for one in parsed]


async def server(running: Served, name: str) -> dict[str, Any]:
    return await running.ask("GET", f"/api/servers/{name}")


async def test_servers_are_listed_with_state_and_numbers(serve: Serve) -> None:
    async with serve({"weather": WEATHER, "gone": {"command": "no-such-program"}}) as running:
        for _ in range(3):
            await running.ask("POST", "/api/tools/weather__forecast/call", {"arguments": {"city": "Oslo"}})
        weather, gone = (await running.ask("GET", "/api/servers"))["servers"]
        assert (weather["state"], weather["transport"], weather["era"]) == ("connected", "stdio", "stateless")
        assert (weather["tools"], weather["calls"], weather["errors"], weather["breaker"]) == (2, 3, 0, "closed")
        assert 0 < weather["latency"]["p50"] <= weather["latency"]["p99"]
        assert (gone["state"], gone["error"]) == ("error", "command not found: no-such-program")


async def test_no_secret_of_a_configuration_is_answered(serve: Serve) -> None:
    url = {"url": "http://127.0.0.1:9/mcp?key=s3cr3t-q", "headers": {"X-Key": "s3cr3t-h"}}
    async with serve({"a": {**WEATHER, "env": {"API_KEY": "s3cr3t-e"}}, "b": url}) as running:
        shown = [await server(running, name) for name in "ab"]
        shown.append(await running.ask("POST", "/api/servers", {"name": "c", "entry": url}, status=201))
        assert "s3cr3t" not in json.dumps(shown)
        assert shown[0]["settings"]["env"] == {"API_KEY": "***"}


async def test_a_server_is_added_changed_and_removed(serve: Serve) -> None:
    async with serve({}) as running:
        added = await running.ask("POST", "/api/servers", {"name": "w", "entry": WEATHER}, status=201)
        assert added["tools"] == 2
        await running.ask("POST", "/api/servers", {"name": "w", "entry": WEATHER}, status=409)
        changed = await running.ask("PUT", "/api/servers/w", {**WEATHER, "tools": {"deny": ["survey"]}})
        assert changed["settings"]["tools"]["deny"] == ["survey"]
        assert [one["name"] for one in (await running.ask("GET", "/api/tools"))["tools"]] == ["w__forecast"]
        await running.ask("DELETE", "/api/servers/w", status=204)
        await running.ask("GET", "/api/servers/w", status=404)


async def test_what_is_wrong_with_an_entry_is_said(serve: Serve) -> None:
    async with serve({}) as running:
        problem = await running.ask("POST", "/api/servers", {"name": "w", "entry": {"command": 5}}, status=422)
        assert "w.command" in problem["detail"]
        problem = await running.ask("POST", "/api/servers", {"name": "a__b", "entry": WEATHER}, status=422)
        assert "no name for a server" in problem["detail"]


async def test_an_entry_nested_too_deep_is_refused(serve: Serve) -> None:
    def nested(levels: int) -> Any:
        return {"a": nested(levels - 1)} if levels else "end"

    async with serve({}) as running:
        for member, levels in (("env", 800), ("env", 300), ("disabled", 300), ("description", 17)):
            entry = {**WEATHER, member: nested(levels)}
            problem = await running.ask("POST", "/api/servers", {"name": "w", "entry": entry}, status=422)
            assert f"{member}: is nested too deep" in problem["detail"]
            outcome = await running.ask("POST", "/api/servers/import", {"mcpServers": {"w": entry, "new": WEATHER}})
            (problem,) = outcome["problems"]
            assert f"mcpServers.w.{member}: is nested too deep" in problem
        assert [one["name"] for one in (await running.ask("GET", "/api/servers"))["servers"]] == ["new"]


async def test_an_mcp_json_is_imported(serve: Serve) -> None:
    async with serve({"same": WEATHER}) as running:
        document = {"mcpServers": {"same": WEATHER, "new": WEATHER, "bad": {}, "no_": WEATHER}}
        outcome = await running.ask("POST", "/api/servers/import", document)
        assert (outcome["added"], outcome["changed"], outcome["unchanged"]) == (["new"], [], ["same"])
        assert len(outcome["problems"]) == 2
        assert (await running.ask("POST", "/api/servers/import", {"servers": {"same": WEATHER}}))["unchanged"] == [
            "same"
        ]
        assert (await running.ask("POST", "/api/servers/import", {"mcpServers": {}}))["added"] == []
        await running.ask("POST", "/api/servers/import", {"what": 1}, status=422)


async def test_an_import_can_be_looked_at_first(serve: Serve) -> None:
    async with serve({"same": WEATHER}) as running:
        document = {"mcpServers": {"same": WEATHER, "new": PEER, "bad": {}, "secret": {**PEER, "env": {"A": "***"}}}}
        preview = await running.ask("POST", "/api/servers/import?dry_run=true", document)
        assert [one["name"] for one in (await running.ask("GET", "/api/servers"))["servers"]] == ["same"]
        assert preview == await running.ask("POST", "/api/servers/import", document)
        assert (preview["added"], preview["unchanged"]) == (["new"], ["same"])
        assert preview["problems"][0].startswith("mcpServers.secret.env.A: ***")


async def test_an_entry_is_shown_without_its_secrets_and_keeps_them(serve: Serve) -> None:
    async with serve({"fixed": WEATHER}) as running:
        entry = {**PEER, "env": {"TOKEN": "s3cr3t-1"}}
        await running.ask("POST", "/api/servers", {"name": "peer", "entry": entry}, status=201)
        held = await running.ask("GET", "/api/servers/peer/entry")
        assert held == {"entry": {**PEER, "env": {"TOKEN": "***"}}, "fixed": False}
        await running.ask("PUT", "/api/servers/peer", {**held["entry"], "timeout": 9_000})
        result = await running.ask("POST", "/api/tools/peer__environment/call", {})
        assert json.loads(result["content"][0]["text"])["TOKEN"] == "s3cr3t-1"
        assert await running.ask("GET", "/api/servers/fixed/entry") == {"entry": None, "fixed": True}
        problem = await running.ask("PUT", "/api/servers/peer", {**PEER, "env": {"OTHER": "***"}}, status=422)
        assert problem["detail"].startswith("env.OTHER: ***")


async def test_callers_are_told_who_they_are(serve: Serve) -> None:
    async with serve({}, Caller("ann", "ann")) as running:
        assert await running.ask("GET", "/api/caller") == {"name": "ann", "admin": False}


async def test_an_administrator_sees_at_once_what_the_gateway_knows_of_a_server(serve: Serve) -> None:
    async with serve({"weather": WEATHER}, Caller("root", "root", admin=True)) as running:

        async def known() -> bool:
            (weather,) = (await running.ask("GET", "/api/servers"))["servers"]
            return weather["tools"] == 2

        await running.settled(known)
        assert {member.principal for member in running.gateway.pool.members()} == {None}


async def test_a_drained_server_comes_back_with_the_next_call(serve: Serve) -> None:
    async with serve({"weather": WEATHER}) as running:
        assert (await running.ask("POST", "/api/servers/weather/drain"))["state"] == "disconnected"
        await running.ask("POST", "/api/tools/weather__forecast/call", {"arguments": {"city": "Oslo"}})
        assert (await server(running, "weather"))["state"] == "connected"


@pytest.mark.parametrize(("pause", "times"), [pytest.param(0.0, 2, id="at once"), pytest.param(60.0, 1, id="later")])
async def test_a_drained_server_is_not_opened_again_by_what_the_gateway_asks_itself(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, pause: float, times: int
) -> None:
    monkeypatch.setattr(directory, "_NOTICE_SECONDS", pause)
    asked, answer, lists = asyncio.Event(), asyncio.Event(), 0

    async def tools(seen: Seen) -> web.StreamResponse:
        nonlocal lists
        lists += 1
        asked.set()
        await answer.wait()
        return seen.json({"resultType": "complete", "tools": [], "ttlMs": 0, "cacheScope": "private"})

    async with (
        http_peer(HTTPPeer({"tools/list": tools}, stateless=True)) as peer,
        serve({"peer": {"url": f"{peer.url}/mcp"}}) as running,
    ):
        await asked.wait()
        running.gateway.directory.list_changed(HandlerContext("peer"), "tools")
        drained = asyncio.create_task(running.ask("POST", "/api/servers/peer/drain"))
        await asyncio.wait([drained], timeout=0.1)
        answer.set()
        assert (await drained)["state"] == "disconnected"
        await running.gateway.directory.rest("peer", 5)
        assert (await server(running, "peer"))["state"] == "disconnected"
        assert not running.gateway.directory._later
    assert lists == times


@pytest.mark.parametrize(("method", "path"), [("POST", "/drain"), ("POST", "/reconnect"), ("DELETE", ""), ("PUT", "")])
async def test_calls_in_flight_get_the_drain_seconds(serve: Serve, method: str, path: str) -> None:
    asked = {"short": asyncio.Event(), "long": asyncio.Event()}
    answers = {"short": asyncio.Event(), "long": asyncio.Event()}

    async def call(seen: Seen) -> web.StreamResponse:
        name = seen.body["params"]["name"]
        asked[name].set()
        await answers[name].wait()
        return seen.json({"resultType": "complete", "content": [{"type": "text", "text": name}]})

    async with (
        http_peer(HTTPPeer({"tools/call": call}, stateless=True)) as peer,
        serve({}, drain_seconds=1) as running,
    ):
        assert running.gateway.pool.limits.drain_seconds == 1
        entry = {"url": f"{peer.url}/mcp", "retries": 0}
        await running.ask("POST", "/api/servers", {"name": "peer", "entry": entry}, status=201)
        short = asyncio.create_task(running.ask("POST", "/api/tools/peer__short/call", {}))
        long = asyncio.create_task(running.http.post(f"{running.url}/api/tools/peer__long/call", json={}))
        for event in asked.values():
            await event.wait()
        started = time.monotonic()
        body = {**entry, "timeout": 5_000} if method == "PUT" else None
        change = asyncio.create_task(running.http.request(method, f"{running.url}/api/servers/peer{path}", json=body))
        answers["short"].set()
        assert (await short)["content"][0]["text"] == "short"
        assert (await long).status >= 500
        assert time.monotonic() - started > 0.9
        assert (await change).ok
        answers["long"].set()


async def test_reconnecting_starts_another_process(serve: Serve) -> None:
    async with serve({"weather": WEATHER, "gone": {"command": "no-such-program"}}) as running:
        client = running.gateway.pool.client("weather")
        assert isinstance(client, StdioMCPClient)
        before = client.pid
        assert (await running.ask("POST", "/api/servers/weather/reconnect"))["state"] == "connected"
        assert client.pid != before
        problem = await running.ask("POST", "/api/servers/gone/reconnect", status=502)
        assert problem["type"] == "urn:mcp:unreachable"


async def test_a_killed_server_comes_back_and_counts_a_restart(serve: Serve) -> None:
    async with serve({"weather": WEATHER}) as running:
        client = running.gateway.pool.client("weather")
        assert isinstance(client, StdioMCPClient)
        os.kill(before := client.pid or 0, signal.SIGKILL)
        await running.settled(lambda: _left(client, before))
        await running.ask("POST", "/api/tools/weather__forecast/call", {"arguments": {"city": "Oslo"}})
        weather = await server(running, "weather")
        assert (weather["state"], weather["restarts"]) == ("connected", 1)


async def _left(client: StdioMCPClient, pid: int) -> bool:
    """The client has noticed; it may be back already."""
    return client.pid != pid


async def test_a_tool_is_described_and_called(serve: Serve) -> None:
    async with serve({"weather": WEATHER}) as running:
        tool = await running.ask("GET", "/api/tools/weather__forecast")
        assert tool["inputSchema"]["required"] == ["city"]
        result = await running.ask("POST", "/api/tools/weather__forecast/call", {"arguments": {"city": "Oslo"}})
        assert result["structuredContent"]["celsius"] == 7.0
        failed = await running.ask("POST", "/api/tools/weather__forecast/call", {"arguments": {"city": "Rome"}})
        assert failed["isError"] is True
        await running.ask("GET", "/api/tools/weather__none", status=404)
        await running.ask("POST", "/api/tools/none/call", {}, status=404)


async def test_a_call_tells_its_progress_as_events(serve: Serve) -> None:
    async with serve({"weather": WEATHER}) as running:
        path, body = "/api/tools/weather__survey/call", {"arguments": {"cities": ["Oslo", "Lisbon"]}}
        accept = {"Accept": "text/event-stream"}
        async with running.http.post(running.url + path, json=body, headers=accept) as response:
            events = await events_of(response)
        assert [kind for kind, _ in events] == ["progress", "progress", "result"]
        assert events[0][1] == {"progress": 1.0, "total": 2.0, "message": "Oslo"}
        assert events[2][1]["content"][0]["text"] == "Oslo: rain, Lisbon: sunny"


async def test_an_error_of_a_call_is_an_event_too(serve: Serve) -> None:
    async with serve({"peer": PEER}) as running:
        accept = {"Accept": "text/event-stream"}
        url = f"{running.url}/api/tools/peer__never/call"
        async with running.http.post(url, json={"timeout": 0.2}, headers=accept) as response:
            ((kind, problem),) = await events_of(response)
        assert (kind, problem["status"], problem["server"]) == ("error", 504, "peer")


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_who_hangs_up_cancels_the_call(serve: Serve, accept: str) -> None:
    asked = asyncio.Event()

    async def never(_seen: Seen) -> web.StreamResponse:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def call() -> None:
        url = f"{running.url}/api/tools/peer__never/call"
        async with running.http.post(url, json={}, headers={"Accept": accept}) as answer:
            await answer.read()

    async def is_cancelled() -> bool:
        return running.gateway.pool.client("peer").metrics.errors_by_type["CancelledError"] == 1

    async with (
        http_peer(HTTPPeer({"tools/call": never}, stateless=True)) as peer,
        serve({"peer": {"url": f"{peer.url}/mcp"}}) as running,
    ):
        calling = asyncio.create_task(call())
        await asked.wait()
        calling.cancel()
        await running.settled(is_cancelled)


async def test_what_transport_was_found_is_shown(serve: Serve) -> None:
    async with http_peer(HTTPPeer(stateless=True)) as peer, serve({"peer": {"url": f"{peer.url}/mcp"}}) as running:
        await running.ask("GET", "/api/tools")
        assert (await server(running, "peer"))["transport"] == "http"


async def test_errors_of_servers_become_problems(serve: Serve) -> None:
    async with serve({"peer": PEER}) as running:
        call = "/api/tools/peer__{}/call"
        assert (await running.ask("POST", call.format("never"), {"timeout": 0.1}, status=504))["delivery"] == "unknown"
        await running.ask("POST", call.format("malformed_result"), {}, status=502)
        problem = await running.ask("POST", call.format("exit"), {}, status=502)
        assert (problem["type"], problem["server"]) == ("urn:mcp:unreachable", "peer")
        problem = await running.ask("POST", call.format("never"), {"timeout": "soon"}, status=422)
        assert problem["errors"][0]["at"] == ["body", "timeout"]


async def test_what_is_nested_too_deep_is_a_problem_of_its_server(serve: Serve) -> None:
    methods = {"listed": "tools/list", "called": "tools/call", "read": "resources/read", "filled": "prompts/get"}
    servers = {name: troubled("--deep", method, "900") for name, method in methods.items()}
    servers["failed"] = troubled("--fails", "tools/call", "--deep", "nothing", "300")
    deep = "what it answered cannot be passed on: it is nested deeper than {} levels"
    async with serve(servers) as running:
        listed = await running.ask("GET", "/api/tools")
        assert {tool["name"].partition("__")[0] for tool in listed["tools"]} == {"called", "read", "filled", "failed"}
        assert listed["problems"] == {"listed": deep.format(64)}
        for path, body in (
            ("/api/tools/called__life-1/call", {}),
            ("/rest/called/tools/life-1/call", {}),
            ("/api/servers/read/resources/read", {"uri": "x:deep"}),
            ("/rest/read/resources/read", {"uri": "x:deep"}),
            ("/api/servers/filled/prompts/deep/get", {}),
        ):
            problem = await running.ask("POST", path, body, status=502)
            assert (problem["type"], problem["detail"]) == ("urn:mcp:protocol", deep.format(240))
        problem = await running.ask("POST", "/api/tools/failed__life-1/call", {}, status=502)
        assert (problem["type"], problem["detail"]) == ("urn:mcp:rpc", "out of order")


async def test_resources_and_prompts(serve: Serve) -> None:
    async with serve({"weather": WEATHER}) as running:
        at = "/api/servers/weather"
        assert (await running.ask("GET", f"{at}/resources"))["resources"][0]["uri"] == "weather://cities"
        read = await running.ask("POST", f"{at}/resources/read", {"uri": "weather://cities"})
        assert read["contents"][0]["text"].startswith("Lisbon")
        assert (await running.ask("GET", f"{at}/templates"))["templates"] == []
        assert (await running.ask("GET", f"{at}/prompts"))["prompts"][0]["name"] == "packing"
        prompt = await running.ask("POST", f"{at}/prompts/packing/get", {"arguments": {"city": "Oslo"}})
        assert "Oslo" in prompt["messages"][0]["content"]["text"]


async def test_a_caller_sees_only_what_is_theirs(serve: Serve) -> None:
    caller = Caller("ann", "ann", servers=["w*"], tools=ToolRules(deny=["*__survey"]))
    async with serve({"weather": WEATHER, "peer": PEER}, caller) as running:
        assert [one["name"] for one in (await running.ask("GET", "/api/servers"))["servers"]] == ["weather"]
        assert [one["name"] for one in (await running.ask("GET", "/api/tools"))["tools"]] == ["weather__forecast"]
        for hidden in ("weather__survey", "peer__echo"):
            await running.ask("POST", f"/api/tools/{hidden}/call", {}, status=404)
        await running.ask("GET", "/api/servers/peer", status=404)
        await running.ask("POST", "/rest/weather/tools/survey/call", {}, status=404)
        await running.ask("POST", "/api/tools/weather__forecast/call", {"arguments": {"city": "Oslo"}})
        assert {member.principal for member in running.gateway.pool.members() if member.client.metrics.tool_calls} == {
            "ann"
        }


async def test_only_administrators_change_servers_and_see_what_they_wrote(serve: Serve) -> None:
    async with serve({"weather": WEATHER}, Caller("ann", "ann")) as running:
        at = "/api/servers"
        await running.ask("POST", at, {"name": "x", "entry": WEATHER}, status=403)
        await running.ask("POST", f"{at}/import", {"mcpServers": {}}, status=403)
        changes = (("DELETE", ""), ("POST", "/drain"), ("POST", "/reconnect"), ("GET", "/logs"), ("GET", "/entry"))
        for method, path in changes:
            await running.ask(method, f"{at}/weather{path}", status=403)
        await running.ask("PUT", f"{at}/weather", WEATHER, status=403)
        await running.ask("GET", "/metrics", status=403)


async def test_events_are_told_live(serve: Serve) -> None:
    async with serve({"weather": WEATHER}) as running, running.http.get(f"{running.url}/api/events") as response:
        told = bytearray()

        async def until(text: bytes) -> None:
            async with asyncio.timeout(5):
                while text not in told:
                    told.extend(await response.content.readany())

        await until(b"event: servers")
        await running.ask("POST", "/api/tools/weather__forecast/call", {"arguments": {"city": "Oslo"}})
        await until(b'"target":"forecast"')
        await running.ask("POST", "/api/servers/weather/drain")
        await until(b'"state":"disconnected"')


async def test_what_a_server_wrote_can_be_read(serve: Serve) -> None:
    async with serve({"studio": SHOW}) as running:
        log = await running.ask("GET", "/api/servers/studio/logs")
        assert log["processes"][0]["stderr"].startswith("studio 1.2.0 is ready")
        history = await running.ask("GET", "/api/servers/studio/history")
        assert history == {"samples": []}


async def test_health_readiness_and_metrics(serve: Serve) -> None:
    async with serve({"weather": WEATHER}) as running:
        assert await running.ask("GET", "/health") == {"status": "ok"}
        assert (await running.ask("GET", "/ready"))["servers"] == {"weather": "connected"}
        running.app.state.first_round.over = False
        assert (await running.ask("GET", "/ready", status=503))["ready"] is False
        async with running.http.get(f"{running.url}/metrics") as response:
            text = await response.text()
        assert 'mcp_client_connected{server="weather",transport="stdio"} 1.0' in text
        assert 'mcp_gateway_requests_total{method="GET",route="/health",status="200"} 1.0' in text


async def test_our_own_client_uses_a_gateway_as_its_server(serve: Serve) -> None:
    async with serve({"weather": WEATHER}) as running:
        config = HTTPConfig(f"{running.url}/rest/weather", dialect="rest")
        async with HTTPMCPClient("behind", config) as client:
            assert [tool.name for tool in await client.list_tools()] == ["forecast", "survey"]
            result = await client.call_tool("forecast", {"city": "Oslo"})
            assert isinstance(result.content[0], TextContent)
            assert result.structured_content == {"city": "Oslo", "celsius": 7.0, "sky": "rain"}
            assert [str(one.uri) for one in await client.list_resources()] == ["weather://cities"]
            assert (await client.read_resource("weather://cities")).contents
            assert await client.health_check()


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e400"])
@pytest.mark.parametrize("path", ["/api/tools/weather__forecast/call", "/rest/weather/tools/forecast/call"])
async def test_what_is_no_json_is_not_passed_on(serve: Serve, path: str, number: str) -> None:
    async with serve({"weather": WEATHER}) as running:
        body = f'{{"arguments": {{"city": [{number}]}}}}'
        json_type = {"content-type": "application/json"}
        async with running.http.post(running.url + path, data=body, headers=json_type) as response:
            problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["type"]) == (422, "urn:mcp:request")
        assert "body.arguments" in problem["detail"]
        assert "no JSON" in problem["detail"]


async def test_half_of_a_surrogate_pair_is_no_text(serve: Serve) -> None:
    async with serve({"weather": WEATHER}) as running:
        body = {"arguments": {"city": "\ud800"}}
        problem = await running.ask("POST", "/api/tools/weather__forecast/call", body, status=422)
        assert "surrogate" in problem["detail"]


async def test_names_may_have_slashes(serve: Serve) -> None:
    async with serve({"odd": ODD}) as running:
        for tool in ("odd__a/b", "odd__a%2Fb"):
            assert (await running.ask("GET", f"/api/tools/{tool}"))["name"] == "odd__a/b"
            result = await running.ask("POST", f"/api/tools/{tool}/call", {})
            assert result["content"][0]["text"] == "slash"
        prompt = await running.ask("POST", "/api/servers/odd/prompts/c/d/get", {})
        assert prompt["messages"][0]["content"]["text"] == "slash"
        config = HTTPConfig(f"{running.url}/rest/odd", dialect="rest")
        async with HTTPMCPClient("behind", config) as client:
            result = await client.call_tool("a/b")
            assert isinstance(result.content[0], TextContent)
            assert result.content[0].text == "slash"


async def test_what_is_not_for_a_caller_is_answered_as_if_it_did_not_exist(serve: Serve) -> None:
    ann = Caller("ann", "ann", servers=["weather"], tools=ToolRules(deny=["weather__survey"]))
    async with serve({"weather": WEATHER, "hidden": WEATHER}, ann) as running:
        assert [one["name"] for one in (await running.ask("GET", "/api/tools"))["tools"]] == ["weather__forecast"]
        (weather,) = (await running.ask("GET", "/api/servers"))["servers"]
        assert (weather["name"], weather["tools"]) == ("weather", 1)
        assert list((await running.ask("GET", "/ready"))["servers"]) == ["weather"]
        for method, path in HIDDEN:
            body = {"uri": "weather://cities"} if path.endswith("/read") else {"arguments": {}}
            problem = await running.ask(method, path, body, status=404)
            assert problem["type"] in {"urn:mcp:no-such-server", "urn:mcp:no-such-tool"}, path
        assert "hidden" not in json.dumps(await running.ask("GET", "/api/tools"))
        refused = await entries(running, "hidden")
        assert {(one["caller"], one["outcome"]) for one in refused} == {("ann", "refused")}
        posts = [path for method, path in HIDDEN if method == "POST" and "hidden" in path]
        assert len(refused) == len(posts)


HIDDEN = [
    ("GET", "/api/servers/hidden"),
    ("PUT", "/api/servers/hidden"),
    ("DELETE", "/api/servers/hidden"),
    ("POST", "/api/servers/hidden/reconnect"),
    ("POST", "/api/servers/hidden/drain"),
    ("GET", "/api/servers/hidden/logs"),
    ("GET", "/api/servers/hidden/history"),
    ("GET", "/api/servers/hidden/resources"),
    ("GET", "/api/servers/hidden/templates"),
    ("GET", "/api/servers/hidden/prompts"),
    ("POST", "/api/servers/hidden/resources/read"),
    ("POST", "/api/servers/hidden/prompts/packing/get"),
    ("GET", "/api/history/hidden"),
    ("GET", "/api/tools?server=hidden"),
    ("GET", "/api/tools/hidden__forecast"),
    ("POST", "/api/tools/hidden__forecast/call"),
    ("GET", "/api/tools/weather__survey"),
    ("POST", "/api/tools/weather__survey/call"),
    ("GET", "/rest/hidden/health"),
    ("POST", "/rest/hidden/initialize"),
    ("GET", "/rest/hidden/tools/list"),
    ("POST", "/rest/hidden/tools/forecast/call"),
    ("POST", "/rest/weather/tools/survey/call"),
    ("GET", "/rest/hidden/resources/list"),
    ("POST", "/rest/hidden/resources/read"),
]


async def entries(running: Served, server: str) -> list[dict[str, Any]]:
    running.front.caller = ANYONE
    found: list[dict[str, Any]] = (await running.ask("GET", f"/api/audit?server={server}"))["entries"]
    return found


async def test_every_call_has_its_entry_whichever_way_it_came(serve: Serve) -> None:
    async with serve({"weather": WEATHER}) as running:
        oslo = {"arguments": {"city": "Oslo"}}
        await running.ask("POST", "/api/tools/weather__forecast/call", oslo)
        await running.ask("POST", "/rest/weather/tools/forecast/call", oslo)
        await running.ask("POST", "/api/servers/weather/resources/read", {"uri": "weather://cities"})
        await running.ask("POST", "/rest/weather/resources/read", {"uri": "weather://cities"})
        await running.ask("POST", "/api/servers/weather/prompts/packing/get", oslo)
        await running.ask("POST", "/api/tools/weather__forecast/call", {"arguments": {"city": "Atlantis"}})
        async with HTTPMCPClient("front", HTTPConfig(f"{running.url}/mcp")) as client:
            await client.call_tool("weather__forecast", {"city": "Oslo"})
            with pytest.raises(MCPClientError):  # the server has none
                await client.complete(PromptReference(name="weather__packing"), "city", "O")
        rows = [(one["method"], one["target"], one["outcome"]) for one in reversed(await entries(running, "weather"))]
        assert rows == [
            *[("tools/call", "forecast", "ok")] * 2,
            *[("resources/read", "weather://cities", "ok")] * 2,
            ("prompts/get", "packing", "ok"),
            ("tools/call", "forecast", "ToolError"),
            ("tools/call", "forecast", "ok"),
            ("completion/complete", "packing", "RPCError"),
        ]


async def test_what_is_refused_at_the_endpoint_has_its_entry(serve: Serve) -> None:
    async with serve({"weather": WEATHER, "hidden": WEATHER}) as running:
        running.front.caller = Caller("ann", "ann", servers=["weather"])
        async with HTTPMCPClient("front", HTTPConfig(f"{running.url}/mcp")) as client:
            for call in (
                client.call_tool("hidden__forecast", {"city": "Oslo"}),
                client.get_prompt("hidden__packing"),
                client.read_resource("mcp://hidden/weather://cities"),
                client.call_tool("made-up"),
            ):
                with pytest.raises(RPCError):
                    await call
        running.front.caller = ANYONE
        noted = (await running.ask("GET", "/api/audit?caller=ann"))["entries"]
        rows = [(one["server"], one["method"], one["target"], one["outcome"]) for one in reversed(noted)]
        assert rows == [
            ("hidden", "tools/call", "forecast", "refused"),
            ("hidden", "prompts/get", "packing", "refused"),
            ("", "resources/read", "mcp://hidden/weather://cities", "refused"),
            ("made-up", "tools/call", "", "refused"),
        ]


async def test_callers_cannot_make_series_and_servers_that_are_gone_have_none(serve: Serve) -> None:
    async def metrics() -> str:
        async with running.http.get(f"{running.url}/metrics") as response:
            return await response.text()

    async with serve({}) as running:
        await running.ask("POST", "/api/servers", {"name": "w", "entry": WEATHER}, status=201)
        await running.ask("POST", "/api/tools/w__forecast/call", {"arguments": {"city": "Oslo"}})
        assert 'server="w"' in await metrics()
        await running.ask("POST", "/api/tools/w__made-up/call", {})
        await running.ask("POST", "/api/tools/made-up__tool/call", {}, status=404)
        await running.ask("GET", "/made-up", status=404)
        async with running.http.request("BREW", f"{running.url}/made-up") as response:
            assert response.status in {400, 404, 405}
        text = await metrics()
        assert "made-up" not in text
        assert "BREW" not in text
        await running.ask("DELETE", "/api/servers/w", status=204)
        assert 'server="w"' not in await metrics()


async def test_what_a_process_wrote_is_for_administrators_and_so_is_how_it_is_configured(serve: Serve) -> None:
    dying = {"command": sys.executable, "args": ["-c", "import sys; sys.exit('s3cr3t at line 5')"]}
    async with serve({"dying": dying}, Caller("ann", "ann")) as running:
        async with running.http.get(f"{running.url}/api/events") as events:
            answers = [
                await running.ask("GET", "/api/tools"),
                await running.ask("POST", "/api/tools/dying__x/call", {}, status=502),
                await running.ask("GET", "/api/servers"),
                await server(running, "dying"),
            ]
            told = b""
            while b'"state":"error"' not in told:
                told += await events.content.readany()
        assert "exited with code 1" in answers[1]["detail"]
        assert answers[-1]["error"] == answers[1]["detail"]
        assert answers[-1]["settings"] == {}
        assert "s3cr3t" not in json.dumps(answers) + told.decode()
        running.front.caller = ANYONE
        assert "s3cr3t" in (await server(running, "dying"))["error"]


async def test_events_of_servers_that_are_not_theirs_are_not_told(serve: Serve) -> None:
    ann = Caller("ann", "ann", servers=["weather"])
    async with serve({"weather": WEATHER, "hidden": WEATHER}, ann) as running:
        async with running.http.get(f"{running.url}/api/events") as events:
            await events.content.readany()
            await running.ask("POST", "/api/tools/weather__forecast/call", {"arguments": {"city": "Oslo"}})
            running.front.caller = ANYONE
            for name in ("hidden", "weather"):
                await running.ask("POST", f"/api/tools/{name}__forecast/call", {"arguments": {"city": "Oslo"}})
                await running.ask("POST", f"/api/servers/{name}/drain")
            told = b""
            while b'"state":"disconnected"' not in told:
                told += await events.content.readany()
        assert b"weather" in told
        assert b"hidden" not in told
        assert b"event: call" not in told


async def test_events_are_of_what_a_caller_has_and_sees(serve: Serve) -> None:
    ann = Caller("ann", "ann", tools=ToolRules(deny=["*__survey"]))
    told: list[list[tuple[str, str]]] = []
    async with serve({"weather": WEATHER}) as running:
        for caller in (ann, ANYONE):
            running.front.caller = caller
            async with running.http.get(f"{running.url}/api/events") as events:
                await events.content.readuntil(b"event: servers")
                for principal in ("bob", "ann"):
                    client = running.gateway.pool.client("weather", principal)
                    await client.initialize()
                    await client.park()
                directory = running.gateway.directory
                (survey,) = [tool for tool in directory.known("weather").tools if tool.name == "survey"]
                directory._tell(ListChange("weather", "tools", "ann", tools=[survey]))
                directory._tell(ListChange("weather", "prompts", "bob"))
                directory._tell(ListChange("weather", "resources", "ann"))
                lines = (await events.content.readuntil(b'"kind":"resources"}')).decode().splitlines()
            data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
            told.append([("state", one["state"]) for one in data if "state" in one])
            told[-1] += [("lists", one["kind"]) for one in data if "kind" in one]
    states = ["connecting", "connected", "disconnected"]
    assert told[0] == [*(("state", state) for state in states), ("lists", "resources")]
    lists = ["tools", "prompts", "resources"]
    assert told[1] == [*(("state", state) for state in 2 * states), *(("lists", kind) for kind in lists)]
