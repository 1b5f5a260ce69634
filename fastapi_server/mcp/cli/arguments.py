"""From `--arg k=v` and `--json '{…}'` to the arguments of a tool, typed as its input schema says."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from fastapi_server.mcp import ConfigError
from fastapi_server.mcp.protocol.jsonrpc import as_object

_JSON_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),  # before int, which it is a kind of
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """`k=v` split at the first `=`.

    Raises:
        ConfigError: There is none.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise ConfigError(f"--arg takes NAME=VALUE, not {text!r}")
        found[key] = value
    return found


def json_object(text: str | None) -> dict[str, Any]:
    """What `--json` holds; nothing where it is left out.

    Raises:
        ConfigError: It is no JSON object.
    """
    try:
        value: Any = {} if text is None else json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--json is not JSON: {error} (for output as JSON: --output json)") from None
    if not isinstance(value, dict):
        raise ConfigError("--json takes a JSON object with the arguments (for output as JSON: --output json)")
    return cast("dict[str, Any]", value)


def typed(values: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Each value as JSON where it is JSON, else as a string; what the schema says is a string stays one.

    Args:
        values: From the command line.
        schema: The tool's input schema; empty where it is not known.
    """
    properties = as_object(schema.get("properties"))
    return {name: _typed(text, _types(properties.get(name), schema, set())) for name, text in values.items()}


def _typed(text: str, types: set[str]) -> Any:
    if types == {"string"}:
        return text
    try:
        value = json.loads(text, parse_constant=_no_json)
    except ValueError:
        return text
    kind = next((name for known, name in _JSON_TYPES if isinstance(value, known)), "null")
    fits = kind in types or (kind == "integer" and "number" in types)
    return text if "string" in types and not fits else value


def _no_json(constant: str) -> Any:
    """Python would read `NaN` and `Infinity`."""
    raise ValueError(constant)


def _types(property_schema: Any, root: Mapping[str, Any], seen: set[str]) -> set[str]:
    """The JSON types that a schema allows, as far as `type`, `anyOf`, `oneOf` and a local `$ref` say."""
    schema = as_object(property_schema)
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/") and reference not in seen:
        target: Any = root
        for step in reference[2:].split("/"):
            target = as_object(target).get(step.replace("~1", "/").replace("~0", "~"))
        return _types(target, root, seen | {reference})
    said = schema.get("type")
    types = {name for name in (said, *items(said)) if isinstance(name, str)}
    for choice in (*items(schema.get("anyOf")), *items(schema.get("oneOf"))):
        types |= _types(choice, root, seen)
    return types


def items(value: Any) -> list[Any]:
    """The value, if it is a list; else an empty one: schemas are whatever a server says."""
    return cast("list[Any]", value) if isinstance(value, list) else []
