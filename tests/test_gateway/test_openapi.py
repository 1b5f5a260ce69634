"""The OpenAPI document against the server: what it describes is what is answered."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance  # what an entry means, no schema says

from tests.test_gateway.conftest import WEATHER

_LISTENING = re.compile(r"running on (http://[\d.:]+)")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of a gateway in a process of its own."""
    config: Path = tmp_path_factory.mktemp("gateway") / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"weather": WEATHER}}))
    command = [sys.executable, "-m", "uvicorn", "fastapi_server.gateway:app", "--port", "0", "--no-access-log"]
    env = {**os.environ, "GATEWAY_CONFIG": str(config)}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, cwd=config.parent) as process:
        try:
            assert process.stderr is not None
            url = next(found[1] for line in process.stderr if (found := _LISTENING.search(line)))
            yield schemathesis.openapi.from_url(f"{url}/openapi.json")
        finally:
            process.terminate()
            process.communicate()


_BOUNDS = settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@pytest.mark.filterwarnings("default")
def test_what_is_described_is_what_is_answered(api: Any) -> None:
    checked: list[str] = []
    for found in api.exclude(path="/api/events").get_all_operations():  # it never ends
        operation = found.ok()

        @_BOUNDS
        @given(case=operation.as_strategy())
        def is_answered(case: Any) -> None:
            response = case.call(timeout=20)
            case.validate_response(response, excluded_checks=[positive_data_acceptance, not_a_server_error])
            assert response.status_code != 500  # what is the fault of the server behind is 502, 503 or 504

        is_answered()
        checked.append(operation.label)
    assert len(checked) > 20
