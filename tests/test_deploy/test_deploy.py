"""What is shipped for containers says what the gateway really has."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from fastapi_server.gateway import Settings
from fastapi_server.mcp import ClientPool, ServerConfig, StdioConfig, make_client
from fastapi_server.mcp.exporters.prometheus import PoolCollector

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana/dashboards/mcp-gateway.json"


def queries() -> Iterator[str]:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        yield variable["query"]["query"]


async def test_every_metric_on_the_dashboard_is_exported() -> None:
    pool = ClientPool({"peer": ServerConfig("peer", "stdio", StdioConfig("no-such-program"))}, make_client)
    pool.client("peer")
    registry = CollectorRegistry()
    registry.register(PoolCollector(pool))
    exported = set(re.findall(r"^# TYPE (\S+)", generate_latest(registry).decode(), re.MULTILINE))
    asked = {name for query in queries() for name in re.findall(r"\bmcp_\w+", query)}
    assert asked
    assert {name.removesuffix("_bucket") for name in asked} <= exported
    await pool.close()


def test_the_compose_file_sets_only_settings_that_there_are() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
    named = {name for name in services["gateway"]["environment"] if name.startswith("GATEWAY_")}
    assert named
    assert {name.removeprefix("GATEWAY_").lower() for name in named} <= set(Settings.model_fields)


def test_what_the_compose_file_mounts_is_there() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    ours = [path for path in mounted if path.startswith("./")]
    assert ours
    assert [path for path in ours if not (DEPLOY / path).exists()] == []


def test_the_image_holds_what_it_copies() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert names
    assert [name for name in names if not (ROOT / name).exists() or f"!{name.rstrip('/')}" not in ignored] == []


def test_prometheus_reads_its_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    text = (DEPLOY / "prometheus.yml").read_text("utf-8")
    key = tmp_path / "key"
    key.write_text("k", encoding="utf-8")
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/run/secrets/gateway_key", str(key)), encoding="utf-8")
    done = subprocess.run([promtool, "check", "config", str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
