"""Runs the plan: in each round every contender has its turn at every group, in a process of its own."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from benchmarks.cores import on_one_core
from benchmarks.plan import Group, Job
from benchmarks.results import Results
from benchmarks.sample import Sample
from benchmarks.stub import serving

_GIVE_UP_SECONDS = 300
_ROOT = Path(__file__).parent.parent


def run(
    groups: list[Group],
    contenders: Iterable[str],
    results: Results,
    *,
    rounds: int,
    seconds: float,
    progress: Callable[[str, str], None],
) -> None:
    """Fill `results`.

    Args:
        groups: What to measure.
        contenders: Whom to measure; a group may want fewer.
        results: Gets the samples.
        rounds: How often.
        seconds: For each measure, about.
        progress: Told the group and the contender whose turn it is.
    """
    with tempfile.TemporaryDirectory() as folder, on_one_core():
        for number, (group, name) in enumerate(turns(groups, list(contenders), rounds)):
            progress(group.name, name)
            for measure, outcome in turn(group, name, seconds, Path(folder) / str(number)).items():
                results.add(measure, name, outcome)


def turns(groups: list[Group], contenders: list[str], rounds: int) -> Iterator[tuple[Group, str]]:
    """The order: contenders take turns at a group, and another one begins in each round."""
    for number in range(rounds):
        for group in groups:
            there = [name for name in contenders if name in group.contenders]
            first = number % len(there) if there else 0
            for name in there[first:] + there[:first]:
                yield group, name


def turn(group: Group, contender: str, seconds: float, counters: Path) -> dict[str, Sample | str]:
    """One contender's turn at one group, a fresh stub and a fresh process; a sample or why there is none."""
    with serving(group.transport, counters, tools=group.tools, ttl_ms=group.ttl_ms) as server:
        job = Job(contender, server, seconds, group.measures)
        command = [sys.executable, "-m", "benchmarks.worker", msgspec.json.encode(job).decode()]
        try:
            process = subprocess.run(
                command, cwd=_ROOT, capture_output=True, text=True, timeout=_GIVE_UP_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return _all_refused(group, f"nothing within {_GIVE_UP_SECONDS} s")
    if process.returncode != 0:
        return _all_refused(group, process.stderr.strip().rpartition("\n")[2] or f"exit status {process.returncode}")
    return msgspec.json.decode(process.stdout, type=dict[str, Sample | str])


def _all_refused(group: Group, reason: str) -> dict[str, Sample | str]:
    return {measure.name: reason for measure in group.measures}
