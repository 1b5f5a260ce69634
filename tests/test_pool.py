"""The pool: keys, places, fleets, and what it does while nobody looks."""

import asyncio
import contextlib
import gc
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fastapi_server.mcp import (
    BusyError,
    CircuitOpenError,
    ClientClosedError,
    ConfigError,
    ConnectionState,
    Delivery,
    HandlerContext,
    Handlers,
    HTTPConfig,
    MCPClient,
    MCPClientError,
    MCPConnectionError,
    OutcomeUnknownError,
    ServerConfig,
    StdioConfig,
    testing,
)
from fastapi_server.mcp.admission import PoolLimits
from fastapi_server.mcp.client_factory import make_client
from fastapi_server.mcp.members import fingerprint_of
from fastapi_server.mcp.pool import ClientPool
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, event, http_peer

PEER = str(Path(testing.__file__).with_name("stdio_peer.py"))


def stdio(name: str = "peer", *flags: str, **settings: Any) -> dict[str, ServerConfig]:
    settings.setdefault("shutdown_timeout", 500)
    return {name: ServerConfig(name, "stdio", StdioConfig(sys.executable, ["-S", PEER, *flags], **settings))}


def http(peer: HTTPPeer, name: str = "peer", **settings: Any) -> dict[str, ServerConfig]:
    return {name: ServerConfig(name, "http", HTTPConfig(f"{peer.url}/mcp", **settings))}


def text_of(result: Any) -> str:
    return result.content[0].text


@pytest.fixture
async def peer(nothing_left: None) -> AsyncIterator[HTTPPeer]:
    async with http_peer() as started:

        @started.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            name = seen.body["params"]["name"]
            if name == "slow":
                await asyncio.sleep(0.2)
            text = seen.http.headers.get("Authorization", "") if name == "whoami" else name
            return seen.json({"content": [{"type": "text", "text": text}]})

        yield started


# Keys.


async def test_a_key_has_one_client_and_the_handle_stays_valid() -> None:
    async with ClientPool(stdio(), make_client) as pool:
        client = pool.client("peer")
        assert pool.client("peer") is client
        assert pool.client("peer", "ann") is not client
        assert client.state is ConnectionState.DISCONNECTED
        assert text_of(await client.call_tool("echo")) == "{}"
        assert pool.metrics.created == 2
        assert "1 servers, 1 of 2 clients connected" in repr(pool)
    assert client.state is ConnectionState.DISCONNECTED
    with pytest.raises(MCPConnectionError):
        await client.call_tool("echo")


async def test_an_unknown_server_is_named() -> None:
    async with ClientPool(stdio(), make_client) as pool:
        with pytest.raises(ConfigError, match="there is no server 'files'; known are peer"):
            pool.client("files")


def test_fingerprints_tell_configurations_apart_and_show_no_secret() -> None:
    async def headers() -> Mapping[str, str]:
        return {}

    configs = [
        ServerConfig("a", "http", HTTPConfig("http://h/", api_key="planted-secret")),
        ServerConfig("a", "http", HTTPConfig("http://h/", api_key="another-secret")),
        ServerConfig("a", "http", HTTPConfig("http://h/", headers={"X": "1"})),
        ServerConfig("a", "http", HTTPConfig("http://h/", headers=headers)),
        ServerConfig("a", "stdio", StdioConfig("x", env={"A": "1"})),
        ServerConfig("a", "stdio", StdioConfig("x", env={"A": "2"})),
        ServerConfig("a", "mine", {"anything": 1}),
    ]
    fingerprints = [fingerprint_of(config) for config in configs]
    assert len(set(fingerprints)) == len(configs)
    assert fingerprints == [fingerprint_of(config) for config in configs]
    assert "secret" not in str(fingerprints)


async def test_200_interleaved_principals_never_see_each_others_credentials(peer: HTTPPeer) -> None:
    rotation = iter(range(10_000))

    async def credentials(server: str, principal: str | None) -> dict[str, str]:
        assert server == "peer"
        return {"Authorization": f"Bearer {principal}:{next(rotation)}"}

    limits = PoolLimits(total=200, per_server=200)
    async with ClientPool(http(peer), make_client, credentials=credentials, limits=limits) as pool:
        order = [f"p{n}" for n in range(200)] * 3
        random.shuffle(order)

        async def whoami(principal: str) -> tuple[str, str]:
            answer = text_of(await pool.client("peer", principal).call_tool("whoami"))
            return principal, answer.removeprefix("Bearer ").split(":")[0]

        pairs = await asyncio.gather(*(whoami(principal) for principal in order))
    assert [pair for pair in pairs if pair[0] != pair[1]] == []
    sessions = [seen for seen in peer.seen if seen.method == "initialize"]
    assert len(sessions) == 200  # rotated credentials make no second session


async def test_sessions_of_one_principal_have_clients_and_handlers_of_their_own() -> None:
    asked: list[str] = []

    def handlers(session: str) -> Handlers:
        async def roots(_context: HandlerContext) -> list[Any]:
            asked.append(session)
            return []

        return Handlers(roots=roots)

    async with ClientPool(stdio(), make_client) as pool:
        ours = [pool.client("peer", "ada", session=name, handlers=handlers(name)) for name in ("one", "two")]
        assert ours[0] is pool.client("peer", "ada", session="one")
        assert len({*ours, pool.client("peer", "ada")}) == 3
        await ours[1].call_tool("ask", {"method": "roots/list"})
        await ours[0].call_tool("ask", {"method": "roots/list"})
    assert asked == ["two", "one"]


async def test_static_headers_of_the_config_stay_beside_the_credentials(peer: HTTPPeer) -> None:
    async def credentials(_server: str, principal: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {principal}"}

    servers = http(peer, headers={"X-Tenant": "t"})
    async with ClientPool(servers, make_client, credentials=credentials) as pool:
        assert text_of(await pool.client("peer", "ann").call_tool("whoami")) == "Bearer ann"
    assert {seen.http.headers["X-Tenant"] for seen in peer.seen} == {"t"}


async def test_handlers_are_told_principal_and_server() -> None:
    asked: list[tuple[str, str | None]] = []

    async def roots(context: HandlerContext) -> list[Any]:
        asked.append((context.server, context.principal))
        return []

    def handlers(_server: str, _principal: str | None) -> Handlers:
        return Handlers(roots=roots)

    async with ClientPool(stdio(), make_client, handlers=handlers) as pool:
        await pool.client("peer", "ann").call_tool("ask", {"method": "roots/list"})
    assert asked == [("peer", "ann")]


# Several processes of one server.


async def pids(client: MCPClient, count: int) -> list[str]:
    """The processes that answer `count` calls made one after the other."""
    return [text_of(await client.call_tool("pid")) for _ in range(count)]


async def test_calls_of_one_handle_go_to_the_least_busy_of_several_processes() -> None:
    async with ClientPool(stdio(instances=3), make_client) as pool:
        client = pool.client("peer")
        (first,) = set(await pids(client, 5))  # nobody is busy: one is enough
        waiting = [asyncio.create_task(client.call_tool("never", timeout=60)) for _ in range(2)]
        await asyncio.sleep(0)
        (third,) = set(await pids(client, 5))
        assert third != first
        assert [member.load for member in pool.members()] == [1, 1, 0]
        assert [member.key.instance for member in pool.members()] == [0, 1, 2]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert pool.client("peer") is client
        assert set(await pids(client, 5)) == {first}


async def test_a_process_of_several_that_dies_is_replaced_by_the_next_call() -> None:
    async with ClientPool(stdio(instances=2), make_client) as pool:
        client = pool.client("peer")
        waiting = asyncio.create_task(client.call_tool("never", timeout=60))
        await asyncio.sleep(0)
        (second,) = set(await pids(client, 2))
        os.kill(int(second), 9)
        with contextlib.suppress(OutcomeUnknownError):  # the call may be quicker than the news
            await pids(client, 1)
        (another,) = set(await pids(client, 2))
        assert another != second
        waiting.cancel()


async def test_no_further_process_is_started_where_the_pool_is_full() -> None:
    async with ClientPool(stdio(instances=3), make_client, limits=PoolLimits(total=1)) as pool:
        client = pool.client("peer")
        await client.ping()
        waiting = asyncio.create_task(client.call_tool("never", timeout=60))
        await asyncio.sleep(0)
        assert len(set(await pids(client, 3))) == 1
        assert len(pool.members()) == 1
        waiting.cancel()


async def test_all_processes_of_a_server_know_the_logging_level(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with ClientPool(stdio("peer", "--log", str(log), instances=3), make_client) as pool:
        client = pool.client("peer")
        waiting = [asyncio.create_task(client.call_tool("never", timeout=60))]
        await asyncio.sleep(0)
        await pids(client, 1)
        await client.set_logging_level("error")
        await client.notify("notifications/roots/list_changed")
        waiting.append(asyncio.create_task(client.call_tool("never", timeout=60)))
        await asyncio.sleep(0)
        await pids(client, 1)  # by a third, which has been told while it was connected
        sent = [json.loads(line) for line in log.read_text().splitlines()]
        levels = [message["params"]["level"] for message in sent if message["method"] == "logging/setLevel"]
        assert levels == ["error"] * 3
        assert [message["method"] for message in sent].count("notifications/roots/list_changed") == 2
        for task in waiting:
            task.cancel()


# Places.


async def test_an_idle_client_makes_room(peer: HTTPPeer) -> None:
    limits = PoolLimits(total=1)
    async with ClientPool(http(peer), make_client, limits=limits) as pool:
        first, second = pool.client("peer", "a"), pool.client("peer", "b")
        await first.call_tool("x")
        await second.call_tool("x")
        assert first.state is ConnectionState.DISCONNECTED
        assert pool.metrics.evictions == 1
        await first.call_tool("x")  # its handle works on
        assert second.state is ConnectionState.DISCONNECTED


async def test_a_leased_client_is_not_closed_and_the_others_wait_in_order(peer: HTTPPeer) -> None:
    limits = PoolLimits(total=1, wait_seconds=5)
    order: list[str] = []

    async def use(pool: ClientPool, principal: str) -> None:
        async with pool.lease("peer", principal) as client:
            await client.call_tool("x")
            order.append(principal)

    async with ClientPool(http(peer), make_client, limits=limits) as pool:
        async with pool.lease("peer", "first"):
            waiting: list[asyncio.Task[None]] = []
            for name in ("a", "b", "c"):
                waiting.append(asyncio.create_task(use(pool, name)))
                async with asyncio.timeout(5):
                    while len(pool._admission.waiting) < len(waiting):
                        await asyncio.sleep(0)
            assert order == []
        await asyncio.gather(*waiting)
        assert order == ["a", "b", "c"]
        assert pool.metrics.waits >= 3


async def test_a_call_that_ends_makes_room_too(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client, limits=PoolLimits(total=1)) as pool:
        slow = asyncio.create_task(pool.client("peer", "a").call_tool("slow"))
        await asyncio.sleep(0.05)
        assert text_of(await pool.client("peer", "b").call_tool("x")) == "x"
        assert text_of(await slow) == "slow"


async def test_who_has_connected_without_a_call_makes_room(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client, limits=PoolLimits(total=1)) as pool:
        connecting = asyncio.create_task(pool.client("peer", "a").connect())
        await asyncio.sleep(0)
        assert text_of(await pool.client("peer", "b").call_tool("x")) == "x"
        assert await connecting


@pytest.mark.parametrize("stateless", [False, True])
async def test_who_ends_listening_makes_room(peer: HTTPPeer, stateless: bool) -> None:
    peer.stateless = stateless

    @peer.on("subscriptions/listen")
    async def listen(seen: Seen) -> web.StreamResponse:
        meta = {"_meta": {"io.modelcontextprotocol/subscriptionId": str(seen.id)}}
        response = await seen.stream()
        acknowledged = {"method": "notifications/subscriptions/acknowledged", "params": {**meta, "notifications": {}}}
        await response.write(event({"jsonrpc": "2.0", **acknowledged}))
        await peer.gone.wait()
        return response

    async with ClientPool(http(peer), make_client, limits=PoolLimits(total=1)) as pool:
        async with await pool.client("peer", "a").listen(tools=True):
            waiting = asyncio.create_task(pool.client("peer", "b").call_tool("x"))
            while not pool._admission.waiting:
                await asyncio.sleep(0)
        assert text_of(await waiting) == "x"
        peer.gone.set()


async def test_no_place_in_time_is_a_busy_error(peer: HTTPPeer) -> None:
    limits = PoolLimits(total=1, wait_seconds=0.05)
    async with ClientPool(http(peer), make_client, limits=limits) as pool, pool.lease("peer", "a"):
        with pytest.raises(BusyError, match="no place in the pool within"):
            await pool.client("peer", "b").call_tool("x")


async def test_a_place_that_comes_too_late_goes_back(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client, limits=PoolLimits(total=1)) as pool:
        async with pool.lease("peer", "a") as first:
            second = pool.client("peer", "b")
            call = asyncio.create_task(second.call_tool("x"))
            async with asyncio.timeout(5):
                while not pool._admission.waiting:
                    await asyncio.sleep(0)
        attempt = second._connector._attempt
        assert attempt is not None
        attempt.cancel()  # in the very moment in which it has been given the place of the other
        with pytest.raises(MCPConnectionError):
            await call
        assert text_of(await first.call_tool("x")) == "x"
        assert [member.client for member in pool.members() if member.admitted] == [first]


async def test_those_who_leave_keep_their_place_until_they_are_closed(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client, limits=PoolLimits(total=1)) as pool:
        slow = asyncio.create_task(pool.client("peer").call_tool("slow"))
        while not peer.methods().count("tools/call"):
            await asyncio.sleep(0.001)
        pool.put(ServerConfig("peer", "http", HTTPConfig(f"{peer.url}/mcp", timeout=1234)))
        assert text_of(await pool.client("peer").call_tool("x")) == "x"
        assert slow.done()
        assert text_of(await slow) == "slow"
        assert peer.methods().index("DELETE") < len(peer.seen) - 1 - peer.methods()[::-1].index("initialize")


async def test_a_handle_whose_configuration_has_left_says_so(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client) as pool:
        old = pool.client("peer")
        await old.ping()
        await pool.reload(http(peer, timeout=1234))
        async with asyncio.timeout(5):
            while old.state is not ConnectionState.DISCONNECTED:
                await asyncio.sleep(0.001)
        with pytest.raises(ClientClosedError):
            await old.ping()
        assert await old.connect() is False
        assert "left the pool" in str(old.last_error)


async def test_max_in_flight_is_kept_to_and_the_wait_is_bounded(peer: HTTPPeer) -> None:
    servers = http(peer, max_in_flight=1, queue_timeout=50)
    async with ClientPool(servers, make_client) as pool:
        client = pool.client("peer")
        await client.ping()
        slow = asyncio.create_task(client.call_tool("slow"))
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="max_in_flight"):
            await client.call_tool("x")
        await slow
        await client.call_tool("x")


async def test_a_lease_of_a_server_that_cannot_be_reached_raises() -> None:
    servers = {"gone": ServerConfig("gone", "stdio", {"command": "no-such-program-anywhere"})}
    async with ClientPool(servers, make_client) as pool:
        with pytest.raises(MCPConnectionError, match="command not found"):
            async with pool.lease("gone"):
                pass


# Fleets.


async def test_connect_all_isolates_failures_and_tells_progress() -> None:
    gone = {"gone": ServerConfig("gone", "stdio", {"command": "no-such-program-anywhere"})}
    told: list[str] = []

    def progress(name: str, _outcome: MCPClient | MCPClientError) -> None:
        told.append(name)

    async with ClientPool({**stdio("a"), **gone, **stdio("b")}, make_client) as pool:
        outcomes = await pool.connect_all(progress=progress)
        assert list(outcomes) == ["a", "gone", "b"]
        assert isinstance(outcomes["gone"], MCPConnectionError)
        assert isinstance(outcomes["a"], MCPClient)
        assert await outcomes["a"].health_check()
    assert sorted(told) == ["a", "b", "gone"]


async def test_each_servers_clock_starts_when_its_turn_comes() -> None:
    silent = ("--discover", "silent", "--initialize", "silent")
    servers = {}
    for n in range(3):
        servers |= stdio(f"s{n}", *silent, timeout=300, probe_timeout=100)
    servers |= stdio("well", timeout=5000)
    async with ClientPool(servers, make_client, limits=PoolLimits(parallel_connects=1)) as pool:
        outcomes = await pool.connect_all()
    assert [isinstance(outcome, TimeoutError) for outcome in outcomes.values()] == [True, True, True, False]


async def test_a_required_server_that_is_away_is_raised() -> None:
    config = ServerConfig("gone", "stdio", {"command": "no-such-program-anywhere", "required": True})
    async with ClientPool({"gone": config}, make_client) as pool:
        with pytest.raises(MCPConnectionError):
            await pool.connect_all()


async def test_reload_touches_only_what_has_changed_and_lets_calls_finish(peer: HTTPPeer) -> None:
    servers: dict[str, ServerConfig] = {}
    for n in range(10):
        servers |= http(peer, f"s{n}")
    async with ClientPool(servers, make_client) as pool:
        await pool.connect_all()
        before = {name: pool.client(name) for name in pool.servers}
        slow = asyncio.create_task(before["s0"].call_tool("slow"))
        await asyncio.sleep(0.05)
        changed = {**servers, **http(peer, "s0", timeout=1234), **http(peer, "new")}
        del changed["s1"]
        await pool.reload(changed)
        assert pool.servers == ["s0", *(f"s{n}" for n in range(2, 10)), "new"]
        assert text_of(await slow) == "slow"
        for n in range(2, 10):
            assert pool.client(f"s{n}") is before[f"s{n}"]
            assert before[f"s{n}"].metrics.connections == 1
        assert pool.client("s0") is not before["s0"]
        with pytest.raises(ConfigError):
            pool.client("s1")


# The supervisor.


async def test_a_client_that_nobody_uses_is_closed_and_comes_back(peer: HTTPPeer) -> None:
    now = 0.0
    limits = PoolLimits(idle_seconds=10, probe_seconds=1000)
    async with ClientPool(http(peer), make_client, limits=limits, clock=lambda: now) as pool:
        client = pool.client("peer")
        await client.call_tool("x")
        now = 9.0
        await pool.supervise_once()
        assert client.state is ConnectionState.CONNECTED
        now = 10.0
        await pool.supervise_once()
        assert client.state is ConnectionState.DISCONNECTED
        assert pool.metrics.idle_closed == 1
        assert peer.methods()[-1] == "DELETE"
        await client.call_tool("x")


async def test_a_server_that_answers_no_probe_is_replaced() -> None:
    now = 0.0
    servers = stdio(timeout=300)
    limits = PoolLimits(idle_seconds=1000, probe_seconds=5)
    async with ClientPool(servers, make_client, limits=limits, clock=lambda: now) as pool:
        client = pool.client("peer")
        assert text_of(await client.call_tool("stop_reading")) == "deaf now"
        now = 6.0
        await pool.supervise_once()
        assert pool.metrics.replaced == 1
        assert await client.health_check()


async def test_the_supervisor_runs_by_itself(peer: HTTPPeer) -> None:
    limits = PoolLimits(idle_seconds=0.05, probe_seconds=0.05)
    async with ClientPool(http(peer), make_client, limits=limits) as pool:
        client = pool.client("peer")
        await client.call_tool("x")
        async with asyncio.timeout(5):
            while client.state is not ConnectionState.DISCONNECTED:
                await asyncio.sleep(0.01)


async def test_a_handle_that_is_used_is_not_idle(peer: HTTPPeer) -> None:
    now = 0.0
    limits = PoolLimits(idle_seconds=10, probe_seconds=1000)
    async with ClientPool(http(peer), make_client, limits=limits, clock=lambda: now) as pool:
        client = pool.client("peer")
        now = 9.0
        await client.call_tool("x")
        now = 15.0
        await pool.supervise_once()
        assert client.state is ConnectionState.CONNECTED


async def test_clients_whose_handle_nobody_keeps_are_forgotten_when_they_are_idle(peer: HTTPPeer) -> None:
    now = 0.0
    limits = PoolLimits(idle_seconds=10, probe_seconds=1000)
    async with ClientPool(http(peer), make_client, limits=limits, clock=lambda: now) as pool:
        kept = pool.client("peer", "kept")
        await kept.call_tool("x")
        for n in range(5):
            await pool.client("peer", f"p{n}").call_tool("x")
        now = 20.0
        await pool.supervise_once()
        gc.collect()
        assert pool.members() == []
        assert [member.client for member in pool._resting.values()] == [kept]
        assert pool.client("peer", "kept") is kept
        await kept.call_tool("x")


async def test_clients_that_were_parked_or_never_connected_are_forgotten_too() -> None:
    now = 0.0
    limits = PoolLimits(idle_seconds=10, probe_seconds=1000)
    servers = {"gone": ServerConfig("gone", "stdio", {"command": "no-such-program"}), **stdio()}
    async with ClientPool(servers, make_client, limits=limits, clock=lambda: now) as pool:
        parked = pool.client("peer", "parked")
        pool.client("peer", "never")
        await parked.call_tool("echo")
        await parked.park()
        with pytest.raises(MCPConnectionError):
            await pool.client("gone", "failed").call_tool("x")
        assert len(pool.members()) == 3
        now = 9.0
        await pool.supervise_once()
        assert len(pool.members()) == 3
        now = 10.0
        await pool.supervise_once()
        gc.collect()
        assert pool.members() == []
        assert [member.client for member in pool._resting.values()] == [parked]
        assert pool.metrics.idle_closed == 0
        await parked.call_tool("echo")
        assert [member.client for member in pool.members()] == [parked]


async def test_an_open_breaker_lets_a_client_that_is_parked_try_again_when_its_time_is_over(peer: HTTPPeer) -> None:
    broken = False

    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        return web.Response(status=503) if broken else seen.json({"content": []})

    servers = http(peer, breaker_threshold=1, breaker_reset=50, retries=0)
    async with ClientPool(servers, make_client) as pool:
        parked, other = pool.client("peer", "parked"), pool.client("peer", "other")
        await parked.call_tool("x")
        await parked.park()
        broken = True
        with pytest.raises(MCPClientError):
            await other.call_tool("x")
        with pytest.raises(CircuitOpenError):
            await parked.call_tool("x")
        broken = False
        async with asyncio.timeout(5):
            while True:
                try:
                    await parked.call_tool("x")
                except CircuitOpenError as error:
                    await asyncio.sleep(error.retry_after or 0)
                else:
                    break
        assert parked.state is ConnectionState.CONNECTED


async def test_who_listens_is_not_closed_for_being_idle(peer: HTTPPeer) -> None:
    now = 0.0
    limits = PoolLimits(idle_seconds=10, probe_seconds=1000)
    async with ClientPool(http(peer), make_client, limits=limits, clock=lambda: now) as pool:
        client = pool.client("peer")
        async with await client.listen(tools=True):
            now = 20.0
            await pool.supervise_once()
            assert client.state is ConnectionState.CONNECTED
        await pool.supervise_once()
        assert client.state is ConnectionState.CONNECTED  # it has been used until just now
        now = 30.0
        await pool.supervise_once()
        assert client.state is ConnectionState.DISCONNECTED


async def test_a_server_that_cannot_be_reached_takes_no_place() -> None:
    servers = {"gone": ServerConfig("gone", "stdio", {"command": "no-such-program-anywhere"}), **stdio()}
    async with ClientPool(servers, make_client, limits=PoolLimits(total=1)) as pool:
        await pool.connect_all()
        assert "1 of 2 clients connected" in repr(pool)


async def test_a_probe_is_no_use_and_a_server_without_ping_is_alive(peer: HTTPPeer) -> None:
    @peer.on("ping")
    async def unknown(seen: Seen) -> web.StreamResponse:
        return seen.error(-32601, "Method not found")

    now = 0.0
    limits = PoolLimits(idle_seconds=10, probe_seconds=3)
    async with ClientPool(http(peer), make_client, limits=limits, clock=lambda: now) as pool:
        client = pool.client("peer")
        await client.call_tool("x")
        now = 4.0
        await pool.supervise_once()
        now = 8.0
        await pool.supervise_once()
        assert peer.methods().count("ping") == 2
        assert pool.metrics.replaced == 0
        now = 11.0
        await pool.supervise_once()
        assert client.state is ConnectionState.DISCONNECTED


async def test_many_principals_in_few_places_lose_no_call(peer: HTTPPeer) -> None:
    """Clients in constant use are evicted in between two calls, and what comes meanwhile waits for its turn."""
    limits = PoolLimits(total=3, wait_seconds=50, drain_seconds=0.5)
    async with ClientPool(http(peer), make_client, limits=limits) as pool:

        async def use(number: int) -> None:
            client = pool.client("peer", f"p{number % 10}")
            for _ in range(25):
                await client.call_tool("x", timeout=50)

        await asyncio.gather(*(use(number) for number in range(40)))
        assert peer.methods().count("tools/call") == 1000
        assert pool.metrics.evictions > 0
        assert pool.metrics.to_dict()["waited"]["count"] == pool.metrics.waits > 0


# The end.


async def test_closing_drains_the_calls_in_flight(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client) as pool:
        slow = asyncio.create_task(pool.client("peer").call_tool("slow"))
        await asyncio.sleep(0.05)
    assert text_of(await slow) == "slow"
    await pool.close()


async def test_a_lease_is_waited_for(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client) as pool:
        async with pool.lease("peer") as client:
            await pool.reload({})
            for _ in range(100):
                await asyncio.sleep(0)
            assert text_of(await client.call_tool("x")) == "x"
        async with asyncio.timeout(5):
            while client.state is not ConnectionState.DISCONNECTED:
                await asyncio.sleep(0.001)


async def test_a_lease_is_not_waited_for_longer_than_drain_seconds(peer: HTTPPeer) -> None:
    limits = PoolLimits(drain_seconds=0.05)
    async with ClientPool(http(peer), make_client, limits=limits) as pool, pool.lease("peer") as client:
        await pool.close()
        assert client.state is ConnectionState.DISCONNECTED


async def test_a_lease_is_of_the_client_of_that_session_and_any_number_may_hold_it(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client) as pool:
        lease = pool.lease("peer", "ann", session="one")
        async with lease as first:
            async with lease as second:
                assert first is second is pool.client("peer", "ann", session="one")
                assert first is not pool.client("peer", "ann")
            assert [member.leases for member in pool.members()] == [1, 0]
        assert [member.leases for member in pool.members()] == [0, 0]


async def test_a_lease_of_a_client_that_has_left_is_not_given_again(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client) as pool:
        kept = pool.lease("peer")
        async with kept:
            await pool.reload({})
            with pytest.raises(ClientClosedError, match="has left the pool"):
                await kept.__aenter__()
            assert kept.leases == 1
        await pool.reload(http(peer))
        with pytest.raises(ClientClosedError, match="has left the pool"):
            await kept.__aenter__()
        async with pool.lease("peer") as client:
            assert text_of(await client.call_tool("x")) == "x"


async def test_a_lease_during_a_probe_is_use(peer: HTTPPeer) -> None:
    now = 0.0
    async with ClientPool(http(peer), make_client, clock=lambda: now) as pool:
        member = pool.lease("peer")
        async with member:
            member.probing, now = True, 7.0
        assert member.last_used == 7.0


async def test_a_closed_pool_gives_no_client_and_revives_none(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client) as pool:
        client, unused = pool.client("peer"), pool.client("peer", "ann")
        await client.ping()
    seen = len(peer.seen)
    for use in (pool.call("peer__x"), client.ping(), unused.ping()):
        with pytest.raises(ClientClosedError) as caught:
            await use
        assert caught.value.delivery is Delivery.NOT_SENT
    for get in (pool.client, pool.lease):
        with pytest.raises(ClientClosedError):
            get("peer")
    assert await client.connect() is False
    assert "the pool was closed" in str(client.last_error)
    with pytest.raises(ClientClosedError):
        await pool.__aenter__()
    assert isinstance((await pool.connect_all())["peer"], ClientClosedError)
    assert len(peer.seen) == seen


async def test_closing_goes_on_when_whoever_asked_for_it_is_cancelled(peer: HTTPPeer) -> None:
    for k in itertools.count():
        pool = await ClientPool(http(peer), make_client).__aenter__()
        clients = [pool.client("peer", name) for name in "ab"]
        await asyncio.gather(*(client.ping() for client in clients))
        closing = asyncio.create_task(pool.close())
        for _ in range(k):
            await asyncio.sleep(0)
        done = closing.done()
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        if k:  # otherwise it has not begun
            async with asyncio.timeout(5):
                while {client.state for client in clients} != {ConnectionState.DISCONNECTED}:
                    await asyncio.sleep(0.001)
        await pool.close()
        if done:
            break


def test_a_pool_abandoned_without_close_warns_and_leaves_nothing_running() -> None:
    script = """
import asyncio, warnings
from tests.test_pool import ClientPool, make_client, stdio
async def main():
    pool = await ClientPool(stdio(), make_client).__aenter__()
    await pool.client("peer").ping()
    print(pool.client("peer").pid, flush=True)
warnings.simplefilter("always")
asyncio.run(main())
"""
    command = [sys.executable, "-c", script]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=30, check=True)
    assert "a ClientPool of peer was abandoned without close()" in done.stderr
    stat = Path(f"/proc/{int(done.stdout)}/stat")
    for _ in range(500):
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(stat.read_text())
