"""Tokens in the keyring of the operating system."""

import asyncio
import json
import os
import re
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import msgspec

from fastapi_server.mcp.auth.extras import missing_extra
from fastapi_server.mcp.auth.locks import to_the_end
from fastapi_server.mcp.auth.places import state_folder
from fastapi_server.mcp.errors import TokenStoreError

ResultT = TypeVar("ResultT")

_SPLIT = re.compile(r"\+(?P<count>\d{1,4}):(?P<tag>[0-9a-f]+)")

PART_CHARACTERS = 1200
"""Windows keeps 2560 bytes in one entry, two for each character; longer values are split."""


class KeyringTokenStore:
    """macOS Keychain, Windows Credential Locker, Secret Service or KWallet. Needs the extra `keyring`.

    An entry is named by the SHA-256 of its key. Entries are read and written in a thread, one at a time over all
    processes, because a backend may unlock itself with a dialog and a long value takes several entries.

    Args:
        service: The name under which the keyring lists the entries.
        lock_folder: Shared by all processes that use the service; left out, a folder below `$XDG_STATE_HOME`, by
            default `~/.local/state`.

    Raises:
        ConfigError: The extra is missing.
    """

    def __init__(
        self, service: str = "mcp-client-factory", *, lock_folder: str | os.PathLike[str] | None = None
    ) -> None:
        try:
            import keyring  # noqa: PLC0415 - an extra

            from fastapi_server.mcp.auth.file_locks import FileLocks  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise missing_extra("KeyringTokenStore", "keyring", error) from error
        self.service = service
        folder = Path(lock_folder).expanduser() if lock_folder is not None else _lock_folder(service)
        self._entries = _Entries(service, keyring)
        self._locks = FileLocks(folder)
        self._access = FileLocks(folder / "access")

    def __repr__(self) -> str:
        return f"KeyringTokenStore({self.service!r})"

    async def get(self, key: str) -> dict[str, Any] | None:
        """See `TokenStore.get`.

        Raises:
            TokenStoreError: There is no keyring, it stays locked, or the entry is incomplete.
        """
        return await self._alone(partial(self._entries.read, _name(key)))

    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        """See `TokenStore.set`.

        Raises:
            TokenStoreError: There is no keyring, or it refuses.
        """
        text = None if value is None else json.dumps(value, allow_nan=False)
        await self._alone(partial(self._entries.write, _name(key), text))

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """See `TokenStore.lock`."""
        return self._locks.hold(key)

    async def _alone(self, work: Callable[[], ResultT]) -> ResultT:
        async with self._access.hold("keyring"):
            return await to_the_end(asyncio.to_thread(work))


class _Entries:
    """Values of any length over entries of a bounded one; for one caller at a time.

    The entry of a name is the value, or `+N:TAG` where the entries `NAME+TAG.0` … have its N parts. Parts are written
    before the entry that names them and deleted after it has been replaced, so that a crash leaves a whole value.
    """

    def __init__(self, service: str, keyring: ModuleType) -> None:
        self._service = service
        self._keyring = keyring

    def read(self, name: str) -> dict[str, Any] | None:
        head = self._get(name)
        if head is None:
            return None
        parts = [self._get(part) for part in _parts(name, head)] or [head]
        try:
            return msgspec.convert(json.loads("".join(part or "" for part in parts)), dict[str, Any])
        except (ValueError, msgspec.ValidationError):
            raise TokenStoreError(f"keyring {self._service!r}: an entry is damaged; sign out and in again") from None

    def write(self, name: str, text: str | None) -> None:
        old = self._get(name)
        if text is None:
            self._delete(name, old)
        else:
            self._call("set", name, self._split(name, text))
        for part in _parts(name, old or ""):
            self._delete(part, self._get(part))

    def _split(self, name: str, text: str) -> str:
        if len(text) <= PART_CHARACTERS:
            return text
        pieces = [text[start : start + PART_CHARACTERS] for start in range(0, len(text), PART_CHARACTERS)]
        head = f"+{len(pieces)}:{secrets.token_hex(4)}"
        for part, piece in zip(_parts(name, head), pieces, strict=True):
            self._call("set", part, piece)
        return head

    def _get(self, name: str) -> str | None:
        return self._call("get", name)

    def _delete(self, name: str, present: str | None) -> None:
        if present is not None:
            self._call("delete", name)

    def _call(self, verb: str, *args: str) -> Any:
        try:
            return getattr(self._keyring, f"{verb}_password")(self._service, *args)
        except self._keyring.errors.NoKeyringError as error:
            raise TokenStoreError(
                "this machine has no keyring: start one (GNOME Keyring, KWallet, …), or use FileTokenStore"
            ) from error
        except Exception as error:  # backends raise what they like, and may quote what they were given
            raise TokenStoreError(
                f"keyring {self._service!r}: cannot {verb} an entry ({type(error).__name__}); "
                f"is the keyring unlocked, and may this program use it?"
            ) from None


def _parts(name: str, head: str) -> list[str]:
    split = _SPLIT.fullmatch(head)
    return [f"{name}+{split['tag']}.{number}" for number in range(int(split["count"]))] if split else []


def _name(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _lock_folder(service: str) -> Path:
    return state_folder() / f"keyring-{_name(service)[:16]}"
