"""Who is measured. Each is imported only in the process that measures it."""

import importlib
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

from benchmarks.stub import Server

LINE = "All work and no play makes a larger result of many equal lines.\n"
"""Of which the large results are made."""


class Session(Protocol):
    """An open client. Each verb returns what the server sent, for the harness to hold against what was expected."""

    async def echo(self, text: str) -> str:
        """The text again."""
        ...

    async def weather(self, city: str) -> Any:
        """Structured output, validated against the tool's schema by those who do that."""
        ...

    async def large(self, size: int) -> str:
        """A text of `size` bytes."""
        ...

    async def tools(self) -> int:
        """How many tools there are."""
        ...

    async def progress(self, count: int) -> int:
        """How often the callback was told of progress."""
        ...


class Contender(Protocol):
    """A module of this package."""

    IMPORTS: Mapping[str, str]
    """The statements with which a program imports it: `package`, and the clients over `stdio` and `json`."""
    DISTRIBUTIONS: tuple[str, ...]
    """What is measured, for the report to name the versions."""

    def opened(self, server: Server) -> AbstractAsyncContextManager[Session]:
        """A client that is connected, as it connects by default; closed when the block ends."""
        ...


OURS, OFFICIAL, FASTMCP, BARE, OURS_UVLOOP = "ours", "official", "fastmcp", "bare", "ours-uvloop"
LABELS = {
    OURS: "this library",
    OFFICIAL: "official SDK",
    FASTMCP: "FastMCP",
    BARE: "bare loop",
    OURS_UVLOOP: "this library on uvloop",
}
_MODULES = {
    OURS: "ours",
    OFFICIAL: "official",
    FASTMCP: "fast_mcp",
    BARE: "bare",
    OURS_UVLOOP: "ours",
}


def contender(name: str) -> Contender:
    """The contender of that name, imported now."""
    return cast("Contender", importlib.import_module(f"{__name__}.{_MODULES[name]}"))
