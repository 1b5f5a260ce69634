"""What a client counts."""

import json
from typing import Any

import pytest

from fastapi_server.mcp.metrics import LATENCY_BOUNDS, ClientMetrics

_COUNTS = [name for name, value in vars(ClientMetrics()).items() if value == 0 and not name.startswith("_")]


def recorded(*events: tuple[Any, ...]) -> ClientMetrics:
    metrics = ClientMetrics()
    for event in events:
        metrics.record(*event)
    return metrics


def lasting(*seconds: float) -> ClientMetrics:
    return recorded(*(("tools/call", each) for each in seconds))


def test_nothing_has_happened_at_first() -> None:
    numbers = ClientMetrics().to_dict()
    for name in ("connecting", "queued"):
        assert numbers.pop(name)["count"] == 0
    assert [name for name, value in numbers.items() if value not in (0, {}, "closed")] == []


def test_calls_are_counted_by_method() -> None:
    metrics = recorded(("tools/call", 1), ("tools/call", 1), ("resources/read", 1), ("ping", 1))
    assert metrics.calls == {"tools/call": 2, "resources/read": 1, "ping": 1}
    assert (metrics.tool_calls, metrics.resource_reads) == (2, 1)


def test_asking_for_a_number_does_not_invent_a_method() -> None:
    metrics = recorded(("ping", 1))
    assert (metrics.tool_calls, metrics.resource_reads) == (0, 0)
    assert metrics.to_dict()["calls"] == {"ping": 1}


def test_failures_are_counted_by_class_and_are_calls_too() -> None:
    metrics = recorded(
        ("tools/call", 1, "RPCError"),
        ("tools/call", 1),
        ("ping", 1, "RPCError"),
        ("ping", 1, "CallTimeoutError"),
    )
    assert metrics.errors_by_type == {"RPCError": 2, "CallTimeoutError": 1}
    assert metrics.errors == 3
    assert metrics.calls.total() == 4


def test_failed_attempts_to_connect_are_errors_too() -> None:
    metrics = recorded(("ping", 1, "RPCError"))
    metrics.errors_by_type["ConnectTimeoutError"] += 1
    assert metrics.errors == 2


def test_the_average_is_over_all_calls() -> None:
    assert lasting(1, 2, 6).avg_latency == 3
    assert lasting(*[0.0] * 3000, 3001.0).avg_latency == 1


@pytest.mark.parametrize(
    ("seconds", "p50", "p95", "p99"),
    [
        ([], 0, 0, 0),
        ([7], 7, 7, 7),
        ([1, 3], 2, 2.9, 2.98),
        (range(101), 50, 95, 99),
        (range(100, -1, -1), 50, 95, 99),
        ([1] * 99 + [1000], 1, 1, 10.99),
    ],
)
def test_percentiles(seconds: list[float], p50: float, p95: float, p99: float) -> None:
    metrics = lasting(*seconds)
    assert [metrics.percentile(percent) for percent in (50, 95, 99)] == pytest.approx([p50, p95, p99])
    numbers = metrics.to_dict()
    assert [numbers[f"latency_p{percent}"] for percent in (50, 95, 99)] == pytest.approx([p50, p95, p99])


def test_percentiles_are_of_the_last_1024_calls() -> None:
    assert lasting(*[100.0] * 11, *[1.0] * 1013).percentile(99) > 1
    assert lasting(*[100.0] * 11, *[1.0] * 1014).percentile(99) == 1
    assert lasting(*[100.0] * 500, *[1.0] * 1024).percentile(99) == 1


def test_uptime_is_that_of_the_present_channel() -> None:
    now = 100.0
    metrics = ClientMetrics(clock=lambda: now)
    assert metrics.uptime_seconds == 0
    metrics.connected_at = 100.0
    now = 102.5
    assert metrics.uptime_seconds == 2.5
    assert metrics.to_dict()["uptime_seconds"] == 2.5
    metrics.connected_at = None
    assert metrics.uptime_seconds == 0


def numbers_within(seconds: float) -> dict[str, int]:
    """The buckets of one call."""
    return {**{str(bound): int(seconds <= bound) for bound in LATENCY_BOUNDS}, "+Inf": 1}


def test_histograms_are_cumulative_and_a_bound_is_within() -> None:
    within = lasting(0.001, 0.0011, 60.0, 60.1).latency["tools/call"].cumulative()
    assert (within["0.001"], within["0.0025"], within["30.0"], within["60.0"], within["+Inf"]) == (1, 2, 2, 3, 4)
    assert list(within) == [*map(str, LATENCY_BOUNDS), "+Inf"]


def test_sums_of_several_clients() -> None:
    total = recorded(("ping", 1))
    other = recorded(("ping", 2), ("tools/call", 3, "RPCError"))
    numbers = {name: number for number, name in enumerate(_COUNTS, start=1)}
    for name, number in numbers.items():
        setattr(other, name, number)
    other.retries["BusyError"] += 1
    other.breaker_moves["open"] += 1
    other.queued.observe(1.0)
    before = other.to_dict()
    total.add(other)
    total.add(other)
    assert {name: getattr(total, name) for name in _COUNTS} == {name: 2 * number for name, number in numbers.items()}
    assert total.calls == {"ping": 3, "tools/call": 2}
    assert (total.breaker_moves, total.queued.seconds) == ({"open": 2}, 2.0)
    assert (total.errors_by_type, total.retries) == ({"RPCError": 2}, {"BusyError": 2})
    assert (total.latency["ping"].seconds, sum(total.latency["ping"].counts)) == (5, 3)
    assert total.avg_latency == 11 / 5
    assert other.to_dict() == before


def test_the_breaker_is_asked() -> None:
    metrics = ClientMetrics()
    metrics.breaker = lambda: "open"
    assert metrics.breaker_state == metrics.to_dict()["breaker_state"] == "open"


def test_to_dict_has_what_was_promised_and_is_plain() -> None:
    metrics = ClientMetrics(
        connections=3,
        reconnects=2,
        failed_connects=7,
        in_flight=1,
        bytes_sent=10,
        bytes_received=20,
        skipped_messages=4,
        unmatched_replies=5,
        coerced_replies=6,
    )
    metrics.retries["MCPConnectionError"] += 2
    metrics.breaker_moves["open"] += 1
    metrics.connecting.observe(2.5)
    metrics.queued.observe(0.05)
    metrics.record("tools/call", 0.5)
    metrics.record("resources/read", 1.5, "RPCError")
    numbers = metrics.to_dict()
    assert json.loads(json.dumps(numbers)) == numbers
    assert numbers == {
        "uptime_seconds": 0.0,
        "connections": 3,
        "reconnects": 2,
        "failed_connects": 7,
        "errors": 1,
        "errors_by_type": {"RPCError": 1},
        "calls": {"tools/call": 1, "resources/read": 1},
        "retries": {"MCPConnectionError": 2},
        "tool_calls": 1,
        "resource_reads": 1,
        "in_flight": 1,
        "breaker_state": "closed",
        "breaker_moves": {"open": 1},
        "connecting": {"count": 1, "seconds": 2.5, "within": numbers_within(2.5)},
        "queued": {"count": 1, "seconds": 0.05, "within": numbers_within(0.05)},
        "avg_latency": 1.0,
        "latency_p50": 1.0,
        "latency_p95": pytest.approx(1.45),
        "latency_p99": pytest.approx(1.49),
        "latency_by_method": {
            "tools/call": {"count": 1, "seconds": 0.5, "within": numbers_within(0.5)},
            "resources/read": {"count": 1, "seconds": 1.5, "within": numbers_within(1.5)},
        },
        "bytes_sent": 10,
        "bytes_received": 20,
        "skipped_messages": 4,
        "unmatched_replies": 5,
        "coerced_replies": 6,
    }


def test_to_dict_is_a_snapshot() -> None:
    metrics = recorded(("ping", 1))
    numbers = metrics.to_dict()
    metrics.record("ping", 1, "RPCError")
    assert (numbers["calls"], numbers["errors_by_type"]) == ({"ping": 1}, {})


def test_two_clients_share_no_counts() -> None:
    recorded(("ping", 1, "RPCError"))
    assert ClientMetrics().to_dict() == ClientMetrics().to_dict()
    assert ClientMetrics().calls == {}
