"""How to start the servers that nobody here wrote, and how to read what they say."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastapi_server.mcp import ToolResult

NODE_MODULES = Path(__file__).parents[2] / "node_modules"

_START_SECONDS = 20.0


def node_server(package: str) -> list[str]:
    """Command line of the npm package `@modelcontextprotocol/{package}`; without it the test is skipped."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    script = NODE_MODULES / "@modelcontextprotocol" / package / "dist" / "index.js"
    if not script.exists():
        pytest.skip(f"{package} is not installed: run `npm ci`")
    return [node, str(script)]


@contextmanager
def listening(command: list[str]) -> Generator[int]:
    """A process that reads from `PORT` where to listen; gives the port once it accepts connections there."""
    port = _free_port()
    with (
        tempfile.TemporaryFile() as output,  # not a pipe: nobody would empty it
        subprocess.Popen(
            command, env={**os.environ, "PORT": str(port)}, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _accepts(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    pytest.fail(f"{command} does not listen: {output.read().decode(errors='replace')}")
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def text_of(result: ToolResult) -> str:
    """The text in a result, a line for each block of it."""
    return "\n".join(block.text for block in result.content if block.type == "text")
