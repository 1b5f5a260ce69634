"""Callers that misbehave: cancelled anywhere, closed at any time, the wrong loop or process. See docs/faults.md."""

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from aiohttp import web

from fastapi_server.mcp import (
    CircuitOpenError,
    ClientClosedError,
    ClientPool,
    ConnectionState,
    Delivery,
    Hooks,
    HTTPConfig,
    HTTPMCPClient,
    HTTPStatusError,
    MCPClient,
    MCPConnectionError,
    PoolLimits,
    RequestEvent,
    ResponseEvent,
    ServerConfig,
    SSEConfig,
    SSEMCPClient,
    StdioConfig,
    StdioMCPClient,
    make_client,
    testing,
)
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, event, http_peer
from fastapi_server.mcp.testing.sse_peer import SSEPeer, sse_peer

ROOT = Path(__file__).parent.parent.parent
PEER = str(Path(testing.__file__).with_name("stdio_peer.py"))
OURS = str(ROOT / "fastapi_server")


@asynccontextmanager
async def _stdio() -> AsyncGenerator[MCPClient]:
    yield StdioMCPClient("peer", StdioConfig(sys.executable, ["-S", PEER], shutdown_timeout=500))


async def _hold(seen: Seen) -> web.StreamResponse:
    """`never` is not answered, all else as usual."""
    if seen.body["params"]["name"] == "never":
        await asyncio.sleep(60)
    return HTTPPeer().default(seen)


@asynccontextmanager
async def _http(*, stateless: bool = False, events: bool = False) -> AsyncGenerator[MCPClient]:
    async def stream(seen: Seen) -> web.StreamResponse:
        if seen.body["params"]["name"] == "never":
            await asyncio.sleep(60)
        response = await seen.stream()
        await response.write(event({"jsonrpc": "2.0", "id": seen.id, "result": {"content": []}}))
        return response

    async with http_peer(stateless=stateless) as peer:
        peer.on("tools/call")(stream if events else _hold)
        yield HTTPMCPClient("peer", HTTPConfig(f"{peer.url}/mcp"))


@asynccontextmanager
async def _sse() -> AsyncGenerator[MCPClient]:
    peer = SSEPeer()

    @peer.on("tools/call")
    async def call(seen: Seen) -> web.StreamResponse:
        if seen.body["params"]["name"] == "never":
            return web.Response(status=202)
        return await peer.answer(seen, {"content": []})

    async with sse_peer(peer):
        yield SSEMCPClient("peer", SSEConfig(f"{peer.url}/sse"))


Transport: TypeAlias = contextlib.AbstractAsyncContextManager[MCPClient]
TRANSPORTS = {
    "stdio": _stdio,
    "sse": _sse,
    "http-handshake": _http,
    "http-handshake-events": lambda: _http(events=True),
    "http-stateless": lambda: _http(stateless=True),
    "http-stateless-events": lambda: _http(stateless=True, events=True),
}


@pytest.fixture(params=TRANSPORTS)
async def client(request: pytest.FixtureRequest, nothing_left: None) -> AsyncIterator[MCPClient]:
    """Not connected yet."""
    async with TRANSPORTS[request.param]() as made:
        yield made
        await made.disconnect()


def our_tasks() -> set[asyncio.Task[Any]]:
    """The tasks of the library; those of the servers here are not meant."""
    return {task for task in asyncio.all_tasks() if task.get_coro().cr_code.co_filename.startswith(OURS)}  # pyright: ignore


async def settled(client: MCPClient, tasks: set[asyncio.Task[Any]]) -> None:
    """Nothing of the call is left, and the client still works."""
    assert client.metrics.in_flight == 0
    async with asyncio.timeout(5):
        while our_tasks() - tasks:  # a cancel notice may be on its way
            await asyncio.sleep(0.001)
    await client.call_tool("echo", {}, timeout=5)
    assert client.metrics.in_flight == 0


async def steps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# Cancelled.


async def test_cancelled_at_every_await_of_a_call(client: MCPClient) -> None:
    """After 0, 1, 2, … steps of the event loop, until the call is through before it is cancelled."""
    await client.connect()
    await client.call_tool("echo", {})
    await steps(10)
    async with asyncio.timeout(5):
        while len(tasks := our_tasks()) > (client.transport == "sse"):
            await asyncio.sleep(0.001)  # what runs once after connecting is over
    connections = client.metrics.connections
    walked = 0
    for k in itertools.count():
        call = asyncio.create_task(client.call_tool("echo", {}))
        await steps(k)
        if call.done():
            await call
            break
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await settled(client, tasks)
        walked += 1
    assert walked > 1
    assert client.metrics.connections == connections


def growing() -> Iterator[int]:
    """0, 1, 2, … and then in growing strides: a process takes some thousand steps to start."""
    k = 0
    while True:
        yield k
        k += 1 + k // 20


@pytest.mark.parametrize("then", ["call again", "close"])
async def test_cancelled_at_every_await_of_a_first_call_which_connects(client: MCPClient, then: str) -> None:
    for k in growing():
        call = asyncio.create_task(client.call_tool("echo", {}))
        await steps(k)
        done = call.done()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert client.metrics.in_flight == 0
        if then == "call again":
            await client.call_tool("echo", {}, timeout=5)
        await client.park()
        assert client.state is ConnectionState.DISCONNECTED
        assert our_tasks() == set()
        if done:
            break


async def test_cancelled_at_every_await_of_closing(client: MCPClient) -> None:
    for k in growing():
        await client.connect()
        waiting = asyncio.create_task(client.call_tool("never"))
        await steps(3)
        closing = asyncio.create_task(client.disconnect())
        await steps(k)
        done = closing.done()
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await client.disconnect()
        with pytest.raises(ClientClosedError):
            await waiting
        assert our_tasks() == set()
        if done or k > 200:
            break


async def _leased(pool: ClientPool) -> None:
    async with pool.lease("peer", "ann") as client:
        await client.call_tool("echo")


async def _changed(pool: ClientPool) -> None:
    (config,) = [pool.config_of(name) for name in pool.servers]
    assert config is not None
    await pool.reload({"peer": config, "other": ServerConfig("other", "http", config.config)})
    await pool.connect_all()
    await pool.reload({"peer": config})


POOL_USES: dict[str, Callable[[ClientPool], Awaitable[object]]] = {
    "call": lambda pool: pool.call("peer__echo", principal="ann"),
    "lease": _leased,
    "connect_all": lambda pool: pool.connect_all(principal="ann"),
    "tools": lambda pool: pool.tools(principal="ann"),
    "reload": _changed,
    "supervise": lambda pool: pool.supervise_once(),
}


@pytest.mark.parametrize("use", POOL_USES.values(), ids=POOL_USES)
async def test_cancelled_at_every_await_of_a_pool(
    use: Callable[[ClientPool], Awaitable[object]], nothing_left: None
) -> None:
    """In a pool with one place, which somebody else has: it is given back, whenever the next one gives up."""
    limits = PoolLimits(total=1, idle_seconds=60, wait_seconds=5)
    clock = itertools.count(0, 100).__next__  # who was used last was used long ago

    async with http_peer() as peer:
        servers = {"peer": ServerConfig("peer", "http", HTTPConfig(f"{peer.url}/mcp"))}
        walked = 0
        for k in growing():
            async with ClientPool(servers, make_client, limits=limits, clock=clock) as pool:
                await pool.client("peer", "bob").call_tool("echo")
                using = asyncio.ensure_future(use(pool))
                await steps(k)
                done = using.done()
                using.cancel()
                await asyncio.gather(using, return_exceptions=True)
                await asyncio.gather(*(pool.client("peer", name).call_tool("echo") for name in ("ann", "bob", "ann")))
                assert {member.load for member in pool.members()} == {0}
                assert sum(member.admitted for member in pool.members()) == 1
                connected = [m for m in pool.members() if m.client.state is ConnectionState.CONNECTED]
                assert len(connected) == 1
            assert our_tasks() == set()
            walked += 1
            if done:
                break
        assert walked > 3


async def test_cancelled_while_it_finds_out_for_the_circuit_breaker(nothing_left: None) -> None:
    """The next caller finds out instead."""
    async with http_peer(stateless=True) as peer:
        arrived = asyncio.Event()

        @peer.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            if seen.body["params"]["name"] == "fail":
                return web.Response(status=502)
            if seen.body["params"]["name"] == "never":
                arrived.set()
                await asyncio.sleep(60)
            return seen.json({"content": []})

        config = HTTPConfig(f"{peer.url}/mcp", retries=0, breaker_threshold=1, breaker_reset=20)
        async with HTTPMCPClient("peer", config) as client:
            with pytest.raises(MCPConnectionError) as caught:
                await client.call_tool("fail", idempotent=True)
            assert isinstance(caught.value, HTTPStatusError)
            with pytest.raises(CircuitOpenError):
                await client.call_tool("echo")
            await asyncio.sleep(0.03)
            finding_out = asyncio.create_task(client.call_tool("never"))
            await arrived.wait()
            finding_out.cancel()
            with pytest.raises(asyncio.CancelledError):
                await finding_out
            await client.call_tool("echo")


# Closed.


async def test_closed_with_calls_in_flight(client: MCPClient) -> None:
    await client.connect()
    waiting = [asyncio.create_task(client.call_tool("never")) for _ in range(10)]
    await client.ping()
    async with asyncio.timeout(2):
        await client.disconnect()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, ClientClosedError)
        assert outcome.delivery is Delivery.UNKNOWN
    assert client.metrics.in_flight == 0


async def test_closed_twice(client: MCPClient) -> None:
    await client.disconnect()
    await client.connect()
    await asyncio.gather(client.disconnect(), client.disconnect())
    await client.disconnect()
    assert client.state is ConnectionState.DISCONNECTED


async def test_used_after_close(client: MCPClient) -> None:
    await client.connect()
    await client.disconnect()
    with pytest.raises(ClientClosedError, match=r"call connect\(\) to use it again") as caught:
        await client.call_tool("echo", {})
    assert caught.value.delivery is Delivery.NOT_SENT
    await client.connect()
    await client.call_tool("echo", {})


# Hooks.


async def test_a_hook_that_never_returns(
    nothing_left: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fastapi_server.mcp.clients.hooks._FLUSH_SECONDS", 0.1)
    told: list[int] = []

    async def never(event: RequestEvent) -> None:
        told.append(event.call)
        await asyncio.Event().wait()

    async with http_peer() as peer:
        servers = {"peer": ServerConfig("peer", "http", HTTPConfig(f"{peer.url}/mcp"))}
        async with ClientPool(servers, make_client, hooks=Hooks(on_request=never)) as pool:
            for _ in range(3):
                await pool.call("peer__echo")
            async with asyncio.timeout(5):
                await pool.close()
    assert told == [1]
    assert caplog.text.count("its hooks have not returned") == 1
    assert our_tasks() == set()


async def test_a_hook_that_closes_its_client(nothing_left: None) -> None:
    closed = asyncio.Event()

    async def close(_event: ResponseEvent) -> None:
        await client.disconnect()
        closed.set()

    config = StdioConfig(sys.executable, ["-S", PEER], shutdown_timeout=500)
    client = StdioMCPClient("peer", config, hooks=Hooks(on_response=close))
    async with asyncio.timeout(5):
        await client.call_tool("echo", {})
        await closed.wait()
        await client.disconnect()
    assert client.state is ConnectionState.DISCONNECTED
    assert our_tasks() == set()


# The wrong place.


def test_used_from_two_event_loops() -> None:
    """The wrong one is told so, every time, and the right one never notices."""
    client = StdioMCPClient("peer", StdioConfig(sys.executable, ["-S", PEER], shutdown_timeout=500))
    with asyncio.Runner() as right, asyncio.Runner() as wrong:
        right.run(client.connect())
        for _ in range(10):
            with pytest.raises(MCPConnectionError, match="in use by another event loop") as caught:
                wrong.run(client.call_tool("echo"))
            assert caught.value.delivery is Delivery.NOT_SENT
        right.run(client.call_tool("echo"))
        right.run(client.disconnect())


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


ABANDON = """
import asyncio, sys, warnings
from fastapi_server.mcp import ServerConfig, StdioConfig
from fastapi_server.mcp.client_factory import make_client
from fastapi_server.mcp.pool import ClientPool

async def main():
    server = ServerConfig("peer", "stdio", StdioConfig(sys.executable, ["-S", sys.argv[1], "--deaf"]))
    pool = await ClientPool({"peer": server}, make_client).__aenter__()
    await pool.client("peer").ping()
    print(pool.client("peer").pid)

warnings.simplefilter("always")
asyncio.run(main())
"""

FORK = """
import asyncio, os, sys, threading
from fastapi_server.mcp import MCPConnectionError, StdioConfig, StdioMCPClient

async def refused(client):
    for use in (client.call_tool("echo"), client.ping(), client.disconnect()):
        try:
            await use
            print("worked")
        except MCPConnectionError as error:
            print(error.delivery, error)

async def main():
    client = StdioMCPClient("peer", StdioConfig(sys.executable, ["-S", sys.argv[1]]))
    unused = StdioMCPClient("unused", StdioConfig(sys.executable, ["-S", sys.argv[1]]))
    await client.connect()
    child = os.fork()
    if child == 0:
        async def in_child():
            await refused(client)
            print("pong" if await unused.ping() else "")
            await unused.disconnect()
        asyncio.run(in_child())
        sys.stdout.flush()
        os._exit(0)
    await asyncio.to_thread(os.waitpid, child, 0)
    await client.ping()
    print("the parent goes on")
    await client.disconnect()

asyncio.run(main())
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, PEER]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, env=environment)


def test_a_pool_abandoned_without_close() -> None:
    done = run(ABANDON)
    assert "ResourceWarning: a ClientPool of peer was abandoned without close()" in done.stderr
    pid = int(done.stdout)
    deadline = time.monotonic() + 5
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(pid)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_fork_after_connect() -> None:
    lines = run(FORK).stdout.splitlines()
    assert len(lines) == 5
    for line in lines[:3]:
        assert line.startswith("not_sent ")
        assert "connected before this process was forked" in line
    assert lines[3:] == ["pong", "the parent goes on"]
