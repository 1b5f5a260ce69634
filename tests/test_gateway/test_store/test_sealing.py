"""Entries of servers as they are stored."""

import json
from typing import Any

import pytest

from fastapi_server.gateway.store import Seal
from fastapi_server.mcp import ConfigError

ENTRY = {"url": "https://h/", "headers": {"Authorization": "Bearer s3cr3t"}}


def test_what_is_sealed_opens_again_and_shows_nothing() -> None:
    sealed = Seal("a" * 32).sealed("one", ENTRY)
    assert "s3cr3t" not in json.dumps(sealed)
    assert "https" not in json.dumps(sealed)
    assert Seal("a" * 32).opened("one", sealed) == ENTRY


@pytest.mark.parametrize(
    ("secret", "name", "stored"),
    [
        ("b" * 32, "one", None),
        ("a" * 32, "two", None),
        ("a" * 32, "one", ENTRY),
        ("a" * 32, "one", {"sealed": "no base64!"}),
        ("a" * 32, "one", {"sealed": "c2hvcnQ="}),
        ("a" * 32, "one", {"sealed": 5}),
    ],
)
def test_what_was_not_sealed_here_for_that_name_does_not_open(secret: str, name: str, stored: Any) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' was stored under another secret.*replace or remove it"):
        Seal(secret).opened(name, stored or Seal("a" * 32).sealed("one", ENTRY))
