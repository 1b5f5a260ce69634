"""Which reply belongs to which call."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_server.mcp.protocol.correlation import CorrelationTable
from fastapi_server.mcp.protocol.jsonrpc import Message


def table_of(*ids: int) -> CorrelationTable[str]:
    table: CorrelationTable[str] = CorrelationTable()
    for request_id in ids:
        table[request_id] = f"caller {request_id}"
    return table


def test_a_reply_goes_to_the_call_with_its_id() -> None:
    table = table_of(1, 2)
    assert table.take(Message(id=2)) == "caller 2"
    assert table.take(Message(id=1)) == "caller 1"


@settings(deadline=None, derandomize=True)
@given(st.permutations(range(20)))
def test_replies_may_come_in_any_order(order: list[int]) -> None:
    table = table_of(*range(20))
    assert [table.take(Message(id=reply_id)) for reply_id in order] == [f"caller {reply_id}" for reply_id in order]
    assert len(table) == 0


def test_a_call_waits_for_one_reply_only() -> None:
    table = table_of(1, 2)
    assert table.take(Message(id=1)) == "caller 1"
    assert table.take(Message(id=1)) is None


@pytest.mark.parametrize("reply_id", ["1", "01", 1.0])
def test_an_id_that_comes_back_in_another_type_is_taken(reply_id: str | float) -> None:
    table = table_of(1, 2)
    assert table.take(Message(id=reply_id)) == "caller 1"


@pytest.mark.parametrize(
    "reply_id", [3, -1, "abc", "", "1.0", "-1", " 1", 1.5, "9" * 20, "9" * 5000], ids=lambda value: repr(value)[:20]
)
def test_an_id_never_sent_is_unmatched(reply_id: str | float) -> None:
    table = table_of(1)
    assert table.take(Message(id=reply_id)) is None
    assert len(table) == 1


def test_an_id_in_another_type_that_nobody_waits_for() -> None:
    assert table_of(1).take(Message(id="7")) is None


@pytest.mark.parametrize("reply", [Message(), Message(id=None)], ids=["no id", "null"])
def test_a_reply_without_an_id_goes_to_the_only_call_in_flight(reply: Message) -> None:
    table = table_of(5)
    assert table.take(reply) == "caller 5"


@pytest.mark.parametrize("ids", [(), (1, 2)], ids=["none", "two"])
@pytest.mark.parametrize("reply", [Message(), Message(id=None)], ids=["no id", "null"])
def test_a_reply_without_an_id_is_not_guessed(reply: Message, ids: tuple[int, ...]) -> None:
    table = table_of(*ids)
    assert table.take(reply) is None
    assert len(table) == len(ids)


def test_a_call_given_up_is_waited_for_no_more() -> None:
    table = table_of(1, 2)
    del table[1]
    assert len(table) == 1
    assert table.take(Message(id=1)) is None


def test_drain_gives_all_oldest_first_and_empties_the_table() -> None:
    table = table_of(3, 1, 2)
    assert table.drain() == ["caller 3", "caller 1", "caller 2"]
    assert len(table) == 0
    assert table.drain() == []
