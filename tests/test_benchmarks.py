"""The benchmarks: every contender does over every transport what it is measured at, and the report can be read."""

import asyncio
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from benchmarks import plan, report
from benchmarks.contenders import BARE, FASTMCP, LINE, OFFICIAL, OURS, OURS_UVLOOP, Session, contender
from benchmarks.cores import move_away, on_one_core
from benchmarks.measures import kind
from benchmarks.measures.bench import Bench, WrongReplyError, expect, measured
from benchmarks.measures.calls import TOOLS_THAT_CAN_BE_CALLED, weather_of
from benchmarks.results import Results
from benchmarks.runner import turn, turns
from benchmarks.sample import Sample
from benchmarks.stub import Counters, Server, serving
from benchmarks.targets import TARGETS, Target

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the stub servers use epoll"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="the stub servers are compiled"),
]

ROOT = Path(__file__).parents[1]
ABOUT = {"date": "2026-07-28", "machine": "2 cores", "python": "3.11"}


@pytest.fixture(params=list(plan.TRANSPORTS))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with serving(request.param, tmp_path / "counters", tools=3) as server:
        yield server


async def _use(session: Session, transport: str) -> None:
    assert await asyncio.gather(*(session.echo(f"hello {number}") for number in range(3))) == [
        f"hello {number}" for number in range(3)
    ]
    assert await session.weather("Lisbon") == weather_of("Lisbon")
    assert await session.large(64 * 100) == LINE * 100
    assert await session.tools() == 3 + TOOLS_THAT_CAN_BE_CALLED
    if transport != "json":
        assert await session.progress(5) == 5


@pytest.mark.parametrize("name", plan.USUAL)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_every_contender_gets_what_is_expected(name: str, server: Server) -> None:
    before = Counters(server.counters).read()
    async with contender(name).opened(server) as session:
        await _use(session, server.transport)
    counted = Counters(server.counters).read().since(before)
    assert counted.requests >= 7
    assert counted.connections >= 1
    assert counted.bytes_out > counted.bytes_in > 0


@pytest.mark.parametrize("name", [OURS, OURS_UVLOOP])
def test_a_process_takes_its_measures(name: str, tmp_path: Path) -> None:
    group = next(group for group in plan.selected("^stdio/call/1$"))
    outcome = turn(group, name, 0.01, tmp_path / "counters")
    sample = outcome["stdio/call/1"]
    assert isinstance(sample, Sample), sample
    assert sample.value > 0
    assert sample.p50 is not None
    assert sample.p99 is not None
    assert 0 < sample.p50 <= sample.p99


@pytest.mark.skipif(os.cpu_count() == 1, reason="there is one core")
@pytest.mark.parametrize("transport", ["stdio", "json"])
def test_a_server_can_be_on_another_core(transport: str, tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    with on_one_core():
        (core,) = os.sched_getaffinity(0)
        with subprocess.Popen(["sleep", "60"]) as child:
            assert os.sched_getaffinity(child.pid) == {core}
            move_away([child.pid])
            assert core not in os.sched_getaffinity(child.pid)
            child.kill()
        (group,) = plan.selected(f"^{transport}/call/apart$")
        outcome = turn(group, OURS, 0.01, tmp_path / "counters")
    assert isinstance(outcome[f"{transport}/call/apart"], Sample), outcome
    assert os.sched_getaffinity(0) == allowed


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    group = next(group for group in plan.selected("^stdio/call/1$"))
    broken = replace(group, measures=(replace(group.measures[0], kind="calls.nothing"),))
    assert "nothing" in str(turn(broken, OURS, 0.01, tmp_path / "one")["stdio/call/1"])
    assert "nobody" in str(turn(group, "nobody", 0.01, tmp_path / "two")["stdio/call/1"])


async def test_a_wrong_reply_is_no_figure(tmp_path: Path) -> None:
    async def wrong() -> None:
        expect("this", "that")

    with serving("stdio", tmp_path / "counters") as server, pytest.raises(ExceptionGroup) as refused:
        await measured(Bench(contender(BARE), server, 0.01), wrong)
    assert refused.group_contains(WrongReplyError)


# The plan.


def test_names_are_unique_and_every_kind_exists() -> None:
    measures = [measure for group in plan.GROUPS for measure in group.measures]
    assert len({measure.name for measure in measures}) == len(measures)
    assert all(callable(kind(measure.kind)) for measure in measures)
    assert set(TARGETS) <= {measure.name for measure in measures}


def test_contenders_take_turns_and_another_begins_in_each_round() -> None:
    (group,) = plan.selected("^json/call/32$")
    order = [name for _, name in turns([group], list(plan.USUAL), 2)]
    assert order == [OURS, OFFICIAL, FASTMCP, BARE, OFFICIAL, FASTMCP, BARE, OURS]


# The figures.


def _results() -> Results:
    results = Results(ABOUT)
    for value in (10.0, 30.0, 20.0):
        results.add("stdio/call/1", OURS, Sample(value, per_second=5.0, p50=1.0, p99=2.0, server_share=0.1))
    results.add("stdio/call/1", OFFICIAL, Sample(200.0))
    results.add("stdio/call/1", BARE, Sample(5.0))
    results.add("stdio/call/1", FASTMCP, "WrongReplyError: wanted this, got that")
    results.add("stdio/peak", OURS, Sample(4.0))
    return results


def test_figures_are_the_least_and_ratios_are_to_others() -> None:
    results = _results()
    figure = results.figure("stdio/call/1", OURS)
    assert figure is not None
    assert (figure.value, figure.sample.value, figure.sample.p99) == (10.0, 20.0, 2.0)
    assert results.ratio("stdio/call/1", OURS, OFFICIAL) == 0.05
    assert results.ratio("stdio/call/1", OURS, FASTMCP) is None


def test_the_figure_of_a_difference_is_the_median() -> None:
    results = Results(ABOUT)
    for value in (9.0, -1.0, 3.0):
        results.add("stdio/overhead/everything", OURS, Sample(value))
    figure = results.figure("stdio/overhead/everything", OURS)
    assert figure is not None
    assert figure.value == 3.0


def test_a_target_is_met_or_not() -> None:
    results = _results()
    assert results.verdict("stdio/call/1") == (TARGETS["stdio/call/1"], True)
    assert results.verdict("stdio/peak") == (TARGETS["stdio/peak"], False)
    assert results.verdict("stdio/call/256") is None
    assert Target(0.1).is_met(1.0, None) is None


def test_the_tables_show_figures_refusals_and_verdicts() -> None:
    groups = plan.selected("^stdio/(call/1|peak)$")
    results = _results()
    results.add("stdio/call/1", OURS_UVLOOP, Sample(7.0))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.table(results, groups))
    console.print(report.details(results, groups))
    lines = console.export_text().splitlines()
    (line,) = (line for line in lines if "small call" in line and "refused" in line)
    for shown in ("10.0 µs", "200 µs", "refused", "7.00 µs", "0.05", "2.00", "≤ 0.25", "yes"):
        assert shown in line
    (line,) = (line for line in lines if "peak" in line and "≤" in line)
    assert "no" in line.split()


def test_the_table_of_a_document_has_the_same_cells() -> None:
    lines = report.markdown(_results(), plan.selected("^stdio/call/1$")).splitlines()
    cells = "10.0 µs | 200 µs | refused | 5.00 µs | 0.05 | 2.00 | ≤ 0.25 | yes"
    assert lines[2:] == [f"| small call, stdio, alone | {cells} |"]


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [(12_345.0, "µs", "12.3 ms"), (123.4, "µs", "123 µs"), (1.234, "x", "1.23 x"), (2.0, "", "2")],
)
def test_quantities_have_three_digits_or_so(value: float, unit: str, shown: str) -> None:
    assert report.quantity(value, unit) == shown


def test_what_was_written_is_shown_and_drawn(tmp_path: Path) -> None:
    written, plot = tmp_path / "results.json", tmp_path / "plot.png"
    written.write_bytes(msgspec.json.encode(_results()))
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--load",
        str(written),
        "--plot",
        str(plot),
        "--only",
        "^stdio/call/1$",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "refused: stdio/call/1 of fastmcp: WrongReplyError" in done.stdout
    assert "small call, stdio, alone" in done.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")
