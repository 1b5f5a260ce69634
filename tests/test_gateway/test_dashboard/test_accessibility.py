"""axe-core on every page in light and dark, and the keyboard alone."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Page, expect

from tests.test_gateway.test_dashboard.conftest import OpenPage, RunningGateway, on_one_loop
from tests.test_gateway.test_dashboard.test_pages import row

pytestmark = on_one_loop

AXE = Path(__file__).parents[3] / "node_modules" / "axe-core" / "axe.min.js"
RUN = "async () => (await axe.run()).violations.map((one) => [one.id, one.nodes.map((node) => node.html)])"

INSIDE = """() => {
  const focused = document.activeElement;  // the page itself while the browser's own controls have their turn
  return focused === document.body || document.querySelector("dialog").contains(focused);
}"""

Scheme = Literal["light", "dark"]


async def is_accessible(page: Page, scheme: Scheme) -> None:
    """What axe-core finds wrong, in which place."""
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE.read_text("utf-8"))
    violations: list[Any] = await page.evaluate(RUN)
    assert violations == [], json.dumps(violations, indent=1)


needs_axe = pytest.mark.skipif(not AXE.exists(), reason="node_modules lacks axe-core: npm ci")


@needs_axe
async def test_the_table_and_the_dialogs_are_accessible(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url)
    await expect(row(page, "weather")).to_be_visible()
    for width in (1280, 375):
        await page.set_viewport_size({"width": width, "height": 800})
        for scheme in ("light", "dark"):
            await is_accessible(page, scheme)
    for name in ("Add server", "Import mcp.json"):
        await page.get_by_role("button", name=name).click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        for scheme in ("light", "dark"):
            await is_accessible(page, scheme)
        await page.keyboard.press("Escape")


@needs_axe
async def test_the_page_of_a_server_is_accessible(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#/servers/hostile")
    for tool in ("nested", "plain"):
        await page.get_by_text(tool, exact=True).click()
    await page.locator("details[open] form").last.get_by_role("button", name="Call").click()
    await expect(page.locator(".result")).to_be_visible()
    await page.get_by_role("button", name="Add backup").click()
    await page.get_by_role("button", name="Add to days").click()
    for scheme in ("light", "dark"):
        await is_accessible(page, scheme)
    for tab in ("resources", "prompts"):
        await page.goto(f"{gateway.url}/#/servers/hostile/{tab}")
        await expect(page.get_by_text("Loading…")).to_have_count(0)
        for scheme in ("light", "dark"):
            await is_accessible(page, scheme)


@needs_axe
async def test_the_way_in_is_accessible(guarded: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(guarded.url)
    await expect(page.get_by_label("API key")).to_be_visible()
    for scheme in ("light", "dark"):
        await is_accessible(page, scheme)


async def focused(page: Page) -> str:
    return await page.evaluate("document.activeElement.textContent.trim()")


async def test_the_keyboard_is_enough(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url)
    await expect(row(page, "weather")).to_be_visible()
    await page.keyboard.press("Tab")
    assert await focused(page) == "Skip to the content"
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "content"
    assert await page.evaluate("location.hash") == ""
    seen: list[str] = []
    while (here := await focused(page)) != "weather":
        seen.append(here)
        assert len(seen) < 10
        await page.keyboard.press("Tab")
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", seen
    assert seen[1:] == ["Import mcp.json", "Add server"]
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="weather")).to_be_visible()
    assert await page.evaluate("document.activeElement.id") == "content"


async def test_a_dialog_keeps_the_focus_and_gives_it_back(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url)
    opener = page.get_by_role("button", name="Add server")
    dialog = page.get_by_role("dialog")
    for close in ("Escape", "Cancel", "Close"):
        await opener.press("Enter")
        await expect(dialog.get_by_role("textbox", name="Name", exact=True)).to_be_focused()
        for _ in range(12):
            await page.keyboard.press("Tab")
            assert await page.evaluate(INSIDE)
        if close == "Escape":
            await page.keyboard.press("Escape")
        else:
            await dialog.get_by_role("button", name=close).press("Enter")
        await expect(dialog).to_have_count(0)
        await expect(opener).to_be_focused()


AT_ONCE_AGAIN = """async () => {
    [...document.querySelectorAll("dialog button")].find((button) => button.textContent === "Cancel").click();
    for (let turn = 0; turn < 1000 && document.querySelector("dialog"); turn += 1) await null;
    [...document.querySelectorAll("button")].find((button) => button.textContent === "Add server").click();
    await new Promise((done) => setTimeout(done, 200));
    return document.querySelectorAll("dialog[open]").length;
}"""


async def test_a_dialog_that_is_opened_again_at_once_stays(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url)
    await page.get_by_role("button", name="Add server").press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await page.evaluate(AT_ONCE_AGAIN) == 1
