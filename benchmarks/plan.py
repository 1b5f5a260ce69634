"""What is measured, as data: the measures, and the groups of them that share a process."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.contenders import BARE, FASTMCP, OFFICIAL, OURS
from benchmarks.stub import Server

TRANSPORTS = {
    "stdio": "stdio",
    "sse": "HTTP+SSE",
    "json": "HTTP, JSON reply",
    "events": "HTTP, event stream",
}
MEGABYTE = 2**20
ALL = (OURS, OFFICIAL, FASTMCP, BARE)
MCP = (OURS, OFFICIAL, FASTMCP)


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the table.

    Attributes:
        name: Unique; `--only` looks in it, targets are kept by it.
        title: For people.
        kind: The function in `benchmarks.measures` that does it.
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


def _calls(transport: str) -> Iterator[Measure]:
    title = TRANSPORTS[transport]
    for concurrency in (1, 32, 256):
        how = "alone" if concurrency == 1 else f"{concurrency} at once"
        options = {"concurrency": concurrency}
        yield Measure(f"{transport}/call/{concurrency}", f"small call, {title}, {how}", "small_calls", "µs", options)


GROUPS = tuple(
    Group(f"calls over {TRANSPORTS[transport]}", transport, tuple(_calls(transport))) for transport in TRANSPORTS
)


def selected(pattern: str) -> list[Group]:
    """The groups, with only those measures whose names `pattern` (a regular expression) is found in."""
    groups = (
        replace(group, measures=tuple(measure for measure in group.measures if re.search(pattern, measure.name)))
        for group in GROUPS
    )
    return [group for group in groups if group.measures]
