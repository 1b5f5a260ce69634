"""The calls of `/mcp`: each passed on to the server that it names, and what that asks to whoever made it."""

import contextlib
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, TypedDict, TypeVar, cast

from mcp_types import (
    LOG_LEVEL_META_KEY,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    InputResponseRequestParams,
    LoggingLevel,
    PromptReference,
    ReadResourceRequestParams,
    ReadResourceResult,
)
from pydantic import BaseModel

from fastapi_server.gateway.audit import Audit
from fastapi_server.gateway.endpoint.asking import Asker, Patience, RoundsAsker, SessionAsker
from fastapi_server.gateway.endpoint.changes import Changes
from fastapi_server.gateway.endpoint.content import here
from fastapi_server.gateway.endpoint.parked import ParkedCalls, answers_questions
from fastapi_server.gateway.endpoint.request import Context, is_stateless, passed_on, session_of, view_of
from fastapi_server.gateway.endpoint.upstream import Upstreams
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.gateway.writable import writable
from fastapi_server.mcp import CommonConfig, ConfigError, EraName, MCPClient

ResultT = TypeVar("ResultT", bound=BaseModel)


class _Options(TypedDict):
    """What goes with each call."""

    timeout: float | None
    progress: Callable[[float, float | None, str | None], Awaitable[None]] | None
    meta: Mapping[str, Any]


class Calls:
    """Passes calls on.

    Args:
        gateway: Has the servers.
        audit: Told of every call.
        changes: Knows the log level of a session.

    Attributes:
        parked: Those that wait for an answer.
    """

    def __init__(self, gateway: Gateway, audit: Audit, changes: Changes) -> None:
        self._gateway, self._audit, self._changes = gateway, audit, changes
        self._upstreams = Upstreams(gateway)
        self.parked = ParkedCalls(gateway.settings.question_seconds, gateway.draining)

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        """`tools/call`."""
        with self._noting_refusal(context, *view_of(context).parts(params.name), params.arguments):
            server, tool = view_of(context).tool(self._gateway.pool, params.name)

        async def call(client: MCPClient, options: _Options) -> CallToolResult:
            return await client.call_tool(tool, params.arguments, **options)

        return await self._pass_on(context, params, server, call, (tool, params.arguments))

    async def read_resource(
        self, context: Context, params: ReadResourceRequestParams
    ) -> ReadResourceResult | InputRequiredResult:
        """`resources/read`."""
        with self._noting_refusal(context, view_of(context).only or "", params.uri):
            server, uri = view_of(context).resource(self._gateway.pool, params.uri)

        async def read(client: MCPClient, options: _Options) -> ReadResourceResult:
            return await client.read_resource(uri, **options)

        return await self._pass_on(context, params, server, read, (uri, None))

    async def get_prompt(
        self, context: Context, params: GetPromptRequestParams
    ) -> GetPromptResult | InputRequiredResult:
        """`prompts/get`."""
        with self._noting_refusal(context, *view_of(context).parts(params.name), params.arguments):
            server, prompt = view_of(context).prompt(self._gateway.pool, params.name)

        async def get(client: MCPClient, options: _Options) -> GetPromptResult:
            return await client.get_prompt(prompt, params.arguments, **options)

        return await self._pass_on(context, params, server, get, (prompt, params.arguments))

    @contextlib.contextmanager
    def _noting_refusal(
        self, context: Context, server: str, target: str, arguments: Mapping[str, Any] | None = None
    ) -> Generator[None]:
        """Around finding what a call is for: there may be no such thing for this caller."""
        try:
            yield
        except ConfigError:
            self._audit.refused(view_of(context).caller, server, context.method, target, arguments)
            raise

    async def _pass_on(
        self,
        context: Context,
        params: InputResponseRequestParams,
        server: str,
        work: Callable[[MCPClient, _Options], Awaitable[ResultT]],
        noted: tuple[str, Mapping[str, Any] | None],
    ) -> ResultT | InputRequiredResult:
        """Have the server's client do the work; its questions go to whoever called, in the way of their era.

        Args:
            context: Of the request.
            params: Of the request.
            server: To ask.
            work: Given its client, and what goes with the call.
            noted: For the audit log: what is called, and with which arguments.
        """
        view, seconds = view_of(context), self._seconds(server)
        asks = answers_questions(context.session.client_capabilities)
        timeout = self._gateway.settings.question_seconds if asks else None  # the patience is the shorter one

        async def call(asker: Asker) -> ResultT:
            async with self._upstreams.client(server, view.caller.principal, asker) as client:
                return writable(client, await work(client, self._options(context, client, asker, timeout)))

        async def noted_call(asker: Asker) -> ResultT:
            with self._audit.noting(view.caller, server, context.method, *noted) as told:
                try:
                    result = await (asker.patience.during(call(asker)) if asks else call(asker))
                finally:
                    await asker.told()
                told(result)
                return here(view, server, result)

        patience = Patience(seconds, f"server {server!r}: {context.method}")
        if asks and is_stateless(context):
            asker = RoundsAsker(context, patience, self._log_level(context))
            return await self.parked.result(context, view.key, params, asker, noted_call)
        return await noted_call(SessionAsker(context, patience, self._log_level(context)))

    def _options(self, context: Context, client: MCPClient, asker: Asker, timeout: float | None) -> _Options:
        meta, info = passed_on(context), client.server_info
        if asker.level is not None and info is not None and info.era is EraName.STATELESS:
            meta[LOG_LEVEL_META_KEY] = asker.level
        told = asker.progress if context.meta and "progress_token" in context.meta else None
        return _Options(timeout=timeout, progress=told, meta=meta)

    def _log_level(self, context: Context) -> LoggingLevel | None:
        """Asked for by each request in the stateless era, and of a session before that."""
        if is_stateless(context):
            return cast("LoggingLevel | None", dict(context.meta or {}).get(LOG_LEVEL_META_KEY))
        return self._changes.level(session_of(context))

    def _seconds(self, server: str) -> float:
        config = self._gateway.pool.config_of(server)
        settings = config.config if config is not None else None
        return (settings if isinstance(settings, CommonConfig) else CommonConfig()).timeout / 1000

    async def complete(self, context: Context, params: CompleteRequestParams) -> CompleteResult:
        """`completion/complete`."""
        view, ref = view_of(context), params.ref
        if isinstance(ref, PromptReference):
            with self._noting_refusal(context, *view.parts(ref.name)):
                server, target = view.prompt(self._gateway.pool, ref.name)
            ref = ref.model_copy(update={"name": target})
        else:
            with self._noting_refusal(context, view.only or "", ref.uri):
                server, target = view.resource(self._gateway.pool, ref.uri)
            ref = ref.model_copy(update={"uri": target})
        client = self._gateway.pool.client(server, view.caller.principal)
        chosen = params.context.arguments if params.context is not None else None
        with self._audit.noting(view.caller, server, context.method, target):
            suggested = await client.complete(ref, params.argument.name, params.argument.value, context=chosen)
        return CompleteResult(completion=suggested)
