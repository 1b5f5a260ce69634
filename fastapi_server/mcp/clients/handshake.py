"""Performing the negotiation that `protocol/negotiation.py` decides."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from mcp_types import SERVER_INFO_META_KEY, ServerCapabilities
from pydantic import ValidationError

from fastapi_server import __version__
from fastapi_server.mcp.clients.channel import Channel, Request
from fastapi_server.mcp.clients.results import problems
from fastapi_server.mcp.config import CommonConfig
from fastapi_server.mcp.errors import (
    AuthenticationError,
    Delivery,
    HandshakeError,
    HTTPStatusError,
    MCPClientError,
    MCPConnectionError,
    ProtocolError,
    RateLimitError,
)
from fastapi_server.mcp.protocol import jsonrpc
from fastapi_server.mcp.protocol.eras import (
    STATELESS_VERSIONS,
    BareEra,
    Era,
    EraName,
    HandshakeEra,
    StatelessEra,
)
from fastapi_server.mcp.protocol.jsonrpc import ErrorObject, as_object
from fastapi_server.mcp.protocol.negotiation import (
    Agreed,
    Answer,
    Discover,
    Initialize,
    Outcome,
    Refused,
    Step,
    Try,
    first_step,
    is_still_spoken,
    next_step,
)

CLIENT_INFO = {"name": "mcp-client-factory", "version": __version__}
"""Wire form of our `Implementation`."""

_UNAVAILABLE = frozenset({502, 503, 504})


@dataclass(frozen=True)
class ServerInfo:
    """What was negotiated, and what the server says of itself.

    Attributes:
        name: As the server calls itself; empty where it does not say.
        version: Of its software.
        protocol_version: The revision of MCP in use; empty for a bare JSON-RPC peer.
        era: The family of revisions it belongs to.
        capabilities: What the server offers; `None` where it has not said.
        instructions: How it wants to be used, for a model to read.
        title: A name for people.
    """

    name: str = ""
    version: str = ""
    protocol_version: str = ""
    era: EraName = EraName.BARE
    capabilities: ServerCapabilities | None = None
    instructions: str | None = None
    title: str | None = None


@dataclass(frozen=True)
class Probe:
    """One thing tried to find out how a server wants to be spoken to, and what came of it.

    Attributes:
        transport: `stdio`, `sse`, `http` or `rest`.
        step: What was sent; `None` for opening the channel.
        answer: What came back, or why nothing did.
    """

    transport: str
    step: Try | None
    answer: Answer | MCPClientError


Report: TypeAlias = Callable[[Try | None, Answer | MCPClientError], None]
"""Told each step tried, or `None` for opening the channel, and what came of it."""


@dataclass(frozen=True)
class Agreement:
    """The end of a negotiation: a channel, the era to speak on it, and who is there.

    Attributes:
        info: `None` where the configuration pins a stateless revision, so that nothing had to be asked.
    """

    channel: Channel
    era: Era
    info: ServerInfo | None


class Handshake:
    """Negotiates on a freshly opened channel.

    Args:
        config: Times and pinned revision.
        capabilities: Wire form of ours.
        next_id: Gives ids for requests.
        report: Told each step.
    """

    def __init__(
        self,
        config: CommonConfig,
        capabilities: Mapping[str, Any],
        next_id: Iterator[int],
        report: Report,
    ) -> None:
        self._config = config
        self._capabilities = capabilities
        self._next_id = next_id
        self._report = report

    async def run(self, channel: Channel, reopen: Callable[[], Awaitable[Channel]], known: str | None) -> Agreement:
        """Find the revision to speak.

        Args:
            channel: Open, and not spoken on yet.
            reopen: Gives another one, where a server dies of the probe.
            known: The revision agreed on before, which saves the probe.

        Raises:
            HandshakeError: There is none in common.
            MCPConnectionError: The connection failed in a way that says nothing about revisions.
        """
        if not self._config.handshake:
            return Agreement(channel, BareEra(), ServerInfo())
        if channel.is_dialect:
            return await self._introduce(channel)
        step: Step = first_step(self._config.protocol_version, known, probe=channel.may_be_stateless)
        result: dict[str, Any] | None = None
        probes = 0
        while isinstance(step, (Discover, Initialize)):
            if isinstance(step, Initialize) and step.reopen:
                channel = await reopen()
            probes += isinstance(step, Discover)
            try:
                answer, result = await self._try(channel, step)
                while answer.outcome is Outcome.SILENT and await channel.signed_in():
                    answer, result = await self._try(channel, step)
            except MCPClientError as error:
                self._report(step, channel.clean(error))
                raise
            self._report(step, answer)
            step = next_step(step, answer, probes=probes)
        if isinstance(step, Refused):
            raise HandshakeError(step.reason)
        return await self._agree(channel, step, result)

    async def still_speaks(self, channel: Channel, version: str) -> bool:
        """Whether a server that has agreed on a stateless revision speaks it even now, as far as it says.

        Raises:
            MCPClientError: The exchange failed in a way that says nothing about revisions.
        """
        try:
            answer, _ = await self._try(channel, Discover(version))
        except MCPClientError as error:
            raise channel.clean(error) from error.__cause__
        return is_still_spoken(version, answer)

    async def _agree(self, channel: Channel, step: Agreed, result: dict[str, Any] | None) -> Agreement:
        if step.version in STATELESS_VERSIONS:
            era: Era = self._stateless(step.version)
        else:
            era = HandshakeEra(step.version)
            await channel.notify(jsonrpc.encode_notification("notifications/initialized"), era)
        info = None if result is None else server_info(result, era)
        return Agreement(channel, era, info)

    async def _introduce(self, channel: Channel) -> Agreement:
        """The dialects know `initialize` by name only: whatever they say to it, they are spoken to as they are."""
        step = Initialize(self._config.protocol_version or "2024-11-05")
        request = self._initialize(HandshakeEra(""), step.version)
        try:
            async with asyncio.timeout(self._config.probe_timeout / 1000):
                reply = await channel.exchange(request)
        except (TimeoutError, HTTPStatusError, ProtocolError) as error:
            said = channel.clean(error) if isinstance(error, MCPClientError) else Answer(Outcome.SILENT)
            self._report(step, said)
            if isinstance(error, (AuthenticationError, RateLimitError)) or _is_unsent(error):
                raise
            return Agreement(channel, BareEra(), ServerInfo())
        self._report(step, Answer(Outcome.RESULT))
        return Agreement(channel, BareEra(), server_info(as_object(reply.result), BareEra()))

    def _stateless(self, version: str) -> StatelessEra:
        return StatelessEra(version, CLIENT_INFO, self._capabilities)

    def _initialize(self, era: Era, version: str) -> Request:
        params = {"protocolVersion": version, "capabilities": self._capabilities, "clientInfo": CLIENT_INFO}
        return Request(next(self._next_id), "initialize", params, era)

    async def _try(self, channel: Channel, step: Try) -> tuple[Answer, dict[str, Any] | None]:
        """Perform a step and describe what came back."""
        if isinstance(step, Discover):
            era = self._stateless(step.version)
            request = Request(next(self._next_id), "server/discover", era.stamp(None, {}), era)
            seconds: float | None = self._config.probe_timeout / 1000
        else:
            request = self._initialize(HandshakeEra(step.version), step.version)
            seconds = None  # the deadline for connecting applies
        try:
            async with asyncio.timeout(seconds):
                reply = await channel.exchange(request)
        except MCPClientError as error:  # before the other: it may say that a person has taken too long to sign in
            return _failure(error, step, channel), None
        except TimeoutError:
            return Answer(Outcome.SILENT), None
        if isinstance(reply.error, ErrorObject):
            return _error(reply.error, channel), None
        answer, result = _result(step, reply.result)
        return replace(answer, versions=tuple(map(channel.redacted, answer.versions))), result


def _failure(error: MCPClientError, step: Try, channel: Channel) -> Answer:
    """What a failed exchange says of the era; a failure that says nothing of it is raised."""
    match error:
        case AuthenticationError() | RateLimitError():
            raise error
        case HTTPStatusError() if _is_unsent(error):
            raise error
        case HTTPStatusError(status=status) if status in _UNAVAILABLE or isinstance(step, Initialize):
            raise error
        case HTTPStatusError() | ProtocolError():
            return Answer(Outcome.REFUSED, text=channel.redacted(error.message))
        case MCPConnectionError() if isinstance(step, Discover) and channel.lost is not None:
            return Answer(Outcome.DIED, text=channel.redacted(error.message))
        case _:
            raise error


def _is_unsent(error: Exception) -> bool:
    """Signing in has failed, and so the server was not asked."""
    return isinstance(error, MCPClientError) and error.delivery is Delivery.NOT_SENT


def _error(error: ErrorObject, channel: Channel) -> Answer:
    supported = tuple(map(channel.redacted, _strings(as_object(error.data).get("supported"))))
    return Answer(Outcome.ERROR, supported, error.code, channel.redacted(error.message))


def _result(step: Try, value: Any) -> tuple[Answer, dict[str, Any] | None]:
    result = as_object(value)
    if isinstance(step, Discover) and isinstance(result.get("supportedVersions"), list):
        return Answer(Outcome.RESULT, _strings(result["supportedVersions"])), result
    if isinstance(step, Initialize) and isinstance(result.get("protocolVersion"), str):
        return Answer(Outcome.RESULT, (result["protocolVersion"],)), result
    return Answer(Outcome.REFUSED, text="a result of another shape"), None


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(item for item in cast("list[Any]", value) if isinstance(item, str)) if isinstance(value, list) else ()


def server_info(result: Mapping[str, Any], era: Era) -> ServerInfo:
    """Read an `InitializeResult` or a `DiscoverResult`, forgiving what is only for show."""
    said = as_object(result.get("_meta")).get(SERVER_INFO_META_KEY) or result.get("serverInfo")
    implementation = as_object(said)
    instructions = result.get("instructions")
    return ServerInfo(
        name=str(implementation.get("name") or ""),
        version=str(implementation.get("version") or ""),
        protocol_version=era.version,
        era=era.name,
        capabilities=_capabilities(as_object(result.get("capabilities"))),
        instructions=instructions if isinstance(instructions, str) else None,
        title=str(implementation["title"]) if implementation.get("title") else None,
    )


def _capabilities(said: dict[str, Any]) -> ServerCapabilities:
    try:
        return ServerCapabilities.model_validate(said)
    except ValidationError as error:
        malformed = problems(error)
    raise HandshakeError(f"the server's capabilities are malformed: {malformed}")
