"""Results of one server, as they read at a path: the URIs in them lead back to that server."""

from typing import Any, TypeVar

from mcp_types import (
    CallToolResult,
    EmbeddedResource,
    GetPromptResult,
    ReadResourceResult,
    Resource,
    ResourceLink,
)
from pydantic import BaseModel

from fastapi_server.gateway.endpoint.view import View

ModelT = TypeVar("ModelT", bound=BaseModel)


def here(view: View, server: str, item: ModelT) -> ModelT:
    """The same, with the URIs of this path; what holds none is left as it is."""
    if view.only is not None:
        return item
    changed = _changed(view, server, item)
    return item.model_copy(update=changed) if changed else item


def _changed(view: View, server: str, item: BaseModel) -> dict[str, Any]:
    match item:
        case ResourceLink() | Resource():
            return {"uri": view.uri(server, item.uri)}
        case EmbeddedResource(resource=resource):
            return {"resource": resource.model_copy(update={"uri": view.uri(server, resource.uri)})}
        case CallToolResult(content=content):
            return {"content": [here(view, server, block) for block in content]}
        case GetPromptResult(messages=messages):
            return {
                "messages": [
                    message.model_copy(update={"content": here(view, server, message.content)}) for message in messages
                ]
            }
        case ReadResourceResult(contents=contents):
            return {"contents": [one.model_copy(update={"uri": view.uri(server, one.uri)}) for one in contents]}
        case _:
            return {}
