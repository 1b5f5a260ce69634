"""What only this library has: the price of what it does around a call, and its pool."""

import contextlib
import itertools
import statistics
from collections.abc import AsyncGenerator

from benchmarks.contenders.ours import client_of, text_of
from benchmarks.measures.bench import Bench, Operation, expect, measured
from benchmarks.sample import Sample, spending
from fastapi_server.mcp import ClientPool, Hooks, MCPClient, ServerConfig, make_client

_BLOCKS = 24
_LEAST_CALLS = 50


async def overhead(bench: Bench, *, of: str) -> Sample:
    """Per cent that a small call costs more with something than without, in turns."""
    async with _without(bench, of) as plain, _with(bench, of) as full:
        per_second = (await measured(bench, plain)).per_second or 0
        calls = max(_LEAST_CALLS, int(per_second * bench.seconds / _BLOCKS))
        costs: tuple[list[float], list[float]] = ([], [])
        for _ in range(_BLOCKS):
            for operation, spent_on in zip((plain, full), costs, strict=True):
                with spending() as spent:
                    for _ in range(calls):
                        await operation()
                spent_on.append(spent.cpu)
    without, having = map(statistics.median, costs)
    return Sample((having / without - 1) * 100, counts={"µs without": without / calls * 1e6})


def _calls(client: MCPClient) -> Operation:
    async def call() -> None:
        expect(text_of(await client.call_tool("echo", {"text": "hello"})), "hello")

    return call


def _leased_calls(pool: ClientPool) -> Operation:
    async def call() -> None:
        async with pool.lease("stub") as client:
            expect(text_of(await client.call_tool("echo", {"text": "hello"})), "hello")

    return call


@contextlib.asynccontextmanager
async def _without(bench: Bench, of: str) -> AsyncGenerator[Operation]:
    async with client_of(bench.server, retries=0 if of in {"retry", "everything"} else None) as client:
        if of in {"metrics", "everything"}:
            setattr(client.metrics, "record", _ignore)  # noqa: B010 - a method is replaced
        yield _calls(client)


@contextlib.asynccontextmanager
async def _with(bench: Bench, of: str) -> AsyncGenerator[Operation]:
    hooks = Hooks(on_request=_ignore, on_response=_ignore, on_error=_ignore) if of in {"hooks", "everything"} else None
    if of in {"lease", "everything"}:
        async with _pool(bench, hooks) as pool:
            yield _leased_calls(pool)
    else:
        async with client_of(bench.server, hooks) as client:
            yield _calls(client)


def _ignore(*_event: object) -> None:
    """What the cheapest hook does."""


def _pool(bench: Bench, hooks: Hooks | None = None) -> ClientPool:
    config = client_of(bench.server).config
    transport = "stdio" if bench.server.transport == "stdio" else "http"
    return ClientPool({"stub": ServerConfig("stub", transport, config)}, make_client, hooks=hooks)


async def checkouts(bench: Bench, *, keys: int) -> Sample:
    """Getting a client that is there already, where there are so many; those are never connected."""
    async with _pool(bench) as pool:
        principals = [f"user {number}" for number in range(keys)]
        with spending() as making:
            made = [pool.client("stub", principal) for principal in principals]
        turns = itertools.cycle(zip(principals, made, strict=True))

        async def checkout() -> None:
            principal, client = next(turns)
            if pool.client("stub", principal) is not client:
                expect("another client", "the same client")

        taken = await measured(bench, checkout)
        taken.counts = {"µs to make one": making.cpu / keys * 1e6}
        return taken
