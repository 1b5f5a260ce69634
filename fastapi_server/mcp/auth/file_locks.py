"""Locks that other processes keep to. Needs `filelock`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

from filelock import AsyncFileLock, BaseAsyncFileLock

from fastapi_server.mcp.auth.locks import KeyedLocks, to_the_end
from fastapi_server.mcp.auth.private_files import make_private_folder, unusable

_POLL_SECONDS = 0.02


class FileLocks:
    """One lock for each key, over an empty file in a folder that all who exclude each other share.

    The kernel holds the lock (`flock` on POSIX) and releases it when the process ends, however it ends. Within the
    process locks are granted in the order of asking; between processes, to who asks first after the release.

    Args:
        folder: Made when it is first needed. File names are hashes of the keys and never deleted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._here = KeyedLocks()

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncGenerator[None]:
        """Exclude all others who hold `key`; the event loop is never blocked.

        Raises:
            TokenStoreError: The folder cannot be written, or its file system has no locks.
        """
        async with self._here.hold(key):
            lock = await self._acquired(self.folder / sha256(key.encode("utf-8", "surrogatepass")).hexdigest())
            try:
                yield
            finally:
                await to_the_end(lock.release())

    async def _acquired(self, path: Path) -> BaseAsyncFileLock:
        await asyncio.to_thread(make_private_folder, self.folder)
        lock = AsyncFileLock(path, mode=0o600, thread_local=False, fallback_to_soft=False, poll_interval=_POLL_SECONDS)
        try:
            await lock.acquire()
        except OSError as error:
            raise unusable(path, "be locked", error) from error
        return lock
