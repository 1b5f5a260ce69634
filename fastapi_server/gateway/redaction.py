"""Arguments as they may be kept: without secrets, not too long, and in a form that every database takes."""

import math
import re
from collections.abc import Mapping
from typing import Any, cast

REDACTED = "[redacted]"

_LONGEST = 500
_DEEPEST = 8
_MOST_MEMBERS = 100
_SECRET = re.compile(
    r"passw(or)?d|passphrase|(^|[_-])pass$|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credential|authorization|cookie"
    r"|^auth$|^pin$|^otp$",
    re.IGNORECASE,
)


def redacted(arguments: Mapping[str, Any], schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments without what looks like a secret by its name, or is one by the schema.

    Args:
        arguments: Of a call.
        schema: Of the arguments; what it says is `writeOnly`, or of the format `password`, is a secret.
    """
    secrets = frozenset(_secrets_of(schema)) if schema is not None else frozenset[str]()
    return cast("dict[str, Any]", _redacted(arguments, secrets, _DEEPEST))


def plain_text(text: str) -> str:
    """Without what not every database takes as text: NUL and lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _redacted(value: Any, secrets: frozenset[str], depth: int) -> Any:
    match value:
        case str():
            cut = f"{value[:_LONGEST]}… ({len(value)} characters)" if len(value) > _LONGEST else value
            return plain_text(cut)
        case float() if not math.isfinite(value):
            return str(value)
        case Mapping() | list() if depth == 0:
            return "…"
        case Mapping():
            members = list(cast("Mapping[str, Any]", value).items())[:_MOST_MEMBERS]
            return {
                plain_text(name[:_LONGEST]): REDACTED
                if name in secrets or _SECRET.search(name)
                else _redacted(one, secrets, depth - 1)
                for name, one in members
            }
        case list():
            return [_redacted(one, secrets, depth - 1) for one in cast("list[Any]", value)[:_MOST_MEMBERS]]
        case _:
            return value


def _secrets_of(schema: Any) -> set[str]:
    """Names of properties that are secrets, anywhere in a schema."""
    found: set[str] = set()
    parts: list[Any] = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts.extend(cast("list[Any]", part))
        elif isinstance(part, Mapping):
            members = cast("Mapping[str, Any]", part)
            parts.extend(members.values())
            properties = members.get("properties")
            if isinstance(properties, Mapping):
                named = cast("Mapping[str, Any]", properties)
                found.update(name for name, one in named.items() if _is_secret(one))
    return found


def _is_secret(property_schema: Any) -> bool:
    """By itself, or by one of its choices: an optional secret is one, too."""
    if not isinstance(property_schema, Mapping):
        return False
    members = cast("Mapping[str, Any]", property_schema)
    choices = [members.get(key) for key in ("anyOf", "oneOf", "allOf")]
    listed = [one for choice in choices if isinstance(choice, list) for one in cast("list[Any]", choice)]
    return any(isinstance(one, Mapping) and _is_marked(cast("Mapping[str, Any]", one)) for one in [members, *listed])


def _is_marked(schema: Mapping[str, Any]) -> bool:
    return schema.get("writeOnly") is True or schema.get("format") == "password"
