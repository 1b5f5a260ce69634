"""The synchronous face: the same verbs, from any thread, and nothing left behind."""

import asyncio
import contextvars
import gc
import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from mcp_types import CreateMessageRequestParams, CreateMessageResult

from fastapi_server.mcp import (
    BusyError,
    CallTimeoutError,
    Change,
    ClientClosedError,
    CommandNotFoundError,
    ConfigError,
    ConnectionState,
    HandlerContext,
    Handlers,
    MCPClient,
    MCPClientError,
    MemoryMCPClient,
    OutcomeUnknownError,
    PoolLimits,
    ProcessExitedError,
    RPCError,
    ServerConfig,
    testing,
)
from fastapi_server.mcp.client_factory import make_client
from fastapi_server.mcp.pool import ClientPool
from fastapi_server.mcp.sync import LoopThread, SyncClientPool, SyncMCPClient, SyncSubscription, loop_thread, shutdown
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer

PEER = str(Path(testing.__file__).with_name("stdio_peer.py"))


@pytest.fixture(autouse=True)
def ended(nothing_left: None) -> Iterator[None]:
    yield
    shutdown()


@pytest.fixture
def peer(nothing_left: None) -> Iterator[HTTPPeer]:
    """An HTTP server in a loop thread of its own."""
    thread = LoopThread()
    context = http_peer()
    yield thread.run(context.__aenter__)

    async def leave() -> None:
        await context.__aexit__(None, None, None)

    thread.run(leave)
    thread.close()


def peer_config(*flags: str, name: str = "peer") -> ServerConfig:
    settings = {"command": sys.executable, "args": ["-S", PEER, *flags], "shutdown_timeout": 500}
    return ServerConfig(name, "stdio", settings)


def stdio_peer(*flags: str, handlers: Handlers | None = None) -> SyncMCPClient:
    return SyncMCPClient.of(peer_config(*flags), handlers=handlers)


def memory(script: dict[str, Any] | None = None, **options: Any) -> SyncMCPClient:
    return SyncMCPClient(MemoryMCPClient("scripted", script or {}), **options)


def text_of(result: Any) -> str:
    return result.content[0].text


def until(true: Callable[[], Any], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.005)


def methods_in(log: Path) -> list[str]:
    return [json.loads(line).get("method", "") for line in log.read_text().splitlines()] if log.exists() else []


@contextmanager
def ctrl_c_when(true: Callable[[], Any]) -> Generator[None]:
    """The block is interrupted as by Ctrl-C, once `true` is."""

    def press() -> None:
        until(true)
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    try:
        yield
    finally:
        presser.join()


# It is the same interface.

VERBS = [name for name, _ in inspect.getmembers(MCPClient, inspect.iscoroutinefunction) if not name.startswith("_")]
LOOP_ONLY = {"ask_pool", "begin_park", "join_pool", "locating"}
WRAPPED = {"listen", "subscribe"}  # return a subscription that blocks
POOL_INTERNALS = {"admit", "breaker", "choose", "member", "processes", "release", "rested", "supervise_once"}
POOL_PUBLIC = [name for name in dir(ClientPool) if not name.startswith("_") and name not in POOL_INTERNALS]
POOL_VERBS = [name for name in POOL_PUBLIC if callable(getattr(ClientPool, name))]


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_the_parameters_of_the_asynchronous_one(verb: str) -> None:
    ours, theirs = getattr(SyncMCPClient, verb), getattr(MCPClient, verb)
    signature, expected = inspect.signature(ours, eval_str=True), inspect.signature(theirs, eval_str=True)
    if verb in WRAPPED:
        assert signature.return_annotation is SyncSubscription
        signature = signature.replace(return_annotation=expected.return_annotation)
    else:
        assert ours.__doc__ == theirs.__doc__
    assert signature == expected
    assert not inspect.iscoroutinefunction(ours)


def test_nothing_public_is_missing() -> None:
    client = memory()
    public = {name for name in (*dir(MCPClient), *vars(client.asynchronous)) if not name.startswith("_")}
    assert public - LOOP_ONLY - set(dir(client)) == set()


def test_nothing_public_is_missing_of_a_pool() -> None:
    pool = ClientPool({}, make_client)
    attributes = [name for name in vars(pool) if not name.startswith("_")]
    assert {*POOL_PUBLIC, *attributes} - set(dir(SyncClientPool)) == set()


@pytest.mark.parametrize("verb", POOL_VERBS)
def test_each_verb_of_the_pool_has_the_same_parameters(verb: str) -> None:
    ours, theirs = inspect.signature(getattr(SyncClientPool, verb)), inspect.signature(getattr(ClientPool, verb))
    assert list(ours.parameters.values()) == list(theirs.parameters.values())


def test_a_subscription_has_the_public_members_of_the_asynchronous_one_that_callers_use() -> None:
    assert {"interest", "honoured", "close"} <= set(dir(SyncSubscription))


def test_a_wrong_argument_is_a_type_error() -> None:
    verb: Any = memory().call_tool
    with pytest.raises(TypeError, match="unexpected keyword argument 'nmae'"):
        verb(nmae="echo")


def test_what_it_knows() -> None:
    client = stdio_peer()
    probes: list[Any] = []
    client.watch_negotiation(probes.append)
    assert (client.name, client.transport, client.principal, client.state) == ("peer", "stdio", None, "disconnected")
    assert client.server_info is None
    assert "'peer' disconnected" in repr(client)
    with client:
        assert client.server_info is not None
        assert client.config.command == sys.executable
        assert client.metrics is client.get_metrics()
        assert client.last_error is None
    assert probes


# Verbs, against real servers.


def test_the_verbs_over_stdio() -> None:
    with stdio_peer() as client:
        assert client.state is ConnectionState.CONNECTED
        assert client.initialize().name == "peer"
        assert client.ping() < 5
        assert client.health_check()
        assert "echo" in [tool.name for tool in client.list_tools()]
        assert text_of(client.call_tool("echo", {"a": 1})) == '{"a": 1}'
        assert [prompt.name for prompt in client.list_prompts()] == ["p0", "p1", "p2", "p3", "p4"]
        client.set_logging_level("debug")
        client.notify("notifications/roots/list_changed")
        assert client.request("ping") == {}
        client.park()
        assert text_of(client.call_tool("echo", {"b": 2})) == '{"b": 2}'
    assert client.state is ConnectionState.DISCONNECTED


@pytest.mark.parametrize("server", ["sse", "handshake", "stateless"])
def test_the_demo_servers_over_http(server: str, sse_server: str, handshake_server: str, stateless_server: str) -> None:
    url = {"sse": sse_server, "handshake": handshake_server, "stateless": stateless_server}[server]
    with SyncMCPClient.of(ServerConfig("demo", "sse" if server == "sse" else "http", {"url": url})) as client:
        assert client.list_tools()
        assert client.ping() < 5
        client.list_resources()
        client.list_resource_templates()


def test_the_remaining_verbs_by_a_script() -> None:
    script = {
        "resources/read": {"contents": [{"uri": "x://1", "text": "one"}]},
        "prompts/get": {"messages": []},
        "completion/complete": {"completion": {"values": ["Paris"]}},
        "resources/list": {"resources": []},
        "resources/templates/list": {"resourceTemplates": []},
    }
    from mcp_types import PromptReference

    with memory(script) as client:
        assert client.read_resource("x://1").contents[0].uri == "x://1"
        assert client.get_prompt("p", {"a": "b"}).messages == []
        assert client.complete(PromptReference(type="ref/prompt", name="p"), "city", "P").values == ["Paris"]
        assert client.list_resources() == client.list_resource_templates() == []
        client.replace_channel()
        assert client.state is ConnectionState.CONNECTED


def test_connect_and_disconnect_as_plain_calls() -> None:
    client = memory()
    assert client.connect() is True
    client.disconnect()
    client.disconnect()
    with pytest.raises(ClientClosedError):
        client.ping()
    assert client.connect(retry_count=1) is True


def test_progress_is_told_in_the_loop_thread_before_the_call_returns() -> None:
    told: list[tuple[float, int]] = []
    with stdio_peer() as client:
        client.call_tool("notify", {"count": 3}, progress=lambda done, *_: told.append((done, threading.get_ident())))
        assert [done for done, _ in told] == [1, 2, 3]
        assert threading.get_ident() not in {thread for _, thread in told}


def test_context_variables_of_the_caller_reach_the_call() -> None:
    trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="none")
    seen: list[str] = []

    async def look() -> None:
        seen.append(trace.get())

    token = trace.set("abc")
    loop_thread().run(look)
    trace.reset(token)
    loop_thread().run(look)
    assert seen == ["abc", "none"]


# Errors are the same.


def test_errors_keep_their_class() -> None:
    with stdio_peer() as client:
        with pytest.raises(RPCError, match="Unknown tool"):
            client.call_tool("no such")
        with pytest.raises(CallTimeoutError):
            client.call_tool("never", timeout=0.1)
        with pytest.raises(OutcomeUnknownError) as caught:
            client.call_tool("exit", {"code": 7})
        assert isinstance(caught.value.__cause__, ProcessExitedError)
        assert caught.value.__cause__.exit_code == 7
        assert client.call_tool("fail").is_error


def test_a_server_that_cannot_be_reached() -> None:
    client = SyncMCPClient.of(ServerConfig("nowhere", "stdio", {"command": "no-such-command-anywhere"}))
    assert client.connect() is False
    assert isinstance(client.last_error, CommandNotFoundError)
    with pytest.raises(CommandNotFoundError), client:
        pytest.fail("entered")


def test_a_cancelled_call_is_told_over_http(peer: HTTPPeer) -> None:
    @peer.on("tools/call")
    async def never(seen: Seen) -> web.StreamResponse:
        await asyncio.sleep(60)
        return seen.json({})

    with SyncMCPClient.of(ServerConfig("peer", "http", {"url": f"{peer.url}/mcp"})) as client:
        with pytest.raises(CallTimeoutError):
            client.call_tool("x", timeout=0.1)
        until(lambda: "notifications/cancelled" in peer.methods())


# Several threads.


def test_fifty_calls_from_ten_threads() -> None:
    with stdio_peer() as client, ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda n: text_of(client.call_tool("echo", {"n": n})), range(50)))
    assert answers == [json.dumps({"n": n}) for n in range(50)]


def test_calls_of_several_threads_are_in_flight_together() -> None:
    with stdio_peer() as client, ThreadPoolExecutor(10) as threads:
        # answered only when the last has come
        answers = list(threads.map(lambda n: text_of(client.call_tool("hold", {"n": n, "of": 10})), range(10)))
    assert answers == [str(n) for n in range(10)]


def test_several_threads_connect_once() -> None:
    client = stdio_peer()
    with ThreadPoolExecutor(10) as threads:
        assert len(set(threads.map(lambda _: text_of(client.call_tool("parent")), range(10)))) == 1
    assert client.metrics.reconnects == 0
    client.disconnect()


def test_another_thread_disconnects_and_the_call_fails_at_once() -> None:
    with stdio_peer() as client, ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.call_tool, "never")
        until(lambda: client.metrics.in_flight)
        client.disconnect()
        with pytest.raises(ClientClosedError):
            call.result(5)


async def test_a_thread_with_a_running_loop_may_call() -> None:
    with memory({"tools/list": {"tools": []}}) as client:
        assert client.list_tools() == []


def test_inside_the_loop_thread_it_raises_instead_of_waiting_for_itself() -> None:
    raised: list[Exception] = []

    async def sample(_context: HandlerContext, _params: CreateMessageRequestParams) -> CreateMessageResult:
        for verb in (client.ping, client.thread.close):
            try:
                verb()
            except RuntimeError as error:
                raised.append(error)
        raised_none = await client.asynchronous.ping()
        assert raised_none < 5
        raise RPCError("no")

    client = stdio_peer(handlers=Handlers(sampling=sample))
    with client:
        client.call_tool("ask", {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}})
    assert [str(error)[:37] for error in raised] == ["a blocking call in the loop thread wo"] * 2


# Ctrl-C.


def test_ctrl_c_cancels_the_call_and_tells_the_server(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with stdio_peer("--log", str(log)) as client:
        with ctrl_c_when(lambda: "tools/call" in methods_in(log)), pytest.raises(KeyboardInterrupt):
            client.call_tool("never", timeout=60)
        assert client.metrics.in_flight == 0
        until(lambda: methods_in(log)[-1] == "notifications/cancelled")
        assert text_of(client.call_tool("echo", {"still": "there"})) == '{"still": "there"}'


def test_waiting_in_short_turns_as_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_server.mcp.loop_thread._POLL_SECONDS", 0.01)
    assert loop_thread().run(lambda: asyncio.sleep(0.1, "slept")) == "slept"


def test_ctrl_c_while_connecting_leaves_no_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    client = stdio_peer("--discover", "silent", "--initialize", "silent", "--log", str(log))
    with ctrl_c_when(lambda: methods_in(log)), pytest.raises(KeyboardInterrupt), client:
        pytest.fail("entered")
    assert client.state is ConnectionState.DISCONNECTED


def test_ctrl_c_ends_waiting_for_a_change_and_loses_none() -> None:
    with memory({"resources/subscribe": {}}) as client, client.subscribe("x://1") as changes:
        started = time.monotonic()
        with ctrl_c_when(lambda: time.monotonic() - started > 0.1), pytest.raises(KeyboardInterrupt):
            next(changes)
        tell(client, "x://1")
        assert next(changes) == Change("resource", "x://1")


def test_ctrl_c_does_not_wait_for_ever_for_what_cannot_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_server.mcp.loop_thread._CANCEL_SECONDS", 0.1)
    release = threading.Event()
    running = threading.Event()

    async def block() -> None:
        running.set()
        release.wait(10)

    with ctrl_c_when(running.is_set), pytest.raises(KeyboardInterrupt):
        loop_thread().run(block)
    release.set()


# Subscriptions.


def tell(client: SyncMCPClient, uri: str) -> None:
    inner = client.asynchronous
    assert isinstance(inner, MemoryMCPClient)

    async def say() -> None:
        inner.scripted.tell("notifications/resources/updated", {"uri": uri})

    client.thread.run(say)


def test_a_subscription_is_a_plain_iterator_and_context_manager() -> None:
    with stdio_peer() as client, client.subscribe("x://1") as changes:
        assert changes.interest.uris == {"x://1"}
        assert changes.honoured == {"resourceSubscriptions": ["x://1"]}
        assert next(changes) == Change("resource", "x://1")
        changes.close()
        assert list(changes) == []


def test_another_thread_ends_a_subscription() -> None:
    with memory({"resources/subscribe": {}}) as client, ThreadPoolExecutor(1) as threads:
        changes = client.listen(uris=["x://1"])
        reader = threads.submit(list[Change], changes)
        tell(client, "x://1")
        time.sleep(0.05)
        changes.close()
        assert reader.result(5) == [Change("resource", "x://1")]


# Its end.


def test_shutdown_disconnects_and_the_next_use_starts_anew() -> None:
    client = stdio_peer()
    client.ping()
    thread = client.thread
    shutdown()
    shutdown()
    assert not thread.alive
    assert client.state is ConnectionState.DISCONNECTED
    with pytest.raises(ClientClosedError, match="shut down"):
        client.ping()
    assert loop_thread() is not thread
    with memory() as another:
        assert another.ping() < 5


def test_shutdown_fails_the_calls_that_wait() -> None:
    client = stdio_peer()
    with ThreadPoolExecutor(2) as threads:
        call = threads.submit(client.call_tool, "never")
        other = threads.submit(client.thread.run, lambda: asyncio.sleep(60))
        until(lambda: client.metrics.in_flight)
        shutdown()
        for waiting in (call, other):
            with pytest.raises(ClientClosedError):
                waiting.result(5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_that_is_torn_down_fails_the_calls_that_wait() -> None:
    thread = LoopThread()
    client = memory(thread=thread)
    client.connect()

    async def leave() -> None:
        asyncio.get_running_loop().call_soon(sys.exit)
        await asyncio.sleep(60)

    with pytest.raises(ClientClosedError):
        thread.run(leave)
    thread.close()
    assert not thread.alive
    assert client.state is ConnectionState.DISCONNECTED


def test_a_thread_of_ones_own_outlives_the_shared_one() -> None:
    thread = LoopThread()
    client = memory(thread=thread)
    shutdown()
    assert client.ping() < 5
    thread.close()
    thread.close()
    assert client.state is ConnectionState.DISCONNECTED


def test_an_abandoned_client_is_disconnected_in_the_background() -> None:
    client: SyncMCPClient | None = stdio_peer()
    assert client is not None
    client.ping()
    inner = client.asynchronous
    del client
    gc.collect()
    until(lambda: inner.state is ConnectionState.DISCONNECTED)


def test_a_client_that_is_not_owned_stays_connected() -> None:
    inner = MemoryMCPClient("scripted", {})
    SyncMCPClient(inner, owned=False).ping()
    gc.collect()
    thread = loop_thread()
    assert inner.state is ConnectionState.CONNECTED
    thread.run(inner.disconnect)


def test_an_abandoned_client_after_shutdown() -> None:
    client: SyncMCPClient | None = memory()
    assert client is not None
    shutdown()
    del client
    gc.collect()


_PROGRAM = """
import sys
from fastapi_server.mcp import ServerConfig
from fastapi_server.mcp.sync import SyncMCPClient

client = SyncMCPClient.of(ServerConfig("peer", "stdio", {{"command": sys.executable, "args": ["-S", {peer!r}]}}))
print(client.call_tool("parent").content[0].text, client.asynchronous.pid, flush=True)
{more}
"""


def run_program(more: str) -> subprocess.Popen[str]:
    program = _PROGRAM.format(peer=PEER, more=textwrap.dedent(more))
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_program_that_closes_nothing_leaves_no_process() -> None:
    with run_program("") as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert not Path(f"/proc/{out.split()[1]}").exists()


def test_a_program_that_is_interrupted_leaves_no_process() -> None:
    with run_program("client.call_tool('never')") as process:
        assert process.stdout is not None
        pid = process.stdout.readline().split()[1]
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=20)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_and_can_start_anew() -> None:
    client = memory()
    client.connect()
    child = os.fork()
    if child == 0:
        try:
            client.ping()
        except ClientClosedError:
            os._exit(0 if SyncMCPClient(MemoryMCPClient("new", {})).ping() < 5 else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.ping() < 5


# The pool.


def test_a_pool() -> None:
    servers = {name: peer_config(name=name) for name in ("one", "two")}
    servers["lost"] = ServerConfig("lost", "stdio", {"command": "no-such-command-anywhere"})
    told: list[str] = []
    with SyncClientPool(ClientPool(servers, make_client)) as pool:
        assert pool.servers == ["one", "two", "lost"]
        outcomes = pool.connect_all(progress=lambda name, _outcome: told.append(name))
        assert sorted(told) == sorted(servers)
        assert isinstance(outcomes["one"], SyncMCPClient)
        assert isinstance(outcomes["lost"], MCPClientError)
        del outcomes
        gc.collect()
        one = pool.client("one")
        assert one.state is ConnectionState.CONNECTED
        assert text_of(one.call_tool("echo", {"a": 1})) == '{"a": 1}'
        assert "two__echo" in pool.tools().entries
        assert text_of(pool.call("two__echo", {"b": 2})) == '{"b": 2}'
        with pytest.raises(ConfigError):
            pool.client("three")
        pool.reload({"two": servers["two"]})
        assert pool.servers == ["two"]
        until(lambda: one.state is ConnectionState.DISCONNECTED)
        assert pool.metrics.created == 3
    assert "0 of 0 clients" in repr(pool)


def test_a_pool_that_nobody_closes_is_closed_by_shutdown() -> None:
    pool = SyncClientPool(ClientPool({"one": peer_config(name="one")}, make_client))
    client = pool.client("one")
    client.ping()
    shutdown()
    assert client.state is ConnectionState.DISCONNECTED


# A lease.


def lease_of_one() -> SyncClientPool:
    return SyncClientPool(ClientPool({}, make_client, limits=PoolLimits(total=1, wait_seconds=0.1)))


def test_a_lease_is_a_plain_context_manager_that_keeps_the_place() -> None:
    with lease_of_one() as pool:
        assert pool.limits.total == 1
        pool.put(peer_config(name="one"))
        pool.put(peer_config(name="two"))
        with pool.lease("one", "ann") as client:
            assert text_of(client.call_tool("echo", {"a": 1})) == '{"a": 1}'
            (member,) = pool.members()
            assert (member.server, member.principal, member.leases) == ("one", "ann", 1)
            with pytest.raises(BusyError), pool.lease("two"):
                pytest.fail("entered")
        assert member.leases == 0
        with pool.lease("two") as client:
            client.ping()
        with pytest.raises(ConfigError), pool.lease("three"):
            pytest.fail("entered")


def test_a_lease_ends_with_its_block_however_that_ends() -> None:
    with lease_of_one() as pool:
        pool.put(peer_config("--initialize", "silent", "--discover", "silent", name="silent"))
        pool.put(peer_config(name="one"))
        with pytest.raises(KeyError), pool.lease("one"):
            raise KeyError
        started = time.monotonic()
        interrupted = ctrl_c_when(lambda: time.monotonic() - started > 0.2)
        with interrupted, pytest.raises(KeyboardInterrupt), pool.lease("silent"):
            pytest.fail("entered")
        assert [member.leases for member in pool.members()] == [0, 0]


def test_a_pool_takes_another_configuration_and_its_handlers() -> None:
    asked: list[str] = []

    async def sample(context: HandlerContext, _params: CreateMessageRequestParams) -> CreateMessageResult:
        asked.append(context.server)
        raise RPCError("no")

    with SyncClientPool(ClientPool({}, make_client)) as pool:
        assert pool.config_of("one") is None
        before = peer_config(name="one")
        pool.put(before)
        assert pool.config_of("one") is before
        first = pool.client("one")
        first.ping()
        pool.put(peer_config("--banner", name="one"), handlers=Handlers(sampling=sample))
        until(lambda: first.state is ConnectionState.DISCONNECTED)
        question = {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}}
        pool.client("one").call_tool("ask", question)
    assert asked == ["one"]
