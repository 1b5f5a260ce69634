"""Servers that are added, changed and removed while the gateway runs, and the place where they are kept."""

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi_server.gateway.gateway import Gateway
from fastapi_server.mcp import ConfigError, ServerConfig, parse_config

logger = logging.getLogger("fastapi_server.gateway")

_NAME = re.compile(r"(?!.*__)[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?<!_)")


class ServerStore(Protocol):
    """Keeps servers beyond the life of the process, as entries of an `mcp.json`, their `${VAR}` as written."""

    async def load(self) -> dict[str, dict[str, Any]]:
        """All entries, by name."""
        ...

    async def save(self, name: str, entry: Mapping[str, Any]) -> None:
        """Keep an entry, instead of the one of that name if there is one."""
        ...

    async def delete(self, name: str) -> None:
        """Forget an entry; nothing happens where there is none."""
        ...


class MemoryServerStore:
    """A `ServerStore` for as long as the process lives."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Any]] = {}

    async def load(self) -> dict[str, dict[str, Any]]:
        """All entries, by name."""
        return dict(self._entries)

    async def save(self, name: str, entry: Mapping[str, Any]) -> None:
        """Keep an entry."""
        self._entries[name] = dict(entry)

    async def delete(self, name: str) -> None:
        """Forget an entry."""
        self._entries.pop(name, None)


@dataclass(frozen=True)
class Imported:
    """What became of the entries of an `mcp.json`.

    Attributes:
        added: Servers that are new.
        changed: Servers that were there, with another configuration.
        unchanged: Servers that were there just so.
        problems: What is wrong with the entries that were passed over.
    """

    added: list[str] = field(default_factory=list[str])
    changed: list[str] = field(default_factory=list[str])
    unchanged: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])


class ServerRegistry:
    """Changes the servers of a gateway, one change at a time, and keeps what it changed.

    Args:
        gateway: Whose servers.
        store: Where they are kept.
    """

    def __init__(self, gateway: Gateway, store: ServerStore) -> None:
        self._gateway = gateway
        self._store = store
        self._turn = asyncio.Lock()

    async def load(self) -> None:
        """Serve what is kept, beside the servers that the gateway has already, which win."""
        file = parse_config({"mcpServers": await self._store.load()}, source="kept servers")
        for problem in file.problems:
            logger.warning("%s", problem)
        await self._gateway.reload({**file.servers, **self._servers()})

    async def put(self, name: str, entry: Mapping[str, Any]) -> None:
        """Add a server, or replace the one of that name.

        Raises:
            ConfigError: The name or the entry is not right.
        """
        config = server_of(name, entry)
        async with self._turn:
            await self._store.save(name, entry)
            await self._gateway.reload({**self._servers(), name: config})

    async def remove(self, name: str) -> None:
        """Let a server go, once its calls have ended."""
        async with self._turn:
            await self._store.delete(name)
            await self._gateway.reload({other: one for other, one in self._servers().items() if other != name})

    async def merge(self, document: Mapping[str, Any]) -> Imported:
        """Add and replace the servers of an `mcp.json`; what it does not name stays.

        Raises:
            ConfigError: It is no `mcp.json`.
        """
        file = parse_config(document)
        outcome = Imported(problems=[problem.message for problem in file.problems])
        key = "mcpServers" if isinstance(document.get("mcpServers"), dict) else "servers"
        entries: Mapping[str, Any] = document[key]
        async with self._turn:
            before, after = self._servers(), self._servers()
            for name, config in file.servers.items():
                if _NAME.fullmatch(name) is None:
                    outcome.problems.append(_no_name(name))
                    continue
                _list_for(outcome, before.get(name), config).append(name)
                after[name] = config
                await self._store.save(name, entries[name])
            await self._gateway.reload(after)
        return outcome

    def _servers(self) -> dict[str, ServerConfig]:
        pool = self._gateway.pool
        return {name: config for name in pool.servers if (config := pool.config_of(name)) is not None}


def _list_for(outcome: Imported, before: ServerConfig | None, after: ServerConfig) -> list[str]:
    if before is None:
        return outcome.added
    return outcome.unchanged if before == after else outcome.changed


def server_of(name: str, entry: Mapping[str, Any]) -> ServerConfig:
    """The configuration that an entry of an `mcp.json` means.

    Raises:
        ConfigError: The name or the entry is not right.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigError(_no_name(name))
    file = parse_config({"mcpServers": {name: dict(entry)}})
    if file.problems:
        raise file.problems[0]
    if name not in file.servers:
        raise ConfigError(f"mcpServers.{name}.disabled: a server that is added must not be disabled")
    return file.servers[name]


def _no_name(name: str) -> str:
    return f"{name!r} is no name for a server: letters, digits, '.', '-' and single '_' inside, 64 at most"
