"""How every error is answered: as a problem of RFC 9457."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """Why a request was not served.

    Attributes:
        type: What kind of problem it is; `about:blank` says no more than the status.
        title: The status in words.
        status: Of HTTP.
        detail: What happened, for people.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None


class InvalidRequest(Problem):
    """A request that is not what the interface takes.

    Attributes:
        errors: Each a `{"loc": [...], "msg": "..."}`.
    """

    errors: list[dict[str, Any]]


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer for an error; an ASGI application too."""
    return _answer(Problem(title=HTTPStatus(status).phrase, status=status, detail=detail), headers)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the `responses` of a router: that these statuses are answered with a problem."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def answer_problems(app: FastAPI) -> None:
    """Have an application answer its errors so."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)


def _answer(body: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(body.model_dump(mode="json"), body.status, headers, MEDIA_TYPE)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail, error.headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [{"loc": list(one["loc"]), "msg": one["msg"]} for one in error.errors()]
    detail = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in errors)
    return _answer(InvalidRequest(title=HTTPStatus(422).phrase, status=422, detail=detail, errors=errors))
