"""Which parts of a configuration are secrets, and texts of a server without them."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from pydantic.fields import FieldInfo

from fastapi_server.mcp.config import CommonConfig, ServerConfig, StdioConfig
from fastapi_server.mcp.errors import MCPClientError
from fastapi_server.mcp.protocol.jsonrpc import as_object
from fastapi_server.mcp.userinfo import USERINFO, without_userinfo

_HIDDEN = "***"
_SHORTEST = 6
_TEXTS = ("message", "body", "stderr")
"""What errors hold of a server's words; the data of a JSON-RPC error are without secrets from the start."""
_SECRET_NAME = re.compile(r"key|token|secret|pass|auth|cred", re.IGNORECASE)
_SCHEME = re.compile(r"^(?:Bearer|Basic|Token) +", re.IGNORECASE)
_OPTION = re.compile(r"(?P<name>[^=:\s]+)\s*[=:]\s*(?P<value>.+)", re.DOTALL)
_ASSIGNED = re.compile(
    rf"""(?:{_SECRET_NAME.pattern})[\w.-]*["']?\s*[=:]\s*["']?(?:(?:Bearer|Basic|Token)\s+)?(?P<value>[^\s"'&;,]+)""",
    re.IGNORECASE,
)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """`text` with `***` for each secret, bare of its scheme (`Bearer`), percent-decoded and as JSON has it, too.

    Not for the very short.

    The URLs in it lose user and password, whosever they are.
    """
    forms = {form for secret in secrets for form in _forms(secret) if len(form) >= _SHORTEST}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return without_userinfo(text)


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


def _forms(secret: str) -> tuple[str, ...]:
    bare = _SCHEME.sub("", secret)
    quoted = json.dumps(bare)[1:-1]
    return secret, bare, unquote(bare), quoted, quoted.replace("/", "\\/")


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
    for url in USERINFO.finditer(text):
        yield url["whole"]
        yield url["user"] if url["password"] is None else url["password"]
    for assigned in _ASSIGNED.finditer(text):
        yield assigned["value"]
