"""A server's question, on its way to whoever made the call: in a session at once, without one in the answer's place."""

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypeAlias, get_args

from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    INVALID_PARAMS,
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageResult,
    CreateMessageResultWithTools,
    ElicitCompleteNotification,
    ElicitCompleteNotificationParams,
    ElicitRequest,
    ElicitResult,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    LoggingLevel,
    LoggingMessageNotification,
    LoggingMessageNotificationParams,
)
from pydantic import BaseModel, TypeAdapter, ValidationError

from fastapi_server.gateway.endpoint.request import Context, is_stateless
from fastapi_server.mcp import CallTimeoutError, RPCError

Question: TypeAlias = CreateMessageRequest | ElicitRequest | ListRootsRequest

_LEVELS: tuple[LoggingLevel, ...] = get_args(LoggingLevel)
"""By rising severity."""
_MOST_UNTOLD = 1_000

_TOGETHER_SECONDS = 0.1
"""Questions of a server that asks them one by one go out together where they come within so long."""

CURRENT: ContextVar["Asker | None"] = ContextVar("CURRENT", default=None)
"""Who made the call that this task works on."""


def answer_type(question: Question) -> TypeAdapter[Any]:
    """What an answer has to look like."""
    match question:
        case CreateMessageRequest(params=params) if params.tools is not None:
            return TypeAdapter(CreateMessageResultWithTools)
        case CreateMessageRequest():
            return TypeAdapter(CreateMessageResult)
        case ElicitRequest():
            return TypeAdapter(ElicitResult)
        case _:
            return TypeAdapter(ListRootsResult)


class Patience:
    """The time that a call may take; while a question waits for its answer, it stands still.

    Args:
        seconds: So much.
        what: Is given up afterwards.
    """

    def __init__(self, seconds: float, what: str) -> None:
        self._late = f"{what} was given up after {seconds:g} s"
        self._left = seconds
        self._scope = asyncio.timeout(seconds)
        self._runs = False
        self._open = 0

    async def during(self, work: Awaitable[Any]) -> Any:
        """Await `work`.

        Raises:
            CallTimeoutError: The time has passed.
        """
        try:
            async with self._scope:
                self._runs = True
                try:
                    return await work
                finally:
                    self._runs = False
        except TimeoutError:
            if self._scope.expired():
                raise CallTimeoutError(self._late) from None
            raise

    def pause(self) -> None:
        """A question is asked."""
        self._open += 1
        deadline = self._scope.when()
        if self._runs and self._open == 1 and deadline is not None:
            self._left = deadline - asyncio.get_running_loop().time()
            self._scope.reschedule(None)

    def go_on(self) -> None:
        """A question is answered."""
        self._open -= 1
        if self._runs and self._open == 0 and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time() + self._left)


class Asker(ABC):
    """A call's maker, as the servers behind see them.

    Args:
        context: Of the request.
        patience: Of the call.
        level: From which on they asked for log messages, if they did.

    Attributes:
        capabilities: Which questions they answer.
        level: As given.
        patience: As given.
        when_asked: Called when they are asked something, which may take them long to answer.
    """

    def __init__(self, context: Context, patience: Patience, level: LoggingLevel | None) -> None:
        self.capabilities: ClientCapabilities | None = context.session.client_capabilities
        self.level: LoggingLevel | None = level
        self.patience = patience
        self.when_asked: Callable[[], None] = _nothing
        self._context = context
        self._told_from = level if is_stateless(context) else level or "info"
        self._asking: set[asyncio.Task[Any]] = set()
        self._over = False
        self._untold: deque[LoggingMessageNotificationParams] = deque(maxlen=_MOST_UNTOLD)
        self._telling: asyncio.Task[None] | None = None

    async def ask(self, question: Question, key: str | None = None) -> Any:
        """Their answer.

        Args:
            question: What a server wants to know.
            key: What the server calls it, where it does.

        Raises:
            RPCError: They refuse, or are gone; or the call has ended without it.
        """
        asking = asyncio.get_running_loop().create_task(self._put(question, key))
        self._asking.add(asking)
        self.patience.pause()
        self.when_asked()
        try:
            return await asking
        except asyncio.CancelledError:
            if self._over:
                raise RPCError("the call that it belongs to is over", code=RPCError.INVALID_REQUEST) from None
            raise
        finally:
            self._asking.discard(asking)
            self.patience.go_on()

    @abstractmethod
    async def completed(self, elicitation_id: str) -> None:
        """Tell them that they have been at the URL that a server sent them to."""

    def end(self) -> None:
        """The call is over: nobody waits for an answer any more."""
        self._over = True
        for asking in self._asking:
            asking.cancel()

    @abstractmethod
    async def _put(self, question: Question, key: str | None) -> Any:
        """Ask, and wait."""

    async def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """How far the call has got, on the stream of their request."""
        await self._context.session.report_progress(progress, total, message)

    def tell(self, notice: LoggingMessageNotificationParams) -> None:
        """Hand them what the server logs, on the stream of their request; returns at once."""
        if self._told_from is None or _LEVELS.index(notice.level) < _LEVELS.index(self._told_from):
            return
        self._untold.append(notice)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    async def told(self) -> None:
        """Wait until what was logged so far has gone: after the result nobody would hear it."""
        if self._telling is not None:
            await asyncio.gather(self._telling, return_exceptions=True)

    async def _tell(self) -> None:
        while self._untold:
            notice = LoggingMessageNotification(params=self._untold.popleft())
            await self._context.session.send_notification(notice, self._context.request_id)


class SessionAsker(Asker):
    """In the handshake era: asked through the session, on the stream of their request."""

    async def completed(self, elicitation_id: str) -> None:
        """On the session's standalone stream, for the call may be over."""
        params = ElicitCompleteNotificationParams(elicitation_id=elicitation_id)
        await self._context.session.send_notification(ElicitCompleteNotification(params=params))

    async def _put(self, question: Question, key: str | None) -> Any:
        try:
            answer = await self._context.session.send_request(
                question, _Anything, metadata=ServerMessageMetadata(related_request_id=self._context.request_id)
            )
        except MCPError as error:
            raise RPCError(error.message, code=error.code, data=error.data) from error
        return _checked(answer_type(question), answer.model_dump(by_alias=True))


class RoundsAsker(Asker):
    """In the stateless era: the question takes the answer's place, and the call waits to be asked for again."""

    def __init__(self, context: Context, patience: Patience, level: LoggingLevel | None) -> None:
        super().__init__(context, patience, level)
        self._open: dict[str, tuple[Question, asyncio.Future[Any]]] = {}
        self._keys: set[str] = set()
        self._news = asyncio.Event()

    async def _put(self, question: Question, key: str | None) -> Any:
        """Ask with the next answer, and wait for the request that brings theirs.

        A key is used once in a call, so that an answer that comes twice is not taken for that to a later question.
        """
        numbered = (f"{key or 'question'}-{number}" for number in itertools.count())
        name = next(name for name in itertools.chain([key] if key else [], numbered) if name not in self._keys)
        self._keys.add(name)
        answered = asyncio.get_running_loop().create_future()
        self._open[name] = (question, answered)
        self._news.set()
        try:
            return await answered
        finally:
            self._open.pop(name, None)

    async def completed(self, elicitation_id: str) -> None:
        """There is no such notice in this era: they say so themselves when they ask for the call again."""

    def attach(self, context: Context) -> None:
        """The call is asked for again: progress and logs go there now."""
        self._context = context

    def answer(self, responses: Mapping[str, Any]) -> None:
        """Hand on the answers that have come; what is missing stays asked.

        Raises:
            MCPError: One of them is malformed.
        """
        checked: dict[str, Any] = {}
        for key, (question, _) in self._open.items():
            if key in responses:
                try:
                    checked[key] = _checked(answer_type(question), _plain(responses[key]))
                except RPCError as error:
                    raise MCPError(INVALID_PARAMS, f"inputResponses.{key}: {error.message}") from error
        for key, answer in checked.items():
            _, answered = self._open.pop(key)
            if not answered.done():
                answered.set_result(answer)
        self._news.clear()
        if self._open:
            self._news.set()

    async def asked(self) -> None:
        """Wait for a question, and for those that come with it."""
        while True:
            await self._news.wait()
            await asyncio.sleep(_TOGETHER_SECONDS)
            if self._open:
                break
            self._news.clear()  # the server has taken it back
        await self.told()

    def questions(self, state: str) -> InputRequiredResult:
        """What is open, in the answer's place."""
        requests: dict[str, Any] = {key: question for key, (question, _) in self._open.items()}
        return InputRequiredResult(input_requests=requests, request_state=state)


def _nothing() -> None:
    pass


class _Anything(BaseModel, extra="allow"):
    """An answer before its type is looked at."""


def _plain(answer: Any) -> Any:
    return answer.model_dump(by_alias=True, exclude_none=True) if isinstance(answer, BaseModel) else answer


def _checked(adapter: TypeAdapter[Any], answer: Any) -> Any:
    try:
        return adapter.validate_python(answer)
    except ValidationError as error:
        raise RPCError(f"the answer is malformed: {error.errors()[0]['msg']}", code=INVALID_PARAMS) from error
