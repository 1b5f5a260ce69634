"""Whatever a server says is text: no markup, no script, no link that runs something."""

from playwright.async_api import Page, expect

from tests.test_gateway.test_dashboard.conftest import MARKUP as SERVER
from tests.test_gateway.test_dashboard.conftest import OpenPage, RunningGateway, on_one_loop
from tests.test_gateway.test_dashboard.hostile_server import LINK, MARKUP

pytestmark = on_one_loop

STRANGERS = """() => [
  ...document.querySelectorAll("body script, iframe, object, embed, [onerror], img[src='x']"),
  ...[...document.querySelectorAll("a, form, img, audio")].filter(
    (one) => /^\\s*(javascript|data:text)/i.test(one.href ?? one.src ?? one.action)),
].map((one) => one.outerHTML)"""


async def shows_text_only(page: Page) -> None:
    """The dialog that a script would open fails every test, too."""
    assert await page.evaluate(STRANGERS) == []


async def test_tools_and_their_results_are_text(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#/servers/hostile")
    await expect(page.locator(".instructions")).to_have_text(MARKUP)
    await page.get_by_text("plain", exact=True).click()
    await page.locator("details[open] form").get_by_role("button", name="Call").click()
    result = page.locator(".result")
    await expect(result.locator("pre.text").first).to_have_text(MARKUP)
    await expect(result).to_contain_text(LINK)
    await expect(result.locator("a[target]")).to_have_count(1)
    assert await result.locator("a[target]").get_attribute("rel") == "noopener noreferrer"
    await expect(result.get_by_role("link", name="Download").first).to_have_attribute("download", "content")
    await expect(result.locator("img, audio")).to_have_count(0)
    await result.get_by_role("button", name="Read").first.click()
    await expect(result.locator("figure").first).to_contain_text(MARKUP)
    await page.get_by_text("fields", exact=True).click()
    form = page.locator("details[open] form").last
    await form.get_by_role("combobox").select_option(label=LINK)
    await form.get_by_role("button", name="Call").click()
    await expect(form.locator(".result pre")).to_have_text(MARKUP)
    await expect(page.get_by_role("log").first).to_contain_text(MARKUP)
    await shows_text_only(page)


async def test_names_of_servers_and_tools_are_text(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url)
    await shows_text_only(page)
    await page.get_by_role("link", name=SERVER).click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text(SERVER)
    await shows_text_only(page)
    await page.goto(f"{gateway.url}/#/servers/hostile")
    await page.get_by_text(MARKUP, exact=True).and_(page.locator("summary code")).click()
    await page.locator("details[open] form").get_by_role("button", name="Call").click()
    await expect(page.locator(".result pre.text").first).to_have_text(MARKUP)
    await shows_text_only(page)


async def test_resources_and_prompts_are_text(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(f"{gateway.url}/#/servers/hostile/resources")
    await page.get_by_role("button", name="Read").first.click()
    await expect(page.locator(".resource pre")).to_have_text(MARKUP)
    await shows_text_only(page)
    await page.goto(f"{gateway.url}/#/servers/hostile/prompts")
    await page.get_by_text("folder/ask", exact=True).click()
    await page.get_by_role("button", name="Get").click()
    await expect(page.locator(".message").first).to_contain_text(MARKUP)
    await shows_text_only(page)


async def test_the_page_may_run_nothing_but_its_own_scripts(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url, expected="Content Security Policy")
    answer = await page.request.get(gateway.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    refused = await page.evaluate(
        "new Promise((done) => { addEventListener('securitypolicyviolation', (one) => done(one.effectiveDirective));"
        " document.body.setAttribute('onclick', 'window.broken = true'); document.body.click(); })"
    )
    assert refused == "script-src-attr"
    assert await page.evaluate("window.broken") is None
