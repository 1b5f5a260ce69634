"""Runs `client.py` through the client scenarios of the official conformance suite: `make conformance`.

All of them at every revision that the suite knows, those of extensions at the last revision of each era. The suite
itself says which there are, so that a scenario it gains is run, and fails until `client.py` knows how to play it. There
is no list of failures to expect.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

from tests.conformance import suite
from tests.conformance.suite import REVISIONS, Outcome, missing

__all__ = ["REVISIONS", "missing"]

CLIENT = shlex.join([sys.executable, str(Path(__file__).with_name("client.py"))])


def scenarios(revision: str) -> list[str]:
    """The names of those to run at a revision."""
    return suite.scenarios("client", revision)


def run(scenario: str, revision: str) -> Outcome:
    """Run one scenario."""
    return suite.play("client", scenario, revision, "--command", CLIENT)


def run_all(revision: str, names: list[str] | None = None) -> Iterator[Outcome]:
    """Run every scenario of a revision, or those of `names`, as many at once as there are processors."""
    names = scenarios(revision) if names is None else names
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        yield from threads.map(run, names, repeat(revision))


def main() -> int:
    """Print what was found; returns the exit code."""
    return suite.report(outcome for revision in REVISIONS for outcome in run_all(revision))


if __name__ == "__main__":
    sys.exit(main())
