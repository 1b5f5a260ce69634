"""Databases to test against."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def _postgres_tools() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def _as_server_user(command: list[str]) -> list[str]:
    """PostgreSQL refuses to be run by root."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an empty database of a real PostgreSQL, which is started for it."""
    tools = _postgres_tools()
    if tools is None:
        pytest.skip("PostgreSQL (initdb) is not installed")
    if os.geteuid() == 0 and subprocess.run(_as_server_user(["true"]), check=False, capture_output=True).returncode:
        pytest.skip("root cannot become the user postgres, and PostgreSQL does not run as root")
    data = Path(subprocess.check_output(_as_server_user(["mktemp", "-d", "/tmp/postgresql-XXXXXX"]), text=True).strip())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    try:
        subprocess.run(
            _as_server_user([str(tools / "initdb"), "-D", str(data), "-U", "gateway", "-A", "trust", "--no-sync"]),
            check=True,
            capture_output=True,
        )
        control = _as_server_user([str(tools / "pg_ctl"), "-D", str(data), "-w", "-l", str(data / "log")])
        options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1 -c fsync=off"
        subprocess.run([*control, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, cwd="/")
        try:
            yield f"postgresql+asyncpg://gateway@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")
    finally:
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """URL of a SQLite file that is not there yet."""
    return f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Each database in turn."""
    url: str = request.getfixturevalue(request.param)
    return url
