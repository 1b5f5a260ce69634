"""How a process is started and its group ended."""

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastapi_server.mcp import StdioConfig
from fastapi_server.mcp.clients import process
from fastapi_server.mcp.clients.flag import Flag
from fastapi_server.mcp.clients.process import ProcessGroup, command_line, process_environment


def without_setpriv(name: str, path: str | None = None) -> str | None:
    return None if name == "setpriv" else f"/bin/{name}"


def with_busybox(name: str, path: str | None = None) -> str:
    return "/bin/sh" if name == "setpriv" else f"/bin/{name}"


@pytest.fixture
def looked_up_anew() -> Iterator[None]:
    process._dying_with_us.cache_clear()
    yield
    process._dying_with_us.cache_clear()


@pytest.mark.parametrize("which", [without_setpriv, with_busybox])
def test_without_a_setpriv_that_can_do_it_the_command_is_started_as_it_is(
    which: object, monkeypatch: pytest.MonkeyPatch, looked_up_anew: None
) -> None:
    monkeypatch.setattr(shutil, "which", which)
    assert command_line(StdioConfig("server", ["-v"]), {}) == ["/bin/server", "-v"]


@pytest.mark.skipif(not process._dying_with_us(), reason="needs the setpriv of util-linux")
def test_with_setpriv_the_kernel_is_asked_to_kill_it_with_us() -> None:
    command = command_line(StdioConfig(sys.executable, ["-V"]), dict(os.environ))
    assert command[1:4] == ["--pdeathsig", "KILL", "--"]
    assert command[-2:] == [sys.executable, "-V"]


def test_env_overrides_what_is_inherited() -> None:
    assert process_environment(StdioConfig("x", env={"PATH": "/mine"}), {"PATH": "/theirs"}) == {"PATH": "/mine"}


async def test_orphans_that_ignore_sigterm_are_killed(tmp_path: Path) -> None:
    """The leader exits politely; the child that it leaves in the group ignores SIGTERM."""
    child = tmp_path / "child"
    script = f"""
trap '' TERM
( trap '' TERM; echo $BASHPID > {child}; while true; do sleep 1; done ) &
while [ ! -s {child} ]; do sleep 0.01; done
read line
"""
    exited = Flag()

    class Watch(asyncio.SubprocessProtocol):
        def process_exited(self) -> None:
            exited.set()

    loop = asyncio.get_running_loop()
    transport, _ = await loop.subprocess_exec(Watch, "bash", "-c", script, start_new_session=True)
    async with asyncio.timeout(5):
        while not child.exists() or not child.read_text():
            await asyncio.sleep(0.01)
    stdin = transport.get_pipe_transport(0)
    assert stdin is not None
    stdin.close()
    await ProcessGroup(transport.get_pid(), exited, transport.terminate).end(0.2)
    transport.close()
    pid = int(child.read_text())
    async with asyncio.timeout(5):
        while _running(pid):
            await asyncio.sleep(0.01)


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
