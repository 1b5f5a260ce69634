"""Where tokens are kept: the protocol that a store follows, and the store that forgets with the process."""

from contextlib import AbstractAsyncContextManager
from copy import deepcopy
from typing import Any, Protocol

from fastapi_server.mcp.auth.locks import KeyedLocks


class TokenStore(Protocol):
    """Keeps JSON objects by key: tokens, registrations, sign-ins that are under way.

    Keys are opaque text of any length. Setting one key leaves all others as they are, whoever sets them at the same
    time. Methods may be called from several event loops. A store that cannot do its work raises `TokenStoreError`;
    neither its errors nor its `repr` contain what it keeps.
    """

    async def get(self, key: str) -> dict[str, Any] | None:
        """What was set last, in this process or another that shares the store; a copy. `None` where there is none."""
        ...

    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        """Keep a copy of a JSON object; `None` deletes. Once this returns, every process sees it."""
        ...

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Exclude, for as long as the context lasts, all who lock the same key in any process that shares the store.

        Keys do not hold up one another; `get` and `set` need no lock and are not excluded by one. Not reentrant.
        Waiting can be cancelled. A process that dies gives up its locks.
        """
        ...


class MemoryTokenStore:
    """Tokens of this process only: whoever starts it again signs in again."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Any]] = {}
        self._locks = KeyedLocks()

    def __repr__(self) -> str:
        return f"MemoryTokenStore({len(self._kept)} kept)"

    async def get(self, key: str) -> dict[str, Any] | None:
        """See `TokenStore.get`."""
        return deepcopy(self._kept.get(key))

    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        """See `TokenStore.set`."""
        if value is None:
            self._kept.pop(key, None)
        else:
            self._kept[key] = deepcopy(value)

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """See `TokenStore.lock`; granted in the order of asking."""
        return self._locks.hold(key)
