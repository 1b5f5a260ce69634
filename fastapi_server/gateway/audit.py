"""Who did what, when, and how it ended. Recording never delays or fails a call."""

import asyncio
import contextlib
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any, cast

from mcp_types import CallToolResult
from sqlalchemy.exc import SQLAlchemyError

from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.store import AuditEntry, Store

logger = logging.getLogger("fastapi_server.gateway")

_BATCH = 500
_PAUSE_SECONDS = 1.0
_MOST_WAITING = 20_000
_LONGEST = 500
_DEEPEST = 8
_MOST_MEMBERS = 100
_NAME_LENGTH = 255
_SECRET = re.compile(
    r"passw(or)?d|passphrase|(^|[_-])pass$|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credential|authorization|cookie"
    r"|^auth$|^pin$|^otp$",
    re.IGNORECASE,
)
REDACTED = "[redacted]"


class Audit:
    """Writes the audit log, a batch every second.

    While the database does not answer, entries wait; of more than 20,000 the oldest are lost, and their number logged.

    Args:
        store: Has the log.
        arguments: Keep the arguments of calls, redacted.
    """

    def __init__(self, store: Store, *, arguments: bool) -> None:
        self._store = store
        self._arguments = arguments
        self._waiting: deque[AuditEntry] = deque(maxlen=_MOST_WAITING)
        self._lost = 0
        self._writing = asyncio.Lock()
        self._writer = asyncio.get_running_loop().create_task(self._write_now_and_then())

    @contextlib.contextmanager
    def noting(
        self,
        caller: Caller,
        server: str,
        method: str,
        target: str | None,
        arguments: Mapping[str, Any] | None = None,
    ) -> Generator[Callable[[object], None]]:
        """A block that is one call. What it gives may be told the result, which may be an error of the tool itself."""
        started, outcome = time.monotonic(), "ok"

        def told(result: object) -> None:
            nonlocal outcome
            outcome = "ToolError" if isinstance(result, CallToolResult) and result.is_error else "ok"

        try:
            yield told
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            self.record(caller, server, method, target, outcome, time.monotonic() - started, arguments)

    def record(
        self,
        caller: Caller,
        server: str,
        method: str,
        target: str | None,
        outcome: str,
        seconds: float,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Note one call that has ended; returns at once.

        Args:
            caller: Who called.
            server: Which server.
            method: Of the protocol, such as `tools/call`.
            target: Tool, URI or prompt.
            outcome: `ok`, or what went wrong, in one word, such as the class name of the error.
            seconds: How long it took.
            arguments: Of the call.
        """
        self._lost += len(self._waiting) == _MOST_WAITING
        entry = AuditEntry(
            at=time.time(),
            caller=caller.name[:_NAME_LENGTH],
            principal=caller.principal[:_NAME_LENGTH] if caller.principal is not None else None,
            server=server[:_NAME_LENGTH],
            method=method[:_NAME_LENGTH],
            target=target,
            outcome=outcome[:_NAME_LENGTH],
            seconds=seconds,
            arguments=redacted(arguments) if self._arguments and arguments is not None else None,
        )
        self._waiting.append(entry)

    async def flush(self) -> None:
        """Write what waits. What the database does not take goes on waiting."""
        async with self._writing:
            if self._lost:
                logger.warning("%d entries of the audit log are lost: the database was away for too long", self._lost)
                self._lost = 0
            while self._waiting:
                if not await self._write([self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]):
                    return

    async def _write(self, batch: list[AuditEntry]) -> bool:
        try:
            await self._store.add_audit(batch)
        except (SQLAlchemyError, OSError) as error:
            logger.warning("the audit log cannot be written: %s", error)
            self._waiting.extendleft(reversed(batch))
            return False
        return True

    async def close(self) -> None:
        """Write what waits, and no more."""
        self._writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._writer
        await self.flush()

    async def _write_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self.flush()


def redacted(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as they may be kept: without what looks like a secret by its name, and not too long."""
    return cast("dict[str, Any]", _redacted(arguments, _DEEPEST))


def _redacted(value: Any, depth: int) -> Any:
    match value:
        case str() if len(value) > _LONGEST:
            return f"{value[:_LONGEST]}… ({len(value)} characters)"
        case Mapping() | list() if depth == 0:
            return "…"
        case Mapping():
            members = list(cast("Mapping[str, Any]", value).items())[:_MOST_MEMBERS]
            return {name: REDACTED if _SECRET.search(name) else _redacted(one, depth - 1) for name, one in members}
        case list():
            return [_redacted(one, depth - 1) for one in cast("list[Any]", value)[:_MOST_MEMBERS]]
        case _:
            return value
