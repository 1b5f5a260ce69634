"""JSON-RPC 2.0 messages (https://www.jsonrpc.org/specification), each decoded once."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType
from pydantic import BaseModel

from fastapi_server.mcp.errors import Delivery, ProtocolError, RPCError
from fastapi_server.mcp.protocol.bulk import uncollected

RequestId: TypeAlias = int | str

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no JSON, no UTF-8, nested too deep, or of another shape than wanted."""


class ErrorObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `error` member of a reply."""

    code: int
    message: str = ""
    data: Any = UNSET

    def to_exception(self, redacted: Callable[[str], str] = str) -> RPCError:
        """The typed error that the caller gets, its texts without what `redacted` takes out.

        `data` that is nested too deep to be looked through is left out.
        """
        try:
            data = None if self.data is UNSET else _without(redacted, self.data)
        except RecursionError:
            data = None
        return RPCError(redacted(self.message), code=self.code, data=data)


def _without(redacted: Callable[[str], str], value: Any) -> Any:
    """Plain values with each of their texts, and numbers taken for texts, as `redacted` leaves it."""
    match value:
        case str():
            return redacted(value)
        case dict():
            return {redacted(key): _without(redacted, member) for key, member in as_object(value).items()}
        case list():
            return [_without(redacted, item) for item in cast("list[Any]", value)]
        case None | bool():
            return value
        case number:
            text = str(number)
            return number if redacted(text) == text else "***"


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """Any JSON-RPC message: a request, a notification or a reply, told apart by the members that are set.

    A `result` is plain values, or JSON (`Raw`) where it was decoded so. `params` stay raw until somebody wants them,
    because most notifications nobody does.
    """

    jsonrpc: Literal["2.0"] | UnsetType = UNSET
    id: int | float | str | None | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Any = UNSET
    error: ErrorObject | None | UnsetType = UNSET

    @property
    def is_reply(self) -> bool:
        """A result or an error, with the id of the request that it answers."""
        return self.method is UNSET

    @property
    def is_request(self) -> bool:
        """It wants a reply."""
        return self.method is not UNSET and self.id is not UNSET and self.id is not None

    def params_as(self) -> dict[str, Any]:
        """The parameters as plain values; empty where there are none or they are no object."""
        try:
            return {} if isinstance(self.params, UnsetType) else as_object(msgspec.json.decode(self.params))
        except MALFORMED:
            return {}


class _RawMessage(Message, frozen=True):
    result: Raw | UnsetType = UNSET


def as_object(value: Any) -> dict[str, Any]:
    """A decoded JSON value where it is an object; an empty one where it is anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


_BOM = b"\xef\xbb\xbf"
"""Some servers write it, though they must not; readers may pass over it (RFC 8259, 8.1)."""
_DECODER: msgspec.json.Decoder[Message | list[Message]] = msgspec.json.Decoder(Message | list[Message])
_LARGE = 32 * 1024
"""Bytes of a message that may hold hundreds of objects."""


_RAW_DECODER: msgspec.json.Decoder[_RawMessage | list[_RawMessage]] = msgspec.json.Decoder(
    _RawMessage | list[_RawMessage]
)


_USUAL_REPLY = re.compile(rb'\{"jsonrpc":"2\.0","id":(0|[1-9]\d{0,17}),"result":(?=\{)')
"""What follows is the result, to the end but for a brace. It need not be looked through twice to find out."""


def _at_second_sight(data: bytes, decoder: msgspec.json.Decoder[Any]) -> Message | Sequence[Message] | str:
    """What begins with a BOM, or is an error whose text is no UTF-8. For all else why it cannot be decoded."""
    text = data.removeprefix(_BOM)
    try:
        try:
            return decoder.decode(text)
        except UnicodeDecodeError as error:  # a replaced letter is better than a call without an answer
            reason = str(error)
            message = decoder.decode(text.decode("utf-8", "replace"))
    except MALFORMED as error:
        return str(error)
    if isinstance(message, Message) and isinstance(message.error, ErrorObject) and isinstance(message.id, int):
        return message
    return reason


def decode(data: bytes | bytearray | memoryview, *, raw_results: bool = False) -> Sequence[Message]:
    """Decode one message, or a batch of them (revision 2025-03-26 has batches).

    Args:
        data: JSON.
        raw_results: Leave each `result` as JSON, a `msgspec.Raw`, to be decoded where it is validated.

    Raises:
        ProtocolError: It is not JSON, or not JSON-RPC.
    """
    if raw_results and (beginning := _USUAL_REPLY.match(data)) and data[-1:] == b"}":
        return (Message("2.0", int(beginning[1]), result=Raw(memoryview(data)[beginning.end() : -1])),)
    decoder = _RAW_DECODER if raw_results else _DECODER
    try:
        if raw_results or len(data) < _LARGE:
            decoded = decoder.decode(data)
        else:
            with uncollected():
                decoded = decoder.decode(data)
    except MALFORMED:
        decoded = _at_second_sight(bytes(data), decoder)
    if isinstance(decoded, str):  # it is said here, as what was caught may hold the message
        raise ProtocolError(f"not a JSON-RPC message: {decoded}")
    messages = (decoded,) if isinstance(decoded, Message) else decoded
    for message in messages:
        if message.method is UNSET and message.result is UNSET and not isinstance(message.error, ErrorObject):
            raise ProtocolError("not a JSON-RPC message: it has no method, no result and no error")
    return messages


def from_result_on(result: Raw) -> Message:
    """Decode a result that was left as JSON, and what of the message follows it.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: It is none after all.
    """
    try:
        return Message(result=msgspec.json.decode(result))
    except msgspec.DecodeError:  # perhaps it was not the last member
        return msgspec.json.decode(b'{"result":%b}' % bytes(result), type=Message)


def with_plain_result(reply: Message) -> Message:
    """The same reply, its `result`, which was left as JSON, decoded.

    Raises:
        ProtocolError: It is no JSON after all.
    """
    try:
        rest = from_result_on(reply.result)
        error = reply.error if rest.error is UNSET else rest.error
        return msgspec.structs.replace(reply, result=rest.result, error=error)
    except MALFORMED as error:
        reason = str(error)
    raise ProtocolError(f"the reply cannot be read: {reason}")  # here: what was caught may hold the message


_ID_FIRST_OR_LAST = re.compile(
    rb"""\A\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d{1,18})\b|"id"\s*:\s*(\d{1,18})\s*\}\s*\Z"""
)


def addressee(data: bytes) -> int | None:
    """The id of the request that an unreadable reply answers, where that at least can be made out."""
    try:
        loose = as_object(json.loads(data.decode("utf-8", "replace"), strict=False))
    except (ValueError, RecursionError):  # so broken that only its beginning or its end can be looked at
        found = _ID_FIRST_OR_LAST.search(data) if b'"result"' in data or b'"error"' in data else None
        return None if found is None else int(found[1] or found[2])
    request_id = loose.get("id")
    return request_id if isinstance(request_id, int) and loose.keys() & {"result", "error"} else None


class _Outgoing(msgspec.Struct, omit_defaults=True):
    jsonrpc: str
    id: RequestId | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Any = UNSET
    result: Any = UNSET
    error: ErrorObject | UnsetType = UNSET


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    raise TypeError(f"{type(value).__name__} has no JSON form")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)


def _encode(message: _Outgoing, what: str) -> bytes:
    try:
        return _ENCODER.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise ProtocolError(f"{what} cannot be sent as JSON: {error}", delivery=Delivery.NOT_SENT) from error


def encode_request(request_id: RequestId, method: str, params: Mapping[str, Any] | None) -> bytes:
    """Encode a request; pydantic models inside `params` become their wire form.

    Raises:
        ProtocolError: `params` has no JSON form (`delivery` is `not_sent`).
    """
    return _encode(_Outgoing("2.0", request_id, method, UNSET if params is None else params), method)


def encode_notification(method: str, params: Mapping[str, Any] | None = None) -> bytes:
    """Encode a notification."""
    return _encode(_Outgoing("2.0", method=method, params=UNSET if params is None else params), method)


def encode_result(request_id: RequestId, result: Any) -> bytes:
    """Encode the reply to a request that the server made."""
    return _encode(_Outgoing("2.0", request_id, result=result), "the reply")


def encode_error(request_id: RequestId, code: int, message: str) -> bytes:
    """Encode the refusal of a request that the server made."""
    return _encode(_Outgoing("2.0", request_id, error=ErrorObject(code, message)), "the reply")
