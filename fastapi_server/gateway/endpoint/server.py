"""The methods of `/mcp`, on the SDK's low-level server."""

from typing import Any, get_args

from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.models import InitializationOptions
from mcp_types import (
    EmptyResult,
    NotificationParams,
    SetLevelRequestParams,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from fastapi_server import __version__
from fastapi_server.gateway.audit import Audit
from fastapi_server.gateway.endpoint.calls import Calls
from fastapi_server.gateway.endpoint.changes import Changes, Session
from fastapi_server.gateway.endpoint.lists import Lists
from fastapi_server.gateway.endpoint.request import Context, session_of, speaking, view_of
from fastapi_server.gateway.gateway import Gateway

_INSTRUCTIONS = "Several servers in one: tools and prompts are called server__name, resources mcp://server/uri."
_HINTS: dict[CacheableMethod, CacheHint] = dict.fromkeys(get_args(CacheableMethod), CacheHint(ttl_ms=5_000))


class GatewayServer(Server[Any]):
    """Has lists, calls and changes answer.

    Args:
        gateway: Has the servers behind.
        audit: Told of every call.
    """

    def __init__(self, gateway: Gateway, audit: Audit) -> None:
        self.changes = Changes(gateway)
        self.calls = Calls(gateway, audit, self.changes)
        lists = Lists(gateway)
        super().__init__(
            "mcp-gateway",
            version=__version__,
            instructions=_INSTRUCTIONS,
            cache_hints=_HINTS,
            get_tool_input_schema=lists.input_schema,
            on_list_tools=speaking(lists.tools),
            on_call_tool=speaking(self.calls.call_tool),
            on_list_resources=speaking(lists.resources),
            on_list_resource_templates=speaking(lists.templates),
            on_read_resource=speaking(self.calls.read_resource),
            on_subscribe_resource=speaking(self._subscribe),
            on_unsubscribe_resource=speaking(self._unsubscribe),
            on_subscriptions_listen=speaking(self._listen),
            on_list_prompts=speaking(lists.prompts),
            on_get_prompt=speaking(self.calls.get_prompt),
            on_completion=speaking(self.calls.complete),
        )
        self.add_request_handler("logging/setLevel", SetLevelRequestParams, self._set_level)
        self.add_notification_handler("notifications/initialized", NotificationParams, self._initialized)

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """Left out, every list tells of its changes; in the stateless era the SDK sees that by the handlers."""
        told = notification_options or NotificationOptions(
            prompts_changed=True, resources_changed=True, tools_changed=True
        )
        return super().create_initialization_options(told, experimental_capabilities, extensions)

    def _joined(self, context: Context) -> Session:
        """The session of a request, which is told of changes from now on."""
        key, connection = session_of(context), context.session._connection  # pyright: ignore[reportPrivateUsage]
        if not self.changes.has(key):
            connection.exit_stack.callback(self.changes.leave, key)  # however it ends; the context does not show it
        return self.changes.join(key, view_of(context), context.session)

    async def _initialized(self, context: Context, _params: NotificationParams) -> None:
        self._joined(context)

    async def _set_level(self, context: Context, params: SetLevelRequestParams) -> EmptyResult:
        self._joined(context).level = params.level
        return EmptyResult()

    async def _subscribe(self, context: Context, params: SubscribeRequestParams) -> EmptyResult:
        await self.changes.subscribe(self._joined(context), params.uri)
        return EmptyResult()

    async def _unsubscribe(self, context: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        self.changes.unsubscribe(self._joined(context), params.uri)
        return EmptyResult()

    async def _listen(self, context: Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        return await self.changes.listen(view_of(context), context, params)
