"""HTTP headers that mirror a request (2026-07-28, Streamable HTTP, "Request Metadata")."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from fastapi_server.mcp.errors import ProtocolError
from fastapi_server.mcp.protocol.jsonrpc import as_object

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_PLAIN = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?\Z")
_SENTINEL = re.compile(r"=\?base64\?.*\?=\Z", re.DOTALL)
_ANNOTATION = "x-mcp-header"
_MIRRORED_TYPES = frozenset({"string", "integer", "boolean"})
_SAFE_INTEGER = 2**53 - 1

ParamHeaders = dict[str, tuple[str, ...]]
"""Header name to the path of the argument that it mirrors."""


def encode_header_value(text: str) -> str:
    """`text` as it is where that is a safe header value, otherwise its Base64 form (2026-07-28, "Value Encoding")."""
    if text == "" or (_PLAIN.match(text) and not _SENTINEL.match(text)):
        return text
    return f"=?base64?{base64.b64encode(text.encode('utf-8', 'surrogatepass')).decode('ascii')}?="


def may_ask_for_headers(pages: Sequence[bytes | bytearray]) -> bool:
    """Whether a tool of a list may ask for headers. Few do, which their text tells sooner than their schemas.

    Args:
        pages: The list as JSON, in which any letter may be escaped (RFC 8259, 7); none where that is not at hand.
    """
    return not pages or any(_may_be_annotated(page) for page in pages)


def _may_be_annotated(text: bytes | bytearray) -> bool:
    annotated = text.rfind(_ANNOTATION.encode()) >= 0  # from the end, because it begins with the rarest of its letters
    return annotated or (b"\\" in text and b"\\u00" in text)


def param_headers(input_schema: Mapping[str, Any]) -> ParamHeaders:
    """The `Mcp-Param-*` headers that a tool's input schema asks for.

    Raises:
        ProtocolError: An annotation breaks the rules, which makes the whole tool invalid; the message says how.
    """
    if _ANNOTATION.encode() not in msgspec.json.encode(input_schema):  # cheaper than to walk through it
        return {}
    headers: ParamHeaders = {}
    seen: set[str] = set()
    allowed = 0
    for path, name, schema in _reachable(input_schema, ()):
        allowed += 1
        _check_annotation(path, name, schema)
        if name.lower() in seen:
            raise ProtocolError(f"{_ANNOTATION} {name!r} at {'.'.join(path)!r} is used twice (letter case is ignored)")
        seen.add(name.lower())
        headers[f"Mcp-Param-{name}"] = path
    if _count_annotations(input_schema) != allowed:
        raise ProtocolError(f"an {_ANNOTATION} stands where only a chain of `properties` may lead to it")
    return headers


def mirror_arguments(headers: ParamHeaders, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Values of the headers for one call; an argument that is absent or null has none."""
    mirrored: dict[str, str] = {}
    for header, path in headers.items():
        value: Any = dict(arguments)
        for step in path:
            value = as_object(value).get(step)
        text = _as_text(value)
        if text is not None:
            mirrored[header] = encode_header_value(text)
    return mirrored


def _as_text(value: Any) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case int() if abs(value) <= _SAFE_INTEGER:
            return str(value)
        case float() if value.is_integer() and abs(value) <= _SAFE_INTEGER:
            return str(int(value))
        case str():
            return value
        case _:
            return None


def _check_annotation(path: tuple[str, ...], name: Any, schema: Mapping[str, Any]) -> None:
    where = ".".join(path)
    if not isinstance(name, str) or not _TOKEN.match(name):
        raise ProtocolError(f"{_ANNOTATION} {name!r} at {where!r} is no HTTP field name (RFC 9110, 5.1)")
    kind = schema.get("type")
    if not isinstance(kind, str) or kind not in _MIRRORED_TYPES:
        raise ProtocolError(
            f"{_ANNOTATION} {name!r} at {where!r} is on type {kind!r}; only string, integer and boolean"
        )


def _reachable(
    schema: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any, Mapping[str, Any]]]:
    """Annotated properties that a chain of `properties` keys leads to."""
    for key, value in as_object(schema.get("properties")).items():
        property_schema = as_object(value)
        if _ANNOTATION in property_schema:
            yield (*path, key), property_schema[_ANNOTATION], property_schema
        yield from _reachable(property_schema, (*path, key))


_SCHEMA_VALUED = frozenset(
    {"items", "contains", "not", "if", "then", "else", "additionalProperties", "propertyNames"}
    | {"unevaluatedItems", "unevaluatedProperties", "contentSchema", "additionalItems"}
)
_SCHEMA_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_SCHEMA_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})


def _count_annotations(schema: Any) -> int:
    """Annotations anywhere a schema can stand; a default or an example that merely looks like one is none."""
    members = as_object(schema)
    count = int(_ANNOTATION in members)
    for key, value in members.items():
        if key in _SCHEMA_MAPS:
            count += sum(_count_annotations(member) for member in as_object(value).values())
        elif key in _SCHEMA_LISTS and isinstance(value, list):
            count += sum(_count_annotations(member) for member in cast("list[Any]", value))
        elif key in _SCHEMA_VALUED:
            count += _count_annotations(value)
    return count
