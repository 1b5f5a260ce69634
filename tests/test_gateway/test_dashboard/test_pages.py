"""The table, the page of a server, and what happens there while one looks."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Page, expect

from tests.test_gateway.conftest import PEER
from tests.test_gateway.test_dashboard.conftest import LONG, OpenPage, RunningGateway, on_one_loop

pytestmark = on_one_loop


def row(page: Page, name: str) -> Any:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def cell(page: Page, name: str, label: str) -> Any:
    return row(page, name).locator(f"[data-label='{label}']")


@asynccontextmanager
async def added(gateway: RunningGateway, name: str, entry: Any = PEER) -> AsyncGenerator[None]:
    """A server that starts at once, for as long as one test."""
    await gateway.ask("POST", "/api/servers", {"name": name, "entry": entry})
    try:
        yield
    finally:
        await gateway.ask("DELETE", f"/api/servers/{name}")


async def test_the_table_is_there_and_lives(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url)
    await expect(cell(page, "weather", "State")).to_have_text("connected")
    await expect(cell(page, "weather", "Era")).to_have_text("stateless")
    await expect(cell(page, "weather", "Transport")).to_have_text("stdio")
    await expect(cell(page, LONG, "State")).to_have_text("error")
    await expect(row(page, LONG)).to_contain_text("command not found")
    async with added(gateway, "counted"):
        await expect(cell(page, "counted", "State")).to_have_text("connected")
        await expect(cell(page, "counted", "Calls/s")).to_have_text("0")
        await gateway.ask("POST", "/api/tools/counted__echo/call", {})
        await expect(cell(page, "counted", "Calls/s")).to_have_text("0.1")
        for percentile in ("p50", "p95", "p99"):
            await expect(cell(page, "counted", percentile)).to_contain_text("s")
    await expect(row(page, "counted")).to_have_count(0)


async def test_every_column_is_in_sight_at_1280_pixels(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url, viewport={"width": 1280, "height": 720})
    await expect(row(page, LONG)).to_be_visible()
    table = page.locator(".table")
    assert await table.evaluate("one => one.scrollWidth <= one.clientWidth")
    assert await page.get_by_role("columnheader").count() == 11
    for header in await page.get_by_role("columnheader").all():
        await expect(header).to_be_in_viewport(ratio=1)


async def test_nothing_is_beside_the_screen_of_a_phone(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url, viewport={"width": 375, "height": 800})
    await expect(row(page, LONG)).to_be_visible()
    for address in ("/", "/#/servers/studio", "/#/servers/hostile", "/#/servers/hostile/resources"):
        await page.goto(gateway.url + address)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        if address != "/":
            await expect(page.get_by_text("Loading…")).to_have_count(0)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address


class Line:
    """A way to the gateway that can be cut."""

    def __init__(self, gateway: RunningGateway) -> None:
        self._there = urlsplit(gateway.url)
        self._ends: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self._carries = asyncio.Event()
        self._carries.set()

    def freeze(self) -> None:
        """Nobody is told anything, and nothing is carried."""
        self._carries.clear()

    def cut(self) -> None:
        self._is_cut = True
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    def mend(self) -> None:
        self._is_cut = False
        self._carries.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        answers, requests = await asyncio.open_connection(self._there.hostname, self._there.port)
        self._ends |= {writer, requests}
        await asyncio.gather(self._pump(reader, requests), self._pump(answers, writer))

    async def _pump(self, source: asyncio.StreamReader, drain: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                await self._carries.wait()
                drain.write(data)
        drain.close()


async def test_the_table_lives_again_after_the_line_was_cut(gateway: RunningGateway, open_page: OpenPage) -> None:
    line = Line(gateway)
    async with await asyncio.start_server(line.carry, "127.0.0.1", 0) as server:
        page = await open_page(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        live = page.locator(".live")
        await expect(live).to_have_text("Live")
        line.cut()
        await expect(live).to_have_text("Reconnecting")
        line.mend()
        await expect(live).to_have_text("Live")
        async with added(gateway, "later"):
            await expect(row(page, "later")).to_be_visible()
        line.cut()


async def test_a_line_that_is_dead_without_a_word_is_noticed(gateway: RunningGateway, open_page: OpenPage) -> None:
    line = Line(gateway)
    async with await asyncio.start_server(line.carry, "127.0.0.1", 0) as server:
        page = await open_page(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await page.clock.install()
        await page.reload()
        live = page.locator(".live")
        await expect(live).to_have_text("Live")
        line.freeze()
        await page.clock.fast_forward(60_000)
        await expect(live).to_have_text("Reconnecting")
        line.mend()
        await expect(live).to_have_text("Live")
        line.cut()


async def test_a_killed_server_is_seen_and_recovers(
    gateway: RunningGateway, open_page: OpenPage, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.symlink_to(sys.executable)
    page = await open_page(gateway.url)
    async with added(gateway, "mortal", {**PEER, "command": str(program)}):
        await expect(cell(page, "mortal", "State")).to_have_text("connected")
        (process,) = (await gateway.ask("GET", "/api/servers/mortal/logs"))["processes"]
        program.unlink()
        os.kill(process["pid"], signal.SIGKILL)
        await expect(cell(page, "mortal", "State")).not_to_have_text("connected")
        program.symlink_to(sys.executable)
        await gateway.ask("POST", "/api/tools/mortal__echo/call", {})
        await expect(cell(page, "mortal", "State")).to_have_text("connected")
        await expect(cell(page, "mortal", "Restarts")).to_have_text("1")


async def test_a_server_shows_what_it_wrote_and_how_long_it_takes(gateway: RunningGateway, open_page: OpenPage) -> None:
    await gateway.ask("POST", "/api/tools/studio__draw/call", {"arguments": {}})
    page = await open_page(f"{gateway.url}/#/servers/studio")
    await expect(page.get_by_role("log")).to_contain_text("studio 1.2.0 is ready")
    await expect(page.locator(".legend")).to_contain_text("p99")
    await expect(page.locator(".plot canvas")).to_be_visible()
    await expect(page.get_by_text("This server comes from the config file")).to_be_visible()
    await expect(page.get_by_role("button", name="Edit")).to_have_count(0)


async def test_a_server_that_logs_much_is_not_asked_as_often(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#/servers/hostile")
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url) if sent.url.endswith("/logs") else None)
    await page.get_by_text("folder/chatty", exact=True).click()
    await page.locator("details[open] form").get_by_role("button", name="Call").click()
    messages = page.get_by_role("log", name="Messages")
    await expect(messages).to_contain_text("line 299")
    await expect(messages.locator("[data-level]")).to_have_count(100)
    assert await messages.evaluate("one => one.scrollTop + one.clientHeight >= one.scrollHeight - 1")
    assert len(asked) < 30


async def test_the_page_is_whole_after_an_upgrade(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url)
    files = await page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    static = [gateway.url, *(name for name in files if "/dashboard/" in name)]
    assert len(static) > 15
    for name in static:
        assert (await page.request.get(name)).headers["cache-control"] == "no-cache", name


async def test_a_tool_is_called_by_its_form_and_tells_how_far_it_is(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(gateway.url)
    await page.get_by_role("link", name="studio").click()
    await page.get_by_text("render", exact=True).click()
    form = page.locator("details[open] form")
    await form.get_by_label("frames").fill("40")
    await form.get_by_label("quality").select_option("final")
    await form.get_by_label("loop").select_option("true")
    await form.get_by_role("button", name="Call").click()
    await expect(form.locator(".progress")).to_contain_text("of 40")
    await expect(form.locator(".result")).to_contain_text("40 frames, final, in a loop")


async def test_a_call_can_be_cancelled(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#/servers/studio")
    await page.get_by_text("render", exact=True).click()
    form = page.locator("details[open] form")
    await form.get_by_label("frames").fill("1000")
    await form.get_by_role("button", name="Call").click()
    await expect(form.locator(".progress")).to_contain_text("of 1000")
    await form.get_by_role("button", name="Cancel").click()
    await expect(form.get_by_role("alert")).to_have_text("Cancelled")
    async with asyncio.timeout(15):
        while (await gateway.ask("GET", "/api/servers/studio"))["in_flight"]:
            await asyncio.sleep(0.05)


async def test_each_kind_of_content_is_shown_as_what_it_is(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#/servers/studio")
    await page.get_by_text("draw", exact=True).click()
    await page.get_by_role("button", name="Call").first.click()
    result = page.locator(".result")
    await expect(result.locator("img")).to_be_visible()
    assert await result.locator("img").evaluate("one => one.naturalWidth") == 240
    await expect(result.locator("audio")).to_be_visible()
    await result.get_by_role("button", name="Read palette").click()
    await expect(result.locator("figure")).to_contain_text("#3c4696")
    await page.goto(f"{gateway.url}/#/servers/weather")
    await page.get_by_text("forecast", exact=True).click()
    await page.get_by_label("city").fill("Oslo")
    await page.get_by_role("button", name="Call").first.click()
    await expect(result.locator("pre").first).to_contain_text('"celsius": 7')
    await result.get_by_text("Structured").click()
    await expect(result.locator("details pre")).to_contain_text('"sky": "rain"')


async def test_an_error_of_a_tool_and_one_of_the_gateway_are_shown(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    page = await open_page(f"{gateway.url}/#/servers/weather")
    await page.get_by_text("forecast", exact=True).click()
    await page.get_by_label("city").fill("Rome")
    await page.get_by_role("button", name="Call").first.click()
    await expect(page.locator(".result")).to_contain_text("no forecast for Rome")
    await expect(page.locator(".result .tag")).to_have_text("error")
    await page.goto(f"{gateway.url}/#/servers/studio/resources")
    await page.get_by_role("button", name="Read palette").click()
    await expect(page.locator(".resource figure")).to_contain_text("#3c4696")
    await page.goto(f"{gateway.url}/#/servers/{LONG}")
    await expect(page.get_by_role("alert").first).to_contain_text("command not found")


async def test_resources_are_read_and_prompts_filled_in(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#/servers/weather")
    await page.get_by_role("link", name="Resources 1").click()
    await page.get_by_role("button", name="Read").click()
    await expect(page.locator(".resource figure")).to_contain_text("Nairobi")
    await page.get_by_role("link", name="Prompts 1").click()
    await page.get_by_text("packing", exact=True).click()
    await page.get_by_role("button", name="Get").click()
    assert await page.get_by_label("city").evaluate("one => one.validity.valueMissing")
    await page.get_by_label("city").fill("Nairobi")
    await page.get_by_role("button", name="Get").click()
    await expect(page.locator(".message")).to_contain_text("pack for Nairobi")


async def test_an_address_that_is_none_of_ours_says_so(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#/servers/%")
    await expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    await page.goto(f"{gateway.url}/#/nowhere")
    await expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    await page.goto(f"{gateway.url}/#/servers/nobody")
    await expect(page.get_by_role("heading", name="There is no server nobody")).to_be_visible()
    await page.get_by_role("link", name="Servers").click()
    await expect(row(page, "weather")).to_be_visible()


async def test_the_latency_of_longer_ago_is_read_from_the_history(gateway: RunningGateway, open_page: OpenPage) -> None:
    with contextlib.closing(sqlite3.connect(gateway.config.with_name("gateway.db"))) as database, database:
        adding = "INSERT INTO metrics_history (at, server, calls, errors, p50, p95, p99) VALUES (?, ?, ?, ?, ?, ?, ?)"
        rows = [(time.time() - hours * 3_600, LONG, 9, 0, hours / 10, hours, hours) for hours in (2, 48)]
        database.executemany(adding, sorted(rows))
    page = await open_page(f"{gateway.url}/#/servers/{LONG}")
    latency = page.get_by_role("region", name="Latency")
    await expect(latency).to_contain_text("No calls in the last 15 minutes.")
    await latency.get_by_label("Range").focus()
    await page.keyboard.press("ArrowDown")
    await expect(latency).to_contain_text("No calls in the last hour.")
    await page.keyboard.press("ArrowDown")
    await expect(latency.locator("[data-line='p50']")).to_have_text("p50 200 ms")
    await expect(latency.locator(".uplot")).to_have_count(1)
    async with page.expect_response(lambda answer: f"/api/history/{LONG}" in answer.url) as asked:
        await page.keyboard.press("End")
    assert [one["calls"] for one in (await (await asked.value).json())["minutes"] if one["calls"]] == [9, 9]
    await expect(latency.get_by_label("Range")).to_have_value("7 days")
