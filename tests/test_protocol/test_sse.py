"""Events out of bytes, however the bytes are cut (HTML standard, section 9.2)."""

from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastapi_server.mcp.errors import MessageTooLargeError
from fastapi_server.mcp.protocol.sse import Event, EventParser

ROOMY = 1_000_000
BOM = b"\xef\xbb\xbf"

STREAM = (
    BOM + b": hello\r\n"
    b"retry: 1500\r\n"
    b"id: 1\r\n"
    b"\r\n"
    b"event: endpoint\rdata: /messages?id=\xc3\xa9\r\r"
    b"data: one\ndata:two\ndata\nid: \xf0\x9f\x98\x80\n\n"
    b"data: three\r\nid: a\0b\r\n\r\n"
    b":\n\n\n"
    b"data:\r\n\r"
    b"id\ndata: four\n\n"
    b"id: 9\ndata: broken off"
)
SEEN = (
    [
        Event(b"", "message", "1"),
        Event(b"/messages?id=\xc3\xa9", "endpoint", "1"),
        Event(b"one\ntwo\n", "message", "😀"),
        Event(b"three", "message", "😀"),
        Event(b"", "message", "😀"),
        Event(b"four", "message", ""),
    ],
    "",
    1.5,
)

exactly = settings(deadline=None, derandomize=True)
tokens = [b"\n", b"\r", b"\r\n", b":", b" ", b"", b"data", b"data: x", b"event: e", b"id: 7", b"id", b"retry: 3"]
odd_bytes = [b"\0", b"\xef", b"\xbb", b"\xbf", b"\xc3", b"\xa9", b"\xff"]
pieces = st.lists(st.lists(st.sampled_from([*tokens, *odd_bytes])).map(b"".join))


def parsed(chunks: Iterable[bytes], limit: int = ROOMY) -> tuple[list[Event], str, float | None] | str:
    """The events, the id to resume from and the time to wait, or that an event was too large."""
    parser = EventParser(limit)
    events: list[Event] = []
    try:
        for chunk in chunks:
            events += parser.feed(chunk)
    except MessageTooLargeError:
        return "too large"
    return events, parser.last_event_id, parser.retry


def events_of(stream: bytes) -> list[Event]:
    return EventParser(ROOMY).feed(stream)


def data_of(stream: bytes) -> list[bytes | bytearray]:
    return [event.data for event in events_of(stream)]


# Cutting.


def test_the_whole_grammar_in_one_stream() -> None:
    assert parsed([STREAM]) == SEEN


def test_a_cut_at_any_position_changes_nothing() -> None:
    for cut in range(len(STREAM) + 1):
        assert parsed([STREAM[:cut], STREAM[cut:]]) == SEEN, f"cut at {cut}"


def test_two_cuts_at_any_positions_change_nothing() -> None:
    for first in range(len(STREAM) + 1):
        for second in range(first, len(STREAM) + 1):
            chunks = [STREAM[:first], STREAM[first:second], STREAM[second:]]
            assert parsed(chunks) == SEEN, f"cut at {first} and {second}"


def test_single_bytes_make_the_same_events() -> None:
    assert parsed(bytes([byte]) for byte in STREAM) == SEEN


@exactly
@given(pieces)
@example([b"data: x\r", b"", b"\n\r", b"\n"])
@example([b"\xef", b"\xbb", b"\xbfdata: x\n\n"])
@example([b"\xef", b"\xbb\n", b"\ndata: x\n\n"])
def test_any_chunks_make_the_events_of_the_whole(chunks: list[bytes]) -> None:
    assert parsed(chunks) == parsed([b"".join(chunks)])


@exactly
@given(pieces, st.integers(3, 24))
@example([b"data: 12345", b"\n\n"], 10)
@example([b"data: 1234", b"\n", b"\n"], 10)
@example([b":" + b"x" * 9, b"x", b"\n"], 10)
def test_any_chunks_meet_the_limit_alike(chunks: list[bytes], limit: int) -> None:
    assert parsed(chunks, limit) == parsed([b"".join(chunks)], limit)


@exactly
@given(st.lists(st.binary()))
def test_arbitrary_bytes_never_fail(chunks: list[bytes]) -> None:
    assert parsed(chunks) == parsed([b"".join(chunks)])


# Lines.


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
def test_a_line_ends_with_lf_cr_or_crlf(end: bytes) -> None:
    assert data_of(end.join([b"data: a", b"data: b", b"", b"data: c", b"", b""])) == [b"a\nb", b"c"]


def test_line_ends_may_differ_within_a_stream() -> None:
    assert data_of(b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\r") == [b"a\nb\nc", b"d"]


def test_a_crlf_cut_in_two_is_one_line_end() -> None:
    parser = EventParser(ROOMY)
    assert parser.feed(b"data: a\r") == []
    assert parser.feed(b"\n") == []
    assert parser.feed(b"data: b\r") == []
    assert [event.data for event in parser.feed(b"\n\r")] == [b"a\nb"]
    assert parser.feed(b"\n") == []


def test_an_event_ended_by_cr_does_not_wait_for_what_follows() -> None:
    assert data_of(b"data: a\r\r") == [b"a"]


# Fields.


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        pytest.param(b"data: a\n\n", [b"a"], id="one space after the colon is dropped"),
        pytest.param(b"data:  a \n\n", [b" a "], id="but only one"),
        pytest.param(b"data:a\n\n", [b"a"], id="and none is needed"),
        pytest.param(b"data: a: b\n\n", [b"a: b"], id="the first colon separates"),
        pytest.param(b"data: a\ndata: b\n\n", [b"a\nb"], id="lines are joined by a newline"),
        pytest.param(b"data\n\ndata\ndata\n\ndata:", [b"", b"\n"], id="the example of the standard"),
        pytest.param(b"\n\n\n", [], id="no data, no event"),
        pytest.param(b": comment\n\n:\n\n", [], id="comments are passed over"),
        pytest.param(b"data: a\n: comment\ndata: b\n\n", [b"a\nb"], id="also within an event"),
        pytest.param(b"Data: a\ndata : b\n data: c\nfuture: d\nfuture\n\n", [], id="other names are passed over"),
        pytest.param(b"data: a\n", [], id="no blank line, no event"),
        pytest.param(b"data: a\n\ndata: b", [b"a"], id="an unfinished event is not dispatched"),
        pytest.param(b"data: \xff\n\n", [b"\xff"], id="data stays as it came"),
    ],
)
def test_data(stream: bytes, data: list[bytes]) -> None:
    assert data_of(stream) == data


def test_a_character_cut_in_two_is_put_together() -> None:
    parser = EventParser(ROOMY)
    assert parser.feed(b"event: \xf0\x9f") == []
    assert parser.feed(b"\x98\x80\nid: \xc3") == []
    assert parser.feed(b"\xa9\ndata: \xe4\xb8") == []
    assert parser.feed(b"\x96\n\n") == [Event("世".encode(), "😀", "é")]


def test_the_type_is_message_where_the_stream_names_none() -> None:
    assert [event.event for event in events_of(b"data: a\n\nevent: b\ndata: c\n\ndata: d\n\n")] == [
        "message",
        "b",
        "message",
    ]


def test_the_last_type_named_counts_and_an_empty_one_means_message() -> None:
    assert [event.event for event in events_of(b"event: a\nevent: b\ndata\n\nevent: a\nevent\ndata\n\n")] == [
        "b",
        "message",
    ]


def test_a_type_without_data_is_forgotten() -> None:
    assert events_of(b"event: a\n\ndata: b\n\n") == [Event(b"b", "message", "")]


def test_bytes_that_are_no_utf8_are_replaced_in_type_and_id() -> None:
    assert events_of(b"event: \xff\nid: \xff\ndata: a\n\n") == [Event(b"a", "\ufffd", "\ufffd")]


# Identifiers.


def test_an_id_holds_until_another_comes() -> None:
    assert [event.id for event in events_of(b"id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n")] == ["1", "1", "2"]


def test_an_empty_id_takes_the_last_one_back() -> None:
    assert parsed([b"id: 1\ndata: a\n\nid\ndata: b\n\n"]) == (
        [Event(b"a", "message", "1"), Event(b"b", "message", "")],
        "",
        None,
    )


def test_an_id_with_nul_is_ignored() -> None:
    assert parsed([b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\nid: \0\n\n"]) == (
        [Event(b"a", "message", "1"), Event(b"b", "message", "1")],
        "1",
        None,
    )


def test_an_id_without_data_is_an_event_of_its_own() -> None:
    assert parsed([b"id: prime\n\ndata: a\n\n"]) == (
        [Event(b"", "message", "prime"), Event(b"a", "message", "prime")],
        "prime",
        None,
    )


def test_the_id_of_an_event_that_broke_off_is_not_resumed_from() -> None:
    parser = EventParser(ROOMY)
    parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: lost")
    assert parser.last_event_id == "1"
    parser.feed(b" and found\n\n")
    assert parser.last_event_id == "2"


# Time to wait.


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b"retry: 1500", 1.5),
        (b"retry:0", 0.0),
        (b"retry: 0010", 0.01),
        (b"retry: 9999999999", 9_999_999.999),
        (b"retry", None),
        (b"retry:", None),
        (b"retry: -1", None),
        (b"retry: 1.5", None),
        (b"retry: 1 ", None),
        (b"retry:  1", None),
        (b"retry: 1_000", None),
        (b"retry: soon", None),
        pytest.param(b"retry: 10000000000", None, id="more than ten digits"),
        ("retry: ٣".encode(), None),
        pytest.param(b"retry: " + b"9" * 400, None, id="more than a float holds"),
        pytest.param(b"retry: " + b"9" * 5000, None, id="more digits than Python converts"),
    ],
)
def test_retry_is_milliseconds_in_ascii_digits(line: bytes, seconds: float | None) -> None:
    assert parsed([line + b"\n"]) == ([], "", seconds)


def test_a_retry_that_is_none_leaves_the_last_one() -> None:
    assert parsed([b"retry: 10\nretry: soon\n\n"]) == ([], "", 0.01)


# Byte order mark.


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        pytest.param(BOM + b"data: a\n\n", [b"a"], id="one at the start is dropped"),
        pytest.param(BOM + BOM + b"data: a\n\n", [], id="but not a second"),
        pytest.param(b"\n" + BOM + b"data: a\n\n", [], id="nor one later"),
        pytest.param(b"\xef\xbbdata: a\n\ndata: b\n\n", [b"b"], id="half of one is part of the name"),
        pytest.param(b"\xef\ndata: b\n\n", [b"b"], id="a third of one, too"),
        pytest.param(BOM, [], id="alone it is nothing"),
        pytest.param(BOM + b"\ndata: a\n\n", [b"a"], id="a line may end right after it"),
    ],
)
def test_byte_order_mark(stream: bytes, data: list[bytes]) -> None:
    whole = parsed([stream])
    assert data_of(stream) == data
    for cut in range(len(stream) + 1):
        assert parsed([stream[:cut], stream[cut:]]) == whole, f"cut at {cut}"


# Limits.


def test_an_event_of_exactly_the_limit_is_accepted() -> None:
    stream = b"data: 1234\r\ndata: 5678\r\n\r\n"
    for cut in range(len(stream) + 1):
        seen = parsed([stream[:cut], stream[cut:]], limit=20)
        assert seen == ([Event(b"1234\n5678", "message", "")], "", None), f"cut at {cut}"


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"data: 123456789012345\n\n", id="one line"),
        pytest.param(b"data: 1234\n" * 3 + b"\n", id="several lines together"),
        pytest.param(b"data: 1234\ndata: 12345", id="a line not ended"),
        pytest.param(b": 3456789012345678901\n\n", id="a comment"),
        pytest.param(b"x" * 21, id="no field at all"),
        pytest.param(b"data\n" * 6, id="data without values"),
    ],
)
def test_a_larger_event_is_refused_wherever_it_is_cut(stream: bytes) -> None:
    for cut in range(len(stream) + 1):
        assert parsed([stream[:cut], stream[cut:]], limit=20) == "too large", f"cut at {cut}"


def test_the_limit_counts_each_event_for_itself() -> None:
    assert parsed([b"data: 12345678901234\n\n" * 50], limit=20) == (
        [Event(b"12345678901234", "message", "")] * 50,
        "",
        None,
    )


def test_comments_do_not_add_up() -> None:
    assert parsed([b": still here\n" * 1000 + b"data: a\n\n"], limit=20) == ([Event(b"a", "message", "")], "", None)


def test_the_error_names_the_setting_and_the_limit() -> None:
    with pytest.raises(MessageTooLargeError, match=r"max_message_bytes = 12,345;") as caught:
        EventParser(12_345).feed(b"x" * 12_346)
    assert caught.value.limit == 12_345


# The next connection.


def test_a_successor_knows_the_last_id_and_the_time_to_wait() -> None:
    parser = EventParser(ROOMY)
    parser.feed(b"retry: 250\nid: 7\ndata: a\n\nid: 8\nevent: b\ndata: broken")
    successor = parser.successor()
    assert (successor.last_event_id, successor.retry) == ("7", 0.25)


def test_a_successor_starts_with_no_half_of_an_event() -> None:
    parser = EventParser(ROOMY)
    parser.feed(b"id: 7\ndata: a\n\nid: 8\nevent: b\ndata: broken\r")
    assert parser.successor().feed(b"\ndata: c\n\n") == [Event(b"c", "message", "7")]


def test_a_successor_expects_a_byte_order_mark_again() -> None:
    parser = EventParser(ROOMY)
    parser.feed(b"data: a\n\n")
    assert parser.successor().feed(BOM + b"data: b\n\n") == [Event(b"b", "message", "")]


def test_a_successor_has_the_same_limit() -> None:
    with pytest.raises(MessageTooLargeError, match="= 10;"):
        EventParser(10).successor().feed(b"x" * 11)


def test_a_successor_goes_on_from_the_id_when_it_has_heard_nothing() -> None:
    parser = EventParser(ROOMY)
    parser.feed(b"id: 7\n\n")
    second = parser.successor()
    second.feed(b"data: a\n\n")
    assert second.successor().last_event_id == "7"
