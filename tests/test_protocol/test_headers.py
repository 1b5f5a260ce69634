"""Headers that mirror arguments (2026-07-28, Streamable HTTP, "Request Metadata")."""

import base64
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastapi_server.mcp.errors import ProtocolError
from fastapi_server.mcp.protocol.headers import (
    encode_header_value,
    may_ask_for_headers,
    mirror_arguments,
    param_headers,
)

exactly = settings(deadline=None, derandomize=True)


def decode_header_value(value: str) -> str:
    """What a server makes of it: the specification's "Value Encoding", the other way round."""
    match = re.fullmatch(r"=\?base64\?(.*)\?=", value, re.DOTALL)
    return base64.b64decode(match[1], validate=True).decode() if match else value


def annotated(name: object = "Region", **schema: Any) -> dict[str, Any]:
    return {"type": "string", "x-mcp-header": name, **schema}


def tool(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


# Values.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # The table of the specification.
        ("us-west1", "us-west1"),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        # Safe as they are.
        ("", ""),
        ("a", "a"),
        ("two words", "two words"),
        ("tab\tinside", "tab\tinside"),
        ("~!@#$%^&*()", "~!@#$%^&*()"),
        ("=?base64?", "=?base64?"),
        ("=?BASE64?literal?=", "=?BASE64?literal?="),
        ("see =?base64?x?= there", "see =?base64?x?= there"),
        # Not safe.
        (" ", "=?base64?IA==?="),
        ("\t", "=?base64?CQ==?="),
        ("lead\t", "=?base64?bGVhZAk=?="),
        ("end\n", "=?base64?ZW5kCg==?="),
        ("\r\nX-Injected: 1", "=?base64?DQpYLUluamVjdGVkOiAx?="),
        ("nul\0", "=?base64?bnVsAA==?="),
        ("\x7f", "=?base64?fw==?="),
        ("é", "=?base64?w6k=?="),
        ("=?base64??=", "=?base64?PT9iYXNlNjQ/Pz0=?="),
        ("=?base64?a\nb?=", "=?base64?PT9iYXNlNjQ/YQpiPz0=?="),
    ],
)
def test_value_encoding(text: str, value: str) -> None:
    assert encode_header_value(text) == value
    assert decode_header_value(value) == text


@exactly
@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]))
    | st.text(alphabet=" \t\r\n=?ab")
    | st.text().map(lambda text: f"=?base64?{text}?=")
)
@example("=?base64?=")
def test_what_is_encoded_is_safe_and_is_decoded_alike(text: str) -> None:
    value = encode_header_value(text)
    assert re.fullmatch(r"([\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?)?", value)
    assert decode_header_value(value) == text


@exactly
@given(st.text(alphabet=st.characters(categories=["Cs"]), min_size=1))
def test_even_half_a_surrogate_pair_gives_a_safe_value(text: str) -> None:
    assert re.fullmatch(r"=\?base64\?[A-Za-z0-9+/]+=*\?=", encode_header_value(text))


# Annotations that are right.


def test_the_example_of_the_specification() -> None:
    schema = {
        "type": "object",
        "properties": {
            "region": {
                "type": "string",
                "description": "The region to execute the query in",
                "x-mcp-header": "Region",
            },
            "query": {"type": "string", "description": "The SQL query to execute"},
        },
        "required": ["region", "query"],
    }
    headers = param_headers(schema)
    assert headers == {"Mcp-Param-Region": ("region",)}
    arguments = {"region": "us-west1", "query": "SELECT * FROM users"}
    assert mirror_arguments(headers, arguments) == {"Mcp-Param-Region": "us-west1"}


@pytest.mark.parametrize(
    ("pages", "may"),
    [
        ([], True),  # nobody has looked
        ([b'{"a": 1}'], False),
        ([b'{"a": 1}', b'{"b": "\\u2019"}'], False),
        ([b'{"x-mcp-header": "A"}'], True),
        ([b'{"x-mcp-header": "A"}', b'{"a": 1}'], True),
        ([b'{"a": 1}', rb'{"\u0078-mcp-header": "A"}'], True),
    ],
)
def test_a_list_whose_pages_hold_no_annotation_asks_for_no_headers(pages: list[bytes], may: bool) -> None:
    assert may_ask_for_headers(pages) is may


@pytest.mark.parametrize("schema", [{}, {"type": "object"}, tool(), tool(a={"type": "string"}), tool(a=True)])
def test_a_tool_without_annotations_has_no_headers(schema: dict[str, Any]) -> None:
    assert param_headers(schema) == {}


@pytest.mark.parametrize("kind", ["string", "integer", "boolean"])
def test_primitive_types_may_be_annotated(kind: str) -> None:
    assert param_headers(tool(a=annotated(type=kind))) == {"Mcp-Param-Region": ("a",)}


@pytest.mark.parametrize("name", ["a", "Region", "X-Y_Z.1", "!#$%&'*+-.^_`|~09azAZ"])
def test_a_name_is_a_token(name: str) -> None:
    assert param_headers(tool(a=annotated(name))) == {f"Mcp-Param-{name}": ("a",)}


def test_nested_properties_may_be_annotated() -> None:
    schema = tool(where=tool(cloud=tool(region=annotated()), zone=annotated("Zone")), top=annotated("Top"))
    assert param_headers(schema) == {
        "Mcp-Param-Region": ("where", "cloud", "region"),
        "Mcp-Param-Zone": ("where", "zone"),
        "Mcp-Param-Top": ("top",),
    }


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"default": {"x-mcp-header": "A"}}, id="default"),
        pytest.param({"const": {"x-mcp-header": "A"}}, id="const"),
        pytest.param({"enum": [{"x-mcp-header": "A"}]}, id="enum"),
        pytest.param({"examples": [{"x-mcp-header": ""}]}, id="examples"),
        pytest.param({"default": {"properties": {"a": annotated()}}}, id="a default that looks like a schema"),
        pytest.param({"enum": [annotated("same"), annotated("same")]}, id="enum members that look like schemas"),
        pytest.param({"x-other": annotated()}, id="an extension that we do not know"),
    ],
)
def test_data_that_merely_contains_the_key_is_no_annotation(schema: dict[str, Any]) -> None:
    assert param_headers(tool(a={"type": "object", **schema}, b=annotated("B"))) == {"Mcp-Param-B": ("b",)}
    assert param_headers({"type": "object", **schema}) == {}


def test_a_property_may_be_called_like_the_annotation() -> None:
    schema = tool(**{"x-mcp-header": annotated("Odd"), "properties": annotated("Odder"), "items": {"type": "string"}})
    assert param_headers(schema) == {"Mcp-Param-Odd": ("x-mcp-header",), "Mcp-Param-Odder": ("properties",)}


# Annotations that make the tool invalid.


@pytest.mark.parametrize(
    "name", ["", " ", "two words", "a:b", "a/b", "a\r\nb", "a\n", "é", "a\0", "(a)", 7, None, True, ["a"], {"a": 1}]
)
def test_what_is_no_token_is_refused(name: object) -> None:
    with pytest.raises(ProtocolError, match=r"x-mcp-header .* at 'deep\.a' is no HTTP field name \(RFC 9110, 5\.1\)$"):
        param_headers(tool(deep=tool(a=annotated(name))))


@pytest.mark.parametrize("kind", ["number", "object", "array", "null", "any", "", None, ["string"], {"a": 1}, 7])
def test_other_types_are_refused(kind: object) -> None:
    with pytest.raises(ProtocolError, match=r"'Region' at 'a' is on type .*; only string, integer and boolean$"):
        param_headers(tool(a=annotated(type=kind)))


def test_an_annotation_needs_a_type() -> None:
    with pytest.raises(ProtocolError, match="is on type None;"):
        param_headers(tool(a={"x-mcp-header": "Region"}))


@pytest.mark.parametrize("second", ["Region", "region", "REGION"])
def test_a_name_used_twice_is_refused_whatever_its_case(second: str) -> None:
    with pytest.raises(ProtocolError, match=rf"'{second}' at 'b\.c' is used twice"):
        param_headers(tool(a=annotated(), b=tool(c=annotated(second))))


HIDDEN = tool(a=annotated())


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(annotated(), id="root"),
        pytest.param(tool(list={"type": "array", "items": annotated()}), id="items"),
        pytest.param(tool(list={"type": "array", "items": HIDDEN}), id="properties below items"),
        pytest.param(tool(list={"type": "array", "items": [annotated()]}), id="items as a list"),
        pytest.param(tool(list={"prefixItems": [annotated()]}), id="prefixItems"),
        pytest.param(tool(list={"contains": annotated()}), id="contains"),
        pytest.param(tool(list={"additionalItems": annotated()}), id="additionalItems"),
        pytest.param(tool(list={"unevaluatedItems": annotated()}), id="unevaluatedItems"),
        pytest.param(tool(a={"anyOf": [{"type": "null"}, annotated()]}), id="anyOf"),
        pytest.param(tool(a={"oneOf": [annotated()]}), id="oneOf"),
        pytest.param({"allOf": [HIDDEN]}, id="properties below allOf"),
        pytest.param({"not": HIDDEN}, id="not"),
        pytest.param({"if": HIDDEN}, id="if"),
        pytest.param({"then": HIDDEN}, id="then"),
        pytest.param({"else": HIDDEN}, id="else"),
        pytest.param({"patternProperties": {"^x": annotated()}}, id="patternProperties"),
        pytest.param({"additionalProperties": annotated()}, id="additionalProperties"),
        pytest.param({"unevaluatedProperties": annotated()}, id="unevaluatedProperties"),
        pytest.param({"propertyNames": annotated()}, id="propertyNames"),
        pytest.param({"dependentSchemas": {"a": HIDDEN}}, id="dependentSchemas"),
        pytest.param(tool(a={"contentSchema": annotated()}), id="contentSchema"),
        pytest.param(tool(a={"$ref": "#/$defs/r"}) | {"$defs": {"r": annotated()}}, id="$defs, reached by $ref"),
        pytest.param({"definitions": {"r": HIDDEN}}, id="definitions"),
        pytest.param(tool(good=annotated("Good"), list={"items": annotated()}), id="beside one that is right"),
        pytest.param(tool(a={"items": annotated("A"), "anyOf": [annotated("B")]}), id="two in different places"),
    ],
)
def test_an_annotation_not_reached_by_properties_alone_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=r"stands where only a chain of `properties` may lead to it$"):
        param_headers(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": [annotated()]},
        {"properties": None},
        {"properties": {"a": "string", "b": None, "c": [annotated()]}},
        {"anyOf": annotated()},
        {"$defs": [annotated()]},
        {"items": True},
    ],
)
def test_what_is_no_schema_is_passed_over(schema: dict[str, Any]) -> None:
    assert param_headers(schema) == {}


# Arguments.

HEADERS = {"Mcp-Param-A": ("a",), "Mcp-Param-C": ("b", "c")}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("us-west1", "us-west1"),
        ("", ""),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (42, "42"),
        (-7, "-7"),
        (42.0, "42"),
        (2**53 - 1, "9007199254740991"),
        (-(2**53) + 1, "-9007199254740991"),
        (float(2**53 - 1), "9007199254740991"),
    ],
)
def test_the_form_of_a_value(argument: object, value: str) -> None:
    assert mirror_arguments(HEADERS, {"a": argument}) == {"Mcp-Param-A": value}


@pytest.mark.parametrize(
    "argument",
    [None, 2**53, -(2**53), float(2**53), 1.5, float("inf"), float("nan"), [], ["a"], {}, {"a": 1}],
    ids=repr,
)
def test_what_is_null_or_has_no_header_form_gives_no_header(argument: object) -> None:
    assert mirror_arguments(HEADERS, {"a": argument}) == {}


@pytest.mark.parametrize("arguments", [{}, {"A": "x"}, {"c": "x"}, {"b": {}}, {"b": {"c": None}}, {"b": "c"}])
def test_an_absent_argument_gives_no_header(arguments: dict[str, Any]) -> None:
    assert mirror_arguments(HEADERS, arguments) == {}


def test_a_nested_argument_is_read_at_its_path() -> None:
    assert mirror_arguments(HEADERS, {"a": 1, "b": {"a": 2, "c": 3}, "c": 4}) == {
        "Mcp-Param-A": "1",
        "Mcp-Param-C": "3",
    }


def test_arguments_are_left_alone() -> None:
    arguments = {"a": " x ", "b": {"c": True}}
    mirror_arguments(HEADERS, arguments)
    assert arguments == {"a": " x ", "b": {"c": True}}
