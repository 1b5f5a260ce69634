"""One list of tools over many servers: names that lead back to their server, filters, renames, collisions."""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mcp_types import Tool

from fastapi_server.mcp.config import ToolRules
from fastapi_server.mcp.errors import ConfigError, MCPClientError

SEPARATOR = "__"


def qualified(server: str, tool: str) -> str:
    """`files__read` for the tool `read` of the server `files`.

    Raises:
        ConfigError: The server's name would make that ambiguous.
    """
    if SEPARATOR in server or server.endswith("_"):
        raise ConfigError(
            f"server {server!r}: a name with {SEPARATOR!r} in it, or with '_' at its end, has no catalogue"
        )
    return f"{server}{SEPARATOR}{tool}"


def split(name: str) -> tuple[str, str]:
    """`("files", "read")` for `files__read`.

    Raises:
        ConfigError: It is not such a name.
    """
    server, separator, tool = name.partition(SEPARATOR)
    if not (server and separator and tool):
        raise ConfigError(f"{name!r} is no name of a catalogue; they look like server{SEPARATOR}tool")
    return server, tool


@dataclass(frozen=True)
class Entry:
    """One tool of a catalogue.

    Attributes:
        name: By which to call it.
        server: That has it.
        original: Its name there.
        tool: As listed, under its name in the catalogue.
    """

    name: str
    server: str
    original: str
    tool: Tool


@dataclass(frozen=True)
class Catalogue:
    """The tools of many servers.

    Attributes:
        entries: By name, in the order of the servers.
        problems: Servers that could not be asked, and why.
        collisions: Names that more than one tool would have; the renamed one has it, or else the first.
    """

    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    problems: dict[str, MCPClientError] = field(default_factory=dict[str, MCPClientError])
    collisions: list[str] = field(default_factory=list[str])

    @property
    def tools(self) -> list[Tool]:
        """To hand to a model."""
        return [entry.tool for entry in self.entries.values()]


def catalogue_of(
    listed: Mapping[str, Sequence[Tool] | MCPClientError], rules: Mapping[str, ToolRules], view: ToolRules
) -> Catalogue:
    """Put a catalogue together.

    Args:
        listed: What each server listed, or why it did not.
        rules: Of each server, over its own names.
        view: Over the names of the catalogue, after the servers' rules; its renames are not used.
    """
    catalogue = Catalogue()
    for server, tools in listed.items():
        if isinstance(tools, MCPClientError):
            catalogue.problems[server] = tools
            continue
        try:
            _add(catalogue, server, tools, rules.get(server, ToolRules()), view)
        except ConfigError as error:
            catalogue.problems[server] = error
    return catalogue


def _add(catalogue: Catalogue, server: str, tools: Iterable[Tool], rules: ToolRules, view: ToolRules) -> None:
    for tool in tools:
        name = qualified(server, rules.rename.get(tool.name, tool.name))
        if tool.name not in rules.rename and tool.name in rules.rename.values():
            catalogue.collisions.append(name)  # another tool has been given this name
            continue
        if not (is_allowed(tool.name, rules) and is_allowed(name, view)):
            continue
        if name in catalogue.entries:
            catalogue.collisions.append(name)
        else:
            catalogue.entries[name] = Entry(name, server, tool.name, tool.model_copy(update={"name": name}))


def is_allowed(name: str, rules: ToolRules) -> bool:
    """Whether a name passes: on the list of those allowed, if there is one, and not on that of those denied."""
    allowed = rules.allow is None or _matches(name, rules.allow)
    return allowed and not _matches(name, rules.deny)


def resolved(name: str, rules: Mapping[str, ToolRules], view: ToolRules) -> tuple[str, str]:
    """The server of a name in the catalogue, and the tool's own name there.

    Args:
        name: As listed.
        rules: Of each server.
        view: Over the names of the catalogue.

    Raises:
        ConfigError: There is no such name, or the rules or the view hide it.
    """
    server, shown = split(name)
    its = rules.get(server)
    if its is not None:
        original = original_name(shown, its)
        hidden = shown in its.rename and shown not in its.rename.values()
        if not hidden and is_allowed(original, its) and is_allowed(name, view):
            return server, original
    raise ConfigError(f"there is no tool {name!r} in this catalogue")


def original_name(name: str, rules: ToolRules) -> str:
    """What the server calls a tool that may have been renamed."""
    return next((original for original, renamed in rules.rename.items() if renamed == name), name)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
