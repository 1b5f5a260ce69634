"""The table for people."""

from rich.table import Table
from rich.text import Text

from benchmarks.contenders import BARE, LABELS, OFFICIAL, OURS
from benchmarks.plan import USUAL, Group, Measure
from benchmarks.results import Figure, Results
from benchmarks.sample import Sample

_NOTHING = "-"


def table(results: Results, groups: list[Group]) -> Table:
    """A line for each measure: the figures of all contenders, our ratios, and whether the target is met."""
    columns = Table(title="client CPU unless the unit says otherwise; the least of all rounds", title_justify="left")
    measure_title, *titles = _titles(results)
    columns.add_column(measure_title, no_wrap=True)
    for title in titles:
        columns.add_column(title, justify="right")
    for group in groups:
        for measure in group.measures:
            columns.add_row(*_line(results, measure))
        columns.add_section()
    return columns


def markdown(results: Results, groups: list[Group]) -> str:
    """The same as a table of a document."""
    titles = _titles(results)
    lines = [titles, ["---", *("--:" for _ in titles[1:])]]
    lines += [list(map(str, _line(results, measure))) for group in groups for measure in group.measures]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shown(results: Results) -> list[str]:
    """The usual contenders, and whoever else has been measured."""
    others = {name for samples in results.samples.values() for name in samples} - set(USUAL)
    return [*USUAL, *sorted(others)]


def _titles(results: Results) -> list[str]:
    return ["measure", *(LABELS[name] for name in _shown(results)), "÷ official", "÷ bare", "target", "met"]


def _line(results: Results, measure: Measure) -> list[str | Text]:
    figures = [_figure(results, measure, name) for name in _shown(results)]
    ratios = [_ratio(results.ratio(measure.name, OURS, to)) for to in (OFFICIAL, BARE)]
    return [measure.title, *figures, *ratios, *_verdict(results, measure)]


def _figure(results: Results, measure: Measure, contender: str) -> str | Text:
    if contender in results.refused.get(measure.name, {}):
        return Text("refused", style="red")
    figure = results.figure(measure.name, contender)
    return _NOTHING if figure is None else quantity(figure.value, measure.unit)


def quantity(value: float, unit: str) -> str:
    """Three digits or so, in a unit that suits them."""
    if unit == "µs" and value >= 10_000:
        return f"{value / 1000:,.1f} ms"
    digits = 0 if value >= 100 or not unit else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".rstrip()


def _ratio(ratio: float | None) -> str:
    return _NOTHING if ratio is None else f"{ratio:.2f}"


def _verdict(results: Results, measure: Measure) -> list[str | Text]:
    verdict = results.verdict(measure.name)
    if verdict is None:
        return ["", ""]
    target, met = verdict
    wanted = f"≤ {target.at_most:g}" + ("" if target.to else f" {measure.unit}")
    if met is None:
        return [wanted, "?"]
    return [wanted, Text("yes", style="green") if met else Text("no", style="bold red")]


def details(results: Results, groups: list[Group]) -> Table:
    """A line for each contender of each measure: throughput, latency, the server's share."""
    columns = Table(title="wall clock, and the stub server's CPU by the client's", title_justify="left")
    columns.add_column("measure", no_wrap=True)
    columns.add_column("contender", no_wrap=True)
    for title in ("least", "median", "per second", "p50", "p99", "server"):
        columns.add_column(title, justify="right")
    for group in groups:
        for measure in group.measures:
            for name in results.samples.get(measure.name, {}):
                figure = results.figure(measure.name, name)
                if figure is not None:
                    columns.add_row(measure.title, LABELS[name], *_detail(figure, measure.unit))
        columns.add_section()
    return columns


def _detail(figure: Figure, unit: str) -> list[str]:
    sample = figure.sample
    return [
        quantity(figure.value, unit),
        quantity(sample.value, unit),
        _NOTHING if sample.per_second is None else f"{sample.per_second:,.0f}",
        *(_NOTHING if value is None else quantity(value, "µs") for value in (sample.p50, sample.p99)),
        _share(sample),
    ]


def _share(sample: Sample) -> str:
    return _NOTHING if sample.server_share is None else f"{sample.server_share:.0%}"
