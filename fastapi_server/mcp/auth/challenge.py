"""What a refusal asks for: the `WWW-Authenticate` lines (RFC 9110, 11.6.1; RFC 6750, 3; RFC 9449, 7.1 and 9)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from multidict import CIMultiDict
from yarl import URL

_TOKEN = r"[\w!#$%&'*+.^`|~-]+"  # noqa: S105 - of a header
_PART = re.compile(
    rf'(?P<name>{_TOKEN})(?:\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s,"=]+)))?',
    re.ASCII,
)
_ESCAPED = re.compile(r"\\(.)")
_NOT_IN_A_VALUE = re.compile(r'[^\x20-\x7e]|["\\]')
_SHOWN = ("error", "scope", "resource_metadata")


@dataclass(frozen=True)
class Challenge:
    """The parameters that matter here.

    Attributes:
        error: For instance `invalid_token`, `insufficient_scope` or `use_dpop_nonce`.
        scopes: What the request needs, in the order given.
        nonce: For the next DPoP proof.
        resource_metadata: Where the metadata of the server is (RFC 9728, 5.1).
    """

    error: str | None = None
    scopes: tuple[str, ...] = ()
    nonce: str | None = None
    resource_metadata: str | None = None

    @property
    def header(self) -> str:
        """The same as one challenge, which everybody reads alike."""
        values = {"error": self.error, "scope": " ".join(self.scopes), "resource_metadata": self.resource_metadata}
        parameters = ", ".join(f'{name}="{values[name]}"' for name in _SHOWN if values[name])
        return f"Bearer {parameters}".strip()


def read_challenge(headers: Mapping[str, str], *, bound: bool = False) -> Challenge:
    """Read the headers of a response. What is malformed counts as not there.

    Args:
        headers: Names in any case; those of a multidict may be there several times.
        bound: The token is bound to a key, so what is said of `DPoP` comes before what is said of `Bearer`.
    """
    schemes = _schemes(CIMultiDict(headers).getall("WWW-Authenticate", []))
    order = ("dpop", "bearer") if bound else ("bearer", "dpop")
    found: dict[str, str] = {}
    for scheme in sorted(schemes, key=lambda name: order.index(name) if name in order else len(order)):
        found = schemes[scheme] | found
    return Challenge(
        found.get("error"),
        tuple(found.get("scope", "").split()),
        CIMultiDict(headers).get("DPoP-Nonce"),
        _url(found.get("resource_metadata", "")),
    )


def _url(value: str) -> str | None:
    try:
        return value if URL(value).host else None
    except ValueError:
        return None


def _schemes(lines: list[str]) -> dict[str, dict[str, str]]:
    """The parameters of each scheme: a name without a value begins the next one."""
    schemes: dict[str, dict[str, str]] = {}
    for line in lines:
        parameters = schemes.setdefault("", {})
        for part in _PART.finditer(line):
            value = part["bare"] if part["quoted"] is None else _ESCAPED.sub(r"\1", part["quoted"])
            if value is None:
                parameters = schemes.setdefault(part["name"].lower(), {})
            elif not _NOT_IN_A_VALUE.search(value):
                parameters.setdefault(part["name"].lower(), value)
    return schemes
