"""The OpenAPI document: what holds for every operation is said in one place."""

import functools
from typing import Any

from fastapi import FastAPI

from fastapi_server.gateway.front.admission import is_open
from fastapi_server.gateway.front.issuer_keys import discovery_url
from fastapi_server.gateway.problems import Problem, answers
from fastapi_server.gateway.settings import Settings

_EVERYWHERE = (401, 403, 413, 421, 429, 500, 503, 504)
"""What the front door answers, whatever was asked, and what may always go wrong."""
_INVALID = "422"
"""FastAPI describes it for each operation that has parameters or a body, in a shape of its own."""


def install(app: FastAPI, settings: Settings) -> None:
    """From now on the document has the ways to sign in, and the problems that any operation may answer."""
    describe = app.openapi

    @functools.cache
    def whole() -> dict[str, Any]:
        document = describe()
        components = document["components"]
        schemes = components["securitySchemes"] = _schemes(settings)
        components["responses"] = {str(status): answer for status, answer in answers(*_EVERYWHERE, 422).items()}
        components["schemas"][Problem.__name__] = Problem.model_json_schema()
        for theirs in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(theirs, None)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                optional = not settings.must_identify or is_open(method.upper(), path)
                operation["security"] = [*({name: []} for name in schemes), *([{}] if optional else [])]
                _add_answers(operation["responses"])
        return document

    app.openapi = whole


def _schemes(settings: Settings) -> dict[str, Any]:
    schemes: dict[str, Any] = {
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key"},
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key"},
    }
    if settings.oidc_issuer is not None:
        schemes["openIdConnect"] = {
            "type": "openIdConnect",
            "openIdConnectUrl": discovery_url(settings.oidc_issuer),
            "description": f"A bearer token for {settings.oidc_audience}",
        }
    return schemes


def _add_answers(responses: dict[str, Any]) -> None:
    """To those that are the operation's own."""
    if _INVALID in responses:
        responses[_INVALID] = _common(_INVALID)
    for status in _EVERYWHERE:
        responses.setdefault(str(status), _common(status))


def _common(status: int | str) -> dict[str, str]:
    return {"$ref": f"#/components/responses/{status}"}
