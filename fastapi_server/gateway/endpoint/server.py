"""The methods of `/mcp`, each passed on to the server that it names."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast, get_args

from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    LOG_LEVEL_META_KEY,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    InputResponseRequestParams,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    LoggingLevel,
    NotificationParams,
    PaginatedRequestParams,
    PromptReference,
    ReadResourceRequestParams,
    ReadResourceResult,
    ServerCapabilities,
    SetLevelRequestParams,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    Tool,
    UnsubscribeRequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.requests import Request

from fastapi_server import __version__
from fastapi_server.gateway.audit import Audit
from fastapi_server.gateway.directory import Listing
from fastapi_server.gateway.endpoint.asking import Asker, Context, Patience, RoundsAsker, SessionAsker
from fastapi_server.gateway.endpoint.changes import Changes
from fastapi_server.gateway.endpoint.content import here
from fastapi_server.gateway.endpoint.parked import ParkedCalls, answers_questions
from fastapi_server.gateway.endpoint.upstream import Upstreams
from fastapi_server.gateway.endpoint.view import LOOKING, VIEW_KEY, View
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.mcp import (
    CommonConfig,
    ConfigError,
    EraName,
    MCPClient,
    MCPClientError,
    MCPConnectionError,
    RPCError,
)

_INSTRUCTIONS = "Several servers in one: tools and prompts are called server__name, resources mcp://server/uri."
_HINTS: dict[CacheableMethod, CacheHint] = dict.fromkeys(get_args(CacheableMethod), CacheHint(ttl_ms=5_000))
_RESERVED = "io.modelcontextprotocol/"

ParamsT = TypeVar("ParamsT")
ResultT = TypeVar("ResultT")


class GatewayServer(Server[Any]):
    """The SDK's low-level server, with handlers that ask the servers behind.

    Args:
        gateway: Has them.
        audit: Told of every call.
    """

    def __init__(self, gateway: Gateway, audit: Audit) -> None:
        super().__init__(
            "mcp-gateway",
            version=__version__,
            instructions=_INSTRUCTIONS,
            cache_hints=_HINTS,
            get_tool_input_schema=self._input_schema,
            on_list_tools=_speaking(self._list_tools),
            on_call_tool=_speaking(self._call_tool),
            on_list_resources=_speaking(self._list_resources),
            on_list_resource_templates=_speaking(self._list_templates),
            on_read_resource=_speaking(self._read_resource),
            on_subscribe_resource=_speaking(self._subscribe),
            on_unsubscribe_resource=_speaking(self._unsubscribe),
            on_subscriptions_listen=_speaking(self._listen),
            on_list_prompts=_speaking(self._list_prompts),
            on_get_prompt=_speaking(self._get_prompt),
            on_completion=_speaking(self._complete),
        )
        self.add_request_handler("logging/setLevel", SetLevelRequestParams, self._set_level)
        self.add_notification_handler("notifications/initialized", NotificationParams, self._initialized)
        self._gateway, self._audit = gateway, audit
        self._upstreams = Upstreams(gateway)
        self.parked = ParkedCalls(gateway.settings.question_seconds)
        self.changes = Changes(gateway)

    def get_capabilities(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
        *,
        protocol_version: str | None = None,
    ) -> ServerCapabilities:
        """As the handlers say; and every list tells of its changes."""
        told = notification_options or NotificationOptions(
            prompts_changed=True, resources_changed=True, tools_changed=True
        )
        return super().get_capabilities(told, experimental_capabilities, extensions, protocol_version=protocol_version)

    # Lists.

    async def _listings(self, context: Context) -> tuple[View, dict[str, Listing]]:
        view = _view(context)
        servers = view.servers(self._gateway.pool)
        return view, await self._gateway.directory.listings(servers, view.caller.principal)

    async def _list_tools(self, context: Context, _params: PaginatedRequestParams | None) -> ListToolsResult:
        view, listings = await self._listings(context)
        return ListToolsResult(tools=self._tools(view, listings))

    def _tools(self, view: View, listings: dict[str, Listing]) -> list[Tool]:
        unheard = MCPConnectionError("nothing has been heard of it yet")
        listed = {name: one.tools if one.info else one.error or unheard for name, one in listings.items()}
        entries = self._gateway.pool.catalogue(listed, view.caller.tools).entries.values()
        return [entry.tool.model_copy(update={"name": view.shown(entry.server, entry.name)}) for entry in entries]

    def _input_schema(self, name: str) -> dict[str, Any] | None:
        """What a call's `Mcp-Param-*` headers are checked against, as last heard; the server checks them, too."""
        view = LOOKING.get()
        try:
            server, original = view.tool(self._gateway.pool, name)
        except ConfigError:
            return None  # the call itself says so
        listing = self._gateway.directory.known(server, view.caller.principal)
        return next((tool.input_schema for tool in listing.tools if tool.name == original), None)

    async def _list_resources(self, context: Context, _params: PaginatedRequestParams | None) -> ListResourcesResult:
        view, listings = await self._listings(context)
        resources = [here(view, name, item) for name, one in listings.items() for item in one.resources]
        return ListResourcesResult(resources=resources)

    async def _list_templates(
        self, context: Context, _params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        view, listings = await self._listings(context)
        templates = [
            item.model_copy(update={"uri_template": view.uri(name, item.uri_template)})
            for name, one in listings.items()
            for item in one.templates
        ]
        return ListResourceTemplatesResult(resource_templates=templates)

    async def _list_prompts(self, context: Context, _params: PaginatedRequestParams | None) -> ListPromptsResult:
        view, listings = await self._listings(context)
        prompts = [
            item.model_copy(update={"name": view.prompt_name(name, item.name)})
            for name, one in listings.items()
            for item in one.prompts
        ]
        return ListPromptsResult(prompts=prompts)

    # Calls.

    async def _call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        view = _view(context)
        server, tool = view.tool(self._gateway.pool, params.name)

        async def call(client: MCPClient, asker: Asker, timeout: float | None) -> CallToolResult:
            wanted = asker.progress if context.meta and "progress_token" in context.meta else None
            stateless = client.server_info is not None and client.server_info.era is EraName.STATELESS
            level = self._log_level(context) if stateless else None
            meta = _passed_on(context) | ({LOG_LEVEL_META_KEY: level} if level else {})
            return await client.call_tool(tool, params.arguments, timeout=timeout, progress=wanted, meta=meta)

        return here(view, server, await self._pass_on(context, params, server, call, (tool, params.arguments)))

    async def _read_resource(
        self, context: Context, params: ReadResourceRequestParams
    ) -> ReadResourceResult | InputRequiredResult:
        view = _view(context)
        server, uri = view.resource(self._gateway.pool, params.uri)

        async def read(client: MCPClient, _asker: Asker, timeout: float | None) -> ReadResourceResult:
            return await client.read_resource(uri, timeout=timeout)

        return here(view, server, await self._pass_on(context, params, server, read, (uri, None)))

    async def _get_prompt(
        self, context: Context, params: GetPromptRequestParams
    ) -> GetPromptResult | InputRequiredResult:
        view = _view(context)
        server, prompt = view.prompt(self._gateway.pool, params.name)

        async def get(client: MCPClient, _asker: Asker, timeout: float | None) -> GetPromptResult:
            return await client.get_prompt(prompt, params.arguments, timeout=timeout)

        return here(view, server, await self._pass_on(context, params, server, get, (prompt, params.arguments)))

    async def _pass_on(
        self,
        context: Context,
        params: InputResponseRequestParams,
        server: str,
        work: Callable[[MCPClient, Asker, float | None], Awaitable[ResultT]],
        noted: tuple[str, Mapping[str, Any] | None],
    ) -> ResultT | InputRequiredResult:
        """Have the server's client do the work; its questions go to whoever called, in the way of their era.

        Args:
            context: Of the request.
            params: Of the request.
            server: To ask.
            work: Given its client, the caller, and seconds for the call.
            noted: For the audit log: what is called, and with which arguments.
        """
        caller, patience = _view(context).caller, Patience(self._seconds(server))
        capabilities = context.session.client_capabilities
        asks = answers_questions(capabilities)
        timeout = self._gateway.settings.question_seconds if asks else None  # `patience` is the shorter one

        async def call(asker: Asker) -> ResultT:
            with self._audit.noting(caller, server, context.method, *noted) as told:
                async with self._upstreams.client(server, caller.principal, asker) as client:
                    try:
                        result = await patience.during(work(client, asker, timeout))
                    finally:
                        await asker.told()
                told(result)
                return result

        level = self._log_level(context)
        if asks and context.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return await self.parked.result(context, params, RoundsAsker(context, patience, level), call)
        return await call(SessionAsker(context, patience, level))

    def _log_level(self, context: Context) -> LoggingLevel | None:
        """Asked for by each request in the stateless era, and of a session before that."""
        if context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return self.changes.level(_session(context))
        return cast("LoggingLevel | None", dict(context.meta or {}).get(LOG_LEVEL_META_KEY))

    def _seconds(self, server: str) -> float:
        config = self._gateway.pool.config_of(server)
        settings = config.config if config is not None else None
        return (settings if isinstance(settings, CommonConfig) else CommonConfig()).timeout / 1000

    async def _complete(self, context: Context, params: CompleteRequestParams) -> CompleteResult:
        view, ref = _view(context), params.ref
        if isinstance(ref, PromptReference):
            server, name = view.prompt(self._gateway.pool, ref.name)
            ref = ref.model_copy(update={"name": name})
        else:
            server, uri = view.resource(self._gateway.pool, ref.uri)
            ref = ref.model_copy(update={"uri": uri})
        client = self._gateway.pool.client(server, view.caller.principal)
        chosen = params.context.arguments if params.context is not None else None
        suggested = await client.complete(ref, params.argument.name, params.argument.value, context=chosen)
        return CompleteResult(completion=suggested)

    # Sessions and changes.

    async def _initialized(self, context: Context, _params: NotificationParams) -> None:
        session, connection = _session(context), context.session._connection  # pyright: ignore[reportPrivateUsage]
        self.changes.join(session, _view(context), context.session)
        connection.exit_stack.callback(self.changes.leave, session)  # however it ends; the context does not show it

    async def _set_level(self, context: Context, params: SetLevelRequestParams) -> EmptyResult:
        self.changes.set_level(_session(context), params.level)
        return EmptyResult()

    async def _subscribe(self, context: Context, params: SubscribeRequestParams) -> EmptyResult:
        await self.changes.subscribe(_session(context), params.uri)
        return EmptyResult()

    async def _unsubscribe(self, context: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        self.changes.unsubscribe(_session(context), params.uri)
        return EmptyResult()

    async def _listen(self, context: Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        return await self.changes.listen(_view(context), context, params)


def _speaking(
    handler: Callable[[Context, ParamsT], Awaitable[ResultT]],
) -> Callable[[Context, ParamsT], Awaitable[ResultT]]:
    """The handler, with our errors as those of the protocol."""

    async def handle(context: Context, params: ParamsT) -> ResultT:
        try:
            return await handler(context, params)
        except RPCError as error:
            raise MCPError(error.code, error.message, error.data) from error
        except ConfigError as error:
            raise MCPError(INVALID_PARAMS, error.message) from error
        except TimeoutError as error:
            raise MCPError(INTERNAL_ERROR, str(error) or "the server did not answer in time") from error
        except MCPClientError as error:  # what a process wrote to stderr, in further lines, is not for callers
            raise MCPError(INTERNAL_ERROR, str(error).partition("\n")[0]) from error

    return handle


def _view(context: Context) -> View:
    return _request(context).scope[VIEW_KEY]


def _session(context: Context) -> str:
    return _request(context).headers.get("mcp-session-id", "")


def _request(context: Context) -> Request:
    return cast("Request", context.request)


def _passed_on(context: Context) -> dict[str, Any]:
    """What of `_meta` is neither of this hop nor of the protocol: a trace, say."""
    meta = dict(context.meta or {})
    return {
        key: value
        for key, value in meta.items()
        if key not in {"progress_token", "progressToken", LOG_LEVEL_META_KEY} and not key.startswith(_RESERVED)
    }
