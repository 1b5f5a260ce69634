"""The ratios as bars, for people."""

# pyright: reportUnknownMemberType=false

from collections.abc import Iterator
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from benchmarks.contenders import BARE, LABELS, OFFICIAL, OURS
from benchmarks.plan import Group, Measure
from benchmarks.results import Results

_COLOURS = {OURS: "#1f6fb4", BARE: "#b8b8b8"}
_TARGET = "#d9480f"
_INCHES_FOR_EACH, _INCHES_AROUND, _WIDTH = 0.34, 1.6, 10.0
_LEFT, _RIGHT = 0.003, 5.0


def draw(results: Results, groups: list[Group], path: Path) -> None:
    """Write a PNG: for each measure our figure and the bare loop's, divided by the official SDK's."""
    measures = list(_comparable(results, groups))
    height = _INCHES_AROUND + _INCHES_FOR_EACH * len(measures)
    drawing = Drawing(figsize=(_WIDTH, height), layout="constrained")
    axes = drawing.add_subplot()
    for contender, offset in ((OURS, -0.19), (BARE, 0.19)):
        _bars(axes, results, measures, contender, offset)
    _targets(axes, results, measures)
    _decorate(axes, measures, results.about)
    drawing.legend(loc="outside lower right", ncols=3, fontsize=9)
    drawing.savefig(path, dpi=110)


def _comparable(results: Results, groups: list[Group]) -> Iterator[Measure]:
    for group in groups:
        for measure in group.measures:
            verdict = results.verdict(measure.name)
            noisy = verdict is not None and verdict[0].noise > 0
            if results.ratio(measure.name, OURS, OFFICIAL) is not None and not noisy:
                yield measure


def _bars(axes: Axes, results: Results, measures: list[Measure], contender: str, offset: float) -> None:
    for row, measure in enumerate(measures):
        ratio = results.ratio(measure.name, contender, OFFICIAL)
        if ratio is None:
            continue
        label = LABELS[contender] if row == 0 else None
        axes.barh(row + offset, max(ratio - _LEFT, 0), 0.36, left=_LEFT, color=_COLOURS[contender], label=label)
        if contender == OURS:
            axes.text(_RIGHT * 0.95, row, f"{ratio:.2g}", va="center", ha="right", fontsize=9)


def _targets(axes: Axes, results: Results, measures: list[Measure]) -> None:
    verdicts = ((row, results.verdict(measure.name)) for row, measure in enumerate(measures))
    wanted = {row: verdict[0].at_most for row, verdict in verdicts if verdict is not None and verdict[0].to == OFFICIAL}
    tops, bottoms = [row - 0.42 for row in wanted], [row + 0.04 for row in wanted]
    axes.vlines(list(wanted.values()), tops, bottoms, color=_TARGET, linewidth=2.5, label="target")


def _decorate(axes: Axes, measures: list[Measure], about: dict[str, str]) -> None:
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(_LEFT, _RIGHT)
    ticks = {0.01: "1/100", 0.03: "1/33", 0.1: "1/10", 0.3: "1/3", 1.0: "official SDK"}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set_yticks(range(len(measures)), [measure.title for measure in measures], fontsize=9)
    axes.set_ylim(len(measures) - 0.4, -0.6)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(
        "What a client spends, divided by what the official SDK spends: shorter is better", fontsize=11, loc="right"
    )
    axes.set_xlabel(f"{about['date']}, {about['machine']}, Python {about['python']}", fontsize=8)
