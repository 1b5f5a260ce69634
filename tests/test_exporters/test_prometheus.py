"""What a scrape of a pool shows."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fastapi_server.mcp import HTTPConfig, MCPClientError, RPCError, ServerConfig
from fastapi_server.mcp.admission import PoolLimits
from fastapi_server.mcp.client_factory import make_client
from fastapi_server.mcp.exporters import prometheus
from fastapi_server.mcp.exporters.prometheus import PoolCollector
from fastapi_server.mcp.members import PoolMetrics
from fastapi_server.mcp.pool import ClientPool
from fastapi_server.mcp.resilience import BreakerState
from fastapi_server.mcp.testing.http_peer import HTTPPeer, Seen, http_peer

PEER = {"server": "peer", "transport": "http"}


def http(peer: HTTPPeer, *names: str, **settings: Any) -> dict[str, ServerConfig]:
    settings = {"output_validation": "off", **settings}
    return {name: ServerConfig(name, "http", HTTPConfig(f"{peer.url}/mcp", **settings)) for name in names or ("peer",)}


def scraped(pool: ClientPool) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(PoolCollector(pool))
    return registry


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


@pytest.fixture
async def peer(nothing_left: None) -> AsyncIterator[HTTPPeer]:
    async with http_peer() as started:

        @started.on("tools/call")
        async def call(seen: Seen) -> web.StreamResponse:
            match seen.body["params"]["name"]:
                case "broken":
                    return seen.error(-32602, "no")
                case "busy" if started.methods().count("tools/call") == 1:
                    return web.Response(status=503)
                case "slow":
                    await asyncio.sleep(0.2)
                case _:
                    pass
            return seen.json({"content": []})

        yield started


async def test_clients_of_one_server_are_added_up(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer, "peer", "other"), make_client) as pool:
        registry = scraped(pool)
        for principal in ("ann", "bob"):
            await pool.client("peer", principal).call_tool("echo")
        with pytest.raises(RPCError):
            await pool.client("peer", "ann").call_tool("broken")
        await pool.client("other").ping()
        assert value(registry, "mcp_client_calls_total", **PEER, method="tools/call") == 3
        assert value(registry, "mcp_client_calls_total", server="other", transport="http", method="ping") == 1
        assert value(registry, "mcp_client_errors_total", **PEER, type="RPCError") == 1
        assert value(registry, "mcp_client_connections_total", **PEER) == 2
        assert value(registry, "mcp_client_reconnects_total", **PEER) == 0
        assert value(registry, "mcp_client_connected", **PEER) == 2
        sent = sum(member.client.metrics.bytes_sent for member in pool.members() if member.server == "peer")
        assert value(registry, "mcp_client_sent_bytes_total", **PEER) == sent > 0
        assert "ann" not in generate_latest(registry).decode()


async def test_retries_by_reason(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client) as pool:
        await pool.client("peer").call_tool("busy", idempotent=True)
        registry = scraped(pool)
        ((reason, count),) = pool.members()[0].client.metrics.retries.items()
        assert count == 1
        assert value(registry, "mcp_client_retries_total", **PEER, reason=reason) == 1


async def test_latency_by_method(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client) as pool:
        for principal in (None, "ann"):
            client = pool.client("peer", principal)
            for seconds in (0.005, 0.3, 100.0):
                client.metrics.record("tools/call", seconds)
        client.metrics.record("ping", 0.01)
        registry = scraped(pool)
        name, labels = "mcp_client_call_duration_seconds", {**PEER, "method": "tools/call"}
        within = {le: value(registry, f"{name}_bucket", **labels, le=le) for le in ("0.0025", "0.005", "0.5", "60.0")}
        assert within == {"0.0025": 0, "0.005": 2, "0.5": 4, "60.0": 4}
        assert value(registry, f"{name}_bucket", **labels, le="+Inf") == 6
        assert value(registry, f"{name}_count", **labels) == 6
        assert value(registry, f"{name}_sum", **labels) == pytest.approx(200.61)
        assert value(registry, f"{name}_count", **PEER, method="ping") == 1


async def test_calls_in_flight(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client) as pool:
        registry = scraped(pool)
        call = asyncio.create_task(pool.client("peer").call_tool("slow"))
        while "tools/call" not in peer.methods():
            await asyncio.sleep(0.01)
        assert value(registry, "mcp_client_in_flight", **PEER) == 1
        await call
        assert value(registry, "mcp_client_in_flight", **PEER) == 0


async def test_the_worst_breaker_of_a_server_is_shown(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer, breaker_threshold=1, retries=0), make_client) as pool:
        registry = scraped(pool)
        await pool.client("peer", "ann").ping()
        assert value(registry, "mcp_client_breaker_state", **PEER) == 0

        @peer.on("initialize")
        async def refuse(_seen: Seen) -> web.StreamResponse:
            return web.Response(status=503)

        with pytest.raises(MCPClientError):
            await pool.client("peer", "bob").ping()
        assert value(registry, "mcp_client_breaker_state", **PEER) == 2
        for member in pool.members():  # whoever they are for, they have one breaker
            assert member.client.metrics.to_dict()["breaker_state"] == "open"
            member.client.metrics.breaker = lambda: BreakerState.HALF_OPEN
        assert value(registry, "mcp_client_breaker_state", **PEER) == 1


async def test_the_pool_itself(peer: HTTPPeer) -> None:
    limits = PoolLimits(total=1)
    async with ClientPool(http(peer), make_client, limits=limits) as pool:
        registry = scraped(pool)
        async with pool.lease("peer", "ann"):
            assert value(registry, "mcp_pool_leases") == 1
        await pool.client("peer", "ann").ping()
        await pool.client("peer", "bob").ping()  # ann's has to go
        assert value(registry, "mcp_pool_created_total") == 2
        assert value(registry, "mcp_pool_hits_total") == 1
        assert value(registry, "mcp_pool_evictions_total") == 1
        assert value(registry, "mcp_pool_waits_total") == 0
        assert value(registry, "mcp_pool_clients") == 2
        assert value(registry, "mcp_pool_places_taken") == value(registry, "mcp_pool_places") == 1
        assert value(registry, "mcp_client_connected", **PEER) == 1


async def test_no_counter_goes_down_when_a_reload_takes_clients_away(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client) as pool:
        registry = scraped(pool)

        def calls() -> float | None:
            return value(registry, "mcp_client_calls_total", **PEER, method="tools/call")

        await pool.client("peer").call_tool("echo")
        assert calls() == 1
        last = asyncio.create_task(pool.client("peer").call_tool("slow"))
        while peer.methods().count("tools/call") < 2:
            await asyncio.sleep(0.01)
        await pool.reload(http(peer, timeout=12_345))
        assert pool.members() == []
        assert (calls(), value(registry, "mcp_client_in_flight", **PEER)) == (1, 1)
        await last
        assert (calls(), value(registry, "mcp_client_in_flight", **PEER)) == (2, 0)
        await pool.client("peer").call_tool("echo")
        assert (calls(), calls()) == (3, 3)


async def test_a_server_that_is_gone_has_no_series_once_its_calls_have_ended(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client) as pool:
        registry = scraped(pool)
        last = asyncio.create_task(pool.client("peer").call_tool("slow"))
        while peer.methods().count("tools/call") < 1:
            await asyncio.sleep(0.01)
        assert 'server="peer"' in generate_latest(registry).decode()
        await pool.reload({})
        assert value(registry, "mcp_client_in_flight", **PEER) == 1
        await last
        assert 'server="peer"' not in generate_latest(registry).decode()


async def test_it_is_read_from_another_thread_while_calls_are_made(peer: HTTPPeer) -> None:
    async with ClientPool(http(peer), make_client) as pool:
        registry, over, failures = scraped(pool), threading.Event(), list[Exception]()

        def scrape() -> None:
            while not over.is_set():
                try:
                    generate_latest(registry)
                except Exception as error:
                    failures.append(error)

        threads = [threading.Thread(target=scrape) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for number in range(100):
                pool.client("peer", f"p{number}").metrics.record(f"method/{number}", 0.1, f"Error{number}")
                await asyncio.sleep(0.001)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert failures == []
        families = text_string_to_metric_families(generate_latest(registry).decode())
        assert sum(s.value for f in families for s in f.samples if s.name == "mcp_client_calls_total") == 100


async def test_a_pool_in_which_nothing_has_happened() -> None:
    pool = ClientPool({}, make_client)
    families = list(text_string_to_metric_families(generate_latest(scraped(pool)).decode()))
    assert all(family.documentation for family in families)
    assert {sample.value for family in families for sample in family.samples if sample.name != "mcp_pool_places"} == {0}


def test_every_counter_of_a_pool_has_a_meaning() -> None:
    assert set(prometheus._POOL_COUNTERS) == set(PoolMetrics().counts())
