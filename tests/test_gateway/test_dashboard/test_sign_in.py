"""A gateway that asks for a key."""

from playwright.async_api import Page, expect

from tests.test_gateway.test_dashboard.conftest import OpenPage, RunningGateway, on_one_loop
from tests.test_gateway.test_dashboard.test_pages import row

pytestmark = on_one_loop


async def sign_in(page: Page, key: str) -> None:
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()


async def test_a_key_lets_in_and_is_forgotten_by_signing_out(guarded: RunningGateway, open_page: OpenPage) -> None:
    assert guarded.key is not None
    page = await open_page(guarded.url)
    await expect(page.get_by_label("API key")).to_be_focused()
    await sign_in(page, "mcpgw_0000_wrong")
    await expect(page.get_by_role("alert")).to_contain_text("does not accept this key")
    await expect(page.get_by_role("link", name="hostile")).to_have_count(0)
    await sign_in(page, guarded.key)
    await expect(row(page, "hostile")).to_contain_text("7 tools")
    await expect(page.locator(".live")).to_have_text("Live")
    assert await page.evaluate("Object.values(sessionStorage)") == [guarded.key]
    assert await page.evaluate("localStorage.length + document.cookie.length") == 0
    await page.reload()
    await expect(row(page, "hostile")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("API key")).to_be_focused()
    await expect(row(page, "hostile")).to_have_count(0)
    assert await page.evaluate("sessionStorage.length") == 0


async def test_who_is_no_administrator_is_offered_no_changes(guarded: RunningGateway, open_page: OpenPage) -> None:
    made = await guarded.ask("POST", "/api/keys", {"name": "ann", "servers": ["hostile"]})
    page = await open_page(f"{guarded.url}/#/servers/hostile")
    await sign_in(page, made["key"])
    await expect(page.get_by_text("nested", exact=True)).to_be_visible()
    for name in ("Reconnect", "Drain", "Edit", "Remove"):
        await expect(page.get_by_role("button", name=name)).to_have_count(0)
    await expect(page.get_by_role("heading", name="Log")).to_have_count(0)
    await page.get_by_role("link", name="MCP gateway").click()
    await expect(row(page, "hostile")).to_be_visible()
    for name in ("Add server", "Import mcp.json"):
        await expect(page.get_by_role("button", name=name)).to_have_count(0)


async def test_a_key_that_is_revoked_meanwhile_is_asked_for_again(guarded: RunningGateway, open_page: OpenPage) -> None:
    made = await guarded.ask("POST", "/api/keys", {"name": "bob"})
    page = await open_page(guarded.url)
    await sign_in(page, made["key"])
    await expect(row(page, "hostile")).to_be_visible()
    await guarded.ask("DELETE", f"/api/keys/{made['id']}")
    await expect(page.get_by_role("alert")).to_contain_text("was revoked")
    await expect(page.get_by_label("API key")).to_be_visible()
