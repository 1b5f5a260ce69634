"""The pictures of the documents: `SCREENSHOTS=1 pytest tests/test_gateway/test_dashboard/test_screenshots.py`."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.test_gateway.conftest import SHOW, WEATHER
from tests.test_gateway.test_dashboard.conftest import OpenPage, on_one_loop, running_gateway
from tests.test_gateway.test_dashboard.test_pages import row

pytestmark = on_one_loop

IMAGES = Path(__file__).parents[3] / "docs" / "images"
CONTEXTS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 640}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 640}},
    "phone": {"color_scheme": "light", "viewport": {"width": 375, "height": 800}},
}


@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="pictures are taken when SCREENSHOTS is set")
async def test_pictures_are_taken(tmp_path: Path, open_page: OpenPage) -> None:
    servers = {"weather": WEATHER, "studio": SHOW, "archive": {"command": "no-such-program"}}
    with running_gateway(tmp_path, servers) as gateway:
        for _ in range(20):
            calls = [("weather__forecast", {"city": "Oslo"})] * 7 + [("studio__draw", {})] * 3
            for tool, arguments in calls:
                await gateway.ask("POST", f"/api/tools/{tool}/call", {"arguments": arguments})
            await asyncio.sleep(0.7)
        for name, context in CONTEXTS.items():
            page = await open_page(gateway.url, device_scale_factor=2, **context)
            await expect(row(page, "studio")).to_contain_text("connected")
            await page.screenshot(path=IMAGES / f"dashboard-{name}.png", animations="disabled")
            await page.get_by_role("link", name="studio").click()
            await page.get_by_text("draw", exact=True).click()
            await page.get_by_role("button", name="Call").first.click()
            await expect(page.locator(".result audio")).to_be_visible()
            await page.locator("#settings").evaluate("one => (one.parentElement.hidden = true)")
            await page.mouse.move(0, 0)
            await page.screenshot(path=IMAGES / f"server-{name}.png", full_page=True, animations="disabled")
