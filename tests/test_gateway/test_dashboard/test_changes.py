"""Servers are added, changed, imported and removed; who may not do so is not offered it."""

import asyncio
import contextlib
import json
import sqlite3
import sys
from typing import Any

from playwright.async_api import Page, expect

from tests.test_gateway.conftest import PEER
from tests.test_gateway.test_dashboard.conftest import OpenPage, RunningGateway, on_one_loop
from tests.test_gateway.test_dashboard.test_pages import added, row

pytestmark = on_one_loop


async def entry(gateway: RunningGateway, name: str) -> Any:
    return (await gateway.ask("GET", f"/api/servers/{name}/entry"))["entry"]


async def environment(gateway: RunningGateway, name: str) -> dict[str, str]:
    """What the process of a `PEER` was given: the secrets, too."""
    result = await gateway.ask("POST", f"/api/tools/{name}__environment/call", {})
    return json.loads(result["content"][0]["text"])


async def test_a_program_is_added_changed_and_removed(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url)
    await page.get_by_role("button", name="Add server").click()
    await page.get_by_role("textbox", name="Name", exact=True).fill("added")
    await page.get_by_label("Command").fill(sys.executable)
    await page.get_by_label("Arguments").fill("\n".join(PEER["args"]))
    await page.get_by_label("Environment").fill("TOKEN=s3cr3t-one\nnonsense")
    await page.get_by_role("button", name="Add", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("nonsense has no “=” after its name")
    await page.get_by_label("Environment").fill("TOKEN=s3cr3t-one\nREGION=north")
    await page.get_by_label("Further settings").fill('{"timeout": 20000}')
    await page.get_by_role("button", name="Add", exact=True).click()
    await expect(row(page, "added")).to_contain_text("connected")

    await page.get_by_role("link", name="added").click()
    await page.get_by_role("button", name="Edit").click()
    assert "s3cr3t" not in await page.content()
    await expect(page.get_by_label("Environment")).to_have_value("TOKEN=***\nREGION=***")
    await page.get_by_label("Environment").fill("REGION=south\nTOKEN=***")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    given = await environment(gateway, "added")
    assert (given["TOKEN"], given["REGION"]) == ("s3cr3t-one", "south")
    assert (await entry(gateway, "added"))["timeout"] == 20000

    await page.get_by_role("button", name="Edit").click()
    await page.get_by_label("Environment").fill("OTHER=***")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("env.OTHER: ***")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Remove").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(page.get_by_role("heading", name="Servers")).to_be_visible()
    await expect(row(page, "added")).to_have_count(0)


async def test_a_server_with_a_url_keeps_what_is_secret_of_it(gateway: RunningGateway, open_page: OpenPage) -> None:
    address = "http://127.0.0.1:9/mcp"
    whole = {"serverUrl": f"{address}?key=s3cr3t-q", "type": "http", "headers": {"X-Key": "s3cr3t-h"}}
    await gateway.ask("POST", "/api/servers", {"name": "remote", "entry": whole})
    page = await open_page(f"{gateway.url}/#/servers/remote")
    await page.get_by_role("button", name="Edit").click()
    await expect(page.get_by_label("URL", exact=True).last).to_have_value(f"{address}?***")
    await expect(page.get_by_label("Headers")).to_have_value("X-Key: ***")
    await page.get_by_label("URL", exact=True).last.fill(f"{address}/v2?***")
    await page.get_by_label("Headers").fill("X-Key: ***\nX-Team: ${TEAM:-blue}")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    shown = {"serverUrl": f"{address}/v2?***", "type": "http", "headers": {"X-Key": "***", "X-Team": "***"}}
    assert await entry(gateway, "remote") == shown
    unchanged = {**whole, "serverUrl": f"{address}/v2?key=s3cr3t-q", "headers": {"X-Key": "s3cr3t-h", "X-Team": "blue"}}
    preview = await gateway.ask("POST", "/api/servers/import?dry_run=true", {"mcpServers": {"remote": unchanged}})
    assert preview["unchanged"] == ["remote"]
    await gateway.ask("DELETE", "/api/servers/remote")


async def test_an_mcp_json_is_imported_after_a_look_at_what_it_would_change(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    await gateway.ask("POST", "/api/servers", {"name": "kept", "entry": {"command": "no-such"}})
    await gateway.ask("POST", "/api/servers", {"name": "replaced", "entry": {"command": "no-such"}})
    servers: dict[str, Any] = {
        "fresh": PEER,
        "kept": {"command": "no-such"},
        "replaced": {"command": "no-such", "args": ["--other"]},
        "wrong": {"comand": "x"},
        "weather": PEER,
        "a__b": PEER,
    }
    page = await open_page(gateway.url)
    await page.get_by_role("button", name="Import mcp.json").click()
    text = page.get_by_label("Content of the file")
    await text.fill("{")
    await page.get_by_role("button", name="Preview").click()
    await expect(page.get_by_role("alert")).to_contain_text("is not JSON")
    await text.fill("{}")
    await page.get_by_role("button", name="Preview").click()
    await expect(page.get_by_role("alert")).to_contain_text("has no servers")
    await text.fill(json.dumps({"mcpServers": servers}))
    await page.get_by_role("button", name="Preview").click()
    preview = page.locator(".preview")
    await expect(preview.locator("li")).to_have_text(["fresh", "replaced", "kept"])
    for problem in ("wrong", "'weather' stands in the config file", "'a__b' is no name"):
        await expect(preview.locator(".fault").filter(has_text=problem)).to_be_visible()
    names = {one["name"] for one in (await gateway.ask("GET", "/api/servers"))["servers"]}
    assert "fresh" not in names
    await page.get_by_role("button", name="Import 2 servers").click()
    await expect(row(page, "fresh")).to_contain_text("connected")
    assert (await entry(gateway, "replaced"))["args"] == ["--other"]
    for name in ("fresh", "kept", "replaced"):
        await gateway.ask("DELETE", f"/api/servers/{name}")


async def test_what_is_wrong_in_the_config_file_is_said(gateway: RunningGateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.url)
    await expect(row(page, "weather")).to_be_visible()
    right = gateway.config.read_text()
    try:
        gateway.config.write_text('{"mcpServers": {"typo": {"comand": "x"}}}')
        await expect(page.get_by_role("alert")).to_contain_text("mcpServers.typo")
        await expect(row(page, "weather")).to_contain_text("connected")
    finally:
        gateway.config.write_text(right)
    await expect(page.get_by_role("alert")).to_have_count(0)


async def test_a_stored_server_that_cannot_be_opened_is_replaced_or_removed(
    gateway: RunningGateway, open_page: OpenPage
) -> None:
    with contextlib.closing(sqlite3.connect(gateway.config.with_name("gateway.db"))) as database, database:
        row_of = "INSERT INTO servers (name, entry) VALUES (?, '{}')"
        database.executemany(row_of, [("lost",), ("gone",)])
    while not (await gateway.ask("GET", "/api/servers"))["unserved"]:
        await asyncio.sleep(0.05)
    page = await open_page(gateway.url)
    await expect(page.get_by_role("alert").filter(has_text="another secret")).to_have_count(2)
    await page.get_by_role("button", name="Remove gone").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(page.get_by_role("alert").filter(has_text="another secret")).to_have_count(1)
    await page.get_by_role("button", name="Replace lost").click()
    await page.get_by_label("Command").fill("no-such-program")
    await page.get_by_role("button", name="Save").click()
    await expect(row(page, "lost")).to_contain_text("command not found")
    await expect(page.get_by_role("alert")).to_have_count(0)
    await gateway.ask("DELETE", "/api/servers/lost")


async def test_a_server_is_drained_and_reconnected(gateway: RunningGateway, open_page: OpenPage) -> None:
    async with added(gateway, "moved"):
        page = await open_page(f"{gateway.url}/#/servers/moved")
        await expect(page.locator("h1 .state")).to_have_text("connected")
        await confirmed(page, "Drain")
        await expect(page.locator("h1 .state")).to_have_text("disconnected")
        await confirmed(page, "Reconnect")
        await expect(page.locator("h1 .state")).to_have_text("connected")


async def confirmed(page: Page, action: str) -> None:
    await page.get_by_role("button", name=action).click()
    async with page.expect_response(lambda answer: answer.url.endswith(f"/{action.lower()}")) as answered:
        await page.get_by_role("dialog").get_by_role("button", name=action).click()
    assert (await answered.value).ok
