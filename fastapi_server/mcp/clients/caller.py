"""The one path that every call takes: deadline, channel, era, exchange, input-required rounds, result, metric."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

from mcp_types import ListPromptsResult, ListResourcesResult, ListResourceTemplatesResult, ListToolsResult
from msgspec import UNSET, Raw, Struct
from pydantic import BaseModel

from fastapi_server.mcp.clients.channel import Channel, Request
from fastapi_server.mcp.clients.connector import Connector
from fastapi_server.mcp.clients.deadline import Deadline
from fastapi_server.mcp.clients.handlers import HandlerContext, Handlers
from fastapi_server.mcp.clients.hooks import Around, HookRunner, OutgoingCall, RequestEvent
from fastapi_server.mcp.clients.inbox import Inbox, ProgressCallback
from fastapi_server.mcp.clients.results import read
from fastapi_server.mcp.clients.slots import Slots
from fastapi_server.mcp.errors import (
    CallTimeoutError,
    Delivery,
    InputRequiredError,
    InvalidResultError,
    MCPClientError,
    Phase,
    ProtocolError,
    RPCError,
)
from fastapi_server.mcp.metrics import ClientMetrics
from fastapi_server.mcp.protocol import input_required
from fastapi_server.mcp.protocol.eras import EraName
from fastapi_server.mcp.protocol.input_required import InputRequired
from fastapi_server.mcp.protocol.jsonrpc import Message, as_object
from fastapi_server.mcp.resilience import RetryPolicy

ModelT = TypeVar("ModelT", bound=BaseModel)
PageT = TypeVar("PageT", ListToolsResult, ListResourcesResult, ListResourceTemplatesResult, ListPromptsResult)

_REPEATABLE = frozenset(
    {"ping", "server/discover", "tools/list", "resources/list", "resources/templates/list", "resources/read"}
    | {"prompts/list", "prompts/get", "completion/complete", "logging/setLevel"}
    | {"resources/subscribe", "resources/unsubscribe"}
)
"""Methods that change nothing, or nothing more the second time."""
_MAX_PAGES = 1_000
_STATE_ONLY_SECONDS = 0.1


class CallOptions(Struct, frozen=True):
    """What a call may have besides its parameters.

    Attributes:
        progress: Told of progress.
        progress_timeout: Seconds that may pass without any.
        meta: More members for `_meta`.
        headers: More HTTP headers.
        on_json: Shown the JSON that comes over HTTP, see `Request`; for `pages` alone.
        repeatable: To do it twice does no harm.
    """

    progress: ProgressCallback | None = None
    progress_timeout: float | None = None
    meta: Mapping[str, Any] = MappingProxyType({})
    headers: Mapping[str, str] = MappingProxyType({})
    on_json: Callable[[bytes | bytearray], None] | None = None
    repeatable: bool = False


NO_OPTIONS = CallOptions()


class Caller:
    """Makes calls for one client.

    Args:
        connector: Gives the channel.
        handlers: Answer what the server wants to know before it can go on.
        inbox: Receives progress.
        metrics: Gets one record for each call that ends.
        policy: Says which calls are repeated.
        slots: Bound the calls in flight, where they are bounded.
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
        slots: Slots | None,
        hooks: HookRunner,
    ) -> None:
        self._hooks = hooks
        self._slots = slots
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
                    channel = self._connector.usable()
                    if channel is None:
                        self._connector.breaker.refuse()
                        channel = await self._connector.live_channel()
                    return channel
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
        options: CallOptions = NO_OPTIONS,
    ) -> ModelT:
        """Call, and validate the result.

        Raises:
            InvalidResultError: The result does not have the model's shape.
        """
        value = await self.call(method, params, deadline, options)
        try:
            return read(model, method, value)
        except InvalidResultError as error:
            self._connector.locate(error, "call")
            raise

    async def pages(
        self, model: type[PageT], method: str, deadline: float, options: CallOptions = NO_OPTIONS
    ) -> list[PageT]:
        """Every page of a list.

        Raises:
            ProtocolError: The pages go round in a circle, or there are more than a thousand.
        """
        pages: list[PageT] = []
        cursors: set[str] = set()
        params: dict[str, Any] | None = None
        while True:
            page = await self.call_for(model, method, params, deadline, options)
            if self._connector.era.has_result_types:
                with self.locating():
                    input_required.is_final(page.result_type, method)
            pages.append(page)
            if page.next_cursor is None:
                return pages
            if page.next_cursor in cursors or len(pages) == _MAX_PAGES:
                failure = ProtocolError(f"{method} never ends: after {len(pages)} pages it repeats itself or goes on")
                raise self._connector.locate(failure, "call")
            cursors.add(page.next_cursor)
            params = {"cursor": page.next_cursor}

    def call(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        deadline: float,
        options: CallOptions = NO_OPTIONS,
    ) -> Coroutine[Any, Any, Any]:
        """Call, and return the result: plain values, or perhaps JSON (`Raw`) where `options.on_json` is given.

        Args:
            method: Of the protocol.
            params: Without what the era adds.
            deadline: On the clock of the event loop, for all of it: connecting where needed, and every round.
            options: Progress and such.

        Raises:
            MCPClientError: It failed; one of its subclasses says how, and `delivery` what may have happened.
        """
        call = _Call(method, params, deadline, options)
        return self._made(call) if self._hooks.around is None else self._made_inside(call, self._hooks.around)

    async def _made_inside(self, call: "_Call", around: Around) -> Any:
        call.outgoing = outgoing = self._hooks.outgoing(call.method, call.params)
        with around(outgoing):
            outgoing.result = await self._made(call)
        return outgoing.result

    async def _made(self, call: "_Call") -> Any:
        started = time.monotonic()
        self._metrics.in_flight += 1
        begun = self._hooks.began(call.method, call.params) if self._hooks.watches_calls else None
        failure: BaseException | None = None
        try:
            loop = self._connector.own_loop()  # not within the retries: misuse says nothing about the server
            with Deadline(call.deadline, loop) as call.scope:
                if self._slots is not None:
                    await self._slots.take()
                    call.slots = self._slots
                result = await self._persist(call, call.params)
                if self._connector.era.has_result_types and not isinstance(result, Raw):
                    required = input_required.parse(result, call.method)
                    if required is not None:
                        result = await self._rounds(call, required)
                return result
        except MCPClientError as error:
            failure = self._connector.locate(error, "call")
            raise
        except TimeoutError:
            seconds = time.monotonic() - started
            sent = call.request is not None and call.request.sent
            delivery = Delivery.UNKNOWN if sent else Delivery.NOT_SENT
            late = CallTimeoutError(f"{call.method} was given up after {seconds:.3g} s", delivery=delivery)
            failure = self._connector.locate(late, "call")
            raise failure from None
        except BaseException as error:
            failure = error
            raise
        finally:
            self._end(call, begun, time.monotonic() - started, failure)

    def _end(self, call: "_Call", begun: RequestEvent | None, seconds: float, failure: BaseException | None) -> None:
        if call.slots is not None:
            call.slots.give_back()
        metrics = self._metrics
        if metrics.in_flight:  # one of a loop that is gone may end when it is collected
            metrics.in_flight -= 1
        metrics.record(call.method, seconds, None if failure is None else type(failure).__name__)
        if metrics.in_flight == 0:
            self.when_idle()
        if begun is not None:
            self._hooks.ended(begun, seconds, failure)

    async def _rounds(self, call: "_Call", required: InputRequired) -> Any:
        """In the stateless era: as many more exchanges as the server asks questions in between."""
        for _ in range(input_required.MAX_ROUNDS):
            answers = await self._answers(call.method, required, call.request_id)
            result = await self._persist(call, input_required.answered(call.params, required, answers))
            asked = input_required.parse(result, call.method)
            if asked is None:
                return result
            required = asked
        raise InputRequiredError(f"{call.method} still asks for input after {input_required.MAX_ROUNDS} rounds")

    async def _answers(self, method: str, required: InputRequired, call: int) -> dict[str, Any]:
        if not required.input_requests:
            await asyncio.sleep(_STATE_ONLY_SECONDS)  # it only wants to be asked again
            return {}
        context = self._inbox.context(call)
        asked = [
            self._answer(method, request, replace(context, key=key)) for key, request in required.input_requests.items()
        ]
        return dict(zip(required.input_requests, await _all(asked), strict=True))

    async def _answer(self, method: str, request: dict[str, Any], context: HandlerContext) -> BaseModel:
        wanted = str(request.get("method"))
        try:
            return await self._handlers.answer(context, wanted, as_object(request.get("params")))
        except RPCError as error:
            raise InputRequiredError(f"{method} needs {wanted}, but {error.message}") from error
        except MCPClientError:
            raise
        except Exception as error:
            raise InputRequiredError(f"{method} needs {wanted}, but its handler failed: {error}") from error

    async def _persist(self, call: "_Call", params: Mapping[str, Any] | None) -> Any:
        """One exchange that succeeds, after as many as the retry policy allows and the deadline leaves time for."""
        connector, breaker, options = self._connector, self._connector.breaker, call.options
        failure: MCPClientError | None = None
        tried = 0
        while True:
            tried += 1
            ticket = breaker.check(failure) if breaker.failures else breaker.ticket
            try:
                channel = connector.usable() or await connector.live_channel()
                call.request_id = next(connector.request_ids)
                connector.exchanging += 1
                try:
                    if options.progress is not None or options.progress_timeout is not None:
                        reply = await self._exchange_telling(channel, call, params)
                    else:
                        reply = await channel.exchange(self._request(channel, call, params, options.meta))
                finally:
                    connector.exchange_over()
                result = _result(reply, channel)
            except RPCError as error:
                breaker.succeeded()
                connector.doubt(error)
                raise
            except MCPClientError as error:
                failure = connector.locate(error, "call")  # now, while the channel is the one that it is of
                connector.failed(error, ticket)
                connector.doubt(error)
                repeatable = options.repeatable or call.method in _REPEATABLE
                wait = self._policy.wait_before_retry(error, tried, repeatable=repeatable)
                if asyncio.get_running_loop().time() + wait >= call.deadline:
                    raise
                self._metrics.retries[type(error).__name__] += 1
            except BaseException:  # cancelled, perhaps by the deadline
                breaker.abandoned(ticket)
                raise
            else:
                if breaker.failures:
                    breaker.succeeded()
                return result
            await asyncio.sleep(wait)

    async def _exchange_telling(self, channel: Channel, call: "_Call", params: Mapping[str, Any] | None) -> Message:
        """An exchange during which progress is told, each of which renews its deadline."""
        token = call.request_id
        call.renew()
        mailbox = self._inbox.expect_progress(token, call.options.progress or _ignore_progress, call.renew)
        try:
            meta = {**call.options.meta, "progressToken": token}
            reply = await channel.exchange(self._request(channel, call, params, meta))
            await mailbox.flush()
        finally:
            self._inbox.forget_progress(token)
            await mailbox.close()
        return reply

    def _request(
        self, channel: Channel, call: "_Call", params: Mapping[str, Any] | None, meta: Mapping[str, Any]
    ) -> Request:
        era, headers, outgoing = self._connector.era, call.options.headers, call.outgoing
        if outgoing is not None:
            outgoing.transport, outgoing.protocol_version = channel.transport, era.version
            outgoing.request_id = call.request_id
            headers = {**outgoing.context, **headers}
            if era.name is not EraName.BARE:
                meta = {**outgoing.context, **meta}
        stamped = era.stamp(params, meta)
        call.request = Request(call.request_id, call.method, stamped, era, headers, call.options.on_json)
        return call.request


class _Call(Struct):
    """One call on its way: what is asked for, how long it may still take, and the id of its latest request."""

    method: str
    params: Mapping[str, Any] | None
    deadline: float
    options: CallOptions
    outgoing: OutgoingCall | None = None
    scope: Deadline | None = None
    slots: Slots | None = None
    request_id: int = 0
    request: Request | None = None

    def renew(self) -> None:
        """The server shows that it is at work."""
        if self.options.progress_timeout is not None and self.scope is not None:
            now = asyncio.get_running_loop().time()
            self.scope.move(min(self.deadline, now + self.options.progress_timeout))


def _result(reply: Message, channel: Channel) -> Any:
    if reply.error is not UNSET and reply.error is not None:
        raise reply.error.to_exception(channel.redacted)
    if reply.result is UNSET:
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
