"""The one path that every call takes: deadline, channel, era, exchange, input-required rounds, result, metric."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from mcp_types import PaginatedResult
from pydantic import BaseModel, ValidationError

from fastapi_server.mcp.clients.channel import Channel, Request
from fastapi_server.mcp.clients.connector import Connector
from fastapi_server.mcp.clients.handlers import Handlers
from fastapi_server.mcp.clients.hooks import HookRunner, OutgoingCall, RequestEvent
from fastapi_server.mcp.clients.inbox import Inbox, ProgressCallback
from fastapi_server.mcp.errors import (
    BusyError,
    CallTimeoutError,
    CircuitOpenError,
    Delivery,
    InputRequiredError,
    InvalidResultError,
    MCPClientError,
    Phase,
    ProtocolError,
    RPCError,
)
from fastapi_server.mcp.metrics import CallEvent, ClientMetrics
from fastapi_server.mcp.protocol import input_required
from fastapi_server.mcp.protocol.eras import EraName
from fastapi_server.mcp.protocol.input_required import InputRequired
from fastapi_server.mcp.protocol.jsonrpc import ErrorObject, Message, as_object
from fastapi_server.mcp.resilience import RetryPolicy

ModelT = TypeVar("ModelT", bound=BaseModel)
PageT = TypeVar("PageT", bound=PaginatedResult)

_REPEATABLE = frozenset(
    {"ping", "server/discover", "tools/list", "resources/list", "resources/templates/list", "resources/read"}
    | {"prompts/list", "prompts/get", "completion/complete", "logging/setLevel"}
    | {"resources/subscribe", "resources/unsubscribe"}
)
"""Methods that change nothing, or nothing more the second time."""
_MAX_PAGES = 1_000
_STATE_ONLY_SECONDS = 0.1
_PROBLEMS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What a call may have besides its parameters.

    Attributes:
        progress: Told of progress.
        progress_timeout: Seconds that may pass without any.
        meta: More members for `_meta`.
        headers: More HTTP headers.
        repeatable: To do it twice does no harm.
    """

    progress: ProgressCallback | None = None
    progress_timeout: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    repeatable: bool = False


_NO_OPTIONS = CallOptions()


class Slots:
    """How many calls one client makes at the same time; the others wait in the order they came.

    Args:
        limit: `None` for as many as there are.
        wait_seconds: How long one of the others waits.
        waited: Told for how long one has.
    """

    def __init__(self, limit: int | None, wait_seconds: float, waited: Callable[[float], None]) -> None:
        self._limit = limit
        self._wait_seconds = wait_seconds
        self._waited = waited
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free = asyncio.Semaphore(0)

    async def take(self) -> None:
        """Wait for a turn.

        Raises:
            BusyError: None came in time.
        """
        if self._limit is None:
            return
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # of the one before, with the calls that were in flight there, nothing is left
            self._loop, self._free = loop, asyncio.Semaphore(self._limit)
        if not self._free.locked():
            await self._free.acquire()
            return
        started = loop.time()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise BusyError(
                f"no turn within {self._wait_seconds:g} s: {self._limit} calls are in flight (config: max_in_flight)"
            ) from None
        finally:
            self._waited(loop.time() - started)

    def give_back(self) -> None:
        """The turn is over."""
        if self._limit is not None:
            self._free.release()


class Caller:
    """Makes calls for one client.

    Args:
        connector: Gives the channel.
        handlers: Answer what the server wants to know before it can go on.
        inbox: Receives progress.
        metrics: Gets one record for each call that ends.
        policy: Says which calls are repeated.
        slots: Bound the calls in flight.
        hooks: Told when calls begin and end.

    Attributes:
        when_idle: Called when the last call in flight, a subscription, or connecting has ended.
    """

    def __init__(
        self,
        connector: Connector,
        handlers: Handlers,
        inbox: Inbox,
        metrics: ClientMetrics,
        policy: RetryPolicy,
        slots: Slots,
        hooks: HookRunner,
    ) -> None:
        self._hooks = hooks
        self._slots = slots
        self._calls = 0
        self.when_idle: Callable[[], None] = lambda: None
        self._policy = policy
        self._connector = connector
        self._handlers = handlers
        self._inbox = inbox
        self._metrics = metrics

    @contextlib.contextmanager
    def locating(self, phase: Phase = "call") -> Generator[None]:
        """Have errors say which server they are of."""
        try:
            yield
        except MCPClientError as error:
            self._connector.locate(error, phase)
            raise

    async def ready(self, deadline: float) -> Channel:
        """A live channel; connects where needed.

        Raises:
            MCPConnectionError: There is none.
            CallTimeoutError: Nor was there one before the deadline.
        """
        started = time.monotonic()
        with self.locating("connect"):
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._connector.live_channel()
            except MCPClientError:
                raise
            except TimeoutError:
                seconds = time.monotonic() - started
                raise CallTimeoutError(f"no connection within {seconds:.3g} s", delivery=Delivery.NOT_SENT) from None

    async def call_for(
        self,
        model: type[ModelT],
        method: str,
        params: Mapping[str, Any] | None,
        deadline: float,
        options: CallOptions = _NO_OPTIONS,
    ) -> ModelT:
        """Call, and validate the result.

        Raises:
            InvalidResultError: The result does not have the model's shape.
        """
        raw = await self.call(method, params, deadline, options)
        try:
            return model.model_validate_json(bytes(raw), by_alias=True, by_name=False)
        except ValidationError as error:
            problems = error.errors(include_input=False, include_url=False)
            shown = "; ".join(
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems[:_PROBLEMS_SHOWN]
            )
            failure = InvalidResultError(f"the result of {method} is malformed: {shown}")
            raise self._connector.locate(failure, "call") from error

    async def pages(self, model: type[PageT], method: str, deadline: float) -> list[PageT]:
        """Every page of a list.

        Raises:
            ProtocolError: The pages go round in a circle, or there are more than a thousand.
        """
        pages: list[PageT] = []
        cursors: set[str] = set()
        params: dict[str, Any] | None = None
        while True:
            page = await self.call_for(model, method, params, deadline)
            pages.append(page)
            if page.next_cursor is None:
                return pages
            if page.next_cursor in cursors or len(pages) == _MAX_PAGES:
                failure = ProtocolError(f"{method} never ends: after {len(pages)} pages it repeats itself or goes on")
                raise self._connector.locate(failure, "call")
            cursors.add(page.next_cursor)
            params = {"cursor": page.next_cursor}

    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        deadline: float,
        options: CallOptions = _NO_OPTIONS,
    ) -> msgspec.Raw:
        """Call, and return the result as it came.

        Args:
            method: Of the protocol.
            params: Without what the era adds.
            deadline: On the clock of the event loop, for all of it: connecting where needed, and every round.
            options: Progress and such.

        Raises:
            MCPClientError: It failed; one of its subclasses says how, and `delivery` what may have happened.
        """
        if self._hooks.around is None:
            return await self._call(method, params, deadline, options, None)
        outgoing = self._hooks.outgoing(method, _target(params))
        with self._hooks.around(outgoing):
            outgoing.result = await self._call(method, params, deadline, options, outgoing)
        return outgoing.result

    async def _call(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        deadline: float,
        options: CallOptions,
        outgoing: OutgoingCall | None,
    ) -> msgspec.Raw:
        started = time.monotonic()
        begun = self._begin(method, params)
        failure: BaseException | None = None
        patience: _Patience | None = None
        try:
            async with asyncio.timeout_at(deadline) as scope:
                patience = _Patience(scope, deadline, options, outgoing)
                self._connector.own_loop()  # not within the retries: misuse says nothing about the server
                await self._slots.take()
                try:
                    return await self._rounds(method, params, patience)
                finally:
                    self._slots.give_back()
        except MCPClientError as error:
            failure = self._connector.locate(error, "call")
            raise
        except TimeoutError:
            seconds = time.monotonic() - started
            delivery = Delivery.UNKNOWN if patience is not None and patience.sent else Delivery.NOT_SENT
            late = CallTimeoutError(f"{method} was given up after {seconds:.3g} s", delivery=delivery)
            failure = self._connector.locate(late, "call")
            raise failure from None
        except BaseException as error:
            failure = error
            raise
        finally:
            self._end(method, begun, time.monotonic() - started, failure)

    def _begin(self, method: str, params: Mapping[str, Any] | None) -> RequestEvent | None:
        self._metrics.in_flight += 1
        if not self._hooks.watches_calls:
            return None
        self._calls += 1
        return self._hooks.began(self._calls, method, _target(params))

    def _end(self, method: str, begun: RequestEvent | None, seconds: float, failure: BaseException | None) -> None:
        self._metrics.in_flight -= 1
        if self._metrics.in_flight == 0:
            self.when_idle()
        self._metrics.record(CallEvent(method, seconds, None if failure is None else type(failure).__name__))
        if begun is not None:
            self._hooks.ended(begun, seconds, failure)

    async def _rounds(self, method: str, params: Mapping[str, Any] | None, patience: "_Patience") -> msgspec.Raw:
        """One exchange; in the stateless era as many as the server asks questions in between."""
        result = await self._persist(method, params, patience)
        if self._connector.era.name is not EraName.STATELESS:
            return result
        asked = params
        for _ in range(input_required.MAX_ROUNDS):
            required = input_required.parse(result, method)
            if required is None:
                return result
            answers = await self._answers(method, required, patience.request_id)
            asked = input_required.answered(params, required, answers)
            result = await self._persist(method, asked, patience)
        if input_required.parse(result, method) is None:
            return result
        raise InputRequiredError(f"{method} still asks for input after {input_required.MAX_ROUNDS} rounds")

    async def _answers(self, method: str, required: InputRequired, call: int) -> dict[str, Any]:
        if not required.input_requests:
            await asyncio.sleep(_STATE_ONLY_SECONDS)  # it only wants to be asked again
            return {}
        asked = [self._answer(method, request, call) for request in required.input_requests.values()]
        return dict(zip(required.input_requests, await _all(asked), strict=True))

    async def _answer(self, method: str, request: dict[str, Any], call: int) -> BaseModel:
        wanted = str(request.get("method"))
        try:
            return await self._handlers.answer(self._inbox.context(call), wanted, as_object(request.get("params")))
        except RPCError as error:
            raise InputRequiredError(f"{method} needs {wanted}, but {error.message}") from error
        except MCPClientError:
            raise
        except Exception as error:
            raise InputRequiredError(f"{method} needs {wanted}, but its handler failed: {error}") from error

    async def _persist(self, method: str, params: Mapping[str, Any] | None, patience: "_Patience") -> msgspec.Raw:
        """One exchange that succeeds, after as many as the retry policy allows and the deadline leaves time for."""
        breaker, loop = self._connector.breaker, asyncio.get_running_loop()
        failure: MCPClientError | None = None
        for tried in itertools.count(1):
            try:
                ticket = breaker.check()
            except CircuitOpenError:
                if failure is not None:  # it was this call that opened it
                    raise failure from failure.__cause__
                raise
            try:
                channel = await self._connector.live_channel()
                patience.sent = True
                self._connector.exchanging += 1
                try:
                    result = await self._exchange(channel, method, params, patience)
                finally:
                    self._connector.exchange_over()
            except RPCError as error:
                breaker.succeeded()
                self._connector.doubt(error)
                raise
            except MCPClientError as error:
                failure = error
                self._connector.failed(error, ticket)
                self._connector.doubt(error)
                repeatable = patience.options.repeatable or method in _REPEATABLE
                wait = self._policy.wait_before_retry(error, tried, repeatable=repeatable)
                if loop.time() + wait >= patience.deadline:
                    raise
                self._metrics.retries[type(error).__name__] += 1
            except BaseException:  # cancelled, perhaps by the deadline
                breaker.abandoned(ticket)
                raise
            else:
                breaker.succeeded()
                return result
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    async def _exchange(
        self, channel: Channel, method: str, params: Mapping[str, Any] | None, patience: "_Patience"
    ) -> msgspec.Raw:
        connector, options = self._connector, patience.options
        request_id = patience.request_id = next(connector.request_ids)
        if not patience.wants_progress:
            reply = await channel.exchange(self._request(channel, method, params, patience, options.meta))
            return _result(reply, channel)
        patience.renew()
        mailbox = self._inbox.expect_progress(request_id, options.progress or _ignore_progress, patience.renew)
        try:
            meta = {**options.meta, "progressToken": request_id}
            reply = await channel.exchange(self._request(channel, method, params, patience, meta))
            await mailbox.flush()
        finally:
            self._inbox.forget_progress(request_id)
            await mailbox.close()
        return _result(reply, channel)

    def _request(
        self,
        channel: Channel,
        method: str,
        params: Mapping[str, Any] | None,
        patience: "_Patience",
        meta: Mapping[str, Any],
    ) -> Request:
        era, headers, outgoing = self._connector.era, patience.options.headers, patience.outgoing
        if outgoing is not None:
            outgoing.transport, outgoing.protocol_version = channel.transport, era.version
            outgoing.request_id = patience.request_id
            headers = {**outgoing.context, **headers}
            if era.name is not EraName.BARE:
                meta = {**outgoing.context, **meta}
        return Request(patience.request_id, method, era.stamp(params, meta), era, headers)


@dataclass(slots=True)
class _Patience:
    """How long a call may still take, and the id of its latest request."""

    scope: asyncio.Timeout
    deadline: float
    options: CallOptions
    outgoing: OutgoingCall | None = None
    request_id: int = 0
    sent: bool = False

    @property
    def wants_progress(self) -> bool:
        return self.options.progress is not None or self.options.progress_timeout is not None

    def renew(self) -> None:
        """The server shows that it is at work."""
        if self.options.progress_timeout is not None and not self.scope.expired():
            now = asyncio.get_running_loop().time()
            self.scope.reschedule(min(self.deadline, now + self.options.progress_timeout))


def _target(params: Mapping[str, Any] | None) -> str | None:
    """What a request is about: a tool, a prompt, a resource."""
    target = (params or {}).get("name") or (params or {}).get("uri")
    return None if target is None else str(target)


def _result(reply: Message, channel: Channel) -> msgspec.Raw:
    if isinstance(reply.error, ErrorObject):
        raise reply.error.to_exception(channel.redacted)
    if not isinstance(reply.result, msgspec.Raw):
        raise ProtocolError("the reply has neither a result nor an error")
    return reply.result


async def _all(work: Sequence[Awaitable[BaseModel]]) -> list[BaseModel]:
    """Wait for all at once; where one fails, the others are cancelled."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ignore_progress(_progress: float, _total: float | None, _message: str | None) -> None:
    """The caller only wants the deadline renewed."""
