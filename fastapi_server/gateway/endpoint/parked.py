"""Calls of callers without a session, which wait for the answers to a server's questions between two requests."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    ClientCapabilities,
    InputRequiredResult,
    InputResponseRequestParams,
)

from fastapi_server.gateway.draining import Draining
from fastapi_server.gateway.endpoint.asking import Asker, RoundsAsker
from fastapi_server.gateway.endpoint.request import Context

_MOST = 1_000
_MOST_OF_ONE = 32
_UNKNOWN = (
    "requestState: the call that it carries on is not known here any more: it has waited too long for its answer, "
    "made way for newer calls, or is that of another process; call again"
)


@dataclass
class _Parked:
    key: object
    asker: RoundsAsker
    work: asyncio.Task[Any]
    expiry: asyncio.TimerHandle | None = None


class ParkedCalls:
    """Carries calls on from one request to the next.

    Nobody can tell whether a caller who has been asked is still there. So that those who are gone stand in nobody's
    way, the call of a caller that has waited longest gives way to their 33rd.

    Args:
        seconds: How long a call waits for the next one.
        draining: Is told of them: between two requests, too, they are under way.
    """

    def __init__(self, seconds: float, draining: Draining) -> None:
        self._seconds = seconds
        self._draining = draining
        self._parked: dict[str, _Parked] = {}

    async def result(
        self,
        context: Context,
        key: object,
        params: InputResponseRequestParams,
        asker: RoundsAsker,
        work: Callable[[Asker], Awaitable[Any]],
    ) -> Any:
        """The result of a call, or what its server wants to know first.

        Args:
            context: Of the request.
            key: Who calls.
            params: Of the request; those that carry on a call say which.
            asker: For a call that begins.
            work: The call.

        Raises:
            MCPError: The request carries on a call that this process does not know, or no longer.
        """
        if params.request_state is None:
            call = self._begun(key, asker, work)
        else:
            call = self._resumed(params.request_state, context, params.input_responses or {})
        return await self._next(call)

    def _begun(self, key: object, asker: RoundsAsker, work: Callable[[Asker], Awaitable[Any]]) -> _Parked:
        async def run() -> Any:
            with self._draining.open():
                return await work(asker)

        return _Parked(key, asker, asyncio.get_running_loop().create_task(run()))

    def _resumed(self, state: str, context: Context, responses: Mapping[str, Any]) -> _Parked:
        call = self._parked.get(state)
        if call is None:
            raise MCPError(INVALID_PARAMS, _UNKNOWN)
        call.asker.answer(responses)  # where they are malformed, it goes on waiting
        assert call.expiry is not None
        call.expiry.cancel()
        del self._parked[state]
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
        own = [state for state, parked in self._parked.items() if parked.key == call.key]
        if len(own) >= _MOST_OF_ONE:
            self._give_up(own[0])
        if len(self._parked) >= _MOST:
            call.work.cancel()
            raise MCPError(INTERNAL_ERROR, f"{_MOST} calls wait for answers here already: try again later")
        state = secrets.token_urlsafe(16)
        self._parked[state] = call
        call.expiry = asyncio.get_running_loop().call_later(self._seconds, self._give_up, state)
        return call.asker.questions(state)

    def _give_up(self, state: str) -> None:
        call = self._parked.pop(state)
        assert call.expiry is not None
        call.expiry.cancel()
        call.work.cancel()

    async def close(self) -> None:
        """Give up what waits."""
        calls = list(self._parked.values())
        for state in list(self._parked):
            self._give_up(state)
        await asyncio.gather(*(call.work for call in calls), return_exceptions=True)


def answers_questions(capabilities: ClientCapabilities | None) -> bool:
    """Whether somebody has to be waited for at all."""
    able = capabilities or ClientCapabilities()
    return able.sampling is not None or able.elicitation is not None or able.roots is not None
