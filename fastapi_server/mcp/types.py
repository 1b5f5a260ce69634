"""The protocol's own types that callers meet, under the names that they are called by here."""

from mcp_types import CallToolResult as ToolResult
from mcp_types import Completion, GetPromptResult, Prompt, Resource, ResourceTemplate, Root, Tool
from mcp_types import ReadResourceResult as ResourceContent

__all__ = [
    "Completion",
    "GetPromptResult",
    "Prompt",
    "Resource",
    "ResourceContent",
    "ResourceTemplate",
    "Root",
    "Tool",
    "ToolResult",
]
