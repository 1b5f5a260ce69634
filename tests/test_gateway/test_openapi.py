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
from hypothesis import HealthCheck, settings

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


schema = schemathesis.pytest.from_fixture("api").exclude(path="/api/events")  # it never ends


@schema.parametrize()
@settings(
    max_examples=8,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.filterwarnings("default")
def test_what_is_described_is_what_is_answered(case: Any) -> None:
    case.call_and_validate(timeout=20)
