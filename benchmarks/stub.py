"""The native stub servers: compiling them, starting them, reading what they count."""

import contextlib
import mmap
import struct
import subprocess
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
SOURCES = HERE / "native"
PROGRAM = HERE.parent / "build" / "bench" / "stub"

_COMPILE = ["cc", "-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-O2"]
_COUNTERS = struct.Struct("=4Q")


def compiled() -> Path:
    """The program, compiled anew where a source is newer than it.

    Raises:
        FileNotFoundError: There is no C compiler.
        subprocess.CalledProcessError: The compiler refuses.
    """
    newest = max(path.stat().st_mtime for path in SOURCES.iterdir())
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < newest:
        PROGRAM.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=PROGRAM.parent) as folder:  # others may run it, or compile it as well
            fresh = Path(folder) / PROGRAM.name
            subprocess.run([*_COMPILE, "-o", fresh, *sorted(SOURCES.glob("*.c"))], check=True)
            fresh.replace(PROGRAM)
    return PROGRAM


class Counts(NamedTuple):
    """What a stub has counted.

    Attributes:
        connections: Sockets accepted, or processes started.
        requests: HTTP requests, or lines.
        bytes_in: From the client.
        bytes_out: To the client.
    """

    connections: int
    requests: int
    bytes_in: int
    bytes_out: int

    def since(self, earlier: "Counts") -> "Counts":
        """What has been added."""
        return Counts(*(now - then for now, then in zip(self, earlier, strict=True)))


class Counters:
    """The file that stubs count into, read while they run."""

    def __init__(self, path: str) -> None:
        with Path(path).open("a+b") as file:
            file.truncate(_COUNTERS.size)
            self._shared = mmap.mmap(file.fileno(), _COUNTERS.size, access=mmap.ACCESS_READ)

    def read(self) -> Counts:
        """Everything so far, of all stubs that count into the file."""
        return Counts(*_COUNTERS.unpack(self._shared))


@dataclass(frozen=True)
class Server:
    """How a contender reaches a stub.

    Attributes:
        transport: `stdio`, `sse`, `json` or `events`; the last two are Streamable HTTP.
        command: Starts it, over stdio.
        url: Of it, over HTTP.
        pid: Of its process, over HTTP.
        counters: The file that it counts into.
    """

    transport: str
    command: tuple[str, ...]
    url: str
    pid: int
    counters: str


@contextlib.contextmanager
def serving(transport: str, counters: Path, *, tools: int = 0, ttl_ms: int = 0) -> Generator[Server]:
    """A stub server. Over stdio the contenders start it themselves.

    Args:
        transport: As in `Server`.
        counters: A file to count into; made where there is none.
        tools: Tools to list besides the four that can be called.
        ttl_ms: For how long the list may be kept.
    """
    options = ["--tools", str(tools), "--ttl", str(ttl_ms), "--counters", str(counters)]
    program = str(compiled())
    if transport == "stdio":
        yield Server(transport, (program, "stdio", *options), "", 0, str(counters))
        return
    with subprocess.Popen([program, "http", *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield Server(transport, (), f"http://127.0.0.1:{port}/{transport}", process.pid, str(counters))
        finally:
            process.kill()
