"""What people see, and what machines read."""

import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

from pydantic import BaseModel
from rich import box
from rich.console import Console, RenderableType
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from fastapi_server.mcp import AuthorizationRequired, MCPClientError, ServerInfo

_PIPED_WIDTH = 120
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_TRANSPORTS = {"sse": "HTTP+SSE", "http": "Streamable HTTP", "rest": "REST dialect", "rpc": "RPC dialect"}


def _console(*, stderr: bool) -> Console:
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if terminal or "COLUMNS" in os.environ else _PIPED_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


@cache
def out() -> Console:
    """Standard output: results, and nothing else."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """Standard error: errors, warnings, spinners and progress."""
    return _console(stderr=True)


class _Warnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        err().print(Text(f"warning: {shown(record.getMessage())}", "yellow"), soft_wrap=True)


def show_warnings() -> None:
    """Have what the clients log as a warning printed to standard error, without tearing a spinner."""
    logging.getLogger("fastapi_server.mcp").handlers = [_Warnings(logging.WARNING)]


def shown(text: str) -> str:
    """A server's text for a terminal: control characters, with which it could write anywhere, are made visible."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text.replace("\r\n", "\n"))


def summary(error: MCPClientError) -> str:
    """An error in one line, with the last line of what the server's process wrote."""
    first, _, rest = error.message.partition("\n")
    last = rest.strip().rpartition("\n")[2]
    return f"{first.removesuffix('; its stderr ends:')}: {last}" if last else first


def complain(error: MCPClientError) -> None:
    """An error on standard error: one red line, and what the server's process wrote below it."""
    first, _, rest = shown(str(error)).partition("\n")
    if isinstance(error, AuthorizationRequired):
        first = f"{error.server}: sign in first: mcp-clients login {shlex.quote(error.server or 'SERVER')}"
    err().print(Text(f"error: {first}", "red"), soft_wrap=True)
    if rest:
        err().print(Text(rest, "dim"), soft_wrap=True)


def say(text: str) -> None:
    """A server's text, as it is where nobody looks at a terminal."""
    if out().is_terminal:
        out().print(shown(text), soft_wrap=True)
    else:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def say_json(value: Any) -> None:
    """One JSON document; pydantic models with the names of the protocol."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_plain)
    text = _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    if out().is_terminal:
        out().print(JSONHighlighter()(text), soft_wrap=True)
    else:
        sys.stdout.write(f"{text}\n")


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def error_json(error: MCPClientError) -> dict[str, Any]:
    """An error for machines."""
    return {"type": type(error).__name__, "message": str(error), "phase": error.phase, "delivery": error.delivery}


def info_json(transport: str, info: ServerInfo) -> dict[str, Any]:
    """Who is there, for machines."""
    return {
        "transport": transport,
        "era": info.era,
        "revision": info.protocol_version or None,
        "server": {"name": info.name, "version": info.version},
    }


def table(*columns: str, numbers: Iterable[str] = ()) -> Table:
    """An empty table; columns named in `numbers` are aligned to the right. Cells fold, nothing is cut off."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    right = set(numbers)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def cell(*lines: tuple[str, str] | str) -> Text:
    """Lines of a cell, each with its style or plain."""
    styled = [(line, "") if isinstance(line, str) else line for line in lines]
    return Text("\n").join(Text(shown(content), style) for content, style in styled)


def show(renderable: RenderableType = "") -> None:
    """On standard output."""
    out().print(renderable)


def transport_name(transport: str) -> str:
    """For people."""
    return _TRANSPORTS.get(transport, transport)


def protocol_name(info: ServerInfo) -> str:
    """Revision and era, for people."""
    return f"{info.protocol_version} ({info.era})" if info.protocol_version else "bare JSON-RPC"


def server_name(info: ServerInfo) -> str:
    """What the server calls itself."""
    return f"{info.name} {info.version}".strip() or "(does not say)"


def duration(seconds: float) -> str:
    """Three digits at most."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.1f} ms"


def size(count: int) -> str:
    """Of `count` bytes."""
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"
