"""The config file: read at the start, and again whenever it has changed."""

import asyncio
import logging
from pathlib import Path

from watchfiles import Change, awatch  # pyright: ignore[reportUnknownVariableType] (of its `stop_event`)
from watchfiles._rust_notify import WatchfilesRustInternalError

from fastapi_server.gateway.background import is_over
from fastapi_server.gateway.events import Event, EventBus
from fastapi_server.gateway.roster import Roster, unservable
from fastapi_server.mcp import ConfigError, ServerConfig, load_config

logger = logging.getLogger("fastapi_server.gateway")

_LOOK_MILLISECONDS = 2_000
"""How often to look at the file where the system tells of no change: some network file systems do not."""
_SETTLE_MILLISECONDS = 200


class ConfigWatch:
    """Serves what a config file says, by difference: servers whose entry is the same are not touched.

    A file that is broken, or an entry of it, changes nothing: the old servers go on, and the problem is told.

    Args:
        path: An `mcp.json`.
        roster: Is told of its servers.
        events: Told of every reading, as `config`.
    """

    def __init__(self, path: Path, roster: Roster, events: EventBus) -> None:
        self._path = path.absolute()
        self._roster = roster
        self._events = events
        self._seen: bytes | None = None

    async def start(self) -> None:
        """Serve what the file says; entries that are wrong are logged, and the others served.

        Raises:
            ConfigError: The file is broken.
        """
        self._seen = self._contents()
        servers, problems = self._read()
        for problem in problems:
            logger.warning("%s", problem)
        self._roster.file_problems = [str(problem) for problem in problems]
        await self._roster.fix(servers)

    async def watch(self, over: asyncio.Event) -> None:
        """Read the file again whenever it has changed. Where the system cannot tell, that is seen a little later."""
        try:
            async for _ in awatch(
                self._path.parent,  # an editor may put another file in its place
                watch_filter=self._concerns,
                debounce=_SETTLE_MILLISECONDS,
                stop_event=over,
                rust_timeout=_LOOK_MILLISECONDS,
                yield_on_timeout=True,
                recursive=False,
            ):
                await self._look()
        except (OSError, WatchfilesRustInternalError) as error:  # too many are watched already
            seconds = _LOOK_MILLISECONDS / 1_000
            logger.warning(
                "%s: looked at every %g s only, for the system tells no changes: %s", self._path, seconds, error
            )
            while not await is_over(over, within=seconds):
                await self._look()

    def _concerns(self, _change: Change, path: str) -> bool:
        """Whether a change may be one of the file: Kubernetes exchanges a link beside it, whose name begins so."""
        name = Path(path).name
        return name == self._path.name or name.startswith("..")

    async def _look(self) -> None:
        contents = await asyncio.to_thread(self._contents)
        if contents == self._seen:
            return
        self._seen = contents
        try:
            servers, problems = self._read()
            if not problems:
                await self._roster.fix(servers)
                logger.info("%s was changed, and is applied", self._path)
        except ConfigError as error:
            problems = [error]
        except Exception as error:  # a mistake of ours must not end the watch
            logger.exception("%s: failed to be applied", self._path)
            problems = [ConfigError(f"{self._path}: failed to be applied: {type(error).__name__}")]
        for problem in problems:
            logger.warning("%s; the servers stay as they were", problem)
        self._roster.file_problems = [str(problem) for problem in problems]
        self._events.tell(Event("config", "", {"problems": self._roster.file_problems}))

    def _read(self) -> tuple[dict[str, ServerConfig], list[ConfigError]]:
        """The servers that the gateway can serve, and what is wrong with the others.

        Raises:
            ConfigError: The file is broken.
        """
        file = load_config(self._path)
        nameless = {name: error for name in file.servers if (error := unservable(name)) is not None}
        servers = {name: config for name, config in file.servers.items() if name not in nameless}
        return servers, [*file.problems, *nameless.values()]

    def _contents(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except OSError:
            return None
