"""Starting a server's process in a group of its own, and ending the whole group."""

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi_server.mcp.clients.flag import Flag
from fastapi_server.mcp.config import StdioConfig
from fastapi_server.mcp.errors import CommandNotFoundError

_SAFE_POSIX = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER")
_SAFE_WINDOWS = (
    *("APPDATA", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATH", "PATHEXT", "PROCESSOR_ARCHITECTURE"),
    *("SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "USERNAME", "USERPROFILE"),
)
_POLL_SECONDS = 0.02


def process_environment(config: StdioConfig, parent: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment a server gets: a safe part of ours, or with `inherit_env` all of it, and `env` on top."""
    safe = _SAFE_WINDOWS if sys.platform == "win32" else _SAFE_POSIX
    if config.inherit_env:
        inherited = dict(parent)
    else:  # an exported shell function starts with "()"
        inherited = {key: parent[key] for key in safe if key in parent and not parent[key].startswith("()")}
    return {**inherited, **config.env}


def command_line(config: StdioConfig, env: Mapping[str, str]) -> list[str]:
    """The program and its arguments, found in the `PATH` that the process will have.

    On Linux the program is started through `setpriv --pdeathsig KILL` (util-linux), where that exists.

    Raises:
        CommandNotFoundError: There is no such program, or it may not be executed, or `cwd` is no directory.
    """
    if config.cwd is not None and not config.cwd.is_dir():
        raise CommandNotFoundError(f"the working directory does not exist: {config.cwd}")
    name = config.command
    if config.cwd is not None and os.sep in name:
        name = str(config.cwd / name)
    program = shutil.which(name, path=env.get("PATH", os.defpath))
    if program is None:
        exists = Path(name).is_file()
        raise CommandNotFoundError(f"{'may not be executed' if exists else 'command not found'}: {config.command}")
    return [*_dying_with_us(), os.path.abspath(program), *config.args]


@functools.cache
def _dying_with_us() -> tuple[str, ...]:
    """What to put before a command so that the kernel kills it when this process dies, however it dies.

    A hook between fork and exec would do the same, but forking a threaded program is what we want to avoid.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None:
        return ()
    if os.path.islink(setpriv) and os.path.basename(os.path.realpath(setpriv)) != "setpriv":  # busybox's cannot do it
        return ()
    return (setpriv, "--pdeathsig", "KILL", "--")


class ProcessGroup:
    """A process and everything it has started, as far as the platform lets us name that.

    POSIX: the process group that it leads. Windows: the process alone.

    Args:
        pid: Of the process.
        exited: It has.
        terminate: Ends the process alone.
    """

    def __init__(self, pid: int, exited: Flag, terminate: Callable[[], None]) -> None:
        self._pid = pid
        self._exited = exited
        self._terminate = terminate

    async def end(self, step_seconds: float) -> None:
        """Wait for a polite exit, then SIGTERM, then SIGKILL, each step at most `step_seconds`; then its children."""
        for stop in (None, signal.SIGTERM, _SIGKILL):
            if stop is not None:
                self._signal(stop)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(step_seconds):
                    await self._exited.wait()
            if self._exited.is_set():
                break
        await self._end_orphans(step_seconds)

    async def _end_orphans(self, step_seconds: float) -> None:
        for stop in (signal.SIGTERM, _SIGKILL):
            if not self._signal(stop):
                return
            for _ in range(round(step_seconds / _POLL_SECONDS)):  # orphans are not ours to wait for
                if not self._signal(None):
                    return
                await asyncio.sleep(_POLL_SECONDS)

    def _signal(self, number: signal.Signals | None) -> bool:
        """Send to the whole group; `None` only asks. False where nobody is left."""
        if sys.platform == "win32":
            if number is not None and not self._exited.is_set():
                self._terminate()
            return not self._exited.is_set()
        try:
            os.killpg(self._pid, number or 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def kill_group(pid: int) -> None:
    """Kill a process and all of its group, at once and without waiting."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            os.kill(pid, _SIGKILL)
        else:
            os.killpg(pid, _SIGKILL)


_SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)


def _group_options() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


GROUP_OPTIONS = _group_options()
"""How to start a process so that it leads a group of its own."""
