"""Processes that misbehave: one test for each way. docs/faults.md says what the caller sees."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastapi_server.mcp import (
    CallTimeoutError,
    CircuitOpenError,
    ConnectionState,
    ConnectTimeoutError,
    Delivery,
    MCPConnectionError,
    MessageTooLargeError,
    OutcomeUnknownError,
    ProcessExitedError,
    RPCError,
    ServerConfig,
    StdioConfig,
    StdioMCPClient,
    testing,
)
from fastapi_server.mcp.client_factory import make_client
from fastapi_server.mcp.pool import ClientPool

PEER = str(Path(testing.__file__).with_name("stdio_peer.py"))
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def settings(*flags: str, **more: Any) -> StdioConfig:
    more.setdefault("shutdown_timeout", 200)
    return StdioConfig(sys.executable, ["-S", PEER, *flags], **more)


def peer(*flags: str, **more: Any) -> StdioMCPClient:
    return StdioMCPClient("peer", settings(*flags, **more))


def text_of(result: Any) -> str:
    return result.content[0].text


def pid_of(client: StdioMCPClient) -> int:
    assert client.pid is not None
    return client.pid


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


# Exits.


async def test_exits_at_once() -> None:
    client = peer("--exit-at-start", "7", "--stderr", "no database")
    with pytest.raises(ProcessExitedError) as caught:
        await client.call_tool("echo")
    assert (caught.value.exit_code, caught.value.stderr) == (7, "no database")
    assert caught.value.delivery is Delivery.NOT_SENT
    await client.disconnect()


async def test_exits_while_a_call_runs() -> None:
    async with peer() as client:
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.call_tool("exit", {"code": 3, "stderr": "out of memory"})
        assert isinstance(caught.value.__cause__, ProcessExitedError)
        assert (caught.value.__cause__.exit_code, caught.value.__cause__.stderr) == (3, "out of memory")
        assert text_of(await client.call_tool("echo")) == "{}"


async def test_fails_every_call_in_flight_within_a_second() -> None:
    async with peer() as client:
        waiting = [asyncio.create_task(client.call_tool("never")) for _ in range(50)]
        await client.ping()
        async with asyncio.timeout(1):
            os.kill(pid_of(client), signal.SIGKILL)
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {OutcomeUnknownError}


async def test_exits_between_calls() -> None:
    async with peer() as client:
        await client.call_tool("answer_and_exit")
        await until(lambda: client.state is ConnectionState.ERROR)
        assert text_of(await client.call_tool("echo")) == "{}"
        assert client.metrics.reconnects == 1


MORTAL = """
import json, os, pathlib, signal, sys
mark, era, fatal = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
known = {
    "stateless": {"server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {}}},
    "handshake": {"initialize": {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}}},
}
answers = {**known[era], "tools/call": {"content": []}}
for line in sys.stdin:
    message = json.loads(line)
    method = message["method"]
    if method == fatal and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if "id" in message:
        error = {"code": -32601, "message": "no such method"}
        outcome = {"result": answers[method]} if method in answers else {"error": error}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **outcome}), flush=True)
"""


@posix
@pytest.mark.parametrize(
    ("era", "fatal"),
    [("stateless", "server/discover"), ("handshake", "server/discover"), ("handshake", "initialize")],
)
async def test_killed_in_its_first_handshake(era: str, fatal: str, tmp_path: Path) -> None:
    mark = tmp_path / "it died"
    config = StdioConfig(sys.executable, ["-S", "-c", MORTAL, str(mark), era, fatal])
    client = StdioMCPClient("mortal", config)
    try:
        assert await client.call_tool("anything")
        assert mark.exists()
        assert client.server_info is not None
        assert client.server_info.era == era
    finally:
        await client.disconnect()


HEEDLESS = "import os, signal, time; time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)"


@posix
async def test_dies_before_it_has_read_everything() -> None:
    config = StdioConfig(sys.executable, ["-S", "-c", HEEDLESS], handshake=False, retries=0)
    client = StdioMCPClient("heedless", config)
    await client.connect()
    calls = [client.request("say", {"text": "x" * 300_000}) for _ in range(3)]
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(failure, "delivery", failure) for failure in failures] == [
        Delivery.UNKNOWN,  # a part of it is in the pipe
        Delivery.NOT_SENT,
        Delivery.NOT_SENT,
    ]
    await client.disconnect()


@posix
async def test_a_call_given_up_before_it_left_is_never_sent() -> None:
    client = peer()
    await client.connect()
    os.kill(pid_of(client), signal.SIGSTOP)
    calls = [client.call_tool("echo", {"text": "x" * 300_000}, timeout=0.2) for _ in range(2)]
    first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, CallTimeoutError)
    assert isinstance(second, CallTimeoutError)
    assert (first.delivery, second.delivery) == (Delivery.UNKNOWN, Delivery.NOT_SENT)
    os.kill(pid_of(client), signal.SIGCONT)
    assert text_of(await client.call_tool("echo", {"n": 1}))
    await client.disconnect()


async def test_fifty_callers_share_one_new_process() -> None:
    async with peer() as client:
        await client.call_tool("answer_and_exit")
        await until(lambda: client.state is ConnectionState.ERROR)
        await asyncio.gather(*(client.call_tool("echo") for _ in range(50)))
        assert client.metrics.connections == 2


async def test_exits_after_n_calls_for_ever(tmp_path: Path) -> None:
    """Each process does one call and dies of the second: harmless calls go on, and none is made without bound."""
    async with peer("--exit-after", "2") as client:
        for _ in range(6):
            assert text_of(await client.call_tool("echo", idempotent=True)) == "{}"
        assert client.metrics.connections == 6


async def test_exits_on_every_call_for_ever(tmp_path: Path) -> None:
    log = tmp_path / "log"
    client = peer("--exit-after", "1", "--log", str(log), breaker_threshold=4, retries=1)
    seen: list[type[Exception]] = []
    for _ in range(20):
        with pytest.raises(MCPConnectionError) as caught:
            await client.call_tool("echo", idempotent=True)
        seen.append(type(caught.value))
    assert seen[-1] is CircuitOpenError
    assert [json.loads(line)["method"] for line in log.read_text().splitlines()].count("initialize") <= 8
    await client.disconnect()


# Hangs.


async def test_hangs_in_the_handshake() -> None:
    client = peer("--discover", "silent", "--initialize", "silent", timeout=300, probe_timeout=50, retries=0)
    with pytest.raises(ConnectTimeoutError) as caught:
        await client.call_tool("echo", timeout=5)
    assert caught.value.delivery is Delivery.NOT_SENT
    assert client.pid is None or not alive(client.pid)
    await client.disconnect()


@pytest.mark.parametrize("tool", ["never", "half"])
async def test_hangs_in_a_call(tool: str) -> None:
    """Silence, or half a line and then silence."""
    async with peer() as client:
        with pytest.raises(CallTimeoutError) as caught:
            await client.call_tool(tool, timeout=0.1)
        assert caught.value.delivery is Delivery.UNKNOWN
        if tool == "never":
            assert await client.health_check()


async def test_stops_reading_its_standard_input() -> None:
    """The deadline counts from the call, not from the write."""
    async with peer() as client:
        await client.call_tool("stop_reading")
        for _ in range(2):  # the first fills the pipe, the second does not even get that far
            with pytest.raises(CallTimeoutError):
                await client.call_tool("echo", {"payload": "x" * (1 << 20)}, timeout=0.1)


async def test_closes_its_standard_output_but_lives() -> None:
    async with peer() as client:
        with pytest.raises(OutcomeUnknownError, match="but lives on"):
            await client.call_tool("close_stdout")
        assert await client.call_tool("echo")


@posix
async def test_stopped_by_sigstop_the_deadline_passes_and_cancelling_works() -> None:
    client = peer()
    await client.connect()
    pid = pid_of(client)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(CallTimeoutError):
        await client.call_tool("echo", timeout=0.1)
    waiting = asyncio.create_task(client.call_tool("echo"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(5):
        await client.disconnect()
    assert not alive(pid)


@posix
async def test_stopped_by_sigstop_the_pool_replaces_it() -> None:
    servers = {"peer": ServerConfig("peer", "stdio", settings(timeout=300))}
    now = 0.0
    pool = ClientPool(servers, make_client, clock=lambda: now)
    client = pool.client("peer")
    assert isinstance(client, StdioMCPClient)
    await client.connect()
    stopped = pid_of(client)
    os.kill(stopped, signal.SIGSTOP)
    now = 31.0  # a probe is due
    await asyncio.gather(pool.supervise_once(), pool.supervise_once())
    assert text_of(await client.call_tool("echo", timeout=5)) == "{}"
    assert (pool.metrics.replaced, client.metrics.connections) == (1, 2)
    assert not alive(stopped)
    await pool.close()


# Will not go, or leaves somebody behind.


@posix
@pytest.mark.parametrize("flag", ["--stay", "--deaf"])
async def test_ignores_the_end_of_its_input_and_sigterm(flag: str) -> None:
    client = peer(flag, shutdown_timeout=50)
    await client.connect()
    pid = pid_of(client)
    await client.disconnect()
    assert not alive(pid)


@posix
@pytest.mark.parametrize("flags", [["--grandchild"], ["--grandchild", "--deaf"]])
async def test_leaves_a_child_of_its_own(flags: list[str]) -> None:
    """Whether it exits politely itself or has to be killed."""
    client = peer(*flags, shutdown_timeout=100)
    await client.connect()
    pid = pid_of(client)
    (grandchild,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    await client.disconnect()
    await until(lambda: not alive(grandchild) and not alive(pid))


# Talks too much, or nonsense.


async def test_floods_standard_error() -> None:
    async with peer() as client:
        assert text_of(await client.call_tool("flood_stderr", {"lines": 20_000})) == "flooded"


async def test_floods_standard_output() -> None:
    async with peer() as client:
        assert text_of(await client.call_tool("flood", {"lines": 20_000})) == "flooded"


async def test_banner_and_junk_on_standard_output() -> None:
    async with peer("--banner") as client:
        assert text_of(await client.call_tool("junk")) == "after the junk"
        assert client.metrics.skipped_messages > 0


async def test_not_utf8_between_messages() -> None:
    async with peer() as client:
        assert text_of(await client.call_tool("junk")) == "after the junk"
        assert await client.health_check()


async def test_not_utf8_inside_a_message() -> None:
    """The call that it answers fails at once, and no other."""
    async with peer() as client:
        with pytest.raises(ValueError, match=r"(?i)utf-8|unicode") as caught:
            await client.call_tool("latin1", timeout=2)
        assert not isinstance(caught.value, TimeoutError)
        with pytest.raises(RPCError, match="caf\N{REPLACEMENT CHARACTER}"):
            await client.call_tool("latin1_error", timeout=2)
        assert await client.health_check()


async def test_a_line_of_10_mb() -> None:
    async with peer() as client:
        assert len(text_of(await client.call_tool("big", {"bytes": 10_000_000}))) == 10_000_000


async def test_a_line_over_the_cap() -> None:
    async with peer(max_message_bytes=100_000) as client:
        with pytest.raises(MessageTooLargeError, match="max_message_bytes"):
            await client.call_tool("big", {"bytes": 200_000})
        assert text_of(await client.call_tool("echo")) == "{}"


async def test_one_byte_at_a_time() -> None:
    async with peer() as client:
        assert text_of(await client.call_tool("drip")) == "é" * 20


async def test_fifty_replies_in_reverse_order() -> None:
    async with peer() as client:
        results = await asyncio.gather(*(client.call_tool("hold", {"n": n, "of": 50}) for n in range(50)))
        assert [text_of(result) for result in results] == [str(n) for n in range(50)]


@pytest.mark.parametrize(("tool", "text"), [("twice", "first"), ("unknown_id", "after")])
async def test_duplicate_and_unknown_ids(tool: str, text: str) -> None:
    async with peer() as client:
        assert text_of(await client.call_tool(tool)) == text
        await client.ping()
        assert client.metrics.unmatched_replies == 1
