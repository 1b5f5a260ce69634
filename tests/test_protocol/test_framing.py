"""Lines out of bytes, however the bytes are cut."""

from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastapi_server.mcp.errors import MessageTooLargeError, ProtocolError
from fastapi_server.mcp.protocol.framing import LineFramer

ROOMY = 1_000_000
STREAM = b'{"id":1}\n\n{"id":2}\r\n\r\n\n{"id":"\xc3\xa9\xf0\x9f\x98\x80"}\n{"id":\r4}\n{"unfinished'
LINES = [b'{"id":1}', b'{"id":2}', b'{"id":"\xc3\xa9\xf0\x9f\x98\x80"}', b'{"id":\r4}']
PENDING = b'{"unfinished'

exactly = settings(deadline=None, derandomize=True)
pieces = st.lists(st.lists(st.sampled_from([b"\n", b"\r", b"a", b"\xc3", b'{"id":1}', b""])).map(b"".join))


def framed(chunks: Iterable[bytes], limit: int = ROOMY) -> tuple[list[bytes | bytearray], bytes] | str:
    """The lines and what is pending after them, or that a line was too long."""
    framer = LineFramer(limit)
    lines: list[bytes | bytearray] = []
    try:
        for chunk in chunks:
            lines += framer.feed(chunk)
    except MessageTooLargeError:
        return "too large"
    return lines, bytes(framer._rest)


def test_lines_end_at_a_newline_and_what_follows_the_last_is_pending() -> None:
    assert framed([STREAM]) == (LINES, PENDING)


def test_a_cut_at_any_position_changes_nothing() -> None:
    for cut in range(len(STREAM) + 1):
        assert framed([STREAM[:cut], STREAM[cut:]]) == (LINES, PENDING), f"cut at {cut}"


def test_two_cuts_at_any_positions_change_nothing() -> None:
    for first in range(len(STREAM) + 1):
        for second in range(first, len(STREAM) + 1):
            chunks = [STREAM[:first], STREAM[first:second], STREAM[second:]]
            assert framed(chunks) == (LINES, PENDING), f"cut at {first} and {second}"


def test_single_bytes_make_the_same_lines() -> None:
    assert framed(bytes([byte]) for byte in STREAM) == (LINES, PENDING)


@exactly
@given(pieces)
def test_any_chunks_make_the_lines_of_the_whole(chunks: list[bytes]) -> None:
    assert framed(chunks) == framed([b"".join(chunks)])


@exactly
@given(pieces, st.integers(0, 12))
@example([b"abc\r", b"\n"], 3)
@example([b"abc\r\r", b"\n"], 4)
@example([b"abcd", b"\n"], 3)
def test_any_chunks_meet_the_limit_alike(chunks: list[bytes], limit: int) -> None:
    assert framed(chunks, limit) == framed([b"".join(chunks)], limit)


@exactly
@given(st.lists(st.binary()))
def test_arbitrary_bytes_are_cut_at_newlines_only(chunks: list[bytes]) -> None:
    lines, pending = framed(chunks)
    whole = b"".join(chunks).split(b"\n")
    assert lines == [line for line in (each.removesuffix(b"\r") for each in whole[:-1]) if line]
    assert pending == whole[-1]


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b"\n\n\n", b"\r\n\n\r\n"])
def test_empty_lines_are_left_out(blank: bytes) -> None:
    assert framed([blank]) == ([], b"")
    assert framed([b"a\n" + blank + b"b\n"]) == ([b"a", b"b"], b"")


def test_only_the_carriage_return_of_the_line_end_is_taken_off() -> None:
    assert framed([b"a\rb\r\r\n"]) == ([b"a\rb\r"], b"")


def test_nothing_fed_gives_nothing() -> None:
    assert framed([]) == framed([b""]) == ([], b"")


def test_pending_starts_anew_after_each_line() -> None:
    framer = LineFramer(ROOMY)
    assert framer.feed(b"one") == []
    assert bytes(framer._rest) == b"one"
    assert framer.feed(b" two\nthree") == [b"one two"]
    assert bytes(framer._rest) == b"three"
    assert framer.feed(b"\n") == [b"three"]
    assert bytes(framer._rest) == b""


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_of_exactly_the_limit_is_accepted_and_its_end_is_not_counted(end: bytes) -> None:
    stream = b"x" * 10 + end
    for cut in range(len(stream) + 1):
        assert framed([stream[:cut], stream[cut:]], limit=10) == ([b"x" * 10], b""), f"cut at {cut}"


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"x" * 11 + b"\n", id="a whole line"),
        pytest.param(b"ok\n" + b"x" * 11 + b"\nok\n", id="one line of several"),
        pytest.param(b"x" * 11, id="a line not ended"),
        pytest.param(b"ok\n" + b"x" * 11, id="a line not ended, after one that is"),
    ],
)
def test_a_longer_line_is_refused_wherever_it_is_cut(stream: bytes) -> None:
    for cut in range(len(stream) + 1):
        assert framed([stream[:cut], stream[cut:]], limit=10) == "too large", f"cut at {cut}"


def test_a_line_too_long_is_refused_before_it_ends() -> None:
    framer = LineFramer(10)
    framer.feed(b"x" * 10)
    with pytest.raises(MessageTooLargeError):
        framer.feed(b"x")


def test_the_limit_counts_each_line_for_itself() -> None:
    assert framed([b"0123456789\n" * 100], limit=10) == ([b"0123456789"] * 100, b"")


def test_the_error_names_the_setting_and_the_limit() -> None:
    with pytest.raises(MessageTooLargeError, match=r"max_message_bytes = 12,345;") as caught:
        LineFramer(12_345).feed(b"x" * 12_346)
    assert caught.value.limit == 12_345
    assert isinstance(caught.value, ProtocolError)
