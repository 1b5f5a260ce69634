"""Calls of callers without a session, which wait for the answers to a server's questions between two requests."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, ClientCapabilities, InputRequiredResult, InputResponseRequestParams

from fastapi_server.gateway.endpoint.asking import Asker, Context, RoundsAsker

_MOST = 10_000


@dataclass
class _Parked:
    asker: RoundsAsker
    work: asyncio.Task[Any]
    expiry: asyncio.TimerHandle | None = None


class ParkedCalls:
    """Carries calls on from one request to the next.

    Args:
        seconds: How long a call waits for the next one.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._parked: dict[str, _Parked] = {}

    async def result(
        self,
        context: Context,
        params: InputResponseRequestParams,
        asker: RoundsAsker,
        work: Callable[[Asker], Awaitable[Any]],
    ) -> Any:
        """The result of a call, or what its server wants to know first.

        Args:
            context: Of the request.
            params: Of the request; those that carry on a call say which.
            asker: For a call that begins.
            work: The call.

        Raises:
            MCPError: The request carries on a call that this process does not know, or no longer.
        """
        if params.request_state is None:
            call = _begun(asker, work)
        else:
            call = self._resumed(params.request_state, context)
            call.asker.answer(params.input_responses or {})
        return await self._next(call)

    def _resumed(self, state: str, context: Context) -> _Parked:
        call = self._parked.pop(state, None)
        if call is None:
            raise MCPError(INVALID_PARAMS, "requestState: the call that it carries on is not known here any more")
        assert call.expiry is not None
        call.expiry.cancel()
        call.asker.attach(context)
        return call

    async def _next(self, call: _Parked) -> Any:
        """Wait for the result or a question; whoever gives up gives up the call."""
        asked = asyncio.get_running_loop().create_task(call.asker.asked())
        try:
            await asyncio.wait({call.work, asked}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            call.work.cancel()
            raise
        finally:
            asked.cancel()
        return await call.work if call.work.done() else self._park(call)

    def _park(self, call: _Parked) -> InputRequiredResult:
        if len(self._parked) >= _MOST:
            call.work.cancel()
            raise MCPError(INVALID_PARAMS, "too many calls wait for answers already")
        state = secrets.token_urlsafe(16)
        self._parked[state] = call
        call.expiry = asyncio.get_running_loop().call_later(self._seconds, self._expire, state)
        return call.asker.questions(state)

    def _expire(self, state: str) -> None:
        self._parked.pop(state).work.cancel()

    async def close(self) -> None:
        """Give up what waits."""
        calls, self._parked = list(self._parked.values()), {}
        for call in calls:
            assert call.expiry is not None
            call.expiry.cancel()
            call.work.cancel()
        await asyncio.gather(*(call.work for call in calls), return_exceptions=True)


def _begun(asker: RoundsAsker, work: Callable[[Asker], Awaitable[Any]]) -> _Parked:
    async def run() -> Any:
        return await work(asker)

    return _Parked(asker, asyncio.get_running_loop().create_task(run()))


def answers_questions(capabilities: ClientCapabilities | None) -> bool:
    """Whether somebody has to be waited for at all."""
    return capabilities is not None and bool(capabilities.model_dump(exclude_none=True))
