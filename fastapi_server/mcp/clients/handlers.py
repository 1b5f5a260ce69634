"""What a host answers when a server asks or tells it something, in either era."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from mcp_types import (
    ClientCapabilities,
    CreateMessageRequestParams,
    CreateMessageResult,
    CreateMessageResultWithTools,
    ElicitationCapability,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    EmptyResult,
    FormElicitationCapability,
    ListRootsResult,
    LoggingMessageNotificationParams,
    Root,
    RootsCapability,
    SamplingCapability,
    SamplingToolsCapability,
    UrlElicitationCapability,
)
from pydantic import BaseModel, ValidationError

from fastapi_server.mcp.clients.results import problems
from fastapi_server.mcp.errors import RPCError
from fastapi_server.mcp.protocol.jsonrpc import as_object


@dataclass(frozen=True, slots=True)
class HandlerContext:
    """Who asks.

    Attributes:
        server: Name of the server.
        principal: On whose behalf the client works.
        call: Id of our request that made the server ask, where that is known.
        key: What the server calls its question, where it asks in the answer to a call (2026-07-28, `inputRequests`).
    """

    server: str
    principal: str | None = None
    call: int | None = None
    key: str | None = None


ListKind: TypeAlias = Literal["tools", "prompts", "resources"]

SamplingHandler: TypeAlias = Callable[
    [HandlerContext, CreateMessageRequestParams],
    Awaitable[CreateMessageResult | CreateMessageResultWithTools],
]
ElicitationHandler: TypeAlias = Callable[[HandlerContext, ElicitRequestFormParams], Awaitable[ElicitResult]]
ElicitationURLHandler: TypeAlias = Callable[[HandlerContext, ElicitRequestURLParams], Awaitable[ElicitResult]]
RootsHandler: TypeAlias = Callable[[HandlerContext], Awaitable[Sequence[Root]]]
LoggingHandler: TypeAlias = Callable[[HandlerContext, LoggingMessageNotificationParams], Awaitable[None] | None]
ListChangedHandler: TypeAlias = Callable[[HandlerContext, ListKind], Awaitable[None] | None]
ResourceUpdatedHandler: TypeAlias = Callable[[HandlerContext, str], Awaitable[None] | None]
NotificationHandler: TypeAlias = Callable[[HandlerContext, str, dict[str, Any]], Awaitable[None] | None]


@dataclass(frozen=True)
class Handlers:
    """Given once, when a client is made. What is left out is not offered to the server.

    A handler of a question is a coroutine function and runs in a task of its own; one that is told something may be a
    plain function, which runs at once and must be quick, or a coroutine function, whose calls run one after another.
    An exception in a handler of a question is the server's answer; in any other it is logged and harmless.

    Attributes:
        sampling: Asked to sample a model (`sampling/createMessage`).
        sampling_tools: The sampling handler understands `tools` and `toolChoice`.
        elicitation: Asked to have a form filled in; defaults of the schema are added to what it accepts.
        elicitation_url: Asked to send the user to a URL; it must show the host and get consent first.
        roots: The roots, or asked for them.
        logging: Told what the server logs.
        list_changed: Told that tools, prompts or resources have changed; or may have, where they were listed before
            the server could be heard.
        resource_updated: Told that a resource subscribed to has changed, by URI.
        notification: Told every other notification, by method and parameters.
    """

    sampling: SamplingHandler | None = None
    sampling_tools: bool = False
    elicitation: ElicitationHandler | None = None
    elicitation_url: ElicitationURLHandler | None = None
    roots: Sequence[Root] | RootsHandler | None = None
    logging: LoggingHandler | None = None
    list_changed: ListChangedHandler | None = None
    resource_updated: ResourceUpdatedHandler | None = None
    notification: NotificationHandler | None = None

    def capabilities(self) -> dict[str, Any]:
        """Wire form of the `ClientCapabilities` that these handlers amount to."""
        elicitation = None
        if self.elicitation or self.elicitation_url:
            elicitation = ElicitationCapability(
                form=FormElicitationCapability() if self.elicitation else None,
                url=UrlElicitationCapability() if self.elicitation_url else None,
            )
        sampling = None
        if self.sampling:
            sampling = SamplingCapability(tools=SamplingToolsCapability() if self.sampling_tools else None)
        capabilities = ClientCapabilities(
            sampling=sampling,
            elicitation=elicitation,
            roots=RootsCapability() if self.roots is not None else None,
        )
        return capabilities.model_dump(mode="json", by_alias=True, exclude_none=True)

    async def answer(self, context: HandlerContext, method: str, params: Mapping[str, Any]) -> BaseModel:
        """The result of a request that the server makes, alone or inside an input-required result.

        Raises:
            RPCError: There is no handler for it, or the parameters are malformed.
        """
        try:
            match method:
                case "ping":
                    return EmptyResult()
                case "sampling/createMessage" if self.sampling:
                    return await self.sampling(context, CreateMessageRequestParams.model_validate(params))
                case "elicitation/create" if params.get("mode") == "url" and self.elicitation_url:
                    return await self.elicitation_url(context, ElicitRequestURLParams.model_validate(params))
                case "elicitation/create" if params.get("mode", "form") == "form" and self.elicitation:
                    form = ElicitRequestFormParams.model_validate({"mode": "form", **params})
                    return _with_defaults(await self.elicitation(context, form), form.requested_schema)
                case "roots/list" if self.roots is not None:
                    roots = await self.roots(context) if callable(self.roots) else self.roots
                    return ListRootsResult(roots=list(roots))
                case _:
                    raise RPCError(f"this client has no handler for {method}", code=RPCError.METHOD_NOT_FOUND)
        except ValidationError as error:
            malformed = problems(error)
        raise RPCError(f"malformed parameters of {method}: {malformed}", code=RPCError.INVALID_PARAMS)


def _with_defaults(result: ElicitResult, schema: Mapping[str, Any]) -> ElicitResult:
    """The answer with the schema's defaults where an accepted form leaves a field out (SEP-1034)."""
    if result.action != "accept":
        return result
    properties = as_object(schema.get("properties"))
    fields = {name: as_object(field) for name, field in properties.items()}
    defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
    return result.model_copy(update={"content": {**defaults, **(result.content or {})}})
