"""What the stdio channel asks of a running server, whatever the platform runs it with."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple, Protocol, Self


class Command(NamedTuple):
    """How to start a server.

    Attributes:
        line: The program and its arguments.
        env: Its whole environment.
        cwd: Where it works; `None` for where we do.
    """

    line: Sequence[str]
    env: Mapping[str, str]
    cwd: Path | None


class Part(Enum):
    """What of a process can end by itself."""

    INPUT = auto()
    OUTPUT = auto()
    ERRORS = auto()
    PROCESS = auto()


class Observer(Protocol):
    """Hears what a process says and what becomes of it, in the event loop that started it."""

    def output_received(self, data: bytes) -> None:
        """Of its standard output."""
        ...

    def errors_received(self, data: bytes) -> None:
        """Of its standard error."""
        ...

    def ended(self, part: Part) -> None:
        """A pipe was closed at the other end, or the process has exited and was reaped."""
        ...


class Input(ABC):
    """Standard input of a process, which gets messages: a line each, in order, and as it takes them.

    Attributes:
        closed: Nothing gets there any more.
        room: The process takes nothing now; what to wait for until it does.
    """

    closed: bool
    room: asyncio.Future[None] | None = None

    @abstractmethod
    def send(self, message: bytes, *, soon: bool) -> None:
        """Write a message, which is an object of its own; with `soon` in one go with what others say meanwhile."""

    @abstractmethod
    def withdraw(self, message: bytes) -> bool:
        """Take back what was sent. Whether none of it had been written."""

    @abstractmethod
    def close(self) -> None:
        """Tell the process that nothing more comes, once it has what it takes now. Safe twice."""

    async def until_room(self) -> None:
        """Wait until the process takes more."""
        while self.room is not None:
            await asyncio.shield(self.room)


class ServerProcess(ABC):
    """A process that leads a group of its own. It is reaped when it exits, whether or not anybody waits.

    Attributes:
        input: What goes to its standard input.
    """

    input: Input

    @classmethod
    @abstractmethod
    async def start(cls, command: Command, observer: Observer) -> Self:
        """Start it.

        Raises:
            OSError: It cannot be started; nothing is left behind.
            ValueError: Nor can a process be described so.
        """

    @property
    @abstractmethod
    def pid(self) -> int:
        """Of the process."""

    @property
    @abstractmethod
    def returncode(self) -> int | None:
        """Exit code, or the negated number of the signal that ended it; `None` while it runs."""

    @abstractmethod
    def terminate(self) -> None:
        """End it alone, where the platform has no groups."""

    @abstractmethod
    async def close(self, seconds: float) -> None:
        """Let go of its pipes, within so many seconds; a process that still runs is reaped later."""

    @abstractmethod
    def abandon(self) -> None:
        """The event loop is gone: kill it with its group, and let go of its pipes."""
