"""Texts without secrets: in which spellings they are found, and whose they are."""

import asyncio
import base64
import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from fastapi_server.mcp import HTTPStatusError, MCPConnectionError
from fastapi_server.mcp.redaction import LastSecrets, carry, clean, redacted, spellings

SECRET = 'Pl4n/ted+s3cr"et&<é>='


def in_base64(text: str, before: str = "", after: str = "") -> str:
    return base64.b64encode(f"{before}{text}{after}".encode()).decode()


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a URL": lambda text: quote(text, safe=""),
    "in a path": quote,
    "in small letters": lambda text: re.sub("%..", lambda byte: byte[0].lower(), quote(text, safe="")),
    "in a form": quote_plus,
    "in JSON": lambda text: json.dumps(text)[1:-1],
    "in JSON that is not ASCII": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "in JSON with slashes escaped": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "in HTML": html.escape,
    "in a host": str.lower,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("given", ["{}", "Bearer {}", "Custom {}", "DPoP {}"])
def test_a_secret_is_found_in_every_spelling(spelling: str, given: str) -> None:
    shown = redacted(f"you sent <{SPELLINGS[spelling](SECRET)}>!", [given.format(SECRET)])
    assert shown == "you sent <***>!"


@pytest.mark.parametrize("before", ["", "a", "ab", "ann:"])
@pytest.mark.parametrize("after", ["", "z", "zz", ":more"])
@pytest.mark.parametrize("url_safe", [False, True])
def test_a_secret_is_found_in_base64_wherever_it_stands(before: str, after: str, url_safe: bool) -> None:
    encoded = in_base64(SECRET, before, after)
    if url_safe:
        encoded = encoded.translate(str.maketrans("+/", "-_"))
    shown = redacted(f"Basic {encoded}", [SECRET])
    assert "***" in shown
    left = shown.removeprefix("Basic ").replace("***", "").rstrip("=")
    assert len(left) <= 4 * (len(before) + len(after) + 4) // 3 + 4  # what is no part of it, and the edges


@pytest.mark.parametrize("sent", ["s3cret-of-ours", "s3cret/of ours"])
def test_the_password_in_basic_credentials_is_found(sent: str) -> None:
    header = f"Basic {in_base64(quote_plus(sent), 'ours:')}"
    assert redacted(f"{header} has {sent} and {quote_plus(sent)}", [header]) == "*** has *** and ***"


def test_what_is_no_base64_is_a_secret_all_the_same() -> None:
    assert redacted("not*base64*at*all", ["Basic not*base64*at*all"]) == "***"


def test_each_line_of_a_secret_is_one() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----\n"
    assert redacted("line 2 is kqhkiG9w0BAQEF", [key]) == "line 2 is ***"


def test_the_very_short_are_in_every_text() -> None:
    assert redacted("a short one", ["short", "", "a"]) == "a short one"
    assert not spellings("é/%<>")  # longer where they are escaped


def test_the_longest_comes_first() -> None:
    assert redacted("abcdefgh abcdefghijk", ["abcdefgh", "abcdefghijk"]) == "*** ***"


async def test_a_task_shows_what_it_carries_to_nobody() -> None:
    ready = asyncio.Barrier(100)

    async def call(number: int) -> str:
        carry(f"token-number-{number}")
        await ready.wait()
        return redacted(f"you sent token-number-{number}")

    assert await asyncio.gather(*(call(number) for number in range(100))) == ["you sent ***"] * 100
    assert redacted("token-number-1") == "token-number-1"


async def test_the_last_64_that_a_task_has_carried_count() -> None:
    for number in range(100):
        carry("the-one-in-use", f"token-number-{number:03}")
    assert redacted("token-number-099 the-one-in-use") == "*** ***"
    assert redacted("token-number-036 token-number-068") == "token-number-036 ***"


async def test_the_last_64_are_known_to_who_did_not_carry_them() -> None:
    last = LastSecrets()

    async def call(number: int) -> None:
        last.keep(f"token-number-{number:03}", "the-one-in-use", "")

    for number in range(100):
        await asyncio.create_task(call(number))
    assert redacted("token-number-099") == "token-number-099"
    assert redacted("token-number-099 token-number-037 token-number-036 the-one-in-use", last) == (
        "*** *** token-number-036 ***"
    )
    assert len(list(last)) == 64
    assert "token" not in repr(last)


def test_an_error_is_cleaned_with_all_that_led_to_it() -> None:
    """What is not ours and shows a secret goes; what does not, stays."""
    shows, plain = ValueError(SECRET), ValueError("plain")
    inner = HTTPStatusError(f"HTTP 500: {SECRET}", status=500, body=f"you sent {SECRET}")
    inner.__cause__, inner.__context__ = shows, plain
    outer = MCPConnectionError(f"no {SECRET}")
    outer.__cause__ = outer.__context__ = inner
    plain.__context__ = outer  # in a circle
    clean(outer, lambda text: redacted(text, [SECRET]))
    assert (outer.args, outer.message, inner.message, inner.body) == (
        ("no ***",),
        "no ***",
        "HTTP 500: ***",
        "you sent ***",
    )
    assert (inner.__cause__, inner.__context__, outer.__cause__) == (None, plain, inner)
