"""Clients of processes: real ones, most of which misbehave."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from fastapi_server.mcp import (
    CallTimeoutError,
    ClientClosedError,
    CommandNotFoundError,
    ConnectionState,
    Delivery,
    HandshakeError,
    InvalidResultError,
    MCPClientError,
    MCPConnectionError,
    MessageTooLargeError,
    OutcomeUnknownError,
    ProcessExitedError,
    RPCError,
    StdioConfig,
    StdioMCPClient,
    testing,
)
from fastapi_server.mcp.clients.process import process_environment

PEER = str(Path(testing.__file__).with_name("stdio_peer.py"))


def peer(*flags: str, **settings: Any) -> StdioMCPClient:
    settings.setdefault("shutdown_timeout", 500)
    return StdioMCPClient("peer", StdioConfig(sys.executable, ["-S", PEER, *flags], **settings))


def text_of(result: Any) -> str:
    return result.content[0].text


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


async def wait_for_death(pid: int) -> None:
    async with asyncio.timeout(5):
        while alive(pid):
            await asyncio.sleep(0.01)


# Contract rows.


async def test_echo_server_of_the_contract_connects_in_raw_mode() -> None:
    async with peer("--echo", handshake=False) as client:
        assert client.state is ConnectionState.CONNECTED
        answer = await client.request("anything", {"a": 1})
        assert answer["echo"]["method"] == "anything"
        assert answer["echo"]["params"] == {"a": 1}
        assert await client.health_check()


async def test_a_process_that_exits_at_once_makes_connect_return_false() -> None:
    client = peer("--exit-at-start", "7", "--stderr", "cannot find my database")
    assert await client.connect(retry_count=1) is False
    assert client.state is ConnectionState.ERROR
    error = client.last_error
    assert isinstance(error, ProcessExitedError)
    assert error.exit_code == 7
    assert error.stderr == "cannot find my database"
    assert "server 'peer' (stdio): the process exited with code 7" in str(error)
    assert "cannot find my database" in str(error)
    await client.disconnect()


async def test_command_not_found_says_so() -> None:
    client = StdioMCPClient("files", StdioConfig("no-such-program-anywhere"))
    assert await client.connect() is False
    assert str(client.last_error) == "server 'files' (stdio): command not found: no-such-program-anywhere"
    with pytest.raises(CommandNotFoundError) as caught:
        async with client:
            pass
    assert caught.value.delivery is Delivery.NOT_SENT


async def test_command_that_may_not_be_executed(tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_text("#!/bin/sh\n")
    client = StdioMCPClient("files", StdioConfig(str(script)))
    assert await client.connect() is False
    assert "may not be executed" in str(client.last_error)


async def test_a_missing_working_directory_is_named(tmp_path: Path) -> None:
    client = peer(cwd=tmp_path / "nowhere")
    assert await client.connect() is False
    assert "working directory does not exist" in str(client.last_error)


async def test_a_program_that_is_no_program(tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_bytes(b"\x7fELF nonsense")
    script.chmod(0o755)
    client = StdioMCPClient("files", StdioConfig(str(script)))
    assert await client.connect(retry_count=1) is False
    assert isinstance(client.last_error, MCPConnectionError)


async def test_environment_is_the_safe_list_plus_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_PARENT", "x")
    async with peer(env={"MINE": "1"}) as client:
        env = json.loads(text_of(await client.call_tool("environment")))
    assert env["MINE"] == "1"
    assert env["PATH"] == os.environ["PATH"]
    assert "SECRET_OF_THE_PARENT" not in env


async def test_inherit_env_passes_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_PARENT", "x")
    async with peer(inherit_env=True) as client:
        env = json.loads(text_of(await client.call_tool("environment")))
    assert env["SECRET_OF_THE_PARENT"] == "x"


def test_exported_shell_functions_are_not_passed_on() -> None:
    env = process_environment(StdioConfig("x"), {"PATH": "/bin", "HOME": "() { :; }"})
    assert env == {"PATH": "/bin"}


async def test_cwd_is_where_the_process_works(tmp_path: Path) -> None:
    async with peer(cwd=tmp_path) as client:
        assert text_of(await client.call_tool("cwd")) == str(tmp_path)


async def test_a_command_relative_to_cwd(tmp_path: Path) -> None:
    script = tmp_path / "serve"
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -S {PEER}\n")
    script.chmod(0o755)
    async with StdioMCPClient("peer", StdioConfig("./serve", cwd=tmp_path)) as client:
        assert await client.health_check()


# Negotiation on a pipe.


@pytest.mark.parametrize(
    ("flags", "revision"),
    [
        (["--discover", "error"], "2025-11-25"),
        (["--discover", "error", "--revision", "2024-11-05"], "2024-11-05"),
        (["--discover", "silent"], "2025-11-25"),
        (["--discover", "exit"], "2025-11-25"),
        (["--discover", "stateless"], "2026-07-28"),
    ],
)
async def test_the_era_is_found_out(flags: list[str], revision: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with peer(*flags, "--log", str(log), probe_timeout=300) as client:
        assert client.server_info is not None
        assert client.server_info.protocol_version == revision
        await client.call_tool("echo")


async def test_reconnecting_costs_no_probe(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with peer("--log", str(log)) as client:
        with pytest.raises(OutcomeUnknownError):
            await client.call_tool("exit")
        await client.call_tool("echo")
    methods = [json.loads(line)["method"] for line in log.read_text().splitlines()]
    assert methods.count("server/discover") == 1
    assert methods.count("initialize") == 2


@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28"])
async def test_a_pinned_revision_saves_the_probe(version: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    flags = ["--revision", version, "--discover", "stateless", "--log", str(log)]
    async with peer(*flags, protocol_version=version) as client:
        await client.call_tool("echo")
        methods = [json.loads(line)["method"] for line in log.read_text().splitlines()]
        assert "server/discover" not in methods
        assert (await client.initialize()).protocol_version == version


async def test_a_pinned_revision_is_not_negotiable() -> None:
    client = peer("--revision", "2025-03-26", protocol_version="2025-11-25")
    assert await client.connect() is False
    assert "pins revision 2025-11-25; the server answered 2025-03-26" in str(client.last_error)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--discover", "unknown"], "the server speaks 2099-01-01"),
        (["--discover", "refuse"], "the server speaks 2099-01-01"),
        (["--revision", "1999-01-01"], "the server speaks 1999-01-01"),
        (["--initialize", "error"], "not today (code -32603)"),
    ],
)
async def test_no_revision_in_common(flags: list[str], expected: str) -> None:
    client = peer(*flags)
    assert await client.connect(retry_count=1) is False
    assert isinstance(client.last_error, HandshakeError)
    assert expected in str(client.last_error)


async def test_a_server_silent_in_the_handshake_ends_with_the_timeout() -> None:
    client = peer("--discover", "silent", "--initialize", "silent", timeout=600, probe_timeout=100)
    assert await client.connect(retry_count=1) is False
    assert isinstance(client.last_error, TimeoutError)
    assert isinstance(client.last_error, ConnectionError)


# What comes on standard output.


async def test_a_banner_and_junk_are_skipped_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with peer("--banner") as client:
        assert text_of(await client.call_tool("junk")) == "after the junk"
        assert client.metrics.skipped_messages == 6
    skipped = [record for record in caplog.records if "skipped" in record.message]
    assert len(skipped) == 1
    assert "Welcome to the peer!" in skipped[0].message


async def test_replies_in_reverse_order_reach_their_callers() -> None:
    async with peer() as client:
        results = await asyncio.gather(*(client.call_tool("hold", {"n": n, "of": 50}) for n in range(50)))
        assert [text_of(result) for result in results] == [str(n) for n in range(50)]


async def test_what_comes_while_a_list_is_on_its_way_is_read_as_ever() -> None:
    async with peer() as client:
        (echoed, tools, failure) = await asyncio.gather(
            client.call_tool("echo", {"n": [1, 2]}),
            client.list_tools(),
            client.call_tool("unknown", {}),
            return_exceptions=True,
        )
    assert text_of(echoed) == '{"n": [1, 2]}'
    assert tools
    assert isinstance(failure, RPCError)


async def test_one_byte_at_a_time() -> None:
    async with peer() as client:
        assert text_of(await client.call_tool("drip")) == "é" * 20


async def test_an_id_that_came_back_as_a_string() -> None:
    async with peer() as client:
        assert (await client.call_tool("string_id")).content == []
        assert client.metrics.coerced_replies == 1


async def test_duplicate_and_unknown_replies_are_counted() -> None:
    async with peer() as client:
        assert text_of(await client.call_tool("twice")) == "first"
        assert text_of(await client.call_tool("unknown_id")) == "after"
        assert client.metrics.unmatched_replies == 2


async def test_batches_are_read() -> None:
    async with peer("--revision", "2025-03-26") as client:
        assert (await client.call_tool("batch")).content == []


async def test_a_message_over_the_limit_names_the_limit() -> None:
    async with peer(max_message_bytes=1000) as client:
        with pytest.raises(MessageTooLargeError, match="max_message_bytes = 1,000"):
            await client.call_tool("big", {"bytes": 5000})
        assert text_of(await client.call_tool("echo", {"a": 1})) == '{"a": 1}'


async def test_a_malformed_result_is_named() -> None:
    async with peer() as client:
        with pytest.raises(InvalidResultError, match="the result of tools/call is malformed: content"):
            await client.call_tool("malformed_result")
        assert await client.health_check()


# A process that ends.


async def test_a_crash_fails_the_call_and_the_next_call_restarts() -> None:
    async with peer() as client:
        first = client.pid
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.call_tool("exit", {"code": 3, "stderr": "out of cheese"})
        assert isinstance(caught.value.__cause__, ProcessExitedError)
        assert caught.value.__cause__.exit_code == 3
        assert caught.value.delivery is Delivery.UNKNOWN
        assert "out of cheese" in str(caught.value)
        assert client.state is ConnectionState.ERROR
        assert text_of(await client.call_tool("echo")) == "{}"
        assert client.pid != first
        assert client.metrics.reconnects == 1


async def test_a_crash_fails_every_call_in_flight() -> None:
    async with peer() as client:
        waiting = [asyncio.create_task(client.call_tool("never")) for _ in range(5)]
        await client.ping()
        with pytest.raises(OutcomeUnknownError):
            await client.call_tool("exit")
        failures = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(failure, OutcomeUnknownError) for failure in failures)


async def test_fifty_callers_share_one_restart() -> None:
    async with peer() as client:
        with pytest.raises(OutcomeUnknownError):
            await client.call_tool("exit")
        await asyncio.gather(*(client.call_tool("echo", {"n": n}) for n in range(50)))
        assert client.metrics.connections == 2


async def test_last_words_are_heard() -> None:
    async with peer() as client:
        assert text_of(await client.call_tool("answer_and_exit")) == "last words"


async def test_stdout_closed_while_the_process_lives() -> None:
    async with peer() as client:
        with pytest.raises(OutcomeUnknownError, match="but lives on"):
            await client.call_tool("close_stdout")


async def test_half_a_line_then_silence_ends_with_the_deadline() -> None:
    async with peer() as client:
        with pytest.raises(CallTimeoutError):
            await client.call_tool("half", timeout=0.2)


async def test_killed_by_a_signal_says_which() -> None:
    async with peer() as client:
        waiting = asyncio.create_task(client.call_tool("never"))
        await client.ping()
        assert client.pid is not None
        os.kill(client.pid, signal.SIGKILL)
        with pytest.raises(OutcomeUnknownError, match="killed by SIGKILL"):
            await waiting


async def test_a_peer_that_stops_reading_does_not_hang_the_caller() -> None:
    async with peer() as client:
        assert text_of(await client.call_tool("stop_reading")) == "deaf now"
        payload = "x" * (1 << 20)
        with pytest.raises(CallTimeoutError) as caught:
            await client.call_tool("echo", {"payload": payload}, timeout=0.2)
        assert caught.value.delivery is Delivery.UNKNOWN
        with pytest.raises(CallTimeoutError):
            await client.call_tool("echo", {"payload": payload}, timeout=0.2)


# Standard error.


_LISTS_WHAT_IT_GETS = """
import json, sys, time
time.sleep(0.3)  # meanwhile the pipe is full
got = []
for line in sys.stdin:
    message = json.loads(line)
    got.append(message["method"])
    if "id" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"got": got}}), flush=True)
"""


async def test_behind_a_full_pipe_everybody_waits_for_a_turn() -> None:
    config = StdioConfig(sys.executable, ["-S", "-c", _LISTS_WHAT_IT_GETS], handshake=False)
    large = {"text": "x" * 500_000}
    async with StdioMCPClient("peer", config) as client, asyncio.TaskGroup() as group:
        for method in ("first", "second"):
            group.create_task(client.request(method, large))
        await asyncio.sleep(0)
        group.create_task(client.notify("notifications/between"))
        await asyncio.sleep(0)
        last = [group.create_task(client.request(method, large)) for method in ("third", "fourth")]
    assert (await last[-1])["got"] == ["first", "second", "notifications/between", "third", "fourth"]


async def test_stderr_is_always_drained() -> None:
    async with peer() as client:
        assert text_of(await client.call_tool("flood_stderr", {"lines": 20_000})) == "flooded"


async def test_stderr_goes_to_a_file_and_to_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="fastapi_server.mcp.stderr")
    file = tmp_path / "stderr.log"
    async with peer("--stderr", "hello from stderr", stderr_file=file, stderr_log=True) as client:
        await client.ping()
    assert file.read_text() == "hello from stderr\n"
    assert "hello from stderr" in caplog.text


async def test_a_stderr_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    client = peer(stderr_file=tmp_path / "no" / "such" / "folder")
    assert await client.connect(retry_count=1) is False
    assert "stderr_file cannot be written" in str(client.last_error)


# Closing.


async def test_a_polite_server_ends_at_the_end_of_its_input() -> None:
    client = peer()
    await client.connect()
    pid = client.pid
    assert pid is not None
    await client.disconnect()
    assert not alive(pid)
    assert client.state is ConnectionState.DISCONNECTED


@pytest.mark.parametrize("flag", ["--stay", "--deaf"])
async def test_a_server_that_will_not_go_is_made_to(flag: str) -> None:
    client = peer(flag, shutdown_timeout=100)
    await client.connect()
    pid = client.pid
    assert pid is not None
    await client.disconnect()
    assert not alive(pid)


async def test_grandchildren_go_too() -> None:
    client = peer("--grandchild")
    await client.connect()
    assert client.pid is not None
    children = Path(f"/proc/{client.pid}/task/{client.pid}/children").read_text().split()
    assert len(children) == 1
    await client.disconnect()
    await wait_for_death(int(children[0]))


async def test_children_die_with_a_killed_parent() -> None:
    script = f"""
import asyncio, sys
from fastapi_server.mcp import StdioMCPClient, StdioConfig
async def main():
    client = StdioMCPClient("peer", StdioConfig(sys.executable, ["-S", {PEER!r}, "--deaf"]))
    await client.connect()
    print(client.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert alive(child)
    parent.kill()
    await parent.wait()
    await wait_for_death(child)


async def test_closing_fails_the_calls_in_flight_at_once() -> None:
    client = peer()
    await client.connect()
    waiting = asyncio.create_task(client.call_tool("never"))
    await client.ping()
    await client.disconnect()
    with pytest.raises(ClientClosedError):
        await waiting


async def test_cancelling_disconnect_still_ends_the_process() -> None:
    client = peer("--deaf", shutdown_timeout=200)
    await client.connect()
    pid = client.pid
    assert pid is not None
    closing = asyncio.create_task(client.disconnect())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await client.disconnect()
    assert not alive(pid)


async def test_cancelling_connect_leaves_no_process() -> None:
    client = peer("--discover", "silent", "--initialize", "silent")
    connecting = asyncio.create_task(client.connect())
    await asyncio.sleep(0.1)
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    await client.disconnect()
    assert client.state is ConnectionState.DISCONNECTED


# Cancelling.


async def test_cancelling_tells_the_server_and_leaves_the_channel_working(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with peer("--log", str(log)) as client:
        waiting = asyncio.create_task(client.call_tool("never"))
        await client.ping()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(CallTimeoutError):
            await client.call_tool("never", timeout=0.05)
        await client.ping()
    messages = [json.loads(line) for line in log.read_text().splitlines()]
    never = [message["id"] for message in messages if message.get("params", {}).get("name") == "never"]
    cancelled = [m["params"]["requestId"] for m in messages if m["method"] == "notifications/cancelled"]
    assert cancelled == never
    assert len(never) == 2


async def test_arguments_without_a_json_form_are_refused_before_anything_is_sent() -> None:
    async with peer() as client:
        with pytest.raises(MCPClientError, match="cannot be sent as JSON") as caught:
            await client.call_tool("echo", {"x": object()})
        assert caught.value.delivery is Delivery.NOT_SENT


async def test_the_end_of_stderr_can_be_read_while_the_process_runs_and_after_it_ended() -> None:
    program = "import sys; sys.stderr.write('ready, key=s3cr3t-value'); sys.stderr.flush(); sys.stdin.read()"
    config = StdioConfig(sys.executable, ["-c", program], {"API_KEY": "s3cr3t-value"}, handshake=False)
    client = StdioMCPClient("noisy", config)
    assert client.stderr == ""
    async with client:
        while not client.stderr:
            await asyncio.sleep(0.01)
        assert client.stderr == "ready, key=***"
    assert client.stderr == "ready, key=***"
