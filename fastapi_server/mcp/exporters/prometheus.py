"""The counters of a pool and its clients for Prometheus. Needs the extra `prometheus`.

```python
prometheus_client.REGISTRY.register(PoolCollector(pool))
```

Nothing happens on the path of a call: the counters are read when somebody scrapes, from whichever thread.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fastapi_server.mcp.clients.lifecycle import ConnectionState
from fastapi_server.mcp.members import PoolMember
from fastapi_server.mcp.metrics import ClientMetrics, Histogram
from fastapi_server.mcp.pool import ClientPool
from fastapi_server.mcp.resilience import BreakerState

_BREAKER = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}
_LABELS = ("server", "transport")
_COUNTERS: tuple[tuple[str, str, Callable[[ClientMetrics], int]], ...] = (
    ("connections", "Connections opened and agreed on.", lambda sums: sums.connections),
    ("reconnects", "Connections that replaced one that had died.", lambda sums: sums.reconnects),
    ("failed_connects", "Attempts to connect that failed.", lambda sums: sums.failed_connects),
    ("sent_bytes", "Bytes of JSON-RPC messages written.", lambda sums: sums.bytes_sent),
    ("received_bytes", "Bytes of JSON-RPC messages read.", lambda sums: sums.bytes_received),
    ("skipped_messages", "What came and was no JSON-RPC message.", lambda sums: sums.skipped_messages),
    ("unmatched_replies", "Replies that nobody waited for.", lambda sums: sums.unmatched_replies),
    ("coerced_replies", "Replies whose id came back in another type.", lambda sums: sums.coerced_replies),
)
_COUNTERS_BY: tuple[tuple[str, str, str, Callable[[ClientMetrics], Mapping[str, int]]], ...] = (
    ("calls", "method", "Calls ended, well or not.", lambda sums: sums.calls),
    (
        "errors",
        "type",
        "Calls and attempts to connect that failed, by class of error.",
        lambda sums: sums.errors_by_type,
    ),
    ("retries", "reason", "Requests sent again, by class of the error before.", lambda sums: sums.retries),
    ("breaker_moves", "state", "Times that the circuit breaker went to a state.", lambda sums: sums.breaker_moves),
)
_TIMES: tuple[tuple[str, str, Callable[[ClientMetrics], Histogram]], ...] = (
    ("connect", "From the attempt to connect to an agreed era, where that went well.", lambda sums: sums.connecting),
    ("queue", "Waits of calls for their turn (`max_in_flight`).", lambda sums: sums.queued),
)
_POOL_COUNTERS = {
    "created": "Clients made.",
    "hits": "Times that a client was there already.",
    "waits": "Times that somebody had to wait for a place.",
    "evictions": "Clients closed to make room.",
    "idle_closed": "Clients closed because nobody used them.",
    "replaced": "Clients whose connection did not answer a probe.",
}


@dataclass
class _Server:
    """One line of labels: all clients of one server over one transport."""

    sums: ClientMetrics = field(default_factory=ClientMetrics)
    connected: int = 0
    breaker: int = 0


class PoolCollector(Collector):
    """Reads a pool when scraped.

    Labels are the server, its transport as configured, and the method or class of error. Principals and tools are
    none: there may be any number of them. The clients of one server are added up; those that a reload took away stay
    in the sums, so that no counter ever goes down. A server that is gone has none, once
    its calls have ended.

    Args:
        pool: To read.
    """

    def __init__(self, pool: ClientPool) -> None:
        self._pool = pool
        self._turn = threading.Lock()
        self._known: set[PoolMember] = set()
        self._departed: dict[tuple[str, str], ClientMetrics] = {}

    def collect(self) -> Iterable[Metric]:
        """Every metric, as it stands now."""
        with self._turn:
            members = self._pool.members()
            servers = self._read(members)
        return [*_of_clients(servers), *_of_pool(self._pool, members)]

    def _read(self, members: list[PoolMember]) -> dict[tuple[str, str], _Server]:
        present = set(members)
        for member in self._known - present:
            if member.client.metrics.in_flight:
                present.add(member)  # it left, and finishes its calls
            else:
                self._departed.setdefault(_labels(member), ClientMetrics()).add(member.client.metrics)
        self._known = present
        there = {*self._pool.servers, *(member.server for member in present)}
        self._departed = {labels: sums for labels, sums in self._departed.items() if labels[0] in there}
        servers: dict[tuple[str, str], _Server] = {}
        for labels, sums in self._departed.items():
            servers.setdefault(labels, _Server()).sums.add(sums)
        for member in present:
            server = servers.setdefault(_labels(member), _Server())
            server.sums.add(member.client.metrics)
            server.connected += member.client.state is ConnectionState.CONNECTED
            server.breaker = max(server.breaker, _BREAKER[BreakerState(member.client.metrics.breaker_state)])
        return dict(sorted(servers.items()))


def _labels(member: PoolMember) -> tuple[str, str]:
    return member.server, member.client.transport


def _of_clients(servers: Mapping[tuple[str, str], _Server]) -> Iterator[Metric]:
    for name, meaning, read in _COUNTERS:
        counter = CounterMetricFamily(f"mcp_client_{name}", meaning, labels=_LABELS)
        for labels, server in servers.items():
            counter.add_metric(labels, read(server.sums))
        yield counter
    for name, label, meaning, read_by in _COUNTERS_BY:
        counter = CounterMetricFamily(f"mcp_client_{name}", meaning, labels=(*_LABELS, label))
        for labels, server in servers.items():
            for value, count in read_by(server.sums).items():
                counter.add_metric((*labels, value), count)
        yield counter
    gauges: dict[str, tuple[str, Callable[[_Server], int]]] = {
        "in_flight": ("Calls waiting for their result.", lambda server: server.sums.in_flight),
        "connected": ("Clients connected.", lambda server: server.connected),
        "breaker_state": (
            "Circuit breaker: 0 closed, 1 half open, 2 open; the worst of the server's clients.",
            lambda server: server.breaker,
        ),
    }
    for name, (meaning, value_of) in gauges.items():
        gauge = GaugeMetricFamily(f"mcp_client_{name}", meaning, labels=_LABELS)
        for labels, server in servers.items():
            gauge.add_metric(labels, value_of(server))
        yield gauge
    yield _latency(servers)
    for name, meaning, read_time in _TIMES:
        family = HistogramMetricFamily(f"mcp_client_{name}_duration_seconds", meaning, labels=_LABELS)
        for labels, server in servers.items():
            _add(family, labels, read_time(server.sums))
        yield family


def _latency(servers: Mapping[tuple[str, str], _Server]) -> Metric:
    family = HistogramMetricFamily(
        "mcp_client_call_duration_seconds", "From the call to its result or error.", labels=(*_LABELS, "method")
    )
    for labels, server in servers.items():
        for method, histogram in server.sums.latency.items():
            _add(family, (*labels, method), histogram)
    return family


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram) -> None:
    family.add_metric(labels, list(histogram.cumulative().items()), histogram.seconds)


def _of_pool(pool: ClientPool, members: list[PoolMember]) -> Iterator[Metric]:
    for name, count in pool.metrics.counts().items():
        yield CounterMetricFamily(f"mcp_pool_{name}", _POOL_COUNTERS[name], count)
    waits = HistogramMetricFamily("mcp_pool_wait_duration_seconds", "Waits for a place.", labels=())
    _add(waits, (), pool.metrics.waited)
    yield waits
    yield GaugeMetricFamily("mcp_pool_clients", "Clients that there are, connected or not.", len(members))
    places = sum(member.admitted for member in members)
    yield GaugeMetricFamily("mcp_pool_places_taken", "Clients that hold a place.", places)
    yield GaugeMetricFamily("mcp_pool_places", "Places that there are (limit `total`).", pool.limits.total)
    yield GaugeMetricFamily("mcp_pool_leases", "Leases held.", sum(member.leases for member in members))
