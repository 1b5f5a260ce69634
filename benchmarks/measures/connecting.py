"""From nothing to the first result, and closed again."""

from benchmarks.measures.bench import Bench, expect, measured
from benchmarks.sample import Sample, spending
from benchmarks.stub import Counters, Counts


async def _one_call(bench: Bench) -> None:
    async with bench.contender.opened(bench.server) as session:
        expect(await session.echo("first"), "first")


async def first(bench: Bench) -> Sample:
    """The first connection that a process makes: whatever is imported or built when it is first used counts."""
    with spending() as spent:
        await _one_call(bench)
    return Sample(spent.cpu * 1e6)


async def again(bench: Bench) -> Sample:
    """Later ones."""

    async def call() -> None:
        await _one_call(bench)

    return await measured(bench, call, least=10)


async def _until_first_result(bench: Bench) -> Counts:
    counters = Counters(bench.server.counters)
    before = counters.read()
    async with bench.contender.opened(bench.server) as session:
        expect(await session.echo("first"), "first")
        return counters.read().since(before)


async def requests(bench: Bench) -> Sample:
    """Messages or HTTP requests that the server has got when the first result is there."""
    counts = await _until_first_result(bench)
    return Sample(counts.requests, counts={"connections": counts.connections})


async def traffic(bench: Bench) -> Sample:
    """Bytes both ways until then."""
    counts = await _until_first_result(bench)
    return Sample(counts.bytes_in + counts.bytes_out, counts={"in": counts.bytes_in, "out": counts.bytes_out})
