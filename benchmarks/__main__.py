"""`python -m benchmarks`: runs what is asked for and prints the tables."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from benchmarks import plan, report, runner
from benchmarks.results import Results, about

_LEAST_WIDTH = 150
_ROUNDS, _SECONDS = 3, 0.5
_QUICK_ROUNDS, _QUICK_SECONDS = 2, 0.2


def main(
    only: Annotated[str, typer.Option(help="Measures whose name this regular expression is found in.")] = "",
    contenders: Annotated[str, typer.Option(help="Whom to measure.")] = ",".join(plan.USUAL),
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer and shorter rounds: for developing, not for docs.")
    ] = False,
    rounds: Annotated[int | None, typer.Option(help="How often.", min=1)] = None,
    details: Annotated[bool, typer.Option("--details", help="Throughput and latencies of everybody, too.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write every sample.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Where to draw the ratios, as PNG.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Where to write the table for a document.")] = None,
    load: Annotated[Path | None, typer.Option(help="Measure nothing: show what --json has written.")] = None,
) -> None:
    """Measure this library beside the official SDK, FastMCP and a hand-written loop."""
    groups = plan.selected(only)
    console = Console()
    console.width = max(console.width, _LEAST_WIDTH)
    if load is not None:
        results = msgspec.json.decode(load.read_bytes(), type=Results)
    else:
        seconds = _QUICK_SECONDS if quick else _SECONDS
        rounds = rounds or (_QUICK_ROUNDS if quick else _ROUNDS)
        results = Results(about(rounds, seconds))
        with console.status("") as status:
            runner.run(
                groups,
                contenders.split(","),
                results,
                rounds=rounds,
                seconds=seconds,
                progress=lambda group, name: status.update(f"{group}: {name}"),
            )
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    if markdown is not None:
        markdown.write_text(report.markdown(results, groups), encoding="utf-8")
    if plot is not None:
        from benchmarks.plot import draw  # noqa: PLC0415 - a second to import

        draw(results, groups, plot)
    _show(console, results, groups, details=details)


def _show(console: Console, results: Results, groups: list[plan.Group], *, details: bool) -> None:
    for what, value in results.about.items():
        console.print(f"{what}: {value}", highlight=False)
    console.print(report.table(results, groups))
    if details:
        console.print(report.details(results, groups))
    for measure, reasons in results.refused.items():
        for contender, reason in reasons.items():
            console.print(f"refused: {measure} of {contender}: {reason}", style="red", highlight=False)


if __name__ == "__main__":
    typer.run(main)
