"""From the plain values of a result to the model that the caller gets, validated once."""

import contextlib
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from mcp_types import (
    AudioContent,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    PaginatedResult,
    ResourceLink,
    TextContent,
)
from msgspec import UNSET, Raw
from pydantic import BaseModel, Field, ValidationError

from fastapi_server.mcp.errors import InvalidResultError
from fastapi_server.mcp.protocol.bulk import uncollected
from fastapi_server.mcp.protocol.jsonrpc import MALFORMED, from_result_on

ModelT = TypeVar("ModelT", bound=BaseModel)

_PROBLEMS_SHOWN = 3


class _ToldByType(CallToolResult):
    """The same result, whose contents are told apart by their `type` before they are validated.

    The official model tries one kind after the other, which takes five times as long.
    """

    content: list[  # pyright: ignore[reportIncompatibleVariableOverride]
        Annotated[
            TextContent | ImageContent | AudioContent | ResourceLink | EmbeddedResource, Field(discriminator="type")
        ]
    ]


_validated = _ToldByType.__pydantic_validator__.validate_python


def read(model: type[ModelT], method: str, value: Any) -> ModelT:
    """The result of `method`, of plain values or of JSON.

    Raises:
        InvalidResultError: It does not have the model's shape.
    """
    if model is CallToolResult:
        try:
            result: Any = _validated(value, by_alias=True, by_name=False)
        except ValidationError:
            pass  # the official model has the last word, and the error to show
        else:
            object.__setattr__(result, "__class__", CallToolResult)
            return result
    many = issubclass(model, PaginatedResult)
    try:
        with uncollected() if many else contextlib.nullcontext():
            if isinstance(value, Raw):
                rest = from_result_on(value)
                if rest.error is not UNSET:
                    raise InvalidResultError(f"the reply to {method} has both a result and an error")
                value = rest.result
                del rest
            result = model.model_validate(value, by_alias=True, by_name=False)
            del value  # before the collector looks through what there is
            return result
    except ValidationError as error:
        shown = problems(error)
    except MALFORMED as error:
        shown = str(error)
    raise InvalidResultError(f"the result of {method} is malformed: {shown}")  # here: its context would show the input


def problems(error: ValidationError) -> str:
    """What is wrong and where, without the values that are: they are the server's, cut where it happens to be."""
    found = error.errors(include_input=False, include_url=False)
    return "; ".join(map(_problem, found[:_PROBLEMS_SHOWN]))


def _problem(problem: Mapping[str, Any]) -> str:
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
