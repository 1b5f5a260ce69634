"""The lists of `/mcp`: what the servers list, as last heard, under the names of the path."""

from typing import Any

from mcp_types import (
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    Tool,
)

from fastapi_server.gateway.directory import Listing
from fastapi_server.gateway.endpoint.content import here
from fastapi_server.gateway.endpoint.request import Context, view_of
from fastapi_server.gateway.endpoint.view import LOOKING, View
from fastapi_server.gateway.gateway import Gateway
from fastapi_server.mcp import ConfigError, MCPConnectionError


class Lists:
    """Answers requests for lists.

    Args:
        gateway: Has the servers.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def _listings(self, context: Context) -> tuple[View, dict[str, Listing]]:
        view = view_of(context)
        servers = view.servers(self._gateway.pool)
        return view, await self._gateway.directory.listings(servers, view.caller.principal)

    async def tools(self, context: Context, _params: PaginatedRequestParams | None) -> ListToolsResult:
        """`tools/list`."""
        view, listings = await self._listings(context)
        return ListToolsResult(tools=self._tools(view, listings))

    def _tools(self, view: View, listings: dict[str, Listing]) -> list[Tool]:
        unheard = MCPConnectionError("nothing has been heard of it yet")
        listed = {name: one.tools if one.info else one.error or unheard for name, one in listings.items()}
        entries = self._gateway.pool.catalogue(listed, view.caller.tools).entries.values()
        return [entry.tool.model_copy(update={"name": view.shown(entry.server, entry.name)}) for entry in entries]

    def input_schema(self, name: str) -> dict[str, Any] | None:
        """What a call's `Mcp-Param-*` headers are checked against, as last heard; the server checks them, too."""
        view = LOOKING.get()
        try:
            server, original = view.tool(self._gateway.pool, name)
        except ConfigError:
            return None  # the call itself says so
        return self._gateway.directory.schema_of(server, view.caller.principal, original)

    async def resources(self, context: Context, _params: PaginatedRequestParams | None) -> ListResourcesResult:
        """`resources/list`."""
        view, listings = await self._listings(context)
        resources = [here(view, name, item) for name, one in listings.items() for item in one.resources]
        return ListResourcesResult(resources=resources)

    async def templates(self, context: Context, _params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
        """`resources/templates/list`."""
        view, listings = await self._listings(context)
        templates = [
            item.model_copy(update={"uri_template": view.uri(name, item.uri_template)})
            for name, one in listings.items()
            for item in one.templates
        ]
        return ListResourceTemplatesResult(resource_templates=templates)

    async def prompts(self, context: Context, _params: PaginatedRequestParams | None) -> ListPromptsResult:
        """`prompts/list`."""
        view, listings = await self._listings(context)
        prompts = [
            item.model_copy(update={"name": view.prompt_name(name, item.name)})
            for name, one in listings.items()
            for item in one.prompts
        ]
        return ListPromptsResult(prompts=prompts)
