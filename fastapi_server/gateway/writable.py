"""What a server says can be written out again, or is refused: some JSON can be read, and is too deep to be written."""

from typing import Any, Final, TypeVar

from pydantic_core import PydanticSerializationError, to_json

from fastapi_server.mcp import InvalidResultError, MCPClient, RPCError

_T = TypeVar("_T")

DEEPEST_LIST: Final = 64
"""Levels of a server's list, which goes to everybody: more than people write, and few enough for any client to read."""
_DEEPEST_RESULT: Final = 240
_DEEPEST_OF_ALL: Final = 254
"""Levels that pydantic writes; the rest is for what is put around a result."""


def writable(client: MCPClient, result: _T, deepest: int = _DEEPEST_RESULT) -> _T:
    """The same.

    Args:
        client: Of the server that gave it.
        result: Of a call, or of asking for a list.
        deepest: How many levels of lists and objects it may have, one within the other.

    Raises:
        InvalidResultError: It is nested deeper, or is no JSON for another reason.
    """
    problem = _problem(result, deepest)
    if problem is not None:
        refusal = InvalidResultError(f"what it answered cannot be passed on: {problem}")
        raise refusal.at(client.name, client.transport, "call")
    return result


def writable_data(error: RPCError) -> Any:
    """What a server attached to an error; `None` where it cannot be written out again."""
    return error.data if _problem(error.data, _DEEPEST_RESULT) is None else None


def _problem(value: object, deepest: int) -> str | None:
    wrapped = value
    for _ in range(_DEEPEST_OF_ALL - deepest):
        wrapped = (wrapped,)
    try:
        to_json(wrapped)
    except PydanticSerializationError as error:
        return f"it is nested deeper than {deepest} levels" if "depth" in str(error) else "some of it is no JSON"
    return None
