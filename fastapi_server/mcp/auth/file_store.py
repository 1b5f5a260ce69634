"""Tokens in one encrypted file that processes share."""

import asyncio
import base64
import binascii
import json
import os
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi_server.mcp.auth.extras import missing_extra
from fastapi_server.mcp.auth.locks import to_the_end
from fastapi_server.mcp.auth.private_files import make_private_folder, read_private, write_private
from fastapi_server.mcp.errors import ConfigError, TokenStoreError

if TYPE_CHECKING:
    from fastapi_server.mcp.auth.sealing import Seal

KEY_VARIABLE = "MCP_TOKEN_KEY"
KEY_BYTES = 32


class FileTokenStore:
    """One file, encrypted with AES-256-GCM, mode 0600, replaced whole. Needs the extra `oauth`.

    Beside it stand a folder `NAME.locks` and, where no key is given, the key file `NAME.key`.

    Args:
        path: The file; `~` is the home directory. It and the folders above it are made when first needed (0700).
        key: 32 bytes, or their base64 text. Left out, the variable `MCP_TOKEN_KEY`; where that is not set, a key file
            beside the token file, made when first needed: it keeps out who gets hold of the token file alone, such as
            a backup, and not who can read both.

    Raises:
        ConfigError: The extra is missing, or the key is not 32 bytes.
    """

    def __init__(self, path: str | os.PathLike[str], *, key: bytes | str | None = None) -> None:
        try:
            from fastapi_server.mcp.auth.file_locks import FileLocks  # noqa: PLC0415 - an extra
            from fastapi_server.mcp.auth.sealing import Seal, SealError  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise missing_extra("FileTokenStore", "oauth", error) from error
        self.path = Path(path).expanduser().absolute()
        self._key_path = self._beside("key")
        self._make_seal = Seal
        self._seal_error = SealError
        given = _given_key(key)
        self._given_seal = None if given is None else Seal(given)
        self._locks = FileLocks(self._beside("locks"))
        self._writing = FileLocks(self._locks.folder / "writing")

    def __repr__(self) -> str:
        return f"FileTokenStore({str(self.path)!r})"

    async def get(self, key: str) -> dict[str, Any] | None:
        """See `TokenStore.get`.

        Raises:
            TokenStoreError: The file cannot be read or decrypted, or others can read it.
        """
        return (await asyncio.to_thread(self._load)).get(key)

    async def set(self, key: str, value: dict[str, Any] | None) -> None:
        """See `TokenStore.set`; on the disk when it returns.

        Raises:
            TokenStoreError: The file cannot be read, decrypted or written, or others can read it.
        """
        async with self._writing.hold("file"):
            await to_the_end(asyncio.to_thread(partial(self._store, key, value)))

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """See `TokenStore.lock`."""
        return self._locks.hold(key)

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{ending}")

    def _load(self) -> dict[str, dict[str, Any]]:
        sealed = read_private(self.path)
        if sealed is None:
            return {}
        seal = self._given_seal or self._seal_of_file()
        if seal is None:
            raise TokenStoreError(
                f"{self.path}: its key file {self._key_path} is missing; "
                f"put it back, give the key, or delete the token file and sign in again"
            )
        try:
            return json.loads(seal.unwrap(sealed))
        except self._seal_error as error:
            raise TokenStoreError(f"{self.path}: {error}") from None

    def _store(self, key: str, value: dict[str, Any] | None) -> None:
        values = self._load()
        if value is not None:
            values[key] = value
        elif values.pop(key, None) is None:
            return
        content = json.dumps(values, allow_nan=False).encode()
        make_private_folder(self.path.parent)
        seal = self._given_seal or self._seal_of_file() or self._seal_of_new_file()
        write_private(self.path, seal.wrap(content))

    def _seal_of_file(self) -> "Seal | None":
        text = read_private(self._key_path)
        return None if text is None else self._make_seal(parse_key(text.decode("latin-1"), str(self._key_path)))

    def _seal_of_new_file(self) -> "Seal":
        key = os.urandom(KEY_BYTES)
        write_private(self._key_path, base64.b64encode(key) + b"\n")
        return self._make_seal(key)


def _given_key(key: bytes | str | None) -> bytes | None:
    if key is not None:
        return parse_key(key, "key")
    text = os.environ.get(KEY_VARIABLE)
    return None if text is None else parse_key(text, KEY_VARIABLE)


def parse_key(key: bytes | str, source: str) -> bytes:
    """The 32 bytes of a key, from themselves or from base64 text (RFC 4648, either alphabet, padded or not).

    Raises:
        ConfigError: They are not 32; `source` says where the key came from.
    """
    found = key if isinstance(key, bytes) else _decoded(key.strip())
    if len(found) != KEY_BYTES:
        raise ConfigError(f"{source}: must be {KEY_BYTES} random bytes, or their base64 text: openssl rand -base64 32")
    return found


def _decoded(text: str) -> bytes:
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
