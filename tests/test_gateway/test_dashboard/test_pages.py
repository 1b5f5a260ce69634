"""The dashboard in a real browser. `SCREENSHOTS=1` renews the pictures of the documents."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright, expect

from fastapi_server.mcp import StdioMCPClient
from tests.test_gateway.conftest import SHOW, WEATHER, Serve, Served

CHROMIUM = Path("/usr/bin/chromium")
IMAGES = Path(__file__).parents[2] / "docs" / "images"
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

expect.set_options(timeout=10_000)

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium: apt-get install chromium")


@asynccontextmanager
async def page_of(running: Served, **context: Any) -> AsyncGenerator[Page]:
    """The dashboard in a window of its own; nothing may have gone wrong in it."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = await (await browser.new_context(**context)).new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("request", lambda sent: faults.append(sent.url) if not sent.url.startswith(ours(running)) else None)
        await page.goto(running.url)
        page.set_default_timeout(10_000)
        yield page
        await browser.close()
        assert faults == []


def ours(running: Served) -> tuple[str, ...]:
    return running.url, "data:", "blob:"


async def call(running: Served, tool: str, times: int = 1, **arguments: Any) -> None:
    for _ in range(times):
        await running.ask("POST", f"/api/tools/{tool}/call", {"arguments": arguments})


async def test_the_table_is_there_and_lives(serve: Serve) -> None:
    async with serve({"weather": WEATHER, "gone": {"command": "no-such-program"}}) as running, page_of(running) as page:
        row = page.get_by_role("row", name="weather")
        await expect(row).to_contain_text("connected")
        await expect(page.get_by_role("row", name="gone")).to_contain_text("command not found")
        await expect(row.locator("td").nth(3)).to_have_text("0")
        await call(running, "weather__forecast", 5, city="Oslo")
        await expect(row.locator("td").nth(4)).to_contain_text("ms")
        await expect(row.locator("td").nth(3)).not_to_have_text("0")


async def test_a_tool_is_called_by_its_form(serve: Serve) -> None:
    async with serve({"studio": SHOW}) as running, page_of(running) as page:
        await page.get_by_role("link", name="studio").click()
        await expect(page.locator(".log")).to_contain_text("studio 1.2.0 is ready")
        await page.get_by_text("render", exact=True).click()
        form = page.locator("form", has_text="frame")
        await form.get_by_label("frames").fill("40")
        await form.get_by_label("quality").select_option("final")
        await form.get_by_label("loop").check()
        await form.get_by_role("button", name="Call").click()
        await expect(form.locator(".progress")).to_contain_text("of 40")
        await expect(form.locator(".result")).to_contain_text("40 frames, final, in a loop")
        await expect(page.locator(".legend")).to_contain_text("p99")


async def test_each_kind_of_content_is_shown_as_what_it_is(serve: Serve) -> None:
    async with serve({"studio": SHOW}) as running, page_of(running) as page:
        await page.goto(f"{running.url}/#/servers/studio")
        await page.get_by_text("draw", exact=True).click()
        await page.get_by_role("button", name="Call").first.click()
        image = page.locator(".result img")
        await expect(image).to_be_visible()
        assert await image.evaluate("one => one.naturalWidth") == 240
        await expect(page.locator(".result audio")).to_be_visible()
        await page.get_by_role("button", name="Read palette").click()
        await expect(page.locator(".result figure")).to_contain_text("#3c4696")


async def test_a_call_can_be_cancelled(serve: Serve) -> None:
    async with serve({"studio": SHOW}) as running, page_of(running) as page:
        await page.goto(f"{running.url}/#/servers/studio")
        await page.get_by_text("render", exact=True).click()
        form = page.locator("details[open] form")
        await form.get_by_label("frames").fill("1000")
        await form.get_by_role("button", name="Call").click()
        await expect(form.locator(".progress")).to_contain_text("of 1000")
        await form.get_by_role("button", name="Cancel").click()
        await expect(form.get_by_role("alert")).to_have_text("Cancelled")
        await running.settled(lambda: _idle(running))


async def _idle(running: Served) -> bool:
    return running.gateway.pool.client("studio").metrics.in_flight == 0


async def test_a_killed_server_is_seen_and_recovers(serve: Serve) -> None:
    async with serve({"weather": WEATHER}) as running, page_of(running) as page:
        client = running.gateway.pool.client("weather")
        assert isinstance(client, StdioMCPClient)
        row = page.get_by_role("row", name="weather")
        await expect(row).to_contain_text("connected")
        os.kill(before := client.pid or 0, signal.SIGKILL)
        await running.settled(lambda: _left(client, before))
        await call(running, "weather__forecast", city="Oslo")
        await expect(row).to_contain_text("connected")
        await expect(row.locator("td").nth(8)).to_have_text("1")


async def _left(client: StdioMCPClient, pid: int) -> bool:
    """The client has noticed; it may be back already."""
    return client.pid != pid


async def test_servers_are_added_imported_and_removed(serve: Serve) -> None:
    async with serve({}) as running, page_of(running) as page:
        await page.get_by_role("button", name="Add server").click()
        await page.get_by_role("textbox", name="Name", exact=True).fill("weather")
        await page.get_by_label("Command").fill(sys.executable)
        await page.get_by_label("Arguments").fill("-m\nfastapi_server.mcp.demo.servers\nstdio")
        await page.get_by_role("button", name="Add", exact=True).click()
        await expect(page.get_by_role("row", name="weather")).to_contain_text("2 tools")
        await page.get_by_role("button", name="Import mcp.json").click()
        await page.get_by_label("Content of the file").fill('{"mcpServers": {"gone": {"command": "no-such"}}}')
        await page.get_by_role("button", name="Import", exact=True).click()
        await page.get_by_role("button", name="Done").click()
        await page.get_by_role("link", name="gone").click()
        await page.get_by_role("button", name="Remove").click()
        await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        await expect(page.get_by_role("row", name="gone")).to_have_count(0)
        await expect(page.get_by_role("row", name="weather")).to_be_visible()


async def test_it_can_be_used_with_the_keyboard(serve: Serve) -> None:
    async with serve({"weather": WEATHER}) as running, page_of(running) as page:
        await expect(page.get_by_role("link", name="weather")).to_be_visible()
        for _ in range(20):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.textContent") == "weather":
                break
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="weather")).to_be_visible()
        await page.get_by_role("button", name="Drain").press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark", "phone"])
async def test_it_fits(serve: Serve, scheme: str) -> None:
    phone = scheme == "phone"
    context: dict[str, Any] = {"color_scheme": "dark" if scheme == "dark" else "light", "device_scale_factor": 2}
    context["viewport"] = {"width": 375, "height": 800} if phone else {"width": 1280, "height": 720}
    servers = {"weather": WEATHER, "studio": SHOW, "archive": {"command": "no-such-program"}}
    async with serve(servers) as running, page_of(running, **context) as page:
        await expect(page.get_by_role("row", name="studio")).to_be_visible()
        for _ in range(4 if "SCREENSHOTS" in os.environ else 1):
            await call(running, "weather__forecast", 9, city="Oslo")
            await call(running, "studio__draw", 4)
            await asyncio.sleep(1.1)
        await fits(page, f"dashboard-{scheme}.png")
        await page.get_by_role("link", name="studio").click()
        await page.get_by_text("draw", exact=True).click()
        await page.get_by_role("button", name="Call").first.click()
        await expect(page.locator(".result audio")).to_be_visible()
        await page.wait_for_timeout(1500)
        await page.evaluate("document.querySelector('#settings').parentElement.hidden = true")
        await fits(page, f"server-{scheme}.png")


async def fits(page: Page, name: str) -> None:
    """The page scrolls in one direction only; here its picture is taken, too."""
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if "SCREENSHOTS" in os.environ:
        IMAGES.mkdir(exist_ok=True)
        await page.screenshot(path=IMAGES / name, full_page=name.startswith("server"), animations="disabled")
