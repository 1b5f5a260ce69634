"""A process of its own that uses a token store: run with the name of a task, the path, and arguments of the task.

It says `ready` when it has begun, so that whoever started it knows when to act.
"""

import asyncio
import os
import resource
import signal
import sys
from typing import Any

import keyring
from keyrings.alt.file import PlaintextKeyring

from fastapi_server.mcp import FileTokenStore, KeyringTokenStore, TokenStore

KEY = "key"


def open_store(path: str) -> TokenStore:
    """The token file; or, for a path that ends in `.keyring`, a keyring that is a file, with its locks beside it."""
    if not path.endswith(".keyring"):
        return FileTokenStore(path)
    backend = PlaintextKeyring()
    vars(backend)["file_path"] = path
    keyring.set_keyring(backend)
    return KeyringTokenStore("test", lock_folder=f"{path}.locks")


def ready() -> None:
    print("ready", flush=True)


async def increment(store: TokenStore, rounds: str) -> None:
    ready()
    for _ in range(int(rounds)):
        async with store.lock(KEY):
            count = (await store.get(KEY) or {"n": 0})["n"]
            await store.set(KEY, {"n": count + 1})


async def hold(store: TokenStore) -> None:
    async with store.lock(KEY):
        ready()
        await asyncio.sleep(60)


async def hold_writing(store: Any) -> None:
    async with store._writing.hold("file"):
        ready()
        await asyncio.sleep(60)


async def set_forever(store: TokenStore) -> None:
    ready()
    for number in range(1_000_000):
        await store.set(KEY, {"n": number, "padding": "x" * 50_000})


async def die_at(store: TokenStore, function: str) -> None:
    """Be killed in the middle of writing, where `os.<function>` is called."""

    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, function, die)
    await store.set(KEY, {"n": "new"})


async def fill_disk(store: TokenStore) -> None:
    """Fail in the middle of writing, as on a full disk; print the error."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    await say_error(store)


async def say_error_as(store: TokenStore, user: str) -> None:
    await store.get(KEY)  # nothing is left to import, from where that user may not read
    os.setgid(int(user))
    os.setuid(int(user))
    await say_error(store)


async def say_error(store: TokenStore) -> None:
    try:
        await store.set(KEY, {"padding": "x" * 1000})
    except Exception as error:
        print(f"{type(error).__name__}: {error}")


TASKS = {task.__name__: task for task in (increment, hold, hold_writing, set_forever, die_at, fill_disk, say_error_as)}

if __name__ == "__main__":
    name, path, *arguments = sys.argv[1:]
    asyncio.run(TASKS[name](open_store(path), *arguments))
