"""Finding out which era a server speaks, as a table: what was tried, what came back, what to try next.

Nothing here waits or sends. `clients/handshake.py` performs a step, describes what came back as an `Answer`, and asks
`next_step` for the next one until it gets `Agreed` or `Refused`
(2026-07-28, basic/versioning, "Backward Compatibility with Initialization-Based Versions").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from fastapi_server.mcp.errors import RPCError
from fastapi_server.mcp.protocol.eras import HANDSHAKE_VERSIONS, STATELESS_VERSIONS

RECOGNISED = frozenset(
    {RPCError.HEADER_MISMATCH, RPCError.MISSING_CLIENT_CAPABILITY, RPCError.UNSUPPORTED_PROTOCOL_VERSION}
)
"""Error codes that only a server of the stateless era gives: they never lead back to the handshake."""


@dataclass(frozen=True, slots=True)
class Discover:
    """Send `server/discover`, stamped with `version`."""

    version: str


@dataclass(frozen=True, slots=True)
class Initialize:
    """Send `initialize`, offering `version`.

    Attributes:
        version: The revision offered.
        exactly: The configuration pins it: no other revision will do.
        reopen: The channel died on the probe: open a new one first.
    """

    version: str
    exactly: bool = False
    reopen: bool = False


@dataclass(frozen=True, slots=True)
class Agreed:
    """Done: both sides speak `version`."""

    version: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Done: there is no revision in common, and why."""

    reason: str


Try: TypeAlias = Discover | Initialize
Step: TypeAlias = Try | Agreed | Refused


class Outcome(Enum):
    """How a server took what was tried."""

    RESULT = auto()
    ERROR = auto()
    """A JSON-RPC error."""
    REFUSED = auto()
    """Not JSON-RPC at all: an HTTP status such as 400, 404 or 405, or a result of another shape."""
    SILENT = auto()
    """Nothing within the time for a probe."""
    DIED = auto()
    """The channel ended on the probe: some servers exit on a message before `initialize`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        outcome: In one word.
        versions: Revisions that the server named: the one of its `InitializeResult`, the `supportedVersions` of its
            `DiscoverResult`, or the `supported` of its error.
        code: Of a JSON-RPC error.
        text: For people: the error's message, the HTTP status.
    """

    outcome: Outcome
    versions: Sequence[str] = ()
    code: int = 0
    text: str = ""


def first_step(pinned: str | None, known: str | None, *, probe: bool) -> Try | Agreed:
    """What to try first.

    Args:
        pinned: The revision that the configuration demands, if it does.
        known: The revision that this server has agreed on before, if it has.
        probe: Whether the transport can carry the stateless era at all (HTTP+SSE cannot).
    """
    version = pinned or known
    if version in STATELESS_VERSIONS:
        return Agreed(version)
    if version is not None:
        return Initialize(version, exactly=pinned is not None)
    return Discover(STATELESS_VERSIONS[-1]) if probe else Initialize(HANDSHAKE_VERSIONS[-1])


def next_step(tried: Try, answer: Answer, *, probes: int) -> Step:
    """What follows from an answer.

    Args:
        tried: The step that was performed.
        answer: What came back.
        probes: How often `server/discover` has been sent so far; a server that names the revision that it has just
            refused is asked twice, not for ever.
    """
    if isinstance(tried, Discover):
        return _after_discover(answer, probes)
    return _after_initialize(tried, answer, probes)


def is_still_spoken(version: str, answer: Answer) -> bool:
    """Whether a server that has agreed on a stateless revision still speaks it, by its answer to `server/discover`.

    Nobody says that it does not, where nothing comes back.
    """
    match answer:
        case Answer(Outcome.RESULT):
            return version in answer.versions
        case Answer(Outcome.ERROR, code=code):
            return code in RECOGNISED and code != RPCError.UNSUPPORTED_PROTOCOL_VERSION
        case Answer(Outcome.REFUSED):
            return False
        case _:
            return True


def _after_discover(answer: Answer, probes: int) -> Step:
    handshake = Initialize(HANDSHAKE_VERSIONS[-1])
    stateless = _newest(answer.versions, STATELESS_VERSIONS)
    older = _newest(answer.versions, HANDSHAKE_VERSIONS)
    match answer:
        case Answer(Outcome.RESULT):
            if stateless:
                return Agreed(stateless)
            return Initialize(older) if older else Refused(_nothing_in_common(answer))
        case Answer(Outcome.ERROR, code=RPCError.UNSUPPORTED_PROTOCOL_VERSION):
            if stateless and probes < 2:
                return Discover(stateless)
            if older and not stateless:
                return Initialize(older)
            return Refused(_nothing_in_common(answer))
        case Answer(Outcome.ERROR, code=code) if code in RECOGNISED:
            return Refused(f"the server rejected server/discover: {answer.text} (code {code})")
        case Answer(Outcome.DIED):
            return Initialize(HANDSHAKE_VERSIONS[-1], reopen=True)
        case _:
            return handshake


def _after_initialize(tried: Initialize, answer: Answer, probes: int) -> Step:
    match answer:
        case Answer(Outcome.RESULT, versions=(version,)) if tried.exactly and version != tried.version:
            return Refused(f"the configuration pins revision {tried.version}; the server answered {version}")
        case Answer(Outcome.RESULT, versions=(version,)) if version in HANDSHAKE_VERSIONS:
            return Agreed(version)
        case Answer(Outcome.RESULT):
            return Refused(_nothing_in_common(answer))
        case Answer(Outcome.ERROR, code=RPCError.UNSUPPORTED_PROTOCOL_VERSION) if tried.exactly:
            theirs = ", ".join(answer.versions) or "no other"
            return Refused(f"the configuration pins revision {tried.version}; the server speaks {theirs}")
        case Answer(Outcome.ERROR, code=RPCError.UNSUPPORTED_PROTOCOL_VERSION):
            # A server that was too slow for the probe, and has meanwhile settled on the stateless era.
            stateless = _newest(answer.versions, STATELESS_VERSIONS)
            if stateless and probes < 2:
                return Discover(stateless)
            return Refused(_nothing_in_common(answer))
        case Answer(Outcome.ERROR | Outcome.REFUSED) if tried.reopen and probes < 2:
            # It was not the probe that the first channel died of: the server knows nothing but the stateless era.
            return Discover(STATELESS_VERSIONS[-1])
        case Answer(Outcome.ERROR):
            return Refused(f"the server rejected initialize: {answer.text} (code {answer.code})")
        case _:
            return Refused(f"the server did not answer initialize with a result of MCP: {answer.text}")


def _newest(offered: Sequence[str], ours: Sequence[str]) -> str:
    return next((version for version in reversed(ours) if version in offered), "")


def _nothing_in_common(answer: Answer) -> str:
    theirs = ", ".join(answer.versions) or "no revision at all"
    ours = ", ".join((*HANDSHAKE_VERSIONS, *STATELESS_VERSIONS))
    return f"no protocol revision in common: the server speaks {theirs}; this client speaks {ours}"
