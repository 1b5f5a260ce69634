"""Runs the gateway through the server scenarios of the official conformance suite: `make conformance`.

All of them at every revision that the suite knows, against `/mcp/{server}` with a server of each era behind, whichever
era the scenario speaks. There is no list of failures to expect; `LEFT_OUT` says what cannot pass through a gateway.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

from tests.conformance import suite
from tests.conformance.suite import REVISIONS, Outcome

BEHIND = {"handshake": "2025-11-25", "stateless": "2026-07-28"}
"""The servers, and which revision each is spoken to in."""

LEFT_OUT = {
    "tasks-": "the tasks extension: neither the official SDK's server nor our client has it",
    "server-sse-polling": "a call's stream stays open until its result: there is no event store to resume it from",
}
"""What cannot pass through, by how the names begin, and why."""

LEFT_OUT_BEHIND = {
    "handshake": {
        "input-required-result-basic-elicitation": "looks for what the server calls its question, which is nothing"
    }
}
"""What a server cannot pass when it is spoken to in this era."""


def scenarios(revision: str, behind: str) -> list[str]:
    """The names of those to run at a revision, in front of a server spoken to in an era."""
    left_out = (*LEFT_OUT, *LEFT_OUT_BEHIND.get(behind, ()))
    return [name for name in suite.scenarios("server", revision) if not name.startswith(left_out)]


def run(scenario: str, revision: str, behind: str, url: str) -> Outcome:
    """Run one scenario against the gateway at `url`."""
    return suite.play("server", scenario, revision, "--url", f"{url}/{behind}", behind=behind)


def run_all(url: str, revision: str, behind: str, names: list[str] | None = None) -> Iterator[Outcome]:
    """Run every scenario of a revision, or those of `names`, as many at once as there are processors."""
    names = scenarios(revision, behind) if names is None else names
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        yield from threads.map(run, names, repeat(revision), repeat(behind), repeat(url))


@contextlib.contextmanager
def started() -> Generator[str]:
    """A gateway in front of one server, spoken to in either era, each in a process of its own; gives the URL."""
    with process("tests.servers.everything", "http") as port, tempfile.TemporaryDirectory() as folder:
        url = f"http://127.0.0.1:{port}/mcp"
        servers = {name: {"url": url, "protocolVersion": version} for name, version in BEHIND.items()}
        config = Path(folder, "mcp.json")
        config.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
        with process("tests.servers.gateway", str(config)) as front:
            yield f"http://127.0.0.1:{front}/mcp"


@contextlib.contextmanager
def process(module: str, argument: str) -> Generator[int]:
    """A program that prints its port; it ends with the block."""
    command = [sys.executable, "-m", module, argument]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def _all(url: str) -> Iterator[Outcome]:
    for revision in REVISIONS:
        for behind in BEHIND:
            yield from run_all(url, revision, behind)


def main() -> int:
    """Print what was found; returns the exit code."""
    with started() as url:
        return suite.report(_all(url))


if __name__ == "__main__":
    sys.exit(main())
