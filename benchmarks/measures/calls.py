"""Calls on an open client."""

import itertools
from typing import Any

from benchmarks.contenders import LINE, Session
from benchmarks.cores import move_away
from benchmarks.measures.bench import Bench, Operation, expect, measured
from benchmarks.sample import Sample

TOOLS_THAT_CAN_BE_CALLED = 4


def echoes(session: Session) -> Operation:
    """Small calls, each with a text of its own."""
    numbers = itertools.count()

    async def call() -> None:
        text = f"hello {next(numbers)}"
        expect(await session.echo(text), text)

    return call


def weather_of(city: str) -> dict[str, Any]:
    """What the stub's structured tool returns."""
    hours = [{"hour": hour, "celsius": 10.5 + hour} for hour in range(24)]
    return {"city": city, "celsius": 21.5, "sky": "sunny", "hours": hours}


async def small_calls(bench: Bench, *, concurrency: int, apart: bool = False) -> Sample:
    """A small text each way; `apart` from a server that has another processor to itself."""
    async with bench.contender.opened(bench.server) as session:
        if apart:
            expect(await session.echo("there"), "there")
            move_away(bench.server_pids)
        return await measured(bench, echoes(session), concurrency, least=max(64, 4 * concurrency))


async def structured_calls(bench: Bench, *, concurrency: int) -> Sample:
    """Structured output, which those who validate hold against the tool's schema."""
    wanted = weather_of("Lisbon")
    async with bench.contender.opened(bench.server) as session:

        async def call() -> None:
            expect(await session.weather("Lisbon"), wanted)

        return await measured(bench, call, concurrency, least=max(64, 4 * concurrency))


async def large_results(bench: Bench, *, size: int) -> Sample:
    """A text of so many bytes."""
    wanted = LINE * (size // len(LINE))
    async with bench.contender.opened(bench.server) as session:

        async def call() -> None:
            if await session.large(size) != wanted:
                expect("another text", "the large one")

        return await measured(bench, call, least=3)


async def lists(bench: Bench, *, tools: int) -> Sample:
    """The list of tools, again and again: from the cache where the server allows that."""
    async with bench.contender.opened(bench.server) as session:

        async def call() -> None:
            expect(await session.tools(), tools + TOOLS_THAT_CAN_BE_CALLED)

        return await measured(bench, call, least=3)


async def progress(bench: Bench, *, count: int) -> Sample:
    """One call during which the server tells so often of progress."""
    async with bench.contender.opened(bench.server) as session:

        async def call() -> None:
            expect(await session.progress(count), count)

        return await measured(bench, call, least=2)
