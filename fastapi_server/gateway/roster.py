"""Which servers are served: those of the config file and those in the database, and what to do when either changes."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi_server.gateway.background import is_over
from fastapi_server.gateway.entries import Entry, restored, shown
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.store import Seal, Store, StoredServer, StoreUnavailable
from fastapi_server.mcp import ConfigError, ServerConfig, parse_config

logger = logging.getLogger("fastapi_server.gateway")

_LOOK_SECONDS = 1.0
_NAME = re.compile(r"(?!.*__)[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?<!_)")
_UNSERVABLE = re.compile(r"/|__|_\Z")


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


class Roster:
    """The servers of a gateway. Where the file and the database have the same name, the file's is served.

    Args:
        gateway: Serves them.
        store: Has those that were added while a gateway ran.
        seal: Of their entries.

    Attributes:
        fixed: Those that are not in the database: of the config file, or for demonstration.
        file_problems: What is wrong in the config file, as last read.
        unserved: Why a server in the database is not served, by its name.
    """

    def __init__(self, gateway: Gateway, store: Store, seal: Seal) -> None:
        self.fixed: Mapping[str, ServerConfig] = {}
        self.file_problems: list[str] = []
        self.unserved: dict[str, ConfigError] = {}
        self._gateway = gateway
        self._store = store
        self._seal = seal
        self._stored: list[StoredServer] = []
        self._changing = asyncio.Lock()

    async def put(self, name: str, entry: Mapping[str, Any]) -> None:
        """Add a server to the database, or replace the one of that name, and serve it.

        Args:
            name: Of the server.
            entry: As in an `mcp.json`; `***` stands for the secret that the entry before has in its place.

        Raises:
            ConfigError: The entry or the name is wrong, or the name is that of a server in the config file.
        """
        wrong = self._not_ours(name)
        if wrong is not None:
            raise wrong
        async with self._changing:
            whole = restored(entry, (await self._entries()).get(name, {}))
            _parsed(name, whole)
            await self._store.put_server(StoredServer(name, self._seal.sealed(name, whole)))
            await self._serve()

    async def merge(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Imported:
        """Add and replace the servers of an `mcp.json`; what it does not name stays.

        Args:
            document: The `mcp.json`. `***` stands for what it does in `put`.
            dry_run: Change nothing, and say what would become of it.

        Raises:
            ConfigError: It is no `mcp.json`.
        """
        async with self._changing:
            outcome, entries = self._compared(document, await self._entries())
            if not dry_run:
                for name in (*outcome.added, *outcome.changed):
                    await self._store.put_server(StoredServer(name, self._seal.sealed(name, entries[name])))
                await self._serve()
        return outcome

    def _compared(self, document: Mapping[str, Any], stored: Mapping[str, Entry]) -> tuple[Imported, dict[str, Any]]:
        """What a document would change, and its entries with their secrets."""
        outcome, entries = Imported(), dict[str, Any]()
        section = "mcpServers" if isinstance(document.get("mcpServers"), dict) else "servers"
        given = document.get(section)
        if not isinstance(given, dict):
            raise ConfigError('mcp.json: has no servers; expected {"mcpServers": {"name": {"command": …}}}')
        for name, entry in cast("dict[str, Any]", given).items():
            try:
                entries[name] = (
                    restored(cast("Entry", entry), stored.get(name, {})) if isinstance(entry, dict) else entry
                )
            except ConfigError as error:
                outcome.problems.append(f"{section}.{name}.{error.message}")
        file = parse_config({section: entries})
        outcome.problems.extend(problem.message for problem in file.problems)
        for name, config in file.servers.items():
            before, wrong = self._gateway.pool.config_of(name), self._not_ours(name)
            if before == config:
                outcome.unchanged.append(name)
            elif wrong is not None:
                outcome.problems.append(wrong.message)
            else:
                is_new = before is None and name not in self.unserved
                (outcome.added if is_new else outcome.changed).append(name)
        return outcome, entries

    async def entry(self, name: str) -> dict[str, Any] | None:
        """The entry of a server, as it may be shown; `None` where it is not in the database, or cannot be opened."""
        stored = None if name in self.fixed else (await self._entries()).get(name)
        return None if stored is None else shown(stored)

    async def _entries(self) -> dict[str, Entry]:
        """Those in the database that can be opened."""
        entries = dict[str, Entry]()
        for stored in await self._store.servers():
            with contextlib.suppress(ConfigError):
                entries[stored.name] = self._seal.opened(stored.name, stored.entry)
        return entries

    def _not_ours(self, name: str) -> ConfigError | None:
        """Why the database cannot have a server of this name."""
        if name in self.fixed:
            return ConfigError(f"server {name!r} stands in the config file: change it there")
        if _NAME.fullmatch(name) is None:
            rule = "letters, digits, '.', '-' and single '_' inside, 64 at most"
            return ConfigError(f"{name!r} is no name for a server: {rule}")
        return None

    async def remove(self, name: str) -> bool:
        """Delete a server from the database; whether there was one.

        Raises:
            ConfigError: The name is that of a server in the config file.
        """
        if name in self.fixed:
            raise ConfigError(f"server {name!r} stands in the config file: delete it there")
        async with self._changing:
            removed = await self._store.remove_server(name)
            await self._serve()
        return removed

    async def fix(self, servers: Mapping[str, ServerConfig]) -> None:
        """Serve what the config file says now, and what is in the database, or was when it was last heard of."""
        async with self._changing:
            self.fixed = dict(servers)
            try:
                await self._serve()
            except StoreUnavailable as error:
                logger.warning("servers of the database stay as they were: %s", error)
                await self._serve_stored(self._stored)

    async def follow(self, over: asyncio.Event) -> None:
        """Serve what other processes of the gateway change in the database, a second later."""
        while not await is_over(over, within=_LOOK_SECONDS):
            try:
                async with self._changing:
                    stored = await self._store.servers()
                    if stored != self._stored:
                        await self._serve_stored(stored)
            except StoreUnavailable as error:
                logger.debug("servers of the database stay as they were: %s", error)
            except Exception:  # a mistake of ours must not end it
                logger.exception("servers of the database failed to be applied")

    async def _serve(self) -> None:
        await self._serve_stored(await self._store.servers())

    async def _serve_stored(self, stored: list[StoredServer]) -> None:
        servers = dict(self.fixed)
        self.unserved.clear()
        for one in stored:
            if one.name not in servers:
                try:
                    servers[one.name] = _parsed(one.name, self._seal.opened(one.name, one.entry))
                except ConfigError as error:  # the environment has changed, or this version reads it otherwise
                    logger.warning("%s", error)
                    self.unserved[one.name] = error
        self._stored = stored
        await self._gateway.reload(servers)


def unservable(name: str) -> ConfigError | None:
    """Why no path and no tool's name would lead to a server of this name, which a config file may have."""
    if _UNSERVABLE.search(name) is None:
        return None
    return ConfigError(f"server {name!r}: give it another name here; no '/', no '__', and no '_' at its end")


def _parsed(name: str, entry: Mapping[str, Any]) -> ServerConfig:
    enabled = {**entry, "disabled": False} if entry.get("disabled") is True else entry
    file = parse_config({"mcpServers": {name: enabled}}, source="entry")
    for error in file.problems:
        raise error
    return file.servers[name]
