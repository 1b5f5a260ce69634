"""Entries without their secrets, and with them again."""

from typing import Any

import pytest

from fastapi_server.gateway.entries import restored, shown
from fastapi_server.mcp import ConfigError

PROGRAM: dict[str, Any] = {
    "command": "serve",
    "args": ["--token", "s3cr3t-a", "--depth=2", "--token=s3cr3t-b", "${HOME}/data"],
    "env": {"API_KEY": "s3cr3t-c", "FROM": "${ELSEWHERE}"},
    "timeout": 5_000,
}
REMOTE: dict[str, Any] = {
    "httpUrl": "https://example.com/mcp?key=s3cr3t-d",
    "apiKey": "s3cr3t-e",
    "headers": {"X-Key": "s3cr3t-f", "Authorization": "Bearer ${TOKEN}", "X-Other": "${TOKEN:-s3cr3t-g}"},
}
SIGNED_IN: dict[str, Any] = {"url": "https://example.com/mcp", "auth": {"type": "bearer", "token": "s3cr3t-h"}}


def test_no_secret_is_shown_and_what_is_none_is() -> None:
    assert shown(PROGRAM) == {
        "command": "serve",
        "args": ["--token", "***", "--depth=2", "--token=***", "${HOME}/data"],
        "env": {"API_KEY": "***", "FROM": "${ELSEWHERE}"},
        "timeout": 5_000,
    }
    assert shown(REMOTE) == {
        "httpUrl": "https://example.com/mcp?***",
        "apiKey": "***",
        "headers": {"X-Key": "***", "Authorization": "Bearer ${TOKEN}", "X-Other": "***"},
    }
    assert shown(SIGNED_IN)["auth"] == "***"


@pytest.mark.parametrize("entry", [PROGRAM, REMOTE, SIGNED_IN], ids=["program", "remote", "signed in"])
def test_an_entry_that_was_not_touched_is_the_same(entry: dict[str, Any]) -> None:
    assert restored(shown(entry), entry) == entry


def test_arguments_keep_their_secrets_wherever_they_move() -> None:
    changed = {**shown(PROGRAM), "args": ["--new", "--token=***", "--token", "***"]}
    assert restored(changed, PROGRAM)["args"] == ["--new", "--token=s3cr3t-b", "--token", "s3cr3t-a"]


def test_a_url_keeps_its_query_on_another_path_and_under_another_name() -> None:
    changed = {"url": "https://example.com/v2?***", "api_key": "***"}
    assert restored(changed, REMOTE) == {"url": "https://example.com/v2?key=s3cr3t-d", "api_key": "s3cr3t-e"}


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ({"command": "serve", "env": {"OTHER": "***"}}, "env.OTHER"),
        ({"command": "serve", "env": {"API_KEY": "x***"}}, "env.API_KEY"),
        ({"command": "serve", "args": ["--password=***"]}, "args.0"),
        ({"url": "https://example.com/mcp?***"}, "url"),
        ({"url": "https://example.com/mcp", "auth": "***"}, "auth"),
    ],
)
def test_a_secret_that_is_not_there_is_asked_for(entry: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{place}: .*give the secret itself"):
        restored(entry, PROGRAM)
