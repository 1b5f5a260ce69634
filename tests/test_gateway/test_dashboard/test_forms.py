"""Forms made of JSON schemas, whole ones and broken ones."""

import json
from typing import Any, cast

from playwright.async_api import Locator, Page, expect

from tests.test_gateway.test_dashboard.conftest import OpenPage, RunningGateway, on_one_loop
from tests.test_gateway.test_dashboard.hostile_server import BROKEN, NESTED

pytestmark = on_one_loop

STARTS = """async (schemas) => {
  const { nodeOf, valueOf } = await import('/dashboard/schema.js');
  return schemas.map((schema) => valueOf(nodeOf(schema), {}));
}"""
ROUND_TRIPS = """async ([schema, values]) => {
  const { draftOf, nodeOf, valueOf } = await import('/dashboard/schema.js');
  const node = nodeOf(schema);
  const around = (value) => valueOf(node, draftOf(node, value));
  return values.map((value) => { try { return around(value); } catch (error) { return error.message; } });
}"""
KINDS = """async (schemas) => {
  const { nodeOf } = await import('/dashboard/schema.js');
  return schemas.map((schema) => nodeOf(schema).kind);
}"""

EMPTY = """async (schemas) => {
  const { isEmpty, nodeOf } = await import('/dashboard/schema.js');
  return schemas.map((schema) => isEmpty(nodeOf(schema)));
}"""


def fields(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


async def opened(gateway: RunningGateway, open_page: OpenPage, tool: str) -> tuple[Page, Locator]:
    page = await open_page(f"{gateway.url}/#/servers/hostile")
    await page.get_by_text(tool, exact=True).click()
    return page, page.locator("details[open] form")


async def arguments(form: Locator) -> Any:
    """What the tool is called with, once the call is over."""
    button = form.get_by_role("button", name="Call")
    async with form.page.expect_request("**/call") as sent:
        await button.click()
    await expect(button).to_be_enabled()
    return cast("dict[str, Any]", (await sent.value).post_data_json)["arguments"]


async def test_what_a_field_is_for_is_read_off_its_schema(gateway: RunningGateway, open_page: OpenPage) -> None:
    cases: list[tuple[Any, str]] = [
        ({"type": "string"}, "string"),
        ({"type": ["integer", "null"]}, "integer"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "number"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "json"),
        ({"oneOf": [{"const": "a"}, {"const": "b"}]}, "enum"),
        ({"const": 1}, "enum"),
        ({"enum": "abc", "type": "string"}, "string"),
        ({"enum": []}, "json"),
        ({"allOf": [{"type": "object", "properties": {"a": {}}}, {"required": ["a"]}]}, "object"),
        ({"type": "object"}, "json"),
        ({"type": "object", "properties": None}, "json"),
        ({"properties": {"a": None}}, "object"),
        ({"type": "array", "items": {"type": "string"}}, "array"),
        ({"type": "array", "items": True}, "json"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b~1c%25"}, "b/c%": {"type": "boolean"}}}, "boolean"),
        ({"$ref": "#/$defs/none"}, "json"),
        ({"$ref": "#"}, "json"),
        ({"anyOf": [{"$ref": "#"}]}, "json"),
        ({"allOf": [{"$ref": "#"}]}, "json"),
        ({"allOf": [{"$ref": "#"}] * 9, "required": ["a", "b"]}, "json"),
        ({"type": 5}, "json"),
        (None, "json"),
        (True, "json"),
        ([], "json"),
    ]
    page = await open_page(gateway.url)
    found = await page.evaluate(KINDS, [schema for schema, _ in cases])
    assert [(schema, kind) for (schema, _), kind in zip(cases, found, strict=True)] == cases


async def test_only_an_object_without_members_takes_no_arguments(gateway: RunningGateway, open_page: OpenPage) -> None:
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"type": "object"}, True),
        ({"type": "object", "properties": {}, "additionalProperties": False}, True),
        ({"type": "object", "additionalProperties": {"type": "string"}}, False),
        ({"type": "object", "patternProperties": {"^x": {}}}, False),
        ({"anyOf": [fields(a={}), fields(b={})]}, False),
        ({"$ref": "#/$defs/none"}, False),
        (fields(a={}), False),
    ]
    page = await open_page(gateway.url)
    found = await page.evaluate(EMPTY, [schema for schema, _ in cases])
    assert [(schema, empty) for (schema, _), empty in zip(cases, found, strict=True)] == cases


async def test_what_nobody_has_touched_is_not_said(gateway: RunningGateway, open_page: OpenPage) -> None:
    cases: list[tuple[dict[str, Any], Any]] = [
        (fields(a={"type": "boolean"}, b={"type": "string"}, c={"type": "integer"}, d={"enum": [1, 2]}), {}),
        (fields(a={"type": "boolean", "default": False}, b={"type": "integer", "default": 0}), {"a": False, "b": 0}),
        (fields(a={"type": "integer", "default": "many"}, b={"type": "string", "default": None}), {}),
        (fields(a={"type": "array", "items": {"type": "string"}, "default": ["x"]}), {"a": ["x"]}),
        (fields(a=fields(b={"type": "string"})), {}),
        ({**fields(a=fields(b={"type": "string", "default": "x"})), "required": ["a"]}, {"a": {"b": "x"}}),
        ({**fields(a={"type": ["string", "null"]}, b={"const": 3}), "required": ["a", "b"]}, {"a": None, "b": 3}),
        ({**fields(a={"type": "array", "items": {"type": "string"}}), "required": ["a"]}, {"a": []}),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, {"a": {"a": {}}}),
        (BROKEN, {}),
    ]
    page = await open_page(gateway.url)
    found = await page.evaluate(STARTS, [schema for schema, _ in cases])
    assert [(schema, value) for (schema, _), value in zip(cases, found, strict=True)] == cases


async def test_a_value_comes_out_of_a_form_as_it_went_in(gateway: RunningGateway, open_page: OpenPage) -> None:
    values: list[Any] = [
        {"place": {"city": "Oslo"}, "days": [1, 2], "strict": False, "unit": "kelvin"},
        {"place": {"city": "", "country": "no"}, "days": [], "strict": True, "unit": "celsius", "note": "a\nb"},
        {"place": {"city": "x"}, "days": [7], "strict": True, "unit": "celsius", "backup": {"city": "y"}, "extra": {}},
    ]
    strange = [{"other": 1}, {"place": {"town": "Oslo"}}, {"days": ["one"]}, {"unit": "rankine"}, {"note": None}]
    page = await open_page(gateway.url)
    assert await page.evaluate(ROUND_TRIPS, [NESTED, values]) == values
    refused = await page.evaluate(ROUND_TRIPS, [NESTED, strange])
    names = ["other", "place.town", "days[0]", "unit", "note"]
    assert refused == [f"The form has no place for {name}" for name in names]


async def test_nested_objects_lists_choices_and_bounds(gateway: RunningGateway, open_page: OpenPage) -> None:
    _, form = await opened(gateway, open_page, "nested")
    await form.get_by_role("button", name="Call").click()
    assert await form.get_by_label("city").evaluate("one => one.validity.valueMissing")
    await form.get_by_label("city").fill("Oslo")
    await form.get_by_label("strict").select_option("false")
    for day in (1, 9, 3):
        await form.get_by_role("button", name="Add to days").click()
        await form.get_by_role("spinbutton", name="days").last.fill(str(day))
    assert await form.get_by_role("spinbutton", name="days 2").evaluate("one => one.validity.rangeOverflow")
    await form.get_by_role("button", name="Remove days 2").click()
    await form.get_by_role("button", name="Add backup").click()
    await form.get_by_label("city").last.fill("Bergen")
    await form.get_by_label("extra").fill('{"free": [true]}')
    assert await arguments(form) == {
        "place": {"city": "Oslo"},
        "days": [1, 3],
        "strict": False,
        "unit": "celsius",
        "limit": 5,
        "backup": {"city": "Bergen"},
        "extra": {"free": [True]},
    }
    await form.get_by_role("button", name="Leave backup out").click()
    await form.get_by_label("extra").fill("{free}")
    await form.get_by_role("button", name="Call").click()
    await expect(form.get_by_role("alert")).to_contain_text("extra is not JSON")
    await form.get_by_label("extra").fill("")
    await form.get_by_label("limit").fill("0")
    assert await form.get_by_label("limit").evaluate("one => one.validity.rangeUnderflow")
    await form.get_by_label("limit").fill("")
    assert "backup" not in (again := await arguments(form))
    assert "limit" not in again


async def test_arguments_can_be_written_as_json(gateway: RunningGateway, open_page: OpenPage) -> None:
    _, form = await opened(gateway, open_page, "nested")
    await form.get_by_label("city").fill("Oslo")
    await form.get_by_role("button", name="As JSON").click()
    text = form.get_by_label("Arguments")
    assert json.loads(await text.input_value())["place"] == {"city": "Oslo"}
    await text.fill('{"anything": 1}')
    assert await arguments(form) == {"anything": 1}
    await form.get_by_role("button", name="As a form").click()
    await expect(form.get_by_role("alert")).to_have_text("The form has no place for anything")
    await text.fill('{"unit": "kelvin"}')
    await form.get_by_role("button", name="As a form").click()
    await expect(form.get_by_label("unit")).to_have_value('"kelvin"')
    await expect(form.get_by_label("city")).to_have_value("")
    await form.get_by_role("button", name="As JSON").click()
    await text.fill("[1]")
    await form.get_by_role("button", name="Call").click()
    await expect(form.get_by_role("alert")).to_have_text("Arguments are a JSON object")


async def test_a_broken_schema_still_gives_a_form(gateway: RunningGateway, open_page: OpenPage) -> None:
    page, form = await opened(gateway, open_page, "broken")
    assert await arguments(form) == {}
    await form.get_by_label("choice").fill("b")
    await form.get_by_label("nothing").fill("[null]")
    await form.get_by_label("__proto__").fill("mine")
    await form.get_by_role("button", name="Call").click()
    await expect(form.locator(".result pre")).to_contain_text("mine")
    assert json.loads(await form.locator(".result pre").text_content() or "") == {
        "choice": "b",
        "nothing": [None],
        "__proto__": "mine",
    }
    await page.get_by_text("nonsense", exact=True).click()
    other = page.locator("details[open] form").last
    await expect(other).to_contain_text("It takes no arguments.")
    await other.get_by_role("button", name="As JSON").click()
    await other.get_by_label("Arguments").fill('{"still": 1}')
    assert await arguments(other) == {"still": 1}
    await other.get_by_role("button", name="As a form").click()
    await expect(other.get_by_role("alert")).to_have_text("The form has no place for arguments")
