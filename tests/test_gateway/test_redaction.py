"""What is kept of arguments."""

from typing import Any

import pytest

from fastapi_server.gateway.redaction import REDACTED, redacted


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "PASSWD",
        "db_password",
        "clientSecret",
        "access_token",
        "apiKey",
        "api-key",
        "Authorization",
        "Cookie",
    ],
)
def test_what_looks_like_a_secret(name: str) -> None:
    assert redacted({"outer": [{name: {"a": 1}}]}) == {"outer": [{name: REDACTED}]}


@pytest.mark.parametrize("name", ["city", "key", "author", "spin", "pass_count", "compass"])
def test_what_does_not(name: str) -> None:
    assert redacted({name: 1}) == {name: 1}


def test_what_is_long_or_deep_is_cut() -> None:
    deep: Any = "end"
    for _ in range(20):
        deep = {"in": deep}
    kept = redacted({"long": "x" * 600, "many": list(range(200)), "deep": deep, "none": None})
    assert kept["long"] == "x" * 500 + "… (600 characters)"
    assert kept["many"] == list(range(100))
    assert "end" not in repr(kept["deep"])
    assert kept["none"] is None


@pytest.mark.parametrize(
    "marked",
    [
        {"writeOnly": True},
        {"type": "string", "format": "password"},
        {"anyOf": [{"type": "string", "format": "password"}, {"type": "null"}]},
    ],
)
def test_what_a_schema_marks_is_a_secret_wherever_it_is(marked: dict[str, Any]) -> None:
    inner = {"type": "object", "properties": {"code": marked, "city": {"type": "string"}}}
    schema = {"$defs": {"Inner": inner}, "properties": {"all": {"items": {"$ref": "#/$defs/Inner"}}}}
    kept = redacted({"all": [{"code": "1234", "city": "Oslo"}]}, schema)
    assert kept == {"all": [{"code": REDACTED, "city": "Oslo"}]}


@pytest.mark.parametrize(
    "schema", [{"properties": 5}, {"properties": {"code": {"anyOf": 5}}}, {"properties": {"a": True}}]
)
def test_a_schema_that_is_none_marks_nothing(schema: dict[str, Any]) -> None:
    assert redacted({"code": "1234"}, schema) == {"code": "1234"}
