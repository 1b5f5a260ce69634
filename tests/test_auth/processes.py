"""Starting and ending the processes of `worker`."""

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.test_auth import worker

COMMAND = [sys.executable, "-m", worker.__name__]
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
"""A process that is killed, or has no disk, cannot say which lines it ran."""


@contextmanager
def started(task: str, path: Path, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """A process that does the task and has said that it is ready; killed in the end."""
    command = [*COMMAND, task, str(path), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def ended(task: str, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process that has done the task."""
    command = [*COMMAND, task, str(path), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT)
