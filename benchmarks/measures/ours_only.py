"""What only this library has: the price of what it does around a call, and its pool."""

import itertools
import operator
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from benchmarks.contenders.ours import client_of, text_of
from benchmarks.measures.bench import Bench, Operation, expect, measured
from benchmarks.sample import Sample, spending
from fastapi_server.mcp import ClientPool, Hooks, MCPClient, ServerConfig, make_client
from fastapi_server.mcp.clients import caller as caller_module
from fastapi_server.mcp.clients.caller import Caller
from fastapi_server.mcp.clients.connector import Connector
from fastapi_server.mcp.clients.hooks import HookRunner
from fastapi_server.mcp.metrics import ClientMetrics

_PAIRS = 200
_LEAST_CALLS = 10
_RECORD = ClientMetrics.record
_PERSIST: Any = vars(Caller)["_persist"]
_RESULT: Callable[..., Any] = vars(caller_module)["_result"]


async def overhead(bench: Bench, *, of: str) -> Sample:
    """Per cent that a small call costs more with something than without: the median of many short pairs of turns.

    A machine that is busy for a while is so for both of a pair, each of which is the first in every other pair. Both
    are of one client: another one's server may be on another core, and its calls twice as dear for that alone.
    """
    everything = of == "everything"
    async with _pool(bench, Hooks(on_request=_ignore, on_response=_ignore, on_error=_ignore)) as pool:
        client = pool.client("stub")
        parts = _parts(client)
        kept = parts if everything else {name: part for name, part in parts.items() if name == of}
        for name, part in parts.items():
            part(on=name in kept)
        plain = _calls(client)
        full = _leased_calls(pool) if everything or of == "lease" else plain
        calls = max(_LEAST_CALLS, int((await measured(bench, full)).per_second or 0) // _PAIRS)

        async def cost(*, on: bool) -> float:
            for part in kept.values():
                part(on=on)
            for _ in range(calls):  # after a switch Python has to find out again what is called where
                await (full if on else plain)()
            began = time.process_time()
            for _ in range(calls):
                await (full if on else plain)()
            return time.process_time() - began

        pairs: list[tuple[float, float]] = []
        for number in range(_PAIRS):
            first = await cost(on=number % 2 == 1)
            second = await cost(on=number % 2 == 0)
            pairs.append((second, first) if number % 2 == 1 else (first, second))
    without = statistics.median(plain for plain, _ in pairs)
    more = statistics.median(full / plain - 1 for plain, full in pairs)
    return Sample(more * 100, counts={"µs without": without / calls * 1e6})


class _Switch(Protocol):
    def __call__(self, *, on: bool) -> None: ...


def _parts(client: MCPClient) -> dict[str, _Switch]:
    """What can be turned off while a client is open, by name."""
    hooks: HookRunner = operator.attrgetter("_hooks")(client)

    def watch(*, on: bool) -> None:
        hooks.watches_calls = on

    def count(*, on: bool) -> None:
        setattr(ClientMetrics, "record", _RECORD if on else _count_nothing)  # noqa: B010 - a method is replaced

    def retry(*, on: bool) -> None:
        setattr(Caller, "_persist", _PERSIST if on else _once)  # noqa: B010 - likewise

    return {"hooks": watch, "metrics": count, "retry": retry}


def _calls(client: MCPClient) -> Operation:
    async def call() -> None:
        expect(text_of(await client.call_tool("echo", {"text": "hello"})), "hello")

    return call


def _leased_calls(pool: ClientPool) -> Operation:
    async def call() -> None:
        async with pool.lease("stub") as client:
            expect(text_of(await client.call_tool("echo", {"text": "hello"})), "hello")

    return call


def _ignore(_event: object) -> None:
    """What the cheapest hook does."""


def _count_nothing(_metrics: ClientMetrics, _method: str, _seconds: float, _error: str | None) -> None:
    """What is left of `ClientMetrics.record`."""


async def _once(caller: Any, call: Any, params: Mapping[str, Any] | None) -> Any:
    """What is left of `Caller._persist` without retries and circuit breaker."""
    connector: Connector = caller._connector
    channel = connector.usable() or await connector.live_channel()
    call.request_id = next(connector.request_ids)
    connector.exchanging += 1
    try:
        reply = await channel.exchange(caller._request(channel, call, params, call.options.meta))
    finally:
        connector.exchange_over()
    return _RESULT(reply, channel)


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
