"""Who did what, when, and how it ended. Recording never delays or fails a call."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeAlias

from mcp_types import CallToolResult

from fastapi_server.gateway.background import is_over
from fastapi_server.gateway.caller import Caller
from fastapi_server.gateway.redaction import plain_text, redacted
from fastapi_server.gateway.store import AuditEntry, Store, StoreRefused, StoreUnavailable

logger = logging.getLogger("fastapi_server.gateway")

REFUSED = "refused"
"""The outcome of a call that was not passed on: there is no such thing for this caller, or they ask too often."""

SchemaOf: TypeAlias = Callable[[str, str | None, str], Mapping[str, Any] | None]
"""Gives the schema of the arguments of `(server, principal, tool)`, where it is known."""

_BATCH = 500
_PAUSE_SECONDS = 1.0
_WRITE_SECONDS = 10.0
_MOST_WAITING = 20_000
_NAME_LENGTH = 255
_TARGET_LENGTH = 2_000


class Audit:
    """Writes the audit log, a batch every second while it keeps writing.

    While the database does not answer, entries wait. Of more than 20,000 the oldest are lost, and so are those that
    cannot be written at the end, and those that it refuses: their number is logged.

    Args:
        store: Has the log.
        arguments: Keep the arguments of calls, redacted.
        schema_of: Knows which arguments are secrets.

    Attributes:
        lost: Entries that were never written.
    """

    def __init__(self, store: Store, *, arguments: bool, schema_of: SchemaOf | None = None) -> None:
        self.lost = 0
        self._store = store
        self._arguments = arguments
        self._schema_of = schema_of
        self._waiting: deque[AuditEntry] = deque()
        self._lost_before = 0
        self._away = False
        self._writing = asyncio.Lock()

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
            target: Tool, URI or prompt; of one that is longer, the first 2,000 characters are kept.
            outcome: `ok`, or what went wrong, in one word, such as the class name of the error.
            seconds: How long it took.
            arguments: Of the call.
        """
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append(
            AuditEntry(
                at=time.time(),
                caller=_name(caller.name),
                principal=_name(caller.principal) if caller.principal is not None else None,
                server=_name(server),
                method=_name(method),
                target=plain_text(target[:_TARGET_LENGTH]) if target is not None else None,
                outcome=_name(outcome),
                seconds=seconds,
                arguments=self._kept(caller, server, target, arguments),
            )
        )

    def refused(
        self, caller: Caller, server: str, method: str, target: str | None, arguments: Mapping[str, Any] | None = None
    ) -> None:
        """Note one call that was not passed on."""
        self.record(caller, server, method, target, REFUSED, 0.0, arguments)

    def _kept(
        self, caller: Caller, server: str, target: str | None, arguments: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        if not self._arguments or arguments is None:
            return None
        schema = self._schema_of(server, caller.principal, target or "") if self._schema_of is not None else None
        return redacted(arguments, schema)

    async def flush(self) -> None:
        """Write what waits. What the database does not take goes on waiting."""
        async with self._writing:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                try:
                    async with asyncio.timeout(_WRITE_SECONDS):
                        await self._store.add_audit(batch)
                except (StoreUnavailable, TimeoutError) as error:
                    self._put_back(batch)
                    self._say_away(error)
                    return
                except StoreRefused as error:  # now and for ever: the others go on
                    self.lost += len(batch)
                    self._lost_before += len(batch)
                    logger.error("%d entries of the audit log are lost: %s", len(batch), error)
                except BaseException:
                    self._put_back(batch)
                    raise
                self._say_back()

    def _put_back(self, batch: list[AuditEntry]) -> None:
        room = max(0, _MOST_WAITING - len(self._waiting))
        self.lost += max(0, len(batch) - room)
        self._waiting.extendleft(reversed(batch[-room:] if room else []))

    def _say_away(self, error: Exception) -> None:
        """Once for each time that the database is away."""
        if not self._away:
            logger.warning("the audit log cannot be written, and waits: %s", error)
        self._away = True

    def _say_back(self) -> None:
        lost, self._lost_before = self.lost - self._lost_before, self.lost
        if lost:
            logger.warning("%d entries of the audit log are lost: the database was away for too long", lost)
        if self._away:
            logger.warning("the audit log is written again")
        self._away = False

    async def keep_writing(self, over: asyncio.Event) -> None:
        """Write what waits every second."""
        while not await is_over(over, within=_PAUSE_SECONDS):
            await self.flush()

    async def close(self) -> None:
        """Write what waits, for the last time."""
        await self.flush()
        if self._waiting:
            self.lost += len(self._waiting)
            logger.error("%d entries of the audit log are lost: the database is away", len(self._waiting))
            self._waiting.clear()


def _name(text: str) -> str:
    return plain_text(text[:_NAME_LENGTH])
