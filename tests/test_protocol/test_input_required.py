"""Asking again with what the server wanted to know (2026-07-28, basic/patterns/mrtr)."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_server.mcp.errors import InputRequiredError, ProtocolError
from fastapi_server.mcp.protocol.input_required import MAX_ROUNDS, METHODS, InputRequired, answered, parse

ELICIT = {"who": {"method": "elicitation/create", "params": {"message": "Who are you?"}}}

each_method = pytest.mark.parametrize("method", sorted(METHODS))


def wanted(**members: Any) -> dict[str, Any]:
    return {"resultType": "input_required", **members}


def test_three_methods_may_ask_and_ten_rounds_are_enough() -> None:
    assert {"tools/call", "prompts/get", "resources/read"} == METHODS
    assert MAX_ROUNDS == 10


# Final results.


@pytest.mark.parametrize(
    "result",
    [
        b"{}",
        b'{"content":[]}',
        b'{"resultType":"complete","content":[]}',
        b'{"inputRequests":{"a":{}},"requestState":"s"}',
    ],
)
@pytest.mark.parametrize("method", [*sorted(METHODS), "tools/list"])
def test_a_result_is_final_unless_it_says_otherwise(result: bytes, method: str) -> None:
    assert parse(json.loads(result), method) is None


# Requests for input.


@each_method
def test_a_server_may_ask(method: str) -> None:
    assert parse(wanted(inputRequests=ELICIT, requestState="s"), method) == InputRequired(ELICIT, "s")


@pytest.mark.parametrize(
    ("members", "required"),
    [
        ({"inputRequests": ELICIT}, InputRequired(ELICIT, None)),
        ({"requestState": "s"}, InputRequired(None, "s")),
        ({"requestState": ""}, InputRequired(None, "")),
        ({"inputRequests": {}, "requestState": "s"}, InputRequired({}, "s")),
        ({"inputRequests": None, "requestState": "s"}, InputRequired(None, "s")),
        ({"inputRequests": ELICIT, "requestState": None, "_meta": {"a": 1}}, InputRequired(ELICIT, None)),
    ],
)
def test_it_asks_with_questions_or_with_its_state_or_both(members: dict[str, Any], required: InputRequired) -> None:
    assert parse(wanted(**members), "tools/call") == required


@pytest.mark.parametrize(
    "members", [{}, {"inputRequests": {}}, {"inputRequests": None, "requestState": None}, {"inputRequests": {}, "a": 1}]
)
def test_it_must_ask_for_something(members: dict[str, Any]) -> None:
    with pytest.raises(InputRequiredError, match=r"^tools/call wants input, but says neither which nor "):
        parse(wanted(**members), "tools/call")


@pytest.mark.parametrize("method", ["tools/list", "server/discover", "completion/complete", "ping"])
def test_other_methods_must_not_ask(method: str) -> None:
    with pytest.raises(ProtocolError, match=f"^the result of {method} has a resultType .*: 'input_required'$"):
        parse(wanted(inputRequests=ELICIT), method)


@pytest.mark.parametrize("kind", ["partial", "", "Complete"])
@pytest.mark.parametrize("method", ["tools/call", "tools/list"])
def test_a_result_type_that_we_do_not_know_is_refused(kind: str, method: str) -> None:
    with pytest.raises(
        ProtocolError, match=f"^the result of {method} has a resultType that it must not have: '{kind}'"
    ):
        parse({"resultType": kind}, method)


@pytest.mark.parametrize(
    "result",
    [
        None,
        [],
        7,
        "complete",
        wanted(inputRequests=[]),
        wanted(inputRequests={"a": "b"}),
        wanted(inputRequests={"a": None}),
        wanted(requestState=7),
    ],
)
def test_a_malformed_result_is_refused(result: Any) -> None:
    with pytest.raises(ProtocolError, match=r"^the result of tools/call is malformed: "):
        parse(result, "tools/call")


@pytest.mark.parametrize("kind", [7, None, ["complete"], {}])
def test_a_result_type_that_is_no_text_is_refused(kind: Any) -> None:
    with pytest.raises(ProtocolError, match=r"^the result of tools/call has a resultType that it must not have: "):
        parse({"resultType": kind}, "tools/call")


@settings(deadline=None, derandomize=True)
@given(
    st.none()
    | st.text()
    | st.dictionaries(
        st.sampled_from(["resultType", "inputRequests", "requestState"]),
        st.none() | st.sampled_from(["complete", "input_required"]) | st.just(ELICIT) | st.text() | st.integers(),
    )
)
def test_no_result_raises_anything_but_protocol_errors(result: Any) -> None:
    try:
        required = parse(result, "tools/call")
    except ProtocolError:
        return
    assert required is None or required.input_requests or required.request_state is not None


# The next round.


def test_the_next_round_repeats_the_call_with_answers_and_state() -> None:
    params = {"name": "t", "arguments": {"a": 1}}
    again = answered(params, InputRequired(ELICIT, "opaque"), {"who": {"action": "accept"}})
    assert again == {
        "name": "t",
        "arguments": {"a": 1},
        "inputResponses": {"who": {"action": "accept"}},
        "requestState": "opaque",
    }
    assert params == {"name": "t", "arguments": {"a": 1}}


@pytest.mark.parametrize("state", ["", " ", "é\0\n", "a" * 10_000, '{"json": 1.0}'])
def test_the_state_is_echoed_to_the_byte(state: str) -> None:
    required = parse(wanted(requestState=state), "tools/call")
    assert required is not None
    assert answered(None, required, None) == {"requestState": state}


def test_a_state_that_did_not_come_is_not_sent() -> None:
    assert answered({"a": 1}, InputRequired(ELICIT, None), {"who": {}}) == {"a": 1, "inputResponses": {"who": {}}}


@pytest.mark.parametrize("responses", [None, {}])
def test_no_answers_are_not_sent(responses: dict[str, Any] | None) -> None:
    assert answered({"a": 1}, InputRequired(None, "s"), responses) == {"a": 1, "requestState": "s"}
