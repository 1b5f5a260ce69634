"""Both ways to run a process keep the same promises; that of asyncio is used where loops cannot watch pipes."""

import asyncio
import errno
import io
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastapi_server.mcp.clients import posix_process
from fastapi_server.mcp.clients.asyncio_process import AsyncioProcess
from fastapi_server.mcp.clients.pipe import PipeWriter
from fastapi_server.mcp.clients.posix_process import PosixProcess
from fastapi_server.mcp.clients.server_process import Command, Part, ServerProcess

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
SAY = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
STUBBORN = "import os, time; os.close(0); time.sleep(60)"
LAZY = "import sys, time; time.sleep(0.3); [print(len(line), flush=True) for line in sys.stdin]"
LARGE = 300_000


class Notes:
    def __init__(self) -> None:
        self.output = b""
        self.errors = b""
        self.over: list[Part] = []

    def output_received(self, data: bytes) -> None:
        self.output += data

    def errors_received(self, data: bytes) -> None:
        self.errors += data

    def ended(self, part: Part) -> None:
        self.over.append(part)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)


def program(code: str) -> Command:
    return Command([sys.executable, "-c", code], dict(os.environ), None)


@pytest.fixture(params=["pidfd", "thread", "asyncio"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[ServerProcess]:
    if request.param == "thread":
        monkeypatch.setattr(posix_process, "_descriptor_of", lambda _pid: None)
    elif request.param == "pidfd" and not hasattr(os, "pidfd_open"):
        pytest.skip("Linux has it")
    return AsyncioProcess if request.param == "asyncio" else PosixProcess


@pytest.fixture
def notes() -> Notes:
    return Notes()


def _descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_what_it_says_and_how_it_ends(kind: type[ServerProcess], notes: Notes) -> None:
    process = await kind.start(program(SAY), notes)
    await notes.until(lambda: {Part.OUTPUT, Part.ERRORS, Part.PROCESS} <= set(notes.over))
    assert (notes.output, notes.errors, process.returncode) == (b"out\n", b"err\n", 3)
    with pytest.raises(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)  # noqa: ASYNC222
    await process.close(1)


async def test_what_is_sent_arrives_in_order(kind: type[ServerProcess], notes: Notes) -> None:
    process = await kind.start(program(ECHO), notes)
    lines = [f"{number}".encode() for number in range(100)]
    for number, line in enumerate(lines):
        process.input.send(line, soon=number > 50)
    await notes.until(lambda: notes.output.count(b"\n") == len(lines))
    assert notes.output.split() == lines
    process.input.close()
    assert process.input.closed
    await notes.until(lambda: Part.PROCESS in notes.over)
    assert process.returncode == 0
    await process.close(1)


async def test_a_full_pipe_is_waited_for(kind: type[ServerProcess], notes: Notes) -> None:
    process = await kind.start(program(LAZY), notes)
    sizes = [LARGE, 10, LARGE, 20]
    for size in sizes:
        process.input.send(b"x" * size, soon=False)
    assert process.input.room is not None
    async with asyncio.timeout(5):
        await process.input.until_room()
    assert process.input.room is None
    process.input.send(b"last", soon=False)
    await notes.until(lambda: notes.output.count(b"\n") == len(sizes) + 1)
    assert [int(size) - 1 for size in notes.output.split()] == [*sizes, 4]
    process.terminate()
    await notes.until(lambda: Part.PROCESS in notes.over)
    await process.close(1)


async def test_a_closed_input_is_noticed(kind: type[ServerProcess], notes: Notes) -> None:
    process = await kind.start(program(STUBBORN), notes)
    await notes.until(lambda: Part.INPUT in notes.over)
    assert process.input.closed
    process.terminate()
    await notes.until(lambda: Part.PROCESS in notes.over)
    assert process.returncode == -15
    await process.close(1)


async def test_nothing_is_left_open(kind: type[ServerProcess]) -> None:
    before: int | None = None
    for _ in range(3):
        notes = Notes()
        process = await kind.start(program(ECHO), notes)
        process.input.close()
        await notes.until(lambda notes=notes: Part.PROCESS in notes.over)
        await process.close(1)
        before = _descriptors() if before is None else before
    assert _descriptors() == before


async def test_what_cannot_be_started_leaves_nothing(kind: type[ServerProcess], notes: Notes, tmp_path: Path) -> None:
    before = _descriptors()
    with pytest.raises(OSError, match="No such file"):
        await kind.start(Command([str(tmp_path / "missing")], {}, None), notes)
    assert _descriptors() == before


async def test_what_cannot_be_watched_is_ended(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pipe: object) -> None:
        raise OSError(errno.ENOSPC, "no more")

    before = _descriptors()
    monkeypatch.setattr(posix_process, "enlarge", refuse)
    with pytest.raises(OSError, match="no more"):
        await PosixProcess.start(program(ECHO), notes)
    assert _descriptors() == before


async def test_what_has_not_begun_can_be_taken_back(notes: Notes) -> None:
    process = await PosixProcess.start(program(LAZY), notes)
    begun, waiting, more = b"x" * LARGE, b"y" * LARGE, b"z"
    for message in (begun, waiting, more):
        process.input.send(message, soon=True)
    await asyncio.sleep(0.1)
    assert not process.input.withdraw(begun)
    assert process.input.withdraw(waiting)
    assert not process.input.withdraw(waiting)
    await notes.until(lambda: notes.output.count(b"\n") == 2)
    assert [int(size) - 1 for size in notes.output.split()] == [LARGE, 1]
    process.terminate()
    await notes.until(lambda: Part.PROCESS in notes.over)
    await process.close(1)


async def test_a_pipe_that_breaks_as_it_is_closed() -> None:
    reading, writing = os.pipe()
    broken: list[bool] = []
    pipe = PipeWriter(io.FileIO(writing, "w"), lambda: broken.append(True))
    pipe.send(b"x" * 1_000_000, soon=False)
    assert pipe.room is not None
    os.close(reading)
    pipe.close()
    assert (pipe.closed, pipe.room, broken) == (True, None, [True])
    pipe.close()


async def test_it_runs_in_a_loop_of_another_thread(kind: type[ServerProcess]) -> None:
    def run() -> None:
        asyncio.run(test_what_it_says_and_how_it_ends(kind, Notes()))

    await asyncio.to_thread(run)


def test_a_loop_that_is_gone(kind: type[ServerProcess]) -> None:
    async def start() -> ServerProcess:
        return await kind.start(program(ECHO), Notes())

    loop = asyncio.new_event_loop()
    process = loop.run_until_complete(start())
    process_id = process.pid
    if kind is AsyncioProcess:
        process.terminate()
        loop.run_until_complete(process.close(1))
    loop.close()
    process.abandon()
    if kind is PosixProcess:
        with pytest.raises(ProcessLookupError):
            os.kill(process_id, 0)
        assert process.returncode == -9


@pytest.fixture(scope="module")
def uvloop() -> Any:
    """Loaded before anybody counts: libuv keeps a pipe for signals as long as the process lives."""
    module = pytest.importorskip("uvloop")
    module.new_event_loop().close()
    return module


async def test_it_runs_on_uvloop(uvloop: Any) -> None:
    def run() -> None:
        async def main() -> None:
            await test_what_it_says_and_how_it_ends(PosixProcess, Notes())
            await test_a_full_pipe_is_waited_for(PosixProcess, Notes())
            await test_a_closed_input_is_noticed(PosixProcess, Notes())
            await test_nothing_is_left_open(PosixProcess)

        uvloop.run(main())

    await asyncio.to_thread(run)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux has it")
async def test_where_the_system_refuses_a_thread_waits(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    before = threading.active_count()
    process = await PosixProcess.start(program(ECHO), notes)
    assert threading.active_count() == before + 1
    process.input.close()
    await notes.until(lambda: Part.PROCESS in notes.over)
    await process.close(1)
