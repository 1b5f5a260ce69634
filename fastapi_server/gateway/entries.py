"""Entries of an `mcp.json` as they may be shown, with `***` for each secret, and what such an entry stands for."""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from fastapi_server.mcp import ConfigError, ServerConfig, redacted_settings

Entry: TypeAlias = Mapping[str, Any]

HIDDEN = "***"

_URLS = re.compile(r"url|serverurl|httpurl|endpoint")
_PAIRS = frozenset({"env", "headers"})
_SECRETS = frozenset({"apikey", "auth"})
_REFERENCE = re.compile(r"(?:(?:Bearer|Basic|Token) +)?\$\{(?:env:)?[A-Za-z_]\w*\}")
"""Says where a secret is found, and not what it is."""


def shown(entry: Entry) -> dict[str, Any]:
    """An entry without its secrets; references such as `${TOKEN}` stay.

    Those are the values of `env` and `headers`, what signs in, the query of a URL, and what is secret in arguments.
    """
    own = {_plain(key): value for key, value in entry.items()}
    return {key: _shown(_plain(key), value, own) for key, value in entry.items()}


def restored(entry: Entry, before: Entry) -> dict[str, Any]:
    """An entry that was shown, and perhaps changed, with its secrets: `***` stands for what `before` has in its place.

    Raises:
        ConfigError: `before` has nothing there, or the entry is nested too deep.
    """
    own = {_plain(key): value for key, value in before.items()}
    masks = {_plain(key): value for key, value in shown(before).items()}
    whole = dict[str, Any]()
    for key, value in entry.items():
        name = _plain(key)
        asked = _with_query(value, own.get(name)) if name == "url" and isinstance(value, str) else value
        try:
            whole[key] = _restored(key, asked, own.get(name), masks.get(name))
        except RecursionError:
            raise ConfigError(f"{key}: is nested too deep") from None
    return whole


def _plain(key: str) -> str:
    """One spelling for `apiKey` and `api_key`, and one for all names of the URL."""
    key = key.replace("_", "").lower()
    return "url" if _URLS.fullmatch(key) else key


def _shown(key: str, value: Any, own: Entry) -> Any:
    if key in _PAIRS and isinstance(value, dict):
        return {name: _masked(one) for name, one in _members(value).items()}
    if key in _SECRETS:
        return _masked(value)
    if key == "url" and isinstance(value, str):
        head, mark, _query = value.partition("?")
        return head + (mark and f"?{HIDDEN}")
    if key == "args":
        settings = {"command": HIDDEN, "args": value, "env": own.get("env", {})}
        return redacted_settings(ServerConfig(HIDDEN, "stdio", settings)).get("args", [])
    return value


def _masked(value: Any) -> Any:
    return value if isinstance(value, str) and _REFERENCE.fullmatch(value) else HIDDEN


def _with_query(url: str, before: Any) -> str:
    """A URL that asks for the query of the one before, on whatever path."""
    head, mark, query = url.partition("?")
    kept = before.partition("?")[2] if isinstance(before, str) else ""
    return f"{head}?{kept}" if mark and query == HIDDEN and kept else url


def _restored(path: str, value: Any, before: Any, mask: Any) -> Any:
    """What `value` stands for, where `mask` was shown of `before`."""
    if isinstance(value, dict):
        members, old, masks = _members(value), _members(before), _members(mask)
        return {key: _restored(f"{path}.{key}", one, old.get(key), masks.get(key)) for key, one in members.items()}
    if isinstance(value, list):
        return _restored_items(path, _items(value), _items(before), _items(mask))
    if not isinstance(value, str) or HIDDEN not in value:
        return value
    if value == mask:
        return before
    raise ConfigError(f"{path}: {HIDDEN} stands for a secret that is not there: give the secret itself")


def _restored_items(path: str, items: list[Any], before: list[Any], masks: list[Any]) -> list[Any]:
    """Each item that was shown stands for one that looked so, wherever it is now."""
    left = list(zip(masks, before, strict=False))
    found: list[Any] = []
    for index, item in enumerate(items):
        mask, old = next((pair for pair in left if pair[0] == item), (None, None))
        if mask is not None:
            left.remove((mask, old))
        found.append(_restored(f"{path}.{index}", item, old, mask))
    return found


def _members(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
