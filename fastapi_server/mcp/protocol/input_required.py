"""Multi round-trip requests (2026-07-28, basic/patterns/mrtr): asking again with what the server wanted to know."""

from collections.abc import Mapping
from typing import Any

import msgspec

from fastapi_server.mcp.errors import InputRequiredError, ProtocolError

MAX_ROUNDS = 10
"""How often a server may ask for more input before the call is given up."""

METHODS = frozenset({"tools/call", "prompts/get", "resources/read"})
"""The only requests that a server may answer so."""


class InputRequired(msgspec.Struct, frozen=True, rename="camel"):
    """An `InputRequiredResult`. `request_state` is the server's own and is echoed to the byte."""

    input_requests: dict[str, dict[str, Any]] | None = None
    request_state: str | None = None


def parse(result: Any, method: str) -> InputRequired | None:
    """The request for input that a result is, or `None` where the result is final.

    Raises:
        ProtocolError: `resultType` is one that this client does not know, or stands where it must not.
    """
    try:
        kind = result.get("resultType", "complete")
    except AttributeError:
        raise ProtocolError(f"the result of {method} is malformed: it is no object") from None
    if kind == "complete" or is_final(kind, method):
        return None
    try:
        required = msgspec.convert(result, InputRequired)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"the result of {method} is malformed: {error}") from None
    if not required.input_requests and required.request_state is None:
        raise InputRequiredError(f"{method} wants input, but says neither which nor for what state")
    return required


def is_final(kind: object, method: str) -> bool:
    """Whether a result of this `resultType` is all that there is to come.

    Raises:
        ProtocolError: It is one that this client does not know, or stands where it must not.
    """
    if kind == "complete":
        return True
    if kind != "input_required" or method not in METHODS:
        raise ProtocolError(f"the result of {method} has a resultType that it must not have: {kind!r}")
    return False


def answered(
    params: Mapping[str, Any] | None, required: InputRequired, responses: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Parameters of the next round: the original ones, the answers, and the state exactly as it came, if it came."""
    again = dict(params or {})
    if responses:
        again["inputResponses"] = dict(responses)
    if required.request_state is not None:
        again["requestState"] = required.request_state
    return again
