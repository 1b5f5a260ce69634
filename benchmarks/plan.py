"""What is measured, as data: the measures, and the groups of them that share a process."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.contenders import BARE, FASTMCP, OFFICIAL, OURS, OURS_UVLOOP
from benchmarks.stub import Server

TRANSPORTS = {
    "stdio": "stdio",
    "sse": "HTTP+SSE",
    "json": "HTTP, JSON reply",
    "events": "HTTP, event stream",
}
CROWDS = {1: "alone", 32: "32 at once", 256: "256 at once"}
OVERHEADS = {
    "hooks": "hooks",
    "metrics": "metrics",
    "retry": "retries",
    "lease": "a lease",
    "everything": "all four",
}
MEGABYTE = 2**20
NOTIFICATIONS = 10_000
TOOLS = 1_000
CLIENTS = 100
AN_HOUR_MS = 3_600_000
USUAL = (OURS, OFFICIAL, FASTMCP, BARE)
"""Who is measured where nobody else is asked for."""
ALL = (*USUAL, OURS_UVLOOP)
MCP = (OURS, OFFICIAL, FASTMCP, OURS_UVLOOP)


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the table.

    Attributes:
        name: Unique; `--only` looks in it, targets are kept by it.
        title: For people.
        kind: The function that takes it: `module.function` in `benchmarks.measures`.
        unit: Of its value.
        options: For that function.
    """

    name: str
    title: str
    kind: str
    unit: str = "µs"
    options: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Group:
    """Measures that share a process, because they do not disturb each other.

    Attributes:
        name: For people.
        transport: As in `benchmarks.stub.Server`.
        measures: In this order.
        contenders: Who is measured.
        tools: That the stub lists besides those that can be called.
        ttl_ms: For how long the list may be kept.
    """

    name: str
    transport: str
    measures: tuple[Measure, ...]
    contenders: tuple[str, ...] = ALL
    tools: int = 0
    ttl_ms: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """What the process of a contender is told.

    Attributes:
        contender: Whose process it is.
        server: The stub.
        seconds: For how long to measure each, about.
        measures: In this order.
    """

    contender: str
    server: Server
    seconds: float
    measures: tuple[Measure, ...]


def _call_measures(transport: str) -> Iterator[Measure]:
    title = TRANSPORTS[transport]
    for concurrency, how in CROWDS.items():
        yield Measure(
            f"{transport}/call/{concurrency}",
            f"small call, {title}, {how}",
            "calls.small_calls",
            options={"concurrency": concurrency},
        )
    for concurrency, how in CROWDS.items():
        if transport in {"stdio", "json"} and concurrency != 256:
            yield Measure(
                f"{transport}/structured/{concurrency}",
                f"structured output, {title}, {how}",
                "calls.structured_calls",
                options={"concurrency": concurrency},
            )
    # the last one, because a server that has moved stays there
    yield Measure(
        f"{transport}/call/apart",
        f"small call, {title}, alone, server on another core",
        "calls.small_calls",
        options={"concurrency": 1, "apart": True},
    )


def _large_measures(transport: str) -> Iterator[Measure]:
    title = TRANSPORTS[transport]
    for megabytes in (1, 10):
        options = {"size": megabytes * MEGABYTE}
        yield Measure(
            f"{transport}/large/{megabytes}", f"{megabytes} MB result, {title}", "calls.large_results", options=options
        )
    if transport != "json":
        options = {"count": NOTIFICATIONS}
        yield Measure(
            f"{transport}/progress", f"{NOTIFICATIONS:,} notifications, {title}", "calls.progress", options=options
        )


def _peak_measure(transport: str) -> Measure:
    title = f"peak memory for 10 MB, {TRANSPORTS[transport]}"
    return Measure(f"{transport}/peak", title, "footprint.peak", "x", {"size": 10 * MEGABYTE})


def _connect_measures(transport: str) -> tuple[Measure, ...]:
    title = TRANSPORTS[transport]
    return (
        Measure(f"{transport}/connect/cold", f"first connection, {title}", "connecting.first"),
        Measure(f"{transport}/connect/warm", f"later connection, {title}", "connecting.again"),
        Measure(f"{transport}/connect/requests", f"requests to first result, {title}", "connecting.requests", ""),
        Measure(f"{transport}/connect/bytes", f"bytes to first result, {title}", "connecting.traffic", "B"),
    )


def _many_measures(transport: str) -> tuple[Measure, ...]:
    title, options = TRANSPORTS[transport], {"clients": CLIENTS}
    return (
        Measure(f"{transport}/memory", f"memory per client, {title}", "footprint.memory", "KiB", options),
        Measure(f"{transport}/idle", f"{CLIENTS} idle clients, {title}", "footprint.idle", "ms/s", options),
    )


def _import(name: str, shown: str, of: str) -> Measure:
    return Measure(name, shown, "footprint.imports", "ms", {"of": of})


def _client_import(transport: str) -> Measure:
    return _import(f"import/{transport}", f"import, with a client for {TRANSPORTS[transport]}", transport)


def _overhead(transport: str, of: str, title: str) -> Measure:
    shown = f"overhead of {title}, {TRANSPORTS[transport]}"
    return Measure(f"{transport}/overhead/{of}", shown, "ours_only.overhead", "%", {"of": of})


def _checkout(keys: int) -> Measure:
    return Measure(
        f"pool/checkout/{keys}",
        f"pool checkout, {keys:,} key{'s' if keys > 1 else ''}",
        "ours_only.checkouts",
        options={"keys": keys},
    )


def _list_group(transport: str, name: str, ttl_ms: int, contenders: tuple[str, ...]) -> Group:
    how = "from the cache" if ttl_ms else "cold"
    title = f"{TOOLS:,} tools {how}, {TRANSPORTS[transport]}"
    measure = Measure(f"{transport}/tools/{name}", title, "calls.lists", options={"tools": TOOLS})
    return Group(title, transport, (measure,), contenders, TOOLS, ttl_ms)


def _groups() -> Iterator[Group]:
    for transport, title in TRANSPORTS.items():
        yield Group(f"calls over {title}", transport, tuple(_call_measures(transport)))
        yield Group(f"large results over {title}", transport, tuple(_large_measures(transport)))
        yield Group(f"peak memory over {title}", transport, (_peak_measure(transport),))
    for transport in ("stdio", "json"):
        yield _list_group(transport, "cold", 0, ALL)
    yield _list_group("stdio", "cached", AN_HOUR_MS, MCP)
    for transport in ("stdio", "sse", "json"):
        yield Group(f"connecting over {TRANSPORTS[transport]}", transport, _connect_measures(transport))
        yield Group(f"many clients over {TRANSPORTS[transport]}", transport, _many_measures(transport))
    yield Group("import", "stdio", (_import("import", "import", "package"), *map(_client_import, ("stdio", "json"))))
    for transport in ("stdio", "json"):
        overheads = tuple(_overhead(transport, of, title) for of, title in OVERHEADS.items())
        yield Group(f"overhead over {TRANSPORTS[transport]}", transport, overheads, (OURS,))
    yield Group("pool", "json", tuple(map(_checkout, (1, 100, 10_000))), (OURS,))


GROUPS = tuple(_groups())


def selected(pattern: str) -> list[Group]:
    """The groups, with only those measures whose names `pattern` (a regular expression) is found in."""
    groups = (
        replace(group, measures=tuple(measure for measure in group.measures if re.search(pattern, measure.name)))
        for group in GROUPS
    )
    return [group for group in groups if group.measures]
