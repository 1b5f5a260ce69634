"""One call of the `everything` server: its questions in the way of the caller's era, and whom it tells what."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args

from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitCompleteNotification,
    ElicitCompleteNotificationParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    InputRequiredResult,
    InputResponseRequestParams,
    ListRootsRequest,
    LoggingLevel,
    LoggingMessageNotification,
    LoggingMessageNotificationParams,
    SamplingMessage,
    TextContent,
)
from pydantic import BaseModel

Question: TypeAlias = CreateMessageRequest | ElicitRequest | ListRootsRequest

LOG_LEVEL = "io.modelcontextprotocol/logLevel"
LEVELS: tuple[LoggingLevel, ...] = get_args(LoggingLevel)


class Required(Exception):
    """The stateless era: the question takes the result's place."""

    def __init__(self, result: InputRequiredResult) -> None:
        super().__init__()
        self.result = result


class _Anything(BaseModel, extra="allow"):
    pass


class Talk:
    """What a tool or a prompt needs of the call that it works on."""

    def __init__(
        self, context: ServerRequestContext[Any, Any], params: InputResponseRequestParams, listeners: "Listeners"
    ) -> None:
        self._context, self._params = context, params
        self.listeners = listeners

    @property
    def capabilities(self) -> ClientCapabilities:
        return self._context.session.client_capabilities or ClientCapabilities()

    @property
    def meta(self) -> dict[str, Any]:
        return dict(self._context.meta or {})

    async def ask(self, **questions: Question) -> dict[str, Any]:
        """The answers, as plain values; a stateless caller is asked for those of all rounds that are missing."""
        if self._context.protocol_version < "2026":
            answers = await asyncio.gather(*map(self._ask, questions.values()))
            return dict(zip(questions, answers, strict=True))
        known: dict[str, Any] = json.loads(self._params.request_state or "{}")
        for key, answer in (self._params.input_responses or {}).items():
            known[key] = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
        missing: dict[str, Any] = {key: question for key, question in questions.items() if key not in known}
        if missing:
            raise Required(InputRequiredResult(input_requests=missing, request_state=json.dumps(known)))
        return {key: known[key] for key in questions}

    async def _ask(self, question: Question) -> dict[str, Any]:
        related = ServerMessageMetadata(related_request_id=self._context.request_id)
        answer = await self._context.session.send_request(question, _Anything, metadata=related)
        return answer.model_dump(mode="json", by_alias=True)

    async def log(self, text: str, level: LoggingLevel = "info") -> None:
        stateless = self._context.protocol_version > "2026"
        wanted = self.meta.get(LOG_LEVEL) if stateless else self.listeners.level_of(self._context.session)
        if wanted is None or LEVELS.index(level) < LEVELS.index(wanted):
            return
        params = LoggingMessageNotificationParams(level=level, data=text, logger="everything")
        await self._context.session.send_notification(
            LoggingMessageNotification(params=params), self._context.request_id
        )

    async def completed(self, elicitation_id: str) -> None:
        params = ElicitCompleteNotificationParams(elicitation_id=elicitation_id)
        await self._context.session.send_notification(ElicitCompleteNotification(params=params))

    async def progress(self, done: float, total: float, message: str) -> None:
        await self._context.session.report_progress(done, total, message)


@dataclass
class Listeners:
    """Everybody who is told of changes, in both eras, and what has changed."""

    hidden: set[str] = field(default_factory=lambda: {"late", "late_prompt"})
    bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)

    def __post_init__(self) -> None:
        self.streams = ListenHandler(self.bus)
        self._sessions: list[ServerSession] = []
        self._subscribed: list[tuple[object, str, ServerSession]] = []
        self._levels: dict[object, LoggingLevel] = {}

    def join(self, session: ServerSession) -> None:
        self._sessions.append(session)

    def set_level(self, session: ServerSession, level: LoggingLevel) -> None:
        self._levels[session._connection] = level

    def level_of(self, session: ServerSession) -> LoggingLevel:
        return self._levels.get(session._connection, "info")

    def subscribe(self, session: ServerSession, uri: str) -> None:
        self._subscribed.append((session._connection, uri, session))

    def unsubscribe(self, session: ServerSession, uri: str) -> None:
        self._subscribed = [each for each in self._subscribed if each[0] is not session._connection or each[1] != uri]

    async def toggle(self, name: str) -> None:
        """Show what was hidden, or hide it, and say so."""
        self.hidden ^= {name}
        prompt = name.endswith("prompt")
        await self.bus.publish(PromptsListChanged() if prompt else ToolsListChanged())
        for session in self._sessions:
            await (session.send_prompt_list_changed() if prompt else session.send_tool_list_changed())

    async def touch(self, uri: str) -> None:
        """Say that a resource has changed."""
        await self.bus.publish(ResourceUpdated(uri))
        for _, subscribed, session in self._subscribed:
            if subscribed == uri:
                await session.send_resource_updated(uri)


def form(message: str, **properties: dict[str, Any]) -> ElicitRequest:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def visit(message: str, url: str) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestURLParams(message=message, url=url, elicitation_id="e-1"))


def sample(prompt: str) -> CreateMessageRequest:
    said = SamplingMessage(role="user", content=TextContent(text=prompt))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[said], max_tokens=100))
