"""Reading `WWW-Authenticate`: several schemes, in several lines or in one."""

import pytest
from multidict import CIMultiDict

from fastapi_server.mcp.auth.challenge import Challenge, read_challenge

BEARER = 'Bearer error="invalid_token", resource_metadata="https://a.example/m", scope="read write"'
DPOP = 'DPoP algs="ES256 PS256", error="use_dpop_nonce"'


def lines(*values: str, nonce: str | None = None) -> CIMultiDict[str]:
    headers = CIMultiDict[str]()
    for value in values:
        headers.add("www-authenticate", value)
    if nonce is not None:
        headers["dpop-nonce"] = nonce
    return headers


@pytest.mark.parametrize("given", [(BEARER, DPOP), (DPOP, BEARER), (f"{BEARER}, {DPOP}",), (f"{DPOP}, {BEARER}",)])
def test_each_scheme_is_read_for_itself(given: tuple[str, ...]) -> None:
    headers = lines('Basic realm="error=no, x"', *given, nonce="n")
    scopes, metadata = ("read", "write"), "https://a.example/m"

    assert read_challenge(headers) == Challenge("invalid_token", scopes, "n", metadata)
    assert read_challenge(headers, bound=True) == Challenge("use_dpop_nonce", scopes, "n", metadata)


def test_names_have_any_case_and_values_need_no_quotes() -> None:
    assert read_challenge({"WWW-AUTHENTICATE": "bearer ERROR = invalid_token,scope=read"}) == Challenge(
        "invalid_token", ("read",)
    )


def test_what_belongs_to_no_scheme_counts() -> None:
    assert read_challenge({"WWW-Authenticate": 'error="insufficient_scope"'}).error == "insufficient_scope"


@pytest.mark.parametrize(
    "value", ["", "Negotiate YWJj==", "Bearer", ",,,", 'Bearer error="', "=", '"', 'Bearer error="a\\"b"', "Bearer é"]
)
def test_what_is_malformed_counts_as_not_there(value: str) -> None:
    assert read_challenge({"WWW-Authenticate": value}) == Challenge()


@pytest.mark.parametrize("value", ["é", "x y", "/metadata", "https://h:99999/m", "https://h:abc/m", "https://xn--/m"])
def test_metadata_at_no_url_counts_as_not_there(value: str) -> None:
    assert read_challenge({"WWW-Authenticate": f'Bearer resource_metadata="{value}", error="e"'}) == Challenge("e")


@pytest.mark.parametrize("character", ["é", "\udc80", "\x80", "\x1b"])
def test_what_no_header_may_hold_counts_as_not_there(character: str) -> None:
    value = f'Bearer scope="l{character}se", error={character}, error="e"'
    assert read_challenge({"WWW-Authenticate": value}) == Challenge("e")


def test_the_header_holds_one_challenge() -> None:
    assert Challenge().header == "Bearer"
    found = read_challenge(lines('Basic realm="x"', BEARER))
    assert read_challenge({"WWW-Authenticate": found.header}) == found
