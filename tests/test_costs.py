"""What a call costs in things that can be counted, and so are the same on every machine.

The bounds are what the code does today. Whoever makes it cheaper lowers them.
"""

import asyncio
import collections
import gc
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
import types
from collections.abc import AsyncIterator, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contenders import LINE
from benchmarks.contenders.ours import Ours, opened
from benchmarks.stub import Counters, Server, serving

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the stub servers use epoll"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="the stub servers are compiled"),
]

REQUESTS_TO_FIRST_RESULT = {"stdio": 2, "sse": 4, "json": 2, "events": 2}
CONNECTIONS_TO_FIRST_RESULT = {"stdio": 1, "sse": 2, "json": 1, "events": 1}
BYTES_SENT_FOR_A_CALL = {"stdio": 300, "sse": 295, "json": 600, "events": 600}
TASKS_FOR_A_CALL = {"stdio": 0, "sse": 1, "json": 1, "events": 1}
FUNCTIONS_FOR_A_CALL = {"stdio": 50, "sse": 69, "json": 55, "events": 65}  # of ours; a coroutine again as it goes on
THREADS_FOR_A_CONNECTION = 0
SYSTEM_CALLS_FOR_A_CALL = {"stdio": 7, "sse": 11, "json": 9, "events": 9}  # one waits once more, as replies come
WRITES_FOR_A_CALL = 1
OBJECTS_LEFT_BY_A_CALL = 0
GARBAGE_OF_A_CALL = 0
COLLECTIONS_FOR_A_THOUSAND_TOOLS = 5  # of which two are for the list, where there would be twenty
COPIES_OF_A_LARGE_BODY = {"stdio": 3.6, "sse": 3.6, "json": 3.6, "events": 3.6}

ROOT = Path(__file__).parents[1]
OURS = str(ROOT / "fastapi_server")
CALLS = 100
WARM_UP_CALLS = 1_100  # the window of latencies is full
LARGE = 4 * 2**20

_BEGIN, _END = "/begin of what is counted", "/end of what is counted"
_PROGRAM = f"""
import asyncio, os, sys
from benchmarks.contenders.ours import opened
from benchmarks.stub import Server

async def main(transport, url, *command):
    async with opened(Server(transport, command, url, 0, "")) as session:
        for _ in range({CALLS}):
            await session.echo("hello")
        os.path.exists({_BEGIN!r})
        for _ in range({CALLS}):
            await session.echo("hello")
        os.path.exists({_END!r})

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(params=["stdio", "sse", "json", "events"])
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server(transport: str, tmp_path: Path) -> Generator[Server]:
    with serving(transport, tmp_path / "counters") as server:
        yield server


@pytest.fixture
async def session(server: Server) -> AsyncIterator[Ours]:
    async with opened(server) as session:
        await session.echo("hello")
        yield session


async def _call(session: Ours, times: int = CALLS) -> None:
    for _ in range(times):
        await session.echo("hello")


async def test_round_trips_to_the_first_result(transport: str, server: Server) -> None:
    counters = Counters(server.counters)
    async with opened(server) as session:
        await session.echo("hello")
        counts = counters.read()
    assert counts.requests <= REQUESTS_TO_FIRST_RESULT[transport]
    assert counts.connections <= CONNECTIONS_TO_FIRST_RESULT[transport]


async def test_bytes_on_the_wire(transport: str, server: Server, session: Ours) -> None:
    counters = Counters(server.counters)
    before = counters.read()
    await session.echo("hello")
    counts = counters.read().since(before)
    assert counts.bytes_in <= BYTES_SENT_FOR_A_CALL[transport]
    assert counts.requests == 1
    assert counts.connections == 0


async def test_tasks_created(transport: str, session: Ours) -> None:
    created = 0

    def create(
        loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **options: Any
    ) -> asyncio.Task[Any]:
        nonlocal created
        created += 1
        return asyncio.Task(work, loop=loop, **options)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(create)
    try:
        await _call(session)
    finally:
        loop.set_task_factory(None)
    assert created <= TASKS_FOR_A_CALL[transport] * CALLS


async def test_functions_called(transport: str, session: Ours) -> None:
    called = 0

    def count(frame: types.FrameType, event: str, _argument: object) -> None:
        nonlocal called
        called += event == "call" and OURS in frame.f_code.co_filename

    await _call(session)
    sys.setprofile(count)
    try:
        await _call(session)
    finally:
        sys.setprofile(None)
    assert round(called / CALLS) <= FUNCTIONS_FOR_A_CALL[transport]


async def test_threads_of_a_connection(server: Server, session: Ours) -> None:
    before = threading.active_count()
    async with opened(server) as another:
        await another.echo("hello")
        assert threading.active_count() - before <= THREADS_FOR_A_CONNECTION


def _traced(server: Server, log: Path) -> collections.Counter[str]:
    """System calls of the first thread, by name."""
    program = [sys.executable, "-c", _PROGRAM, server.transport, server.url, *server.command]
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    subprocess.run(["strace", "-o", log, *program], cwd=ROOT, env=env, check=True)
    _, _, rest = log.read_text().partition(_BEGIN)
    counted, _, _ = rest.partition(_END)
    return collections.Counter(line.partition("(")[0] for line in counted.splitlines()[1:-1])


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace counts them")
def test_system_calls(transport: str, server: Server, tmp_path: Path) -> None:
    made = {name: times / CALLS for name, times in _traced(server, tmp_path / "trace").items()}
    assert round(sum(made.values())) <= SYSTEM_CALLS_FOR_A_CALL[transport], made
    assert sum(made.get(name, 0) for name in ("write", "writev", "sendto", "sendmsg")) <= WRITES_FOR_A_CALL, made


async def test_objects_left(session: Ours) -> None:
    await _call(session, WARM_UP_CALLS)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        await _call(session)
        garbage = gc.collect()
        left = len(gc.get_objects()) - before
    finally:
        gc.enable()
    assert left // CALLS <= OBJECTS_LEFT_BY_A_CALL, left
    assert garbage // CALLS <= GARBAGE_OF_A_CALL, garbage


async def test_collections_while_a_long_list_comes(transport: str, tmp_path: Path) -> None:
    collections = 0

    def count(phase: str, _info: dict[str, int]) -> None:
        nonlocal collections
        collections += phase == "start"

    with serving(transport, tmp_path / "counters", tools=1_000) as server:
        async with opened(server) as session:
            await session.tools()
            gc.collect()
            gc.callbacks.append(count)
            try:
                await session.tools()
            finally:
                gc.callbacks.remove(count)
    assert collections <= COLLECTIONS_FOR_A_THOUSAND_TOOLS


async def test_copies_of_a_large_body(transport: str, session: Ours) -> None:
    """Those that Python's allocators know of; the whole process is what `make bench` measures."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        text = await session.large(LARGE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert text == LINE * (LARGE // len(LINE))
    assert (peak - before) / LARGE <= COPIES_OF_A_LARGE_BODY[transport]
