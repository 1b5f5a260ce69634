"""What tools, resources and prompts answer, as text for people."""

import json
from typing import Any

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from fastapi_server.mcp import ToolResult
from fastapi_server.mcp.cli import render


def say_result(result: ToolResult) -> None:
    """The content of a tool's result, and its structured content as JSON; what is in both is shown once."""
    structured = result.structured_content
    if structured is not None and _is_wrapped_text(result):
        structured = None
    for block in result.content:
        if not (isinstance(block, TextContent) and structured is not None and _repeats(block.text, structured)):
            render.say(block_text(block))
    if structured is not None:
        render.say_json(structured)


def _is_wrapped_text(result: ToolResult) -> bool:
    """`{"result": "…"}` beside the same text: structured only because structured content has to be an object."""
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    return len(texts) == 1 and result.structured_content == {"result": texts[0]}


def _repeats(text: str, structured: dict[str, Any]) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    known: list[Any] = [structured]
    if list(structured) == ["result"]:
        known += [structured["result"], *(structured["result"] if isinstance(structured["result"], list) else [])]
    return value in known or text in known


def block_text(block: ContentBlock) -> str:
    """One block; what is not text becomes a line with its type and size."""
    match block:
        case TextContent():
            return block.text
        case ImageContent() | AudioContent():
            return f"({block.type}, {block.mime_type}, {_decoded_size(block.data)})"
        case ResourceLink():
            return f"(link to {block.uri}, {block.mime_type or 'type not said'})"
        case EmbeddedResource():
            return contents_text(block.resource)


def contents_text(contents: TextResourceContents | BlobResourceContents) -> str:
    """The text of a resource; a blob becomes a line with its type and size."""
    if isinstance(contents, TextResourceContents):
        return contents.text
    return f"({contents.uri}, {contents.mime_type or 'type not said'}, {_decoded_size(contents.blob)})"


def _decoded_size(base64_text: str) -> str:
    return render.size(len(base64_text.rstrip("=")) * 3 // 4)
