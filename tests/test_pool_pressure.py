"""A pool that is crowded, changed or closed while it works: no call is lost that need not be."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fastapi_server.mcp import (
    AuthenticationError,
    Channel,
    CircuitOpenError,
    ClientClosedError,
    ClientMetrics,
    ClientPool,
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
    PoolLimits,
    ServerConfig,
    StdioConfig,
    make_client,
)
from fastapi_server.mcp.clients.memory_client import MemoryChannel
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer
from tests.test_pool import PEER, http, stdio, text_of


@pytest.fixture
async def peer(nothing_left: None) -> AsyncIterator[HTTPPeer]:
    """Its tool takes as many seconds as the argument `s` says."""
    async with http_peer() as started:

        @started.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            await asyncio.sleep(seen.body["params"]["arguments"].get("s", 0))
            return seen.json({"content": [{"type": "text", "text": "done"}]})

        yield started


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0)


# Crowded.


async def test_nobody_is_closed_between_two_calls_of_which_the_second_takes_long(peer: HTTPPeer) -> None:
    """Whoever has to go is closed to new calls in the very moment in which that is decided."""
    limits = PoolLimits(total=1, wait_seconds=30, drain_seconds=0.05)
    async with ClientPool(http(peer), make_client, limits=limits) as pool:

        async def use(principal: str) -> None:
            client = pool.client("peer", principal)
            for seconds in (0.01, 0.15, 0.15):
                assert text_of(await client.call_tool("x", {"s": seconds})) == "done"

        await asyncio.gather(use("ann"), use("bob"), use("cy"))
        assert pool.metrics.evictions >= 6


async def test_those_who_had_to_go_are_gone_when_the_one_who_wanted_their_place_gives_up(peer: HTTPPeer) -> None:
    deleting = asyncio.Event()

    @peer.on("DELETE")
    async def delete(_seen: Seen) -> web.StreamResponse:
        deleting.set()
        await asyncio.sleep(0.1)
        return web.Response()

    limits = PoolLimits(per_server=1, per_principal=1)
    async with ClientPool({**http(peer, "s1"), **http(peer, "s2")}, make_client, limits=limits) as pool:
        await pool.client("s1", "ann").ping()
        await pool.client("s2", "bob").ping()
        wanting = pool.client("s2", "ann")  # for which both have to go
        calling = asyncio.create_task(wanting.ping())
        await deleting.wait()
        await wanting.disconnect()
        with pytest.raises(ClientClosedError):
            await calling
        await pool.client("s2", "cy").ping()
        connected = [m.principal for m in pool.members() if m.client.state is ConnectionState.CONNECTED]
        assert connected == ["cy"]


# Changed or closed.


async def _reload(pool: ClientPool) -> None:
    changed = {}
    for name in pool.servers:
        config = pool.config_of(name)
        assert config is not None
        changed[name] = ServerConfig(name, "http", HTTPConfig(config.config.endpoint, timeout=12_345))
    await pool.reload(changed)


ENDS: dict[str, Callable[[ClientPool], Awaitable[None]]] = {"reload": _reload, "close": lambda pool: pool.close()}
each_end = pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)


@each_end
async def test_calls_that_wait_for_their_turn_are_made(peer: HTTPPeer, end: Callable[..., Awaitable[None]]) -> None:
    async with ClientPool(http(peer, max_in_flight=1), make_client) as pool:
        client = pool.client("peer")
        calls = [asyncio.create_task(client.call_tool("x", {"s": 0.05})) for _ in range(4)]
        await until(lambda: peer.methods().count("tools/call"))
        await end(pool)
        assert [text_of(result) for result in await asyncio.gather(*calls)] == ["done"] * 4
        with pytest.raises(ClientClosedError) as caught:
            await client.call_tool("x")
        assert caught.value.delivery is Delivery.NOT_SENT


@each_end
async def test_calls_that_are_connecting_are_made(peer: HTTPPeer, end: Callable[..., Awaitable[None]]) -> None:
    @peer.on("initialize")
    async def slowly(seen: Seen) -> web.StreamResponse:
        await asyncio.sleep(0.1)
        return peer.default(seen)

    async with ClientPool(http(peer), make_client) as pool:
        calls = [asyncio.create_task(pool.client("peer").call_tool("x")) for _ in range(3)]
        await until(lambda: "initialize" in peer.methods())
        await end(pool)
        assert [text_of(result) for result in await asyncio.gather(*calls)] == ["done"] * 3


@each_end
async def test_calls_whose_question_is_being_answered_are_made(
    nothing_left: None, end: Callable[..., Awaitable[None]]
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def roots(_context: HandlerContext) -> list[Any]:
        asked.set()
        await answer.wait()
        return []

    async with http_peer(stateless=True) as peer:

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            if "inputResponses" in seen.body["params"]:
                return seen.json({"resultType": "complete", "content": [{"type": "text", "text": "done"}]})
            wanted = {"q": {"method": "roots/list", "params": {}}}
            return seen.json({"resultType": "input_required", "requestState": "s", "inputRequests": wanted})

        async with ClientPool(http(peer), make_client, handlers=lambda *_: Handlers(roots=roots)) as pool:
            calling = asyncio.create_task(pool.client("peer").call_tool("x"))
            await asked.wait()
            ending = asyncio.ensure_future(end(pool))
            await asyncio.sleep(0.01)
            answer.set()
            assert text_of(await calling) == "done"
            await ending


@each_end
async def test_calls_that_wait_for_another_try_are_made(peer: HTTPPeer, end: Callable[..., Awaitable[None]]) -> None:
    refusals = iter([web.Response(status=503, headers={"Retry-After": "1"})])

    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        return next(refusals, None) or seen.json({"content": [{"type": "text", "text": "done"}]})

    async with ClientPool(http(peer), make_client) as pool:
        client = pool.client("peer")
        calling = asyncio.create_task(client.call_tool("x"))
        await until(client.metrics.retries.total)
        await end(pool)
        assert text_of(await calling) == "done"


async def test_the_pages_of_a_list_are_all_fetched_from_a_client_that_leaves(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client) as pool:

        @peer.on("tools/list")
        async def page(seen: Seen) -> web.StreamResponse:
            number = int(seen.body.get("params", {}).get("cursor", "0"))
            if number == 0:
                await _reload(pool)
            more = {"nextCursor": str(number + 1)} if number < 4 else {}
            return seen.json({"tools": [{"name": f"t{number}", "inputSchema": {}}], **more})

        assert len(await pool.client("peer").list_tools()) == 5


# Several processes.


LOCKED = """
import fcntl, json, sys, threading, time
lock = open(sys.argv[1], "a")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit("the database is locked")
def answer(request):
    if request["method"] == "tools/call":
        time.sleep(0.05)
        said = {"result": {"content": []}}
    elif request["method"] == "initialize":
        info = {"name": "x", "version": ""}
        said = {"result": {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": info}}
    else:
        said = {"error": {"code": -32601, "message": "no"}}
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], **said}) + "\\n")
    sys.stdout.flush()
for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        threading.Thread(target=answer, args=(request,), daemon=True).start()
"""


async def test_a_process_that_cannot_start_takes_no_calls_from_the_one_that_runs(tmp_path: Path) -> None:
    settings = StdioConfig(sys.executable, ["-S", "-c", LOCKED, str(tmp_path / "lock")], instances=3)
    async with ClientPool({"db": ServerConfig("db", "stdio", settings)}, make_client) as pool:
        client = pool.client("db")
        for _ in range(3):
            await asyncio.gather(*(client.call_tool("x") for _ in range(10)))
        assert sum(member.client.metrics.tool_calls for member in pool.members()) == 30


async def test_no_more_processes_are_started_than_there_are_places() -> None:
    limits = PoolLimits(total=2, wait_seconds=0.2)
    async with ClientPool(stdio(instances=4), make_client, limits=limits) as pool:
        client = pool.client("peer")
        calls = [asyncio.create_task(client.call_tool("hold", {"of": 2, "n": n})) for n in range(4)]
        assert sorted(text_of(result) for result in await asyncio.gather(*calls)) == ["0", "1", "2", "3"]
        assert pool.metrics.created == len(pool.members()) == 2


async def test_a_probe_is_no_reason_to_start_another_process() -> None:
    async with ClientPool(stdio(instances=2), make_client, limits=PoolLimits(probe_seconds=0)) as pool:
        client = pool.client("peer")
        await client.ping()
        probing = asyncio.create_task(pool.supervise_once())
        await until(lambda: pool.members()[0].probing)
        await client.call_tool("pid")
        await probing
        assert len(pool.members()) == 1


# The supervisor.


async def test_calls_in_flight_when_a_probe_fails_fail_by_the_rule() -> None:
    now = 0.0
    limits = PoolLimits(probe_seconds=5, probe_timeout_seconds=0.3)
    async with ClientPool(stdio(), make_client, limits=limits, clock=lambda: now) as pool:
        client = pool.client("peer")
        await client.ping()
        (pid,) = [int(text_of(await client.call_tool("pid")))]
        os.kill(pid, signal.SIGSTOP)
        now = 6.0
        probing = asyncio.create_task(pool.supervise_once())
        await until(lambda: pool.members()[0].probing)
        calls = (client.list_tools(), client.call_tool("echo", idempotent=True), client.call_tool("echo"))
        listed, echoed, unknown = await asyncio.gather(*calls, return_exceptions=True)
        await probing
    assert isinstance(listed, list)
    assert text_of(echoed) == "{}"
    assert isinstance(unknown, OutcomeUnknownError)
    assert "health probe" in str(unknown)


async def test_a_server_that_is_found_to_be_busy_is_not_probed(peer: HTTPPeer) -> None:
    now = 0.0
    servers = {**stdio("deaf", "--deaf", shutdown_timeout=100), **http(peer, timeout=300)}
    limits = PoolLimits(probe_seconds=5, idle_seconds=10)
    async with ClientPool(servers, make_client, limits=limits, clock=lambda: now) as pool:
        await pool.client("deaf").ping()
        now = 6.0
        busy = pool.client("peer")
        await busy.ping()
        now = 12.0
        round_ = asyncio.create_task(pool.supervise_once())
        calling = asyncio.create_task(busy.call_tool("x", {"s": 0.1}, timeout=5))
        await asyncio.gather(round_, calling)
        assert peer.methods().count("ping") == 1


async def test_a_server_that_answers_anything_during_a_probe_is_alive(peer: HTTPPeer) -> None:
    now = 0.0
    arrived = asyncio.Event()

    async with ClientPool(http(peer, timeout=300), make_client, clock=lambda: now) as pool:
        client = pool.client("peer")
        await client.ping()

        @peer.on("ping")
        async def never(_seen: Seen) -> web.StreamResponse:
            arrived.set()
            await asyncio.sleep(60)
            raise AssertionError

        now = 31.0
        probing = asyncio.create_task(pool.supervise_once())
        await arrived.wait()
        await client.call_tool("x")
        await probing
        assert pool.metrics.replaced == 0


async def test_a_server_that_died_while_nobody_used_it_is_there_again() -> None:
    now = 0.0
    async with ClientPool(stdio(), make_client, clock=lambda: now) as pool:
        client = pool.client("peer")
        os.kill(int(text_of(await client.call_tool("pid"))), signal.SIGKILL)
        await until(lambda: client.state is ConnectionState.ERROR)
        now = 31.0
        await pool.supervise_once()
        assert client.state is ConnectionState.CONNECTED
        assert pool.metrics.replaced == 1


async def test_idle_clients_are_closed_beside_each_other() -> None:
    now = 0.0
    servers: dict[str, ServerConfig] = {}
    for number in range(5):
        servers |= stdio(f"deaf{number}", "--deaf", shutdown_timeout=300)
    async with ClientPool(servers, make_client, clock=lambda: now) as pool:
        await pool.connect_all()
        now = 301.0
        round_ = asyncio.create_task(pool.supervise_once())
        await until(lambda: pool.metrics.idle_closed == 5)  # all are being closed before the first is
        assert {client.state for client in map(pool.client, servers)} == {ConnectionState.CONNECTED}
        await round_


# The circuit breaker.


@pytest.mark.parametrize("use", ["lease", "ping", "notify", "listen", "connect_all", "call"])
async def test_an_open_breaker_is_heeded_whatever_wants_to_connect(unused_tcp_port: int, use: str) -> None:
    settings = HTTPConfig(f"http://127.0.0.1:{unused_tcp_port}/mcp", breaker_threshold=1, retries=0)
    async with ClientPool({"gone": ServerConfig("gone", "http", settings)}, make_client) as pool:
        client = pool.client("gone")
        with pytest.raises(MCPConnectionError):
            await client.list_tools()
        attempts = client.metrics.failed_connects
        uses: dict[str, Callable[[], Awaitable[Any]]] = {
            "lease": lambda: pool.lease("gone").__aenter__(),
            "ping": client.ping,
            "notify": lambda: client.notify("x"),
            "listen": lambda: client.listen(tools=True),
            "call": lambda: client.call_tool("x"),
        }
        for _ in range(3):
            if use == "connect_all":
                assert isinstance((await pool.connect_all())["gone"], CircuitOpenError)
            else:
                with pytest.raises(CircuitOpenError):
                    await uses[use]()
        assert client.metrics.failed_connects == attempts
        await client.connect(retry_count=1)  # said in so many words, it is tried
        assert client.metrics.failed_connects == attempts + 1


async def test_the_clients_of_a_server_share_its_breaker_whoever_they_are_for(unused_tcp_port: int) -> None:
    settings = HTTPConfig(f"http://127.0.0.1:{unused_tcp_port}/mcp", breaker_threshold=5, retries=0)
    async with ClientPool({"gone": ServerConfig("gone", "http", settings)}, make_client) as pool:
        clients = [pool.client("gone", f"p{number}") for number in range(20)]
        for client in clients:
            with pytest.raises(MCPConnectionError):
                await client.list_tools()
        assert sum(client.metrics.failed_connects for client in clients) == 5
        assert {client.metrics.breaker_state for client in clients} == {"open"}


async def test_wrong_credentials_of_one_principal_open_no_breaker(peer: HTTPPeer) -> None:
    @peer.on("server/discover")
    async def discover(seen: Seen) -> web.StreamResponse:
        if seen.http.headers["Authorization"] == "bad":
            return web.Response(status=401)
        return peer.default(seen)

    async def credentials(_server: str, principal: str | None) -> dict[str, str]:
        return {"Authorization": str(principal)}

    servers = http(peer, breaker_threshold=2)
    async with ClientPool(servers, make_client, credentials=credentials) as pool:
        for _ in range(5):
            with pytest.raises(AuthenticationError):
                await pool.client("peer", "bad").list_tools()
        await pool.client("peer", "good").list_tools()


# What the host gives, and where it runs.


async def test_what_the_host_gives_for_one_server_fails_that_server_only(peer: HTTPPeer) -> None:
    def handlers(server: str, _principal: str | None) -> Handlers:
        if server == "bad":
            raise KeyError("planted-secret")
        return Handlers()

    def progress(_name: str, _outcome: MCPClient | MCPClientError) -> None:
        raise RuntimeError("no matter")

    servers = {**http(peer, "bad"), **http(peer, "good")}
    async with ClientPool(servers, make_client, handlers=handlers) as pool:
        outcomes = await pool.connect_all(progress=progress)
        assert isinstance(outcomes["bad"], ConfigError)
        assert "the function that gives the handlers failed: KeyError" in str(outcomes["bad"])
        assert isinstance(outcomes["good"], MCPClient)
        assert list((await pool.tools()).problems) == ["bad"]


def test_a_pool_belongs_to_one_event_loop_at_a_time() -> None:
    async def use(pool: ClientPool) -> None:
        await pool.client("peer").call_tool("echo")

    async def leave_a_subscription(pool: ClientPool) -> None:
        await pool.client("peer").subscribe("x://1")

    async def closed(pool: ClientPool) -> None:
        assert not any(member.busy for member in pool.members())
        await pool.close()

    pool = ClientPool(stdio(), make_client)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(leave_a_subscription(pool))
        with pytest.raises(MCPConnectionError, match="in use by another event loop"):
            second.run(pool.client("peer", "ann").ping())
        first.run(pool.client("peer").park())
    with asyncio.Runner() as third:
        third.run(use(pool))
        third.run(closed(pool))


async def test_subscriptions_are_restored_whatever_else_is_refused(peer: HTTPPeer) -> None:
    @peer.on("logging/setLevel")
    async def refuse(seen: Seen) -> web.StreamResponse:
        return seen.error(-32602, "no such level")

    @peer.on("resources/subscribe")
    async def subscribe(seen: Seen) -> web.StreamResponse:
        return seen.json({})

    def logged(_context: HandlerContext, _params: Any) -> None:
        raise AssertionError

    async with ClientPool(http(peer), make_client, handlers=lambda *_: Handlers(logging=logged)) as pool:
        client = pool.client("peer")
        async with await client.subscribe("x://1") as changes:
            await until(lambda: "logging/setLevel" in peer.methods())
            await client.replace_channel()
            await until(lambda: peer.methods().count("resources/subscribe") == 2)
            assert (await anext(changes)).uri == "x://1"


async def test_a_subscription_whose_end_is_cancelled_is_ended_all_the_same(peer: HTTPPeer) -> None:
    arrived = asyncio.Event()

    @peer.on("resources/subscribe")
    async def subscribe(seen: Seen) -> web.StreamResponse:
        return seen.json({})

    @peer.on("resources/unsubscribe")
    async def hang(_seen: Seen) -> web.StreamResponse:
        arrived.set()
        await asyncio.sleep(60)
        raise AssertionError

    async with ClientPool(http(peer), make_client) as pool:
        client = pool.client("peer")
        subscription = await client.listen(uris={"a:1", "b:2"})
        ending = asyncio.create_task(subscription.close())
        await arrived.wait()
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        assert not client.listening
        await client.replace_channel()
        await client.ping()
        assert peer.methods().count("resources/subscribe") == 2


async def test_handlers_are_told_which_call(nothing_left: None) -> None:
    asked: list[HandlerContext] = []

    async def roots(context: HandlerContext) -> list[Any]:
        asked.append(context)
        return []

    async with http_peer(stateless=True) as stateless:

        @stateless.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            if "inputResponses" in seen.body["params"]:
                return seen.json({"resultType": "complete", "content": []})
            wanted = {"q": {"method": "roots/list", "params": {}}}
            return seen.json({"resultType": "input_required", "requestState": "s", "inputRequests": wanted})

        async with ClientPool(http(stateless), make_client, handlers=lambda *_: Handlers(roots=roots)) as pool:
            await pool.client("peer", "ann").call_tool("x")
        (request,) = [seen for seen in stateless.seen if "inputResponses" not in json.dumps(seen.body)][-1:]
        assert asked == [HandlerContext("peer", "ann", request.id, "q")]


# Physical limits.


class Gauge:
    """How many channels are open now, and were at most, by server and in all."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    def add(self, server: str, number: int) -> None:
        for scope in (server, "total"):
            self.now[scope] += number
            self.most[scope] = max(self.most[scope], self.now[scope])


class GaugedChannel(MemoryChannel):
    """Takes its time to open, to answer and to close."""

    def __init__(self, name: str, metrics: ClientMetrics, gauge: Gauge) -> None:
        super().__init__(metrics)
        self._name, self._gauge = name, gauge

    async def _open(self) -> None:
        self._gauge.add(self._name, 1)
        await asyncio.sleep(0.001)

    async def _take(self, data: bytes) -> None:
        message = json.loads(data)
        if "id" in message:
            await asyncio.sleep(0.001)
            self._receive(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}}).encode())

    async def _shut(self) -> None:
        await asyncio.sleep(0.002)
        self._gauge.add(self._name, -1)


class GaugedClient(MCPClient):
    async def _establish_connection(self) -> Channel:
        channel = GaugedChannel(self.name, self.metrics, self.config["gauge"])
        await channel.open()
        return channel


async def _meddle(client: MCPClient, calling: asyncio.Task[Any], dice: random.Random) -> None:
    match dice.randrange(5):
        case 0:
            for _ in range(dice.randrange(40)):
                await asyncio.sleep(0)
            calling.cancel()
        case 1:
            await client.park()
        case 2:
            await asyncio.sleep(0.001)
            await client.disconnect()
            await client.connect(retry_count=1)
        case _:
            pass


@pytest.mark.parametrize("seed", range(5))
async def test_there_are_never_more_connections_than_a_limit_allows(seed: int) -> None:
    """Counted at the servers, while a crowd calls, gives up, parks and disconnects as chance has it."""
    dice, gauge = random.Random(seed), Gauge()
    limits = PoolLimits(total=4, per_server=2, per_principal=2, wait_seconds=60, drain_seconds=0.01)
    servers = {name: ServerConfig(name, "gauged", {"gauge": gauge}) for name in ("a", "b", "c")}

    def make(config: ServerConfig, /, **options: Any) -> MCPClient:
        return GaugedClient(config.name, config.config, **options)

    async with ClientPool(servers, make, limits=limits) as pool:

        async def use() -> None:
            for _ in range(12):
                client = pool.client(dice.choice("abc"), f"p{dice.randrange(6)}")
                calling = asyncio.create_task(client.request("x", timeout=60))
                await _meddle(client, calling, dice)
                await asyncio.gather(calling, return_exceptions=True)

        await asyncio.gather(*(use() for _ in range(25)))
        assert gauge.most["total"] <= 4
        assert max(gauge.most[name] for name in servers) <= 2
        assert sum(member.admitted for member in pool.members()) == gauge.now["total"]
    assert gauge.now.total() == 0


async def test_a_call_that_is_given_up_while_another_process_starts_gives_no_place_away() -> None:
    slow = f"import time, runpy, sys; time.sleep(0.3); sys.argv = ['peer']; runpy.run_path({PEER!r}, run_name='x')"
    settings = StdioConfig(sys.executable, ["-S", "-c", slow], instances=3, shutdown_timeout=500)
    servers = {"slow": ServerConfig("slow", "stdio", settings)}
    async with ClientPool(servers, make_client, limits=PoolLimits(total=1)) as pool:
        client = pool.client("slow")
        with pytest.raises(MCPClientError):
            await client.call_tool("echo", timeout=0.1)
        await until(lambda: client.state is ConnectionState.CONNECTED)
        assert [member.admitted for member in pool.members()] == [True]


LOOPS = """
import asyncio, os, sys
from fastapi_server.mcp import StdioConfig, StdioMCPClient

client = StdioMCPClient("peer", StdioConfig(sys.executable, ["-S", sys.argv[1]]))

async def use():
    print((await client.call_tool("pid")).content[0].text)

for _ in range(3):
    asyncio.run(use())
    print(len(os.listdir("/proc/self/fd")))
asyncio.run(client.disconnect())
"""


def test_what_a_closed_event_loop_has_left_goes_when_the_client_is_used_in_the_next() -> None:
    command = [sys.executable, "-W", "ignore", "-c", LOOPS, PEER]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=30, check=True)
    pids, descriptors = done.stdout.split()[::2], done.stdout.split()[1::2]
    assert len(set(pids)) == 3
    assert len(set(descriptors)) == 1
    for pid in pids:
        for _ in range(500):
            stat = Path(f"/proc/{pid}/stat")
            if not stat.exists() or stat.read_text().split()[2] == "Z":
                break
            time.sleep(0.01)
        else:
            raise AssertionError(f"{pid} lives")
