"""Files that nobody else can read, replaced whole or not at all."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from fastapi_server.mcp.errors import TokenStoreError

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # a pipe in the place of the file must not hold us up
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_ADVICE = {
    errno.EACCES: "; let this user read and write it, or choose another path",
    errno.EEXIST: "; a part of the path is no directory",
    errno.EISDIR: "; name a file, not a directory",
    errno.ELOOP: "; name the file that the symbolic link points to",
    errno.ENOSPC: "; make room, or choose another path",
    errno.ENOTDIR: "; a part of the path is no directory",
    errno.EPERM: "; let this user read and write it, or choose another path",
    errno.EROFS: "; choose a path on a disk that can be written",
}


def read_private(path: Path) -> bytes | None:
    """All of a file; `None` where there is none.

    Raises:
        TokenStoreError: It cannot be read, is no plain file, or others may read or write it (POSIX only).
    """
    try:
        with open(path, "rb", opener=_open_for_reading) as file:
            _check_private(path, os.fstat(file.fileno()))
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(path, "be read", error) from error


def write_private(path: Path, data: bytes) -> None:
    """Replace a file, so that a crash at any moment leaves the old content or the new. For one writer at a time.

    The file has mode 0600 from the moment it exists, and is on the disk when this returns.

    Raises:
        TokenStoreError: It cannot be written; the old content is still there.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)  # of a writer that was killed
        with open(fresh, "xb", opener=_open_for_writing) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise unusable(path, "be written", error) from error


def make_private_folder(folder: Path) -> None:
    """Make a folder of mode 0700, and those above it that are missing.

    Raises:
        TokenStoreError: It cannot be made.
    """
    try:
        _make_folder(folder)
    except OSError as error:
        raise unusable(folder, "be made", error) from error


def unusable(path: Path, verb: str, error: OSError) -> TokenStoreError:
    """What the operating system says about a path, with what to do about it."""
    return TokenStoreError(f"{path}: cannot {verb}: {error.strerror or error}{_ADVICE.get(error.errno or 0, '')}")


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def _open_for_reading(path: str, flags: int) -> int:
    return os.open(path, flags | _NO_FOLLOW | _NO_WAIT)


def _open_for_writing(path: str, flags: int) -> int:
    return os.open(path, flags | _NO_FOLLOW, 0o600)


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise TokenStoreError(f"{path}: is no plain file; choose another path")
    mode = stat.S_IMODE(status.st_mode)
    if os.name == "posix" and mode & _OTHERS:
        raise TokenStoreError(f"{path}: others can use it (mode {mode:04o}); run: chmod 600 {path}")


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
