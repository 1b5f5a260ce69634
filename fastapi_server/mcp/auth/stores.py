"""Where tokens are kept: the protocol, and a store that lasts as long as the process."""

import asyncio
import copy
from collections import defaultdict
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class TokenStore(Protocol):
    """Keeps small JSON documents by key."""

    async def get(self, key: str) -> dict[str, Any] | None:
        """The document, or `None`."""
        ...

    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        """Keep a document in the place of the one before; `None` deletes it."""
        ...

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Excludes others while it is held, in every process that shares the store."""
        ...


class MemoryTokenStore:
    """Keeps them in this process."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Any]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def __repr__(self) -> str:
        return f"<MemoryTokenStore of {len(self._kept)}>"

    async def get(self, key: str) -> dict[str, Any] | None:
        """The document, or `None`; a copy."""
        return copy.deepcopy(self._kept.get(key))

    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        """Keep a copy; `None` deletes."""
        if value is None:
            self._kept.pop(key, None)
        else:
            self._kept[key] = copy.deepcopy(value)

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Excludes the other tasks of this event loop."""
        return self._locks[key]
