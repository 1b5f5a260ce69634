"""What servers list is known as it is now, and nobody waits for long for those that do not say."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fastapi_server.gateway import Settings, directory
from fastapi_server.gateway.directory import ListChange
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.mcp import InvalidResultError, parse_config

TROUBLED = str(Path(__file__).parents[1] / "servers/troubled.py")
PATIENCE = 1.0


@asynccontextmanager
async def gateway(patience: float = PATIENCE, /, **arguments: list[str]) -> AsyncGenerator[Gateway]:
    """In front of servers called so, each started with these arguments."""
    servers = {name: {"command": sys.executable, "args": ["-S", TROUBLED, *given]} for name, given in arguments.items()}
    running = Gateway(Settings(patience=patience), parse_config({"mcpServers": servers}).servers)
    try:
        yield running
    finally:
        await running.close()


async def test_a_server_that_dies_between_two_of_its_lists_is_asked_for_both_again(tmp_path: Path) -> None:
    async with gateway(mortal=["--dies-of", "prompts/list", str(tmp_path / "lives")]) as running:
        told: list[ListChange] = []
        running.directory.changed.append(told.append)
        listing = await running.directory.refresh("mortal")

    assert [tool.name for tool in listing.tools] == ["life-2"]
    assert told == [ListChange("mortal", "tools")]


async def test_who_has_seen_a_list_before_it_was_whole_is_told() -> None:
    async with gateway(30, fine=[]) as running:
        told = asyncio.Event()
        running.directory.changed.append(lambda _change: told.set())
        asking = asyncio.create_task(running.directory.listings(["fine"], "ann"))
        await asyncio.sleep(0)
        assert running.directory.known("fine", "ann").tools == []  # as the page of a server shows it
        await asking
        await told.wait()


async def test_nobody_is_told_of_what_they_have_waited_for() -> None:
    async with gateway(30, fine=[]) as running:
        told: list[ListChange] = []
        running.directory.changed.append(told.append)
        listings = await running.directory.listings(["fine"], "ann")

    assert [tool.name for tool in listings["fine"].tools] == ["life-1"]
    assert told == []


async def test_a_server_that_stays_away_is_not_asked_for_ever_for_those_who_may_be_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directory, "_FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(directory, "_LAST_RETRY_SECONDS", 0.001)
    servers = parse_config({"mcpServers": {"gone": {"command": "no-such-program"}}}).servers
    running = Gateway(Settings(patience=PATIENCE), servers)
    known = running.directory.known
    try:
        for principal in ("ann", None):
            await running.directory.listings(["gone"], principal)
        async with asyncio.timeout(10):
            while known("gone").failures <= 2 * directory._MOST_RETRIES:
                await asyncio.sleep(0.01)
        assert known("gone", "ann").failures == directory._MOST_RETRIES + 1
        await running.directory.refresh("gone", "ann")
        assert known("gone", "ann").failures == directory._MOST_RETRIES + 2
    finally:
        await running.close()


@pytest.mark.parametrize("follows", [False, True])
async def test_those_who_could_not_wait_are_told(follows: bool) -> None:
    async with gateway(fine=[]) as running:
        running.directory._patience = 0.0
        told = asyncio.Queue[ListChange]()
        running.directory.changed.append(told.put_nowait)
        if follows:
            running.directory.follow(["fine"], "ann")
        else:
            assert (await running.directory.listings(["fine"], "ann"))["fine"].tools == []
        assert await told.get() == ListChange("fine", "tools", "ann")


async def test_a_server_that_says_nothing_is_waited_for_once() -> None:
    servers = {"fine": list[str](), "mute": ["--silent", "initialize"], "slow": ["--silent", "tools/list"]}
    async with gateway(**servers) as running:
        await running.directory.refresh("fine")
        started = time.monotonic()
        first = await running.directory.listings(servers, None)
        waited = time.monotonic() - started
        again = await running.directory.listings(servers, None)
        waited_again = time.monotonic() - started - waited

    assert [tool.name for tool in first["fine"].tools] == ["life-1"]
    assert [tool.name for tool in again["fine"].tools] == ["life-1"]
    assert first["mute"].info is None
    assert first["slow"].tools == []
    assert waited > PATIENCE * 0.9
    assert waited_again < PATIENCE


async def test_a_server_that_says_nothing_is_waited_for_once_for_all_principals() -> None:
    async with gateway(fine=[], mute=["--silent", "initialize"]) as running:
        await running.directory.listings(["fine", "mute"], "ann")
        async with asyncio.timeout(10):
            for number in range(20):
                await running.directory.listings(["mute"], f"caller-{number}")
        await running.directory.refresh("fine", "bob")  # which may start slowly, and is not what is waited for here
        listings = await running.directory.listings(["fine", "mute"], "bob")

    assert [tool.name for tool in listings["fine"].tools] == ["life-1"]
    assert listings["mute"].info is None


@pytest.mark.parametrize("trouble", ["--silent", "--fails"])
async def test_a_list_that_is_in_trouble_hides_no_other(trouble: str) -> None:
    async with gateway(partial=[trouble, "resources/list"]) as running:
        listings = await running.directory.listings(["partial"], "ann")
        again = await running.directory.listings(["partial"], "ann")

    assert [tool.name for tool in listings["partial"].tools] == ["life-1"]
    assert again == listings
    assert (listings["partial"].error is None) == (trouble == "--silent")


LISTS = {
    "tools/list": "tools",
    "resources/list": "resources",
    "resources/templates/list": "templates",
    "prompts/list": "prompts",
}


@pytest.mark.parametrize("method", LISTS)
async def test_a_list_that_cannot_be_passed_on_is_a_problem_of_its_server(method: str) -> None:
    levels = {"plain": 50, "deep": 70, "deepest": 900}
    async with gateway(**{name: ["--deep", method, str(deep)] for name, deep in levels.items()}) as running:
        listings = await running.directory.listings(levels, None)

    assert [item.name for item in getattr(listings["plain"], LISTS[method])] == ["deep"]
    assert listings["plain"].error is None
    for name in ("deep", "deepest"):
        assert getattr(listings[name], LISTS[method]) == []
        error = listings[name].error
        assert isinstance(error, InvalidResultError)
        assert str(error) == (
            f"server '{name}' (stdio): what it answered cannot be passed on: it is nested deeper than 64 levels"
        )
        assert len(listings[name].tools) == (method != "tools/list")


async def test_a_server_that_says_whenever_it_is_asked_that_its_list_has_changed_is_asked_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directory, "_NOTICE_SECONDS", 0.2)
    async with gateway(restless=["--restless"]) as running:
        told = asyncio.Queue[ListChange]()
        running.directory.changed.append(told.put_nowait)
        await running.directory.refresh("restless")
        began = time.monotonic()
        for _ in range(4):
            assert (await told.get()).kind == "tools"
        took = time.monotonic() - began
        monkeypatch.setattr(directory, "_NOTICE_SECONDS", 3_600.0)
        before = running.directory.known("restless").tools
        assert (await running.directory.refresh("restless")).tools != before  # who asks waits for nothing

    assert took > 0.2 * 3 * 0.9


async def test_those_who_wait_for_all_lists_are_told_of_each_that_comes() -> None:
    async with gateway(partial=["--silent", "resources/list"]) as running:
        told = asyncio.Queue[ListChange]()
        running.directory.changed.append(told.put_nowait)
        running.directory.follow(["partial"], "ann")
        assert await told.get() == ListChange("partial", "tools", "ann")
