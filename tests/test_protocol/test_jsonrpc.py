"""JSON-RPC 2.0 envelopes, in and out."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mcp_types import CreateMessageRequestParams, SamplingMessage, TextContent
from msgspec import UNSET, Raw
from pydantic import AnyUrl, BaseModel

from fastapi_server.mcp.errors import Delivery, ProtocolError, RPCError
from fastapi_server.mcp.protocol import jsonrpc
from fastapi_server.mcp.protocol.jsonrpc import ErrorObject, Message

DEEP = b"[" * 100_000 + b"]" * 100_000

exactly = settings(deadline=None, derandomize=True)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
odd_members = st.dictionaries(
    st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "code", "message", "data"]), any_json
)


def one(data: bytes) -> Message:
    (message,) = jsonrpc.decode(data)
    return message


def sent(data: bytes) -> Any:
    return json.loads(data)


# Told apart.


@pytest.mark.parametrize(
    ("data", "is_request", "is_reply"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', True, False),
        (b'{"jsonrpc":"2.0","id":"a","method":"ping","params":{}}', True, False),
        (b'{"jsonrpc":"2.0","id":0,"method":"ping"}', True, False),
        (b'{"jsonrpc":"2.0","method":"notifications/progress"}', False, False),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', False, False),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', False, True),
        (b'{"jsonrpc":"2.0","id":1,"result":null}', False, True),
        (b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}', False, True),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}', False, True),
        (b'{"result":{"echo":1}}', False, True),
    ],
)
def test_the_members_tell_what_a_message_is(data: bytes, is_request: bool, is_reply: bool) -> None:
    message = one(data)
    assert (message.is_request, message.is_reply) == (is_request, is_reply)


@pytest.mark.parametrize(
    ("given_id", "id_seen"), [(b"7", 7), (b'"7"', "7"), (b"7.0", 7.0), (b"null", None), (b"-1", -1)]
)
def test_ids_keep_their_type(given_id: bytes, id_seen: object) -> None:
    seen = one(b'{"id":' + given_id + b',"result":{}}').id
    assert seen == id_seen
    assert type(seen) is type(id_seen)


def test_members_left_out_are_unset() -> None:
    message = one(b'{"result":{}}')
    assert (message.jsonrpc, message.id, message.method, message.params, message.error) == (UNSET,) * 5


def test_members_we_do_not_know_are_passed_over() -> None:
    assert one(b'{"jsonrpc":"2.0","id":1,"result":{},"trace":[1,2]}').id == 1


def test_a_result_is_plain_values() -> None:
    assert one(b'{"id":1,"result":{"big": 1.50, "a": [null, "\xc3\xa9"]}}').result == {"big": 1.5, "a": [None, "é"]}


def test_a_result_may_be_left_as_json_until_it_is_wanted() -> None:
    (message,) = jsonrpc.decode(b'{"id":1,"result":{"a": 1.50}}', raw_results=True)
    assert isinstance(message.result, Raw)
    assert bytes(message.result) == b'{"a": 1.50}'
    plain = jsonrpc.with_plain_result(message)
    assert (plain.id, plain.result) == (1, {"a": 1.5})


USUAL = b'{"jsonrpc":"2.0","id":7,"result":'


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b'{"a": [1.50, "}"]}}', id="last"),
        pytest.param(b'{"a": [1.50, "}"]}}\r', id="last, and a space"),
        pytest.param(b'{"a": [1.50, "}"]},"more":{"x":{}}}', id="before another member"),
        pytest.param(b'{"a": [1.50, "}"]}  ,"_meta":{} }', id="before another member, with spaces"),
    ],
)
def test_a_result_left_as_json_is_found_wherever_it_ends(rest: bytes, wrap: Callable[[bytes], Any]) -> None:
    (message,) = jsonrpc.decode(wrap(USUAL + rest), raw_results=True)
    assert (message.id, message.jsonrpc, message.is_reply) == (7, "2.0", True)
    assert jsonrpc.with_plain_result(message).result == {"a": [1.5, "}"]}


@pytest.mark.parametrize("result", [b"null", b"{}", b'{"a":1}'])
def test_an_error_beside_a_result_left_as_json_stays_one(result: bytes) -> None:
    error = b'"error":{"code":-32000,"message":"the disk is full"}}'
    (message,) = jsonrpc.decode(USUAL + result + b"," + error, raw_results=True)
    assert jsonrpc.with_plain_result(message).error == ErrorObject(-32000, "the disk is full")


@pytest.mark.parametrize("rest", [b"{]}}", b'{"a":1}}}', b'{"a":1},"b"}', b"{" * 100_000 + b"}"])
def test_a_usual_reply_that_is_broken_fails_when_its_result_is_wanted(rest: bytes) -> None:
    (message,) = jsonrpc.decode(USUAL + rest, raw_results=True)
    with pytest.raises(ProtocolError, match="the reply cannot be read"):
        jsonrpc.with_plain_result(message)


@pytest.mark.parametrize("reply", [USUAL + b"}", USUAL + b"NaN}", USUAL.replace(b"7", b"007") + b"{}}"])
def test_what_only_looks_like_a_usual_reply_is_refused(reply: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a JSON-RPC message"):
        jsonrpc.decode(reply, raw_results=True)


def test_what_is_wrong_behind_a_byte_order_mark_is_said() -> None:
    with pytest.raises(ProtocolError, match="object keys must be strings"):
        jsonrpc.decode(b'\xef\xbb\xbf{"id":1,]')


def test_a_result_left_as_json_that_is_none_fails_when_it_is_wanted() -> None:
    (message,) = jsonrpc.decode(b'{"id":1,"result":{"a": "\xff"}}', raw_results=True)
    with pytest.raises(ProtocolError, match="the reply cannot be read"):
        jsonrpc.with_plain_result(message)


def test_params_stay_raw() -> None:
    message = one(b'{"method":"a","params":{"big": 1.50}}')
    assert isinstance(message.params, Raw)
    assert bytes(message.params) == b'{"big": 1.50}'


def test_a_reply_may_say_that_its_error_is_null() -> None:
    assert one(b'{"id":1,"result":{},"error":null}').is_reply


def test_data_of_an_error_that_is_nested_too_deep_is_left_out() -> None:
    error = one(b'{"id":1,"error":{"code":1,"message":"no","data":' + b"[" * 900 + b"]" * 900 + b"}}").error
    assert isinstance(error, jsonrpc.ErrorObject)
    assert error.to_exception().data is None


# Batches.


def test_a_batch_is_taken_apart_in_order() -> None:
    batch = jsonrpc.decode(b'[{"id":1,"result":1},{"method":"a"},{"id":2,"method":"b"}]')
    assert [(message.id, message.method) for message in batch] == [(1, UNSET), (UNSET, "a"), (2, "b")]


def test_an_empty_batch_holds_nothing() -> None:
    assert jsonrpc.decode(b"[]") == []


def test_one_wrong_message_spoils_the_batch() -> None:
    with pytest.raises(ProtocolError):
        jsonrpc.decode(b'[{"id":1,"result":1},{"id":2}]')


@pytest.mark.parametrize("space", [b" ", b"\r\n", b"\t"])
def test_white_space_around_is_allowed(space: bytes) -> None:
    assert one(space + b'{"id":1,"result":1}' + space).id == 1
    assert one(space + b'[{"id":1,"result":1}]' + space).id == 1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_bytes_is_taken(kind: type[bytes] | type[bytearray] | type[memoryview]) -> None:
    assert [message.id for message in jsonrpc.decode(kind(b'[{"id":1,"result":1}]'))] == [1]
    assert [message.id for message in jsonrpc.decode(kind(b'{"id":1,"result":1}'))] == [1]


# Refused.


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"\xef\xbb\xbf{}",
        b"Listening on port 3000",
        b"{",
        b'{"id":1,"result":1',
        b'{"id":1,"result":1} {"id":2,"result":2}',
        b"null",
        b"7",
        b'"text"',
        b"[1]",
        b"[[]]",
        b"{}",
        b'{"jsonrpc":"2.0"}',
        b'{"id":1}',
        b'{"id":1,"error":null}',
        b'{"jsonrpc":"1.0","id":1,"result":1}',
        b'{"jsonrpc":2.0,"id":1,"result":1}',
        b'{"id":true,"result":1}',
        b'{"id":[1],"result":1}',
        b'{"id":{},"result":1}',
        b'{"method":7}',
        b'{"method":null}',
        b'{"id":1,"error":"no"}',
        b'{"id":1,"error":{}}',
        b'{"id":1,"error":{"code":"-1"}}',
        b'{"id":1,"error":{"code":1,"message":7}}',
        b'{"id":1,"result":nope}',
        b'{"id":"\xff","result":1}',
        b'{"method":"\xff"}',
        b'{"id":"\\ud800","result":1}',
        b'{"id":1e999,"result":1}',
        pytest.param(b'{"id":' + b"9" * 5000 + b',"result":1}', id="an id of 5,000 digits"),
        pytest.param(b'{"id":1,"result":' + DEEP + b"}", id="a result nested too deep"),
        pytest.param(b'{"id":1,"result":1,"other":' + DEEP + b"}", id="something unknown nested too deep"),
        pytest.param(b'{"id":1,"error":{"code":1,"data":' + DEEP + b"}}", id="the data of an error nested too deep"),
        pytest.param(DEEP, id="a batch nested too deep"),
    ],
)
def test_what_is_no_jsonrpc_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^not a JSON-RPC message: ") as caught:
        jsonrpc.decode(data)
    assert caught.value.delivery is Delivery.UNKNOWN


def survives(data: bytes) -> None:
    """Decode as far as it goes; nothing but `ProtocolError` may come of it."""
    try:
        messages = jsonrpc.decode(data)
    except ProtocolError:
        return
    for message in messages:
        assert message.is_reply or isinstance(message.method, str)
        assert isinstance(message.params_as(), dict)


@exactly
@given(st.binary())
@example(b'{"id":1,"result":"\xff"}')
def test_arbitrary_bytes_raise_only_protocol_errors(data: bytes) -> None:
    survives(data)


@exactly
@given(odd_members | st.lists(odd_members))
def test_arbitrary_members_raise_only_protocol_errors(members: Any) -> None:
    survives(json.dumps(members).encode())


@exactly
@given(
    st.sampled_from([b'{"jsonrpc":"2.0","id":1,"result":{"a":[1,"\xc3\xa9"]}}', b'{"method":"a","params":{"b":1e9}}']),
    st.integers(0, 60),
    st.binary(max_size=3),
)
def test_damaged_messages_raise_only_protocol_errors(data: bytes, at: int, damage: bytes) -> None:
    survives(data[:at] + damage + data[at + len(damage) :])
    survives(data[:at] + damage)


# Payloads.


@pytest.mark.parametrize(
    ("data", "request_id"),
    [
        (b'{"id":7,"result":"\xff"}', 7),
        (b'{"id":7,"result":NaN}', 7),
        (b'{"id":7,"result":{"a":Infinity,"b":"\xff"}}', 7),
        (b'{"id":7,"error":{"message":"no code"}}', 7),
        pytest.param(b'{"id":7,"result":' + DEEP + b"}", 7, id="nested too deep, the id first"),
        pytest.param(b'{"result":' + DEEP + b',"id":7}', 7, id="nested too deep, the id last"),
        pytest.param(b'{"a":1,"id":7,"result":' + DEEP + b"}", None, id="nested too deep, the id elsewhere"),
        pytest.param(b'{"jsonrpc":"2.0","id":7,"result":' + b"9" * 5000 + b"}", 7, id="a number of 5,000 digits"),
        (b'{"id":7,"result":"\x01"}', 7),
        (b'{"id":7}', None),
        (b'{"id":7,"method":"a"}', None),
        (b'{"id":"7","result":NaN}', None),
        (b"[1]", None),
        (b"nothing", None),
    ],
)
def test_whom_an_unreadable_reply_is_for(data: bytes, request_id: int | None) -> None:
    assert jsonrpc.addressee(data) == request_id


@pytest.mark.parametrize(
    ("message", "params"),
    [
        (b'{"method":"a","params":{"b":1}}', {"b": 1}),
        (b'{"method":"a","params":[1]}', {}),
        (b'{"method":"a","params":null}', {}),
        (b'{"method":"a"}', {}),
        (b'{"method":"a","params":{"b":"\xff"}}', {}),
    ],
)
def test_params_are_an_object_or_taken_for_an_empty_one(message: bytes, params: dict[str, Any]) -> None:
    assert one(message).params_as() == params


@pytest.mark.parametrize(("value", "taken"), [({"a": 1}, {"a": 1}), ([], {}), ("a", {}), (None, {}), (7, {})])
def test_as_object(value: object, taken: dict[str, Any]) -> None:
    assert jsonrpc.as_object(value) == taken


# Errors.


def test_an_error_object_becomes_a_typed_error() -> None:
    error = one(b'{"id":1,"error":{"code":-32601,"message":"no such method","data":{"hint":"x"}}}').error
    assert isinstance(error, ErrorObject)
    exception = error.to_exception()
    assert isinstance(exception, RPCError)
    assert (exception.code, exception.message, exception.data) == (-32601, "no such method", {"hint": "x"})
    assert exception.delivery is Delivery.REJECTED


def test_an_error_needs_no_message_and_no_data() -> None:
    exception = ErrorObject(7).to_exception()
    assert (exception.code, exception.message, exception.data) == (7, "", None)


# Sent.


@pytest.mark.parametrize("request_id", [1, 0, "a"])
def test_requests(request_id: int | str) -> None:
    assert sent(jsonrpc.encode_request(request_id, "tools/call", {"name": "é"})) == {
        "jsonrpc": "2.0",
        "id": request_id,
        "method": "tools/call",
        "params": {"name": "é"},
    }


def test_parameters_that_are_none_are_left_out_and_empty_ones_are_not() -> None:
    assert "params" not in sent(jsonrpc.encode_request(1, "ping", None))
    assert "params" not in sent(jsonrpc.encode_notification("notifications/initialized"))
    assert sent(jsonrpc.encode_request(1, "ping", {}))["params"] == {}
    assert sent(jsonrpc.encode_notification("notifications/initialized", {}))["params"] == {}


def test_notifications_have_no_id() -> None:
    assert sent(jsonrpc.encode_notification("notifications/cancelled", {"requestId": 1})) == {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": 1},
    }


@pytest.mark.parametrize("result", [{}, {"roots": []}, None, [], 0, False])
def test_results(result: object) -> None:
    assert sent(jsonrpc.encode_result("q", result)) == {"jsonrpc": "2.0", "id": "q", "result": result}


def test_refusals() -> None:
    assert sent(jsonrpc.encode_error(3, -32601, "no handler")) == {
        "jsonrpc": "2.0",
        "id": 3,
        "error": {"code": -32601, "message": "no handler"},
    }


def test_messages_are_one_line() -> None:
    assert b"\n" not in jsonrpc.encode_request(1, "a", {"text": "line 1\nline 2\r\n"})


def test_models_become_their_wire_form_wherever_they_stand() -> None:
    message = SamplingMessage(role="user", content=TextContent(type="text", text="hi"))
    params = CreateMessageRequestParams(messages=[message], max_tokens=5)
    assert sent(jsonrpc.encode_result(1, params))["result"] == {
        "messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}],
        "maxTokens": 5,
    }
    assert sent(jsonrpc.encode_request(1, "a", {"list": [message]}))["params"]["list"][0]["role"] == "user"


def test_values_within_models_become_their_wire_form_too() -> None:
    class Link(BaseModel):
        url: AnyUrl

    assert sent(jsonrpc.encode_result(1, Link(url=AnyUrl("https://example.com/a"))))["result"] == {
        "url": "https://example.com/a"
    }


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(object(), id="no JSON form"),
        pytest.param("\ud800", id="half a surrogate pair"),
        pytest.param({(1, 2): 3}, id="a key that is no text"),
        pytest.param(1j, id="a complex number"),
    ],
)
def test_what_cannot_be_sent_says_so_and_was_not_sent(value: object) -> None:
    with pytest.raises(ProtocolError, match=r"^tools/call cannot be sent as JSON: ") as caught:
        jsonrpc.encode_request(1, "tools/call", {"arguments": value})
    assert caught.value.delivery is Delivery.NOT_SENT


def test_what_contains_itself_cannot_be_sent() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ProtocolError, match=r"^the reply cannot be sent as JSON: ") as caught:
        jsonrpc.encode_result(1, loop)
    assert caught.value.delivery is Delivery.NOT_SENT


def test_a_notification_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(ProtocolError, match=r"^notifications/progress cannot be sent"):
        jsonrpc.encode_notification("notifications/progress", {"progress": object()})


@exactly
@given(st.integers(0, 2**53) | st.text(), st.text(), st.none() | st.dictionaries(st.text(), any_json))
def test_what_is_encoded_is_decoded_alike(request_id: int | str, method: str, params: dict[str, Any] | None) -> None:
    message = one(jsonrpc.encode_request(request_id, method, params))
    assert (message.jsonrpc, message.id, message.method) == ("2.0", request_id, method)
    assert message.is_request
    if params is None:
        assert message.params is UNSET
    else:
        assert isinstance(message.params, Raw)
        assert json.loads(bytes(message.params)) == params == msgspec.json.decode(message.params)
