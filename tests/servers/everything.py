"""A server with one of everything, on the official SDK's low-level server, in both eras.

`python -m tests.servers.everything stdio` speaks on standard input and output; with `http` it prints a free port, where
`/mcp` is Streamable HTTP and `/sse` is HTTP+SSE. Its tools, resources and prompts are those that the server scenarios
of the official conformance suite look for, and some of our own.
"""

import argparse
import asyncio
import socket
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.sse import SseServerTransport
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    NotificationParams,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    ServerCapabilities,
    SetLevelRequestParams,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    TextContent,
    UnsubscribeRequestParams,
)
from starlette.types import Receive, Scope, Send

from tests.servers import everything_prompts as prompts
from tests.servers import everything_resources as resources
from tests.servers.everything_tools import TOOLS
from tests.servers.talk import Listeners, Required, Talk


class Everything(Server[Any]):
    """Every feature of the protocol, and who is to be told when its lists change."""

    def __init__(self) -> None:
        super().__init__(
            "everything",
            version="1.0.0",
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_subscribe_resource=self._subscribe,
            on_unsubscribe_resource=self._unsubscribe,
            on_subscriptions_listen=self._listen,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
            on_completion=self._complete,
        )
        self.add_request_handler("logging/setLevel", SetLevelRequestParams, self._set_level)
        self.add_notification_handler("notifications/initialized", NotificationParams, self._initialized)
        self.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience="everything"))
        self._listeners = Listeners()

    def get_capabilities(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
        *,
        protocol_version: str | None = None,
    ) -> ServerCapabilities:
        told = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        return super().get_capabilities(told, experimental_capabilities, extensions, protocol_version=protocol_version)

    async def _list_tools(self, _context: Any, _params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[tool.shown for tool in TOOLS.values() if tool.name not in self._listeners.hidden])

    async def _call_tool(self, context: Any, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        if params.name not in TOOLS:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name}")
        try:
            said = await TOOLS[params.name].run(Talk(context, params, self._listeners), params.arguments or {})
        except Required as required:
            return required.result
        except RuntimeError as error:
            return CallToolResult(content=[TextContent(text=str(error))], is_error=True)
        return said if isinstance(said, CallToolResult) else CallToolResult(content=[TextContent(text=said)])

    async def _list_resources(self, _context: Any, _params: PaginatedRequestParams | None) -> ListResourcesResult:
        return ListResourcesResult(resources=resources.RESOURCES)

    async def _list_templates(
        self, _context: Any, _params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult(resource_templates=resources.TEMPLATES)

    async def _read_resource(self, context: Any, params: ReadResourceRequestParams) -> ReadResourceResult:
        await Talk(context, params, self._listeners).log(f"Reading {params.uri}", "debug")
        return resources.read(params.uri)

    async def _subscribe(self, context: Any, params: SubscribeRequestParams) -> EmptyResult:
        self._listeners.subscribe(context.session, params.uri)
        return EmptyResult()

    async def _unsubscribe(self, context: Any, params: UnsubscribeRequestParams) -> EmptyResult:
        self._listeners.unsubscribe(context.session, params.uri)
        return EmptyResult()

    async def _listen(self, context: Any, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        return await self._listeners.streams(context, params)

    async def _initialized(self, context: Any, _params: NotificationParams) -> None:
        self._listeners.join(context.session)

    async def _set_level(self, context: Any, params: SetLevelRequestParams) -> EmptyResult:
        self._listeners.set_level(context.session, params.level)
        return EmptyResult()

    async def _list_prompts(self, _context: Any, _params: PaginatedRequestParams | None) -> ListPromptsResult:
        shown = [prompt for prompt in prompts.PROMPTS if prompt.name not in self._listeners.hidden]
        return ListPromptsResult(prompts=shown)

    async def _get_prompt(self, context: Any, params: GetPromptRequestParams) -> GetPromptResult | InputRequiredResult:
        talk = Talk(context, params, self._listeners)
        await talk.log(f"Getting {params.name}", "debug")
        try:
            return await prompts.get(talk, params.name, params.arguments or {})
        except Required as required:
            return required.result

    async def _complete(self, _context: Any, params: CompleteRequestParams) -> CompleteResult:
        chosen = params.context.arguments if params.context is not None else None
        values = [f"{params.argument.value}{ending}" for ending in ("aris", "erth")] + sorted((chosen or {}).values())
        return CompleteResult(completion=Completion(values=values, total=len(values), has_more=False))


async def on_stdio() -> None:
    server = Everything()
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


class App:
    """Both HTTP transports of one server."""

    def __init__(self) -> None:
        self._server = Everything()
        self._manager = StreamableHTTPSessionManager(self._server)
        self._sse = SseServerTransport("/messages/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"], scope.get("path"):
            case "lifespan", _:
                await self._lifespan(receive, send)
            case _, "/sse":
                async with self._sse.connect_sse(scope, receive, send) as (reading, writing):
                    await self._server.run(reading, writing, self._server.create_initialization_options())
            case _, "/messages/":
                await self._sse.handle_post_message(scope, receive, send)
            case _:
                await self._manager.handle_request(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._manager.run():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def on_http() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(App(), log_level="error", lifespan="on", timeout_graceful_shutdown=1)
        await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("transport", choices=["stdio", "http"])
    asyncio.run(on_stdio() if parser.parse_args().transport == "stdio" else on_http())
