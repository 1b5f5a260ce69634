"""Which parts of a configuration are secrets, and texts of a server without them."""

import dataclasses
import html
import json
import re
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from pydantic.fields import FieldInfo

from fastapi_server.mcp.config import CommonConfig, ServerConfig, StdioConfig
from fastapi_server.mcp.errors import MCPClientError
from fastapi_server.mcp.protocol.jsonrpc import as_object

_HIDDEN = "***"
_SHORTEST = 6
_MOST_KEPT = 64
_TEXTS = ("message", "body", "stderr")
"""What errors hold of a server's words; the data of a JSON-RPC error are without secrets from the start."""
_SECRET_NAME = re.compile(r"key|token|secret|pass|auth|cred", re.IGNORECASE)
_SCHEME = re.compile(r"^[A-Za-z][\w-]* +(?=\S+$)")
_OPTION = re.compile(r"(?P<name>[^=:\s]+)\s*[=:]\s*(?P<value>.+)", re.DOTALL)
_ASSIGNED = re.compile(
    rf"""(?:{_SECRET_NAME.pattern})[\w.-]*["']?\s*[=:]\s*["']?(?:(?:Bearer|Basic|Token)\s+)?(?P<value>[^\s"'&;,]+)""",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"://(?P<whole>(?P<user>[^\s/?#@:]*)(?::(?P<password>[^\s/?#]*))?)@")
_PERCENT = re.compile(r"%[0-9A-F]{2}")
_URL_SAFE = str.maketrans("+/", "-_")

_carried: ContextVar[tuple[str, ...]] = ContextVar("_carried", default=())


class LastSecrets:
    """The last 64 secrets that somebody has used, whoever asks."""

    def __init__(self) -> None:
        self._kept: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"LastSecrets({len(self._kept)} kept)"

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def keep(self, *secrets: str) -> None:
        """Note some, and that this task carries them."""
        self._kept = _with(self._kept, secrets)
        carry(*secrets)


def carry(*secrets: str) -> None:
    """Note what this task sends or was given: no text that it has redacted from now on shows that.

    The last 64 count, so those of the present request do, however many others are under way with other ones.
    """
    _carried.set(_with(_carried.get(), secrets))


def _with(kept: tuple[str, ...], secrets: tuple[str, ...]) -> tuple[str, ...]:
    if not secrets or kept[-len(secrets) :] == secrets:
        return kept
    return (*(one for one in kept if one not in secrets), *filter(None, secrets))[-_MOST_KEPT:]


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with `***` for each secret, and for each that this task carries, in all their spellings.

    The URLs in it lose user and password, whosever they are.
    """
    for spelling in _longest_first(frozenset((*secrets, *_carried.get()))):
        text = text.replace(spelling, _HIDDEN)
    return _USERINFO.sub(f"://{_HIDDEN}@", text)


@lru_cache(maxsize=16)
def _longest_first(secrets: frozenset[str]) -> tuple[str, ...]:
    found = {spelling for secret in secrets for spelling in spellings(secret)}
    return tuple(sorted(found, key=len, reverse=True))


@lru_cache(maxsize=128)
def spellings(secret: str) -> frozenset[str]:
    """How a secret may stand in a text; none of the very short, which stand in any.

    Bare of its scheme (`Bearer`, or another word), line by line, percent-decoded; and what URLs, forms, JSON, HTML and
    base64 make of each, the last one at any place in what is encoded.
    """
    bare = _SCHEME.sub("", secret)
    plain = {secret, bare, unquote(bare), *bare.splitlines()}
    if bare != secret and secret.lower().startswith("basic"):
        plain |= _of_basic(bare)
    long = (text for text in plain if len(text) >= _SHORTEST)
    return frozenset(spelling for text in long for spelling in (text, *_written(text)) if len(spelling) >= _SHORTEST)


def _of_basic(encoded: str) -> set[str]:
    """The password (RFC 7617, 2), which OAuth encodes as a form (RFC 6749, 2.3.1)."""
    try:
        password = b64decode(encoded, validate=True).decode().partition(":")[2]
    except (NoBase64, ValueError):
        return set()
    return {password, unquote_plus(password)}


def _written(text: str) -> Iterator[str]:
    data = text.encode(errors="surrogatepass")
    for escaped in (quote(data), quote(data, safe=""), quote_plus(data)):
        yield escaped
        yield _PERCENT.sub(lambda byte: byte[0].lower(), escaped)
    for ascii_only in (True, False):
        escaped = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield escaped.replace("/", "\\/")
    yield html.escape(text)
    yield text.lower()  # in the host of a URL
    yield from _in_base64(data)


def _in_base64(data: bytes) -> Iterator[str]:
    """What is the same whatever stands before it and after it."""
    for before, unsure in enumerate((0, 2, 3)):
        encoded = b64encode(bytes(before) + data).decode().rstrip("=")
        sure = encoded[unsure : len(encoded) - bool((before + len(data)) % 3)]
        yield sure
        yield sure.translate(_URL_SAFE)


def clean(error: MCPClientError, redacted: Callable[[str], str]) -> None:
    """Have an error, and what led to it, show nothing that `redacted` takes out of a text.

    Errors of ours lose it from their texts. Others are not ours to change: one that shows it goes whole.
    """
    seen: set[int] = set()
    chain: list[BaseException] = [error]
    while chain:
        one = chain.pop()
        seen.add(id(one))
        if isinstance(one, MCPClientError):
            _clean_texts(one, redacted)
        for link in ("__cause__", "__context__"):
            linked: BaseException | None = getattr(one, link)
            if linked is None or id(linked) in seen:
                continue
            if not isinstance(linked, MCPClientError) and _shows(linked, redacted):
                setattr(one, link, None)
            else:
                chain.append(linked)


def _clean_texts(error: MCPClientError, redacted: Callable[[str], str]) -> None:
    error.args = tuple(redacted(arg) if isinstance(arg, str) else arg for arg in error.args)
    for name in _TEXTS:
        text = getattr(error, name, None)
        if isinstance(text, str):
            setattr(error, name, redacted(text))


def _shows(error: BaseException, redacted: Callable[[str], str]) -> bool:
    text = f"{error}\n{error!r}"
    return redacted(text) != text


def redacted_settings(config: ServerConfig) -> dict[str, Any]:
    """What a configuration says beyond the defaults, as plain values that may be shown to anybody.

    Of `env` and `headers` the names, of `api_key`, `auth` and the query of a URL only that they are there; arguments
    of a program without what is secret in them. Of a transport of your own, the names of its settings.
    """
    settings = config.config
    if not isinstance(settings, CommonConfig):
        return dict.fromkeys(as_object(settings), _HIDDEN)
    fields = cast("dict[str, FieldInfo]", vars(type(settings))["__pydantic_fields__"])
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    said = {name: getattr(settings, name) for name in fields}
    if isinstance(settings, StdioConfig):
        secrets = process_secrets(settings.args, settings.env)
        said["args"] = [redacted(arg, secrets) for arg in settings.args]
    return {name: _shown(name, value) for name, value in said.items() if value not in (None, defaults[name])}


def _shown(name: str, value: Any) -> Any:
    match name:
        case "env" | "headers":
            return dict.fromkeys(as_object(value), _HIDDEN) if isinstance(value, dict) else _HIDDEN
        case "api_key" | "auth":
            return _HIDDEN
        case "endpoint":
            head, mark, _query = str(value).partition("?")
            return head + (mark and "?…")
        case "tools":
            return dataclasses.asdict(value)
        case _:
            return str(value) if isinstance(value, Path) else value


def process_secrets(args: Sequence[str], env: Mapping[str, str]) -> frozenset[str]:
    """What a process is given that is secret by its name, `--token S` or `API_KEY`, or by its place in a URL."""
    named = (value for name, value in env.items() if _SECRET_NAME.search(name))
    inside = (secret for text in (*args, *env.values()) for secret in _inside(text))
    return frozenset((*named, *_of_arguments(args), *inside))


def _of_arguments(args: Sequence[str]) -> Iterator[str]:
    for arg, following in pairwise((*args, "")):
        option = _OPTION.fullmatch(arg)
        if option is not None:
            if _SECRET_NAME.search(option["name"]):
                yield option["value"]
        elif arg.startswith("-") and _SECRET_NAME.search(arg) and not following.startswith("--"):
            yield following


def _inside(text: str) -> Iterator[str]:
    """`S` of `postgres://user:S@host`, `https://S@host`, `?token=S`, `password=S`, `{"Authorization": "Bearer S"}`."""
    for url in _USERINFO.finditer(text):
        yield url["whole"]
        yield url["user"] if url["password"] is None else url["password"]
    for assigned in _ASSIGNED.finditer(text):
        yield assigned["value"]
