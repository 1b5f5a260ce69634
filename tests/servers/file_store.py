"""A token store that two processes share: one JSON file, locked by the kernel."""

import asyncio
import fcntl
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any


class SharedFile:
    """Args: path: Of the file; locks are files beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def get(self, key: str) -> dict[str, Any] | None:
        return self._all().get(key)

    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        kept = {**self._all(), key: value}
        self._path.write_text(json.dumps({name: one for name, one in kept.items() if one is not None}))

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncGenerator[None]:
        with (self._path.parent / f"{key}.lock").open("w") as held:
            await asyncio.to_thread(fcntl.flock, held, fcntl.LOCK_EX)
            yield

    def _all(self) -> dict[str, Any]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}
