"""What a refusal asks for: the `WWW-Authenticate` header (RFC 9110, 11.6.1; RFC 6750, 3; RFC 9449, 7.1 and 9)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PARAMETER = re.compile(r'(?P<name>[a-z_]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s,"]+))', re.IGNORECASE)


@dataclass(frozen=True)
class Challenge:
    """The parameters of it that matter here.

    Attributes:
        error: For instance `invalid_token`, `insufficient_scope` or `use_dpop_nonce`.
        scopes: What the request needs, in the order given.
        nonce: For the next DPoP proof.
    """

    error: str | None = None
    scopes: tuple[str, ...] = ()
    nonce: str | None = None


def read_challenge(headers: Mapping[str, str]) -> Challenge:
    """Read the headers of a response. What is malformed counts as not there."""
    found: dict[str, str] = {}
    for parameter in _PARAMETER.finditer(headers.get("WWW-Authenticate", "")):
        value = parameter["quoted"] if parameter["quoted"] is not None else parameter["bare"]
        found.setdefault(parameter["name"].lower(), value)
    return Challenge(found.get("error"), tuple(found.get("scope", "").split()), headers.get("DPoP-Nonce"))
