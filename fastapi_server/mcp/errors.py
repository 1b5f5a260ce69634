"""Every error this package raises, on one page.

Each says *where* (the server's name and transport), *when* (the phase) and, above all, *what may have happened*
(`delivery`): whether the server can have acted on the request. Retry policies read that one field.

```
MCPClientError
├── ConfigError                    ValueError       a setting is wrong, or a secret that it names is missing
├── MCPConnectionError             ConnectionError  no channel to the server, or it was lost
│   ├── CommandNotFoundError                        stdio: there is no such program
│   ├── ProcessExitedError                          stdio: the process ended; exit code and end of stderr
│   ├── ConnectTimeoutError        TimeoutError     connecting or the handshake took too long
│   ├── HandshakeError                              the two sides agree on no revision
│   ├── ClientClosedError                           closed by us: used after, or with calls in flight
│   ├── BusyError                                   no place in the pool, or too many calls in flight
│   ├── CircuitOpenError                            not tried: the server has failed too often; says when it will be
│   ├── OutcomeUnknownError                         it may have been carried out, and must not be repeated blindly
│   └── HTTPStatusError                             the server answered with an HTTP status that is no success
│       ├── AuthenticationError                     401, 403, or signing in failed
│       │   └── AuthorizationRequired                   a person has to sign in first; says at which URL
│       ├── RateLimitError                          429; like 503 mostly with `retry_after`
│       └── SessionExpiredError                     the server does not know our session any more
├── CallTimeoutError               TimeoutError     the deadline passed before the reply
├── TokenStoreError                                 the place for tokens cannot be read, written or locked
├── RPCError                                        the server answered with a JSON-RPC error
└── ProtocolError                  ValueError       the server broke the protocol
    ├── MessageTooLargeError                        over `max_message_bytes`
    ├── InvalidResultError                          the result is not what the method returns
    ├── StructuredOutputError                       it is, but breaks the tool's own output schema
    ├── SkillRejected                               a skill is not what the server listed
    └── InputRequiredError                          it asks for input that we cannot or may no longer give
```
"""

from enum import StrEnum
from typing import Any, Literal, Self

Phase = Literal["config", "connect", "handshake", "call", "close"]


class Delivery(StrEnum):
    """What can have become of a request whose call failed."""

    NOT_SENT = "not_sent"
    """It never left this process: safe to send again."""
    REJECTED = "rejected"
    """The server said no without acting: safe to send again once the cause is gone."""
    UNKNOWN = "unknown"
    """The server may have acted: repeat it only if that does no harm."""


class MCPClientError(Exception):
    """The root: catch this to catch everything.

    Attributes:
        server: Name of the server, as configured; `None` until a client has touched the error.
        transport: `stdio`, `sse` or `http`, like `server`.
        phase: What the client was doing.
        delivery: Whether the server may have acted.
    """

    default_delivery = Delivery.UNKNOWN
    default_phase: Phase | None = None

    def __init__(self, message: str = "", *, delivery: Delivery | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.delivery = delivery or self.default_delivery
        self.server: str | None = None
        self.transport: str | None = None
        self.phase: Phase | None = self.default_phase

    def at(self, server: str, transport: str, phase: Phase) -> "MCPClientError":
        """Note where the error happened, unless a deeper layer already has. Returns itself."""
        self.server = self.server or server
        self.transport = self.transport or transport
        self.phase = self.phase or phase
        return self

    def __str__(self) -> str:
        if self.server is None:
            return self.message
        return f"server {self.server!r} ({self.transport}): {self.message}"


class ConfigError(MCPClientError, ValueError):
    """A configuration was refused, or names a secret that is missing; the message starts with the path of the field."""

    default_delivery = Delivery.NOT_SENT
    default_phase = "config"


class MCPConnectionError(MCPClientError, ConnectionError):
    """There is no channel to the server, or it broke."""


class CommandNotFoundError(MCPConnectionError):
    """The configured command names no program that can be run."""

    default_delivery = Delivery.NOT_SENT


class ProcessExitedError(MCPConnectionError):
    """The server's process ended, or closed its output.

    Attributes:
        exit_code: As `subprocess` reports it: negative for a signal, `None` while the process still lives.
        stderr: The end of what it wrote to its standard error.
    """

    def __init__(
        self,
        message: str = "",
        *,
        exit_code: int | None = None,
        stderr: str = "",
        delivery: Delivery | None = None,
    ) -> None:
        super().__init__(message, delivery=delivery)
        self.exit_code = exit_code
        self.stderr = stderr


class ConnectTimeoutError(MCPConnectionError, TimeoutError):
    """Connecting, or the handshake, took longer than the configured `timeout`."""

    default_delivery = Delivery.NOT_SENT


class HandshakeError(MCPConnectionError):
    """The server answered, but client and server agree on no protocol revision."""

    default_delivery = Delivery.NOT_SENT


class ClientClosedError(MCPConnectionError):
    """The client was closed by this program: while the call was in flight, or before it began."""

    default_phase = "close"


class BusyError(MCPConnectionError):
    """Nothing was sent: no place became free in time, in the pool or among the calls of one client."""

    default_delivery = Delivery.NOT_SENT


class CircuitOpenError(MCPConnectionError):
    """Nothing was sent, because the server has failed too often in a row.

    Attributes:
        retry_after: Seconds until the next call is let through.
    """

    default_delivery = Delivery.NOT_SENT

    def __init__(self, message: str = "", *, retry_after: float = 0.0, delivery: Delivery | None = None) -> None:
        super().__init__(message, delivery=delivery)
        self.retry_after = retry_after


class OutcomeUnknownError(MCPConnectionError):
    """The connection broke when the server may have begun to act, and to repeat the call might do it twice.

    `__cause__` is the failure. Look whether it was done, or pass `idempotent=True` where doing it twice is harmless.
    """


class HTTPStatusError(MCPConnectionError):
    """The server answered with an HTTP status that is not a success, and no JSON-RPC error.

    Attributes:
        status: The HTTP status code.
        body: The start of the response's body.
        retry_after: Seconds the server asks us to wait (`Retry-After`, RFC 9110, 10.2.3), where it says so.
    """

    default_status = 0

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        body: str = "",
        retry_after: float | None = None,
        delivery: Delivery | None = None,
    ) -> None:
        super().__init__(message, delivery=delivery)
        self.status = self.default_status if status is None else status
        self.body = body
        self.retry_after = retry_after


class AuthenticationError(HTTPStatusError):
    """HTTP 401 or 403: the credentials are missing, wrong or not enough; or they could not be got."""

    default_delivery = Delivery.REJECTED


class AuthorizationRequired(AuthenticationError):
    """A person has to sign in with a browser, and nobody is there to ask.

    Send them to `url`; when they come back to the redirect URI, `complete_authorization` takes the `state` and `code`
    that they bring, in this process or in another that has the same token store. Then the next call works.

    Attributes:
        url: Of the authorization page. It holds the `state`, so show it to that person only.
        state: Names the sign-in. It is good for ten minutes.
    """

    def __init__(
        self, message: str = "", *, url: str = "", state: str = "", status: int = 401, delivery: Delivery | None = None
    ) -> None:
        super().__init__(message, status=status, delivery=delivery)
        self.url = url
        self.state = state


class RateLimitError(HTTPStatusError):
    """HTTP 429; `retry_after` says when to come again, where the server does."""

    default_delivery = Delivery.REJECTED
    default_status = 429


class SessionExpiredError(HTTPStatusError):
    """The server no longer knows the session (HTTP 404 to a request that carried `Mcp-Session-Id`)."""

    default_delivery = Delivery.REJECTED


class CallTimeoutError(MCPClientError, TimeoutError):
    """The call's deadline passed before its reply; the server was told, in its era's way."""


class TokenStoreError(MCPClientError):
    """Tokens cannot be read, written or locked; the message says where, why and what to do, and never a token."""

    default_delivery = Delivery.NOT_SENT


class RPCError(MCPClientError):
    """The server answered with a JSON-RPC error (JSON-RPC 2.0, section 5.1).

    Attributes:
        code: The error's code, for instance -32601 for a method that the server does not have.
        data: Whatever the server attached, as plain values.
    """

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    HEADER_MISMATCH = -32020
    MISSING_CLIENT_CAPABILITY = -32021
    UNSUPPORTED_PROTOCOL_VERSION = -32022
    URL_ELICITATION_REQUIRED = -32042
    """Revision 2025-11-25 only: `data["elicitations"]` says which URLs the user has to visit before the next try."""

    UNTOUCHED = frozenset(
        {
            PARSE_ERROR,
            INVALID_REQUEST,
            METHOD_NOT_FOUND,
            HEADER_MISMATCH,
            MISSING_CLIENT_CAPABILITY,
            UNSUPPORTED_PROTOCOL_VERSION,
            URL_ELICITATION_REQUIRED,
        }
    )
    """Codes that a server gives before any of its tools ran."""

    def __init__(self, message: str = "", *, code: int = INTERNAL_ERROR, data: Any = None) -> None:
        super().__init__(message, delivery=Delivery.REJECTED if code in self.UNTOUCHED else Delivery.UNKNOWN)
        self.code = code
        self.data = data

    def __str__(self) -> str:
        return f"{super().__str__()} (code {self.code})"


class ProtocolError(MCPClientError, ValueError):
    """The server sent something that the protocol does not allow."""


class MessageTooLargeError(ProtocolError):
    """A message is larger than the configured `max_message_bytes`.

    Attributes:
        limit: That limit, in bytes.
    """

    def __init__(self, message: str = "", *, limit: int = 0) -> None:
        super().__init__(message)
        self.limit = limit

    @classmethod
    def of(cls, what: str, limit: int) -> Self:
        """The error for `what`, such as "an event", with advice."""
        return cls(
            f"{what} is larger than max_message_bytes = {limit:,}; raise it for this server "
            "if it is meant to send so much",
            limit=limit,
        )


class InvalidResultError(ProtocolError):
    """The result does not have the shape that the protocol gives the method's result."""


class StructuredOutputError(ProtocolError):
    """`structuredContent` breaks the tool's `outputSchema`; raised with `output_validation="strict"` only."""


class SkillRejected(ProtocolError):
    """A skill's file is not the one that the server listed (SEP-2640), so nothing of the skill may be used."""


class InputRequiredError(ProtocolError):
    """The server asks for input that no handler gives, or for more than ten rounds of it (2026-07-28, MRTR)."""
