"""The OpenAPI document against the server: what it describes is what is answered, with keys and without."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from fastapi_server.gateway import create_app
from fastapi_server.gateway.front.keys import KeyGrant, KeyRing
from fastapi_server.gateway.store import Store
from fastapi_server.mcp import ToolRules
from tests.test_gateway.conftest import WEATHER
from tests.test_gateway.gateways import settings_at

_DOCUMENT = Path(__file__).parents[2] / "docs" / "gateway.md"
_LISTENING = re.compile(r"running on (http://[\d.:]+)")
_EXCLUDED = [
    positive_data_acceptance,  # what an entry means, no schema says
    not_a_server_error,  # what is the fault of the server behind is 502, 503 or 504
    ignored_auth,  # below, for each operation once: who guesses too often is answered with 429
]


@dataclass(frozen=True)
class Described:
    """The document of a gateway in a process of its own, and keys that it takes."""

    document: Any
    admin: str
    restricted: str

    @property
    def operations(self) -> list[Any]:
        """All but the stream that never ends."""
        return [found.ok() for found in self.document.exclude(path="/api/events").get_all_operations()]


async def _keys(database: str) -> tuple[str, str]:
    rules = ToolRules(deny=["*__survey"])
    async with Store(database) as store:
        grants = KeyGrant("root", admin=True), KeyGrant("ann", servers=["weather"], tools=rules)
        root, ann = [(await KeyRing(store).make(grant))[0] for grant in grants]
    return root, ann


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Described]:
    config: Path = tmp_path_factory.mktemp("gateway") / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"weather": WEATHER}}))
    keys = asyncio.run(_keys(f"sqlite+aiosqlite:///{config.with_name('gateway.db')}"))
    command = [sys.executable, "-m", "uvicorn", "fastapi_server.gateway:app", "--port", "0", "--no-access-log"]
    env = {**os.environ, "GATEWAY_CONFIG": str(config), "GATEWAY_REQUIRE_KEY": "true"}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, cwd=config.parent) as process:
        try:
            assert process.stderr is not None
            url = next(found[1] for line in process.stderr if (found := _LISTENING.search(line)))
            document = schemathesis.openapi.from_url(f"{url}/openapi.json")
            document.config.generation.update(with_security_parameters=False)
            yield Described(document, *keys)
        finally:
            process.terminate()
            process.communicate()


def answered_as_described(operation: Any, key: str | None, examples: int) -> set[int]:
    """The statuses that were seen."""
    seen = set[int]()
    headers = {"X-API-Key": key} if key is not None else {}

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=operation.as_strategy())
    def is_answered(case: Any) -> None:
        response = case.call(timeout=20, headers=headers)
        case.validate_response(response, excluded_checks=_EXCLUDED)
        seen.add(response.status_code)

    is_answered()
    assert 500 not in seen
    return seen


@pytest.mark.filterwarnings("default")
def test_what_is_described_is_what_is_answered(api: Described) -> None:
    assert len(api.operations) > 20
    for operation in api.operations:
        assert not {401, 403} & answered_as_described(operation, api.admin, examples=10)


@pytest.mark.filterwarnings("default")
def test_what_a_restricted_key_may_not_do_is_described_too(api: Described) -> None:
    seen = {operation.label: answered_as_described(operation, api.restricted, 3) for operation in api.operations}
    for label in ("GET /api/keys", "POST /api/keys", "GET /api/audit", "POST /api/servers", "GET /metrics"):
        assert 403 in seen[label]


@pytest.mark.filterwarnings("default")
def test_what_needs_a_key_is_refused_without(api: Described) -> None:
    open_to_all = {"GET /health", "GET /ready", "GET /.well-known/oauth-protected-resource/{path}"}
    for operation in api.operations:
        assert ({} in operation.definition.raw["security"]) == (operation.label in open_to_all)
        seen = answered_as_described(operation, None, examples=1)
        assert (seen == {401}) == (operation.label not in open_to_all)


async def test_the_routes_of_the_documents_are_those_of_the_server(tmp_path: Path) -> None:
    paths = create_app(settings_at(tmp_path)).openapi()["paths"]
    ours = re.compile("/(api|health|ready|metrics)")
    there = {(method.upper(), path) for path, operations in paths.items() if ours.match(path) for method in operations}
    rows = re.findall(r"^\| (`[A-Z].*?`) \|", _DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    routes = re.findall(r"`([A-Z, ]+) (/[^`]*)`", "\n".join(rows))
    assert {(method, path) for methods, path in routes for method in methods.split(", ")} == there


async def test_ways_to_sign_in_are_those_that_are_configured(tmp_path: Path) -> None:
    document = create_app(settings_at(tmp_path)).openapi()
    for answer in document["components"]["responses"].values():
        assert list(answer["content"]) == ["application/problem+json"]
    assert set(document["components"]["securitySchemes"]) == {"apiKey", "bearer"}
    for operations in document["paths"].values():
        for operation in operations.values():
            assert {} in operation["security"]  # on this machine nobody needs a key
            assert {"401", "403", "413", "429", "503"} <= operation["responses"].keys()
    oidc = settings_at(tmp_path, oidc_issuer="https://issuer.example/", oidc_audience="mcp")
    document = create_app(oidc).openapi()
    scheme = document["components"]["securitySchemes"]["openIdConnect"]
    assert scheme["openIdConnectUrl"] == "https://issuer.example/.well-known/openid-configuration"
    assert document["paths"]["/api/keys"]["get"]["security"] == [{"apiKey": []}, {"bearer": []}, {"openIdConnect": []}]
    assert document == create_app(oidc).openapi()
