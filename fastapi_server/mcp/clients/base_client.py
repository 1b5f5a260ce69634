"""`MCPClient`: the handle that a caller keeps, with a verb for everything a server can do."""

import asyncio
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Self

from mcp_types import (
    CallToolResult,
    CompleteResult,
    Completion,
    EmptyResult,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    LoggingLevel,
    Prompt,
    PromptReference,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    ResourceTemplateReference,
    ServerCapabilities,
    Tool,
)
from msgspec.structs import replace

from fastapi_server.mcp.clients.caller import NO_OPTIONS, Caller, CallOptions
from fastapi_server.mcp.clients.channel import Channel
from fastapi_server.mcp.clients.connector import Connector
from fastapi_server.mcp.clients.handlers import Handlers
from fastapi_server.mcp.clients.handshake import Probe, ServerInfo, server_info
from fastapi_server.mcp.clients.hooks import HookRunner, Hooks
from fastapi_server.mcp.clients.inbox import Inbox, ProgressCallback
from fastapi_server.mcp.clients.lifecycle import ConnectionState
from fastapi_server.mcp.clients.listener import Listener
from fastapi_server.mcp.clients.lists import Lists
from fastapi_server.mcp.clients.membership import Membership
from fastapi_server.mcp.clients.results import ModelT
from fastapi_server.mcp.clients.slots import Slots
from fastapi_server.mcp.clients.subscriptions import Interest, Subscription, list_changes
from fastapi_server.mcp.clients.tool_book import ToolBook
from fastapi_server.mcp.config import CommonConfig, ServerConfig
from fastapi_server.mcp.errors import ConfigError, MCPClientError, MCPConnectionError, RPCError, StructuredOutputError
from fastapi_server.mcp.metrics import ClientMetrics
from fastapi_server.mcp.protocol import jsonrpc
from fastapi_server.mcp.protocol.caching import ListCache
from fastapi_server.mcp.protocol.eras import EraName, StatelessEra
from fastapi_server.mcp.protocol.headers import may_ask_for_headers
from fastapi_server.mcp.resilience import RetryPolicy

logger = logging.getLogger("fastapi_server.mcp")

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class MCPClient(ABC):
    """A server, as its callers see it: connects when it is first needed, and again when the channel has died.

    Any task may use it, at the same time as others; any task may close what another has opened. Arguments named
    `timeout` are seconds for the whole verb; left out, `config.timeout` (milliseconds) applies. Every verb raises
    `MCPClientError` or one of its subclasses; `RPCError` is the server's own no.

    Args:
        name: How you call the server.
        config: The typed settings of the transport, or a mapping of them.
        handlers: What to answer when the server asks or tells something.
        principal: On whose behalf the client works; handed to the handlers.
        hooks: Told what happens.

    Attributes:
        transport: Its name in configurations.
        metrics: What the client counts.
    """

    transport: ClassVar[str] = "custom"

    def __init__(
        self,
        name: str,
        config: Any,
        *,
        handlers: Handlers | None = None,
        principal: str | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.name = name
        self.config: Any = ServerConfig(name, self.transport, config).config
        self.principal = principal
        self.metrics = ClientMetrics()
        common = self.config if isinstance(self.config, CommonConfig) else CommonConfig()
        handlers = handlers or Handlers()
        self._timeout = common.timeout / 1000
        self._output_validation = common.output_validation
        self._cache = ListCache(time.monotonic)
        self._lists = Lists(self._cache)
        self._inbox = Inbox(name, principal, handlers, self._cache, self._reply)
        self._connector = Connector(
            name,
            self.transport,
            common,
            self._establish_connection,
            self._close_connection,
            self._next_transport,
            self._inbox,
            self.metrics,
            handlers.capabilities(),
        )
        self._tools = ToolBook(name, trusted=common.trusted, redacted=self._connector.redacted)
        self._connector.when_up = self._when_up
        self._hooks = HookRunner(name, principal, hooks or Hooks())
        self._connector.moved = self._moved
        policy = RetryPolicy(common.retries)
        slots = None
        if common.max_in_flight is not None:
            slots = Slots(common.max_in_flight, common.queue_timeout / 1000, self.metrics.queued.observe)
        self._caller = Caller(self._connector, handlers, self._inbox, self.metrics, policy, slots, self._hooks)
        self._listener = Listener(self._caller, self._connector, self._inbox)
        self._connector.when_heard = self._listener.heard
        self._connector.when_failed = self._listener.fail
        self._connector.wanted = lambda: self._listener.wanted
        self._connector.parked = self._stop_listening
        self._connector.abandoned = self._abandoned
        self._log_level: LoggingLevel | None = "info" if handlers.logging else None
        self._tells_changes = handlers.list_changed is not None
        self._standing: Subscription | None = None
        self._membership: Membership | None = None
        self._asks_pool = False

    # What a transport provides.

    @abstractmethod
    async def _establish_connection(self) -> Channel:
        """Return a channel that has been opened.

        Raises:
            MCPConnectionError: The server cannot be reached.
        """

    async def _close_connection(self) -> None:
        """Close what `_establish_connection` has opened. Safe where nothing is open."""
        if self._connector.channel is not None:
            await self._connector.channel.close()

    def _next_transport(self, error: MCPConnectionError) -> MCPConnectionError | None:
        """What to raise; or `None` to try once more, because `_establish_connection` will try another transport."""
        return error

    # Its life.

    @property
    def state(self) -> ConnectionState:
        """Where the client stands."""
        return self._connector.state

    @property
    def last_error(self) -> MCPClientError | None:
        """Why the last channel died or could not be opened; `None` after a success."""
        return self._connector.last_error

    @property
    def server_info(self) -> ServerInfo | None:
        """What was negotiated; `None` before that."""
        return self._connector.info

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.state}>"

    async def connect(self, retry_count: int = 3) -> bool:
        """Open the channel and agree on a revision.

        Args:
            retry_count: How often to try, at least once; between tries the client waits 1 s, 2 s, … up to 30 s, with
                jitter. What cannot get better (no such command, 401, no common revision) is tried once.

        Returns:
            `True`, and the state is CONNECTED; or `False`, the state is ERROR and `last_error` says why.
        """
        try:
            await self._connect(retry_count)
        except MCPClientError:
            return False
        return True

    async def disconnect(self) -> None:
        """End the session and release everything; calls in flight fail at once. Safe in any state, and twice."""
        await self._stop_listening()
        await self._connector.disconnect()
        await self._hooks.flush()
        self._tools.forget()

    async def park(self, *, drain: float = 0.0) -> None:
        """Close the channel but stay usable: the next call opens another one.

        Args:
            drain: Seconds that calls in flight get to finish before they fail.
        """
        await asyncio.shield(self.begin_park(drain))

    def begin_park(self, drain: float) -> asyncio.Task[None]:
        """The same in a task that is returned: calls that begin from now on wait for the next channel."""
        return self._connector.park(drain)

    async def _stop_listening(self) -> None:
        await self._listener.close()
        self._standing = None

    @property
    def listening(self) -> bool:
        """Somebody iterates over a subscription of this client."""
        return self._listener.active

    def join_pool(self, membership: Membership) -> None:
        """Become the client of a pool."""
        self._membership, self._asks_pool = membership, membership.several
        first = membership.processes()[0]
        self._log_level = first._log_level
        self._connector.breaker = membership.breaker(self._connector.breaker)
        self._connector.admit = membership.admit
        self._connector.released = membership.released
        self._caller.when_idle = membership.rested

    def ask_pool(self) -> None:
        """From now on have the pool choose, or refuse, before each call."""
        self._asks_pool = True

    async def _chosen(self, deadline: float) -> Caller:
        """For a call that any process of the server can answer: the caller of the least busy one."""
        if self._membership is None or not self._asks_pool:
            return self._caller
        try:
            return (await self._membership.choose(deadline))._caller
        except MCPClientError as error:
            self._connector.locate(error, "call")
            raise

    async def _answer(
        self,
        model: type[ModelT],
        method: str,
        params: Mapping[str, Any] | None,
        timeout: float | None,
        options: CallOptions = NO_OPTIONS,
    ) -> ModelT:
        deadline = self._deadline(timeout)
        caller = await self._chosen(deadline)
        return await caller.call_for(model, method, params, deadline, options)

    @property
    def _processes(self) -> "Sequence[MCPClient]":
        """For what all processes of the server have to know."""
        return (self,) if self._membership is None else self._membership.processes()

    async def replace_channel(self) -> None:
        """Open a new channel for one that does not answer; raises nothing, `state` says how it went."""
        self._connector.declare_lost(MCPConnectionError("the server did not answer a health probe"))
        await self.connect(retry_count=1)

    async def __aenter__(self) -> Self:
        try:
            await self._connect(3)
        except BaseException:
            await self.disconnect()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.disconnect()

    def watch_negotiation(self, told: Callable[[Probe], None]) -> None:
        """From now on have `told` hear each probe of a negotiation as it is answered; it must return at once."""
        self._connector.report = lambda step, answer: told(Probe(self._tried, step, answer))

    @property
    def _tried(self) -> str:
        """The transport that is being tried, for a `Probe`."""
        return self.transport

    async def _connect(self, attempts: int) -> None:
        with self._caller.locating("connect"):
            await self._connector.connect(attempts)

    def _abandoned(self) -> None:
        self._listener.forget()
        self._standing = None
        self._connector.released()

    def _moved(self, before: ConnectionState, after: ConnectionState) -> None:
        self._hooks.moved(before, after, self.last_error)
        if after is ConnectionState.CONNECTED and self.metrics.in_flight == 0:
            self._caller.when_idle()

    async def _when_up(self) -> None:
        """On each new channel: what the host asked for once holds on this one too."""
        restore = partial(self._listener.restore, self._listener.held())
        for step in (self._renew_logging_level, self._renew_standing_subscription, restore):
            try:
                await step()
            except MCPClientError as error:
                logger.warning("server %r: %s", self.name, error.message)

    async def _renew_logging_level(self) -> None:
        offers = self._offers
        if self._log_level is not None and (offers is None or offers.logging is not None):
            await self._apply_logging_level(self._log_level, self._deadline(None))

    async def _renew_standing_subscription(self) -> None:
        lists = list_changes(self._offers)
        if self._standing is None and self._tells_changes and self._stateless is not None and lists.to_filter():
            self._standing = await self._listener.listen(lists, self._deadline(None), standing=True)

    @property
    def _offers(self) -> ServerCapabilities | None:
        return self._connector.info.capabilities if self._connector.info is not None else None

    async def _reply(self, answer: bytes) -> None:
        if self._connector.channel is not None:
            await self._connector.channel.notify(answer, self._connector.era)

    def _deadline(self, timeout: float | None) -> float:
        """On the clock of the event loop.

        Raises:
            ConfigError: `timeout` is no number.
        """
        if timeout is not None and math.isnan(timeout):
            raise ConfigError("timeout: must be a number of seconds, not NaN")
        return asyncio.get_running_loop().time() + (self._timeout if timeout is None else timeout)

    @property
    def _stateless(self) -> StatelessEra | None:
        era = self._connector.era
        return era if isinstance(era, StatelessEra) else None

    def locating(self) -> AbstractContextManager[None]:
        """Around what judges the server's answers: errors raised there are located and cleaned as those of a verb."""
        return self._caller.locating()

    def get_metrics(self) -> ClientMetrics:
        """The counters, live."""
        return self.metrics

    # Verbs: the server as a whole.

    async def initialize(self, *, timeout: float | None = None) -> ServerInfo:
        """What was negotiated and who the server says it is; connects first where needed."""
        if self._connector.usable() is not None and self._connector.info is not None:
            self._connector.own_loop()
            return self._connector.info
        deadline = self._deadline(timeout)
        await self._caller.ready(deadline)
        if self._connector.info is None:  # a pinned stateless revision: nobody has asked yet
            result = await self._caller.call("server/discover", None, deadline)
            with self._caller.locating("handshake"):
                self._connector.info = server_info(jsonrpc.as_object(result), self._connector.era)
        return self._connector.info

    async def ping(self, *, timeout: float | None = None) -> float:
        """One round trip that does nothing; returns its seconds.

        `ping` in the handshake era, `server/discover` in the stateless one, which has no `ping`. A bare JSON-RPC peer
        need not know the method: its error is a sign of life, too.
        """
        deadline = self._deadline(timeout)
        await self._caller.ready(deadline)
        started = time.monotonic()
        try:
            await self._caller.call("server/discover" if self._stateless else "ping", None, deadline)
        except RPCError:
            if self._connector.era.name is not EraName.BARE:
                raise
        return time.monotonic() - started

    async def health_check(self, *, timeout: float | None = None) -> bool:
        """Whether the server answers now. Opens nothing and raises nothing."""
        if self.state is not ConnectionState.CONNECTED:
            return False
        try:
            await self.ping(timeout=timeout)
        except RPCError:
            return True  # it has no ping, and says so: that is an answer
        except MCPClientError:
            return False
        return True

    async def set_logging_level(self, level: LoggingLevel, *, timeout: float | None = None) -> None:
        """Ask for log messages of `level` and above; holds for later channels, too."""
        deadline = self._deadline(timeout)
        for client in self._processes:
            await client._caller.ready(deadline)
            await client._apply_logging_level(level, deadline)
            client._log_level = level

    async def _apply_logging_level(self, level: LoggingLevel, deadline: float) -> None:
        if self._stateless is not None:
            self._stateless.log_level = level
        else:
            await self._caller.call_for(EmptyResult, "logging/setLevel", {"level": level}, deadline)

    async def request(
        self, method: str, params: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> Any:
        """Any request, with its result as plain values: for extensions, and for bare JSON-RPC peers."""
        deadline = self._deadline(timeout)
        caller = await self._chosen(deadline)
        return await caller.call(method, params, deadline)

    async def notify(
        self, method: str, params: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> None:
        """Any notification, for instance `notifications/roots/list_changed`."""
        deadline, message = self._deadline(timeout), jsonrpc.encode_notification(method, params)
        for client in self._processes:
            channel = await client._caller.ready(deadline)
            with client._caller.locating():
                await channel.notify(message, client._connector.era)

    # Verbs: tools.

    async def list_tools(self, *, timeout: float | None = None) -> list[Tool]:
        """All tools, every page of them; from the cache while the server allows that (`ttlMs`)."""
        deadline = self._deadline(timeout)
        return await self._list_tools(await self._chosen(deadline), deadline)

    async def call_tool(
        self,
        name: str,
        args: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        progress: ProgressCallback | None = None,
        progress_timeout: float | None = None,
        meta: Mapping[str, Any] | None = None,
        idempotent: bool = False,
    ) -> CallToolResult:
        """Call a tool. An error of the tool itself is a result with `is_error`, not an exception.

        Args:
            name: Of the tool.
            args: Its arguments.
            timeout: Seconds for the whole call.
            progress: Told `(progress, total, message)` before this returns; a plain or a coroutine function.
            progress_timeout: Seconds that may pass without progress; each progress renews it, up to `timeout`.
            meta: More members for `_meta`.
            idempotent: To do it twice does no harm, so that it may be repeated when its outcome is unknown.

        Raises:
            CallTimeoutError: One of the two times passed.
            OutcomeUnknownError: The connection broke when the tool may have begun, and it must not be repeated.
            StructuredOutputError: With `output_validation="strict"`, the result breaks the tool's output schema.
        """
        deadline = self._deadline(timeout)
        arguments = _named(args, name)
        params = {"name": name, "arguments": arguments}
        options = CallOptions(
            progress,
            progress_timeout,
            meta or _NOTHING,
            self._tools.headers(name, arguments),
            repeatable=idempotent or name in self._tools.repeatable,
        )
        caller = await self._chosen(deadline) if self._asks_pool else self._caller
        try:
            result = await caller.call_for(CallToolResult, "tools/call", params, deadline, options)
        except RPCError as error:
            if error.code != RPCError.HEADER_MISMATCH:
                raise
            self._cache.clear()  # the tool's annotations are not the ones that we know
            await self._list_tools(caller, deadline)
            options = replace(options, headers=self._tools.headers(name, arguments))
            result = await caller.call_for(CallToolResult, "tools/call", params, deadline, options)
        if self._output_validation != "off":
            if result.structured_content is not None and self._tools.worth_listing(name):
                await self._learn_schema(caller, name, deadline)
            breach = self._tools.breach(name, result)
            if breach is not None:
                self._report(breach)
        return result

    async def _list_tools(self, caller: Caller, deadline: float) -> list[Tool]:
        pages: list[bytes | bytearray] = []

        def learn(tools: list[Tool]) -> list[Tool]:
            channel = self._connector.channel
            mirrors = self._stateless is not None and channel is not None and not channel.shared_stream
            return self._tools.learn(tools, mirrored=mirrors and may_ask_for_headers(pages))

        options = CallOptions(on_json=pages.append)
        return await self._lists.get(
            caller, ListToolsResult, "tools/list", lambda page: page.tools, deadline, learn, options
        )

    async def _learn_schema(self, caller: Caller, name: str, deadline: float) -> None:
        """A tool that nobody has listed yet may have an output schema, too."""
        try:
            await self._list_tools(caller, deadline)
        except MCPClientError as error:
            if self._output_validation == "strict":
                raise
            logger.warning("server %r: the output of %r goes unchecked: %s", self.name, name, error.message)

    def _report(self, breach: str) -> None:
        if self._output_validation == "strict":
            raise self._connector.locate(StructuredOutputError(breach), "call")
        logger.warning("server %r: %s", self.name, breach)

    # Verbs: resources, prompts, completion.

    async def list_resources(self, *, timeout: float | None = None) -> list[Resource]:
        """All resources, every page of them; cached like tools."""
        deadline = self._deadline(timeout)
        caller = await self._chosen(deadline)
        return await self._lists.get(
            caller, ListResourcesResult, "resources/list", lambda page: page.resources, deadline
        )

    async def list_resource_templates(self, *, timeout: float | None = None) -> list[ResourceTemplate]:
        """All resource templates, every page of them; cached like tools."""
        deadline = self._deadline(timeout)
        caller = await self._chosen(deadline)
        return await self._lists.get(
            caller,
            ListResourceTemplatesResult,
            "resources/templates/list",
            lambda page: page.resource_templates,
            deadline,
        )

    async def list_prompts(self, *, timeout: float | None = None) -> list[Prompt]:
        """All prompts, every page of them; cached like tools."""
        deadline = self._deadline(timeout)
        caller = await self._chosen(deadline)
        return await self._lists.get(caller, ListPromptsResult, "prompts/list", lambda page: page.prompts, deadline)

    async def read_resource(
        self,
        uri: str,
        *,
        timeout: float | None = None,
        progress: ProgressCallback | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> ReadResourceResult:
        """The contents of a resource; `progress` and `meta` as for `call_tool`."""
        options = CallOptions(progress, meta=meta or _NOTHING)
        return await self._answer(ReadResourceResult, "resources/read", {"uri": str(uri)}, timeout, options)

    async def get_prompt(
        self,
        name: str,
        args: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
        progress: ProgressCallback | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> GetPromptResult:
        """A prompt, with its arguments filled in; `progress` and `meta` as for `call_tool`."""
        params = {"name": name, "arguments": _named(args, name)}
        options = CallOptions(progress, meta=meta or _NOTHING)
        return await self._answer(GetPromptResult, "prompts/get", params, timeout, options)

    async def complete(
        self,
        ref: PromptReference | ResourceTemplateReference,
        argument: str,
        value: str,
        *,
        context: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Completion:
        """Suggestions for the value of an argument; `context` holds the arguments already chosen."""
        params: dict[str, Any] = {"ref": ref, "argument": {"name": argument, "value": value}}
        if context:
            params["context"] = {"arguments": dict(context)}
        return (await self._answer(CompleteResult, "completion/complete", params, timeout)).completion

    # Verbs: changes.

    async def listen(
        self,
        *,
        tools: bool = False,
        prompts: bool = False,
        resources: bool = False,
        uris: Iterable[str] = (),
        timeout: float | None = None,
    ) -> Subscription:
        """Ask to be told of changes: to the three lists, and to the resources at `uris`. The same in both eras.

        ```python
        async with await client.listen(tools=True) as changes:
            async for change in changes: ...
        ```
        """
        with self._caller.locating():
            interest = Interest(tools, prompts, resources, frozenset(uris))
            return await self._listener.listen(interest, self._deadline(timeout))

    async def subscribe(self, uri: str, *, timeout: float | None = None) -> Subscription:
        """Ask to be told when the resource at `uri` changes."""
        return await self.listen(uris={uri}, timeout=timeout)


def _named(args: Mapping[str, Any] | None, what: str) -> dict[str, Any]:
    try:
        return dict(args or {})
    except (TypeError, ValueError):
        raise ConfigError(
            f"{what}: arguments are given by name, such as {{'city': 'Oslo'}}, not as {type(args).__name__}"
        ) from None
