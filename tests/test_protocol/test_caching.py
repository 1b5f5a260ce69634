"""Lists that may be kept for a while (2026-07-28, server/utilities/caching)."""

import pytest

from fastapi_server.mcp.protocol.caching import DROPPED_BY, ListCache

LISTS = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"]
DAY_MS = 24 * 60 * 60 * 1000


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> ListCache:
    return ListCache(clock)


def filled(cache: ListCache, ttl_ms: int = 60_000) -> ListCache:
    for method in LISTS:
        cache.put(method, [f"item of {method}"], ttl_ms, cache.ticket())
    return cache


def kept(cache: ListCache) -> list[str]:
    return [method for method in LISTS if cache.get(method) is not None]


def test_nothing_is_kept_at_first(cache: ListCache) -> None:
    assert kept(cache) == []


def test_a_list_is_fresh_until_its_time_is_over(cache: ListCache, clock: Clock) -> None:
    cache.put("tools/list", ["a"], 1500, cache.ticket())
    assert cache.get("tools/list") == ["a"]
    clock.now += 1.499
    assert cache.get("tools/list") == ["a"]
    clock.now += 0.001
    assert cache.get("tools/list") is None


def test_freshness_counts_from_the_question_not_from_the_answer(cache: ListCache, clock: Clock) -> None:
    ticket = cache.ticket()
    clock.now += 0.9
    cache.put("tools/list", ["a"], 1000, ticket)
    assert cache.get("tools/list") == ["a"]
    clock.now += 0.2
    assert cache.get("tools/list") is None


def test_a_list_that_came_too_late_is_stale_at_once(cache: ListCache, clock: Clock) -> None:
    ticket = cache.ticket()
    clock.now += 2
    cache.put("tools/list", ["a"], 1000, ticket)
    assert cache.get("tools/list") is None


def test_a_millisecond_is_time_to_live(cache: ListCache) -> None:
    cache.put("tools/list", ["a"], 1, cache.ticket())
    assert cache.get("tools/list") == ["a"]


@pytest.mark.parametrize("ttl_ms", [0, -1])
def test_no_time_to_live_keeps_nothing_not_even_what_was_there(cache: ListCache, ttl_ms: int) -> None:
    cache.put("tools/list", ["a"], 1000, cache.ticket())
    cache.put("tools/list", ["b"], ttl_ms, cache.ticket())
    assert cache.get("tools/list") is None


def test_nothing_is_kept_for_longer_than_a_day(cache: ListCache, clock: Clock) -> None:
    cache.put("tools/list", ["a"], 1000 * DAY_MS, cache.ticket())
    clock.now += DAY_MS / 1000 - 1
    assert cache.get("tools/list") == ["a"]
    clock.now += 1
    assert cache.get("tools/list") is None


def test_a_newer_list_takes_the_place_of_the_older(cache: ListCache, clock: Clock) -> None:
    cache.put("tools/list", ["a"], 1000, cache.ticket())
    clock.now += 0.5
    cache.put("tools/list", ["b"], 1000, cache.ticket())
    clock.now += 0.9
    assert cache.get("tools/list") == ["b"]


def test_an_empty_list_is_kept_too(cache: ListCache) -> None:
    cache.put("tools/list", [], 1000, cache.ticket())
    assert cache.get("tools/list") == []


def test_neither_giver_nor_taker_can_change_what_is_kept(cache: ListCache) -> None:
    given = ["a"]
    cache.put("tools/list", given, 1000, cache.ticket())
    given.append("b")
    taken = cache.get("tools/list")
    assert taken is not None
    taken.append("c")
    assert cache.get("tools/list") == ["a"]


@pytest.mark.parametrize(
    ("notice", "dropped"),
    [
        ("notifications/tools/list_changed", ["tools/list"]),
        ("notifications/prompts/list_changed", ["prompts/list"]),
        ("notifications/resources/list_changed", ["resources/list", "resources/templates/list"]),
        ("notifications/resources/updated", []),
        ("notifications/of/the/future", []),
    ],
)
def test_a_notice_drops_what_it_makes_stale(cache: ListCache, notice: str, dropped: list[str]) -> None:
    filled(cache).drop(notice)
    assert kept(cache) == [method for method in LISTS if method not in dropped]
    assert list(DROPPED_BY.get(notice, ())) == dropped


def test_a_notice_for_a_list_that_is_not_kept_does_nothing(cache: ListCache) -> None:
    cache.drop("notifications/tools/list_changed")
    assert kept(filled(cache)) == LISTS


def test_a_notice_that_comes_while_the_list_is_fetched_voids_it(cache: ListCache) -> None:
    ticket = cache.ticket()
    cache.drop("notifications/tools/list_changed")
    cache.put("tools/list", ["stale"], 1000, ticket)
    assert cache.get("tools/list") is None
    cache.put("tools/list", ["fresh"], 1000, cache.ticket())
    assert cache.get("tools/list") == ["fresh"]


def test_clear_forgets_everything_also_what_is_being_fetched(cache: ListCache) -> None:
    ticket = filled(cache).ticket()
    cache.clear()
    assert kept(cache) == []
    cache.put("tools/list", ["of the last connection"], 1000, ticket)
    assert kept(cache) == []
