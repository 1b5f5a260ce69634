"""Prompts of the `everything` server."""

from collections.abc import Mapping

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    ContentBlock,
    EmbeddedResource,
    GetPromptResult,
    ImageContent,
    Prompt,
    PromptArgument,
    PromptMessage,
    TextContent,
    TextResourceContents,
)

from tests.servers.everything_resources import PNG
from tests.servers.talk import Talk, form


def _prompt(name: str, *arguments: str) -> Prompt:
    return Prompt(
        name=name, description=name, arguments=[PromptArgument(name=each, required=True) for each in arguments]
    )


PROMPTS = [
    _prompt("test_simple_prompt"),
    _prompt("test_prompt_with_arguments", "arg1", "arg2"),
    _prompt("test_prompt_with_embedded_resource", "resourceUri"),
    _prompt("test_prompt_with_image"),
    _prompt("test_input_required_result_prompt"),
    _prompt("late_prompt"),
]


async def get(talk: Talk, name: str, arguments: Mapping[str, str]) -> GetPromptResult:
    content: list[ContentBlock] = []
    match name:
        case "test_simple_prompt" | "late_prompt":
            content = [TextContent(text="This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            said = f"Prompt with arguments: arg1='{arguments['arg1']}', arg2='{arguments['arg2']}'"
            content = [TextContent(text=said)]
        case "test_prompt_with_embedded_resource":
            uri = arguments["resourceUri"]
            found = TextResourceContents(uri=uri, mime_type="text/plain", text="Embedded resource content for testing.")
            content = [
                EmbeddedResource(resource=found),
                TextContent(text="Please process the embedded resource above."),
            ]
        case "test_prompt_with_image":
            content = [
                ImageContent(data=PNG, mime_type="image/png"),
                TextContent(text="Please analyze the image above."),
            ]
        case "test_input_required_result_prompt":
            answers = await talk.ask(user_context=form("What context?", context={"type": "string"}))
            content = [TextContent(text=f"In the context of {answers['user_context'].get('content')}")]
        case _:
            raise MCPError(INVALID_PARAMS, f"Unknown prompt: {name}")
    return GetPromptResult(messages=[PromptMessage(role="user", content=each) for each in content])
