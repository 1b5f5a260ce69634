"""What a run found out: all samples of all rounds, and the figures made of them."""

import datetime as dt
import importlib.metadata
import os
import platform
import statistics
from dataclasses import dataclass, field

from benchmarks.contenders import OURS
from benchmarks.sample import Sample
from benchmarks.targets import TARGETS, Target

DIFFERENCE = "/overhead/"
"""In the name of a measure that says what one thing costs more than another."""

_DISTRIBUTIONS = ("mcp-client-factory", "mcp", "fastmcp", "aiohttp", "msgspec", "pydantic", "uvloop")


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure of one contender, over all rounds.

    Attributes:
        value: The smallest: what else a machine does only adds. Of differences, to which it may do either, the median.
        sample: The medians of everything, the value too.
    """

    value: float
    sample: Sample


@dataclass
class Results:
    """Samples by measure and contender.

    Attributes:
        about: When and where they were taken, and of which versions.
        samples: By measure, then by contender, one for each round.
        refused: Why there is no figure, by measure and contender.
    """

    about: dict[str, str]
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict[str, dict[str, list[Sample]]])
    refused: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    def add(self, measure: str, contender: str, outcome: Sample | str) -> None:
        """Take a sample, or why there is none."""
        if isinstance(outcome, str):
            self.refused.setdefault(measure, {})[contender] = outcome
        else:
            self.samples.setdefault(measure, {}).setdefault(contender, []).append(outcome)

    def figure(self, measure: str, contender: str) -> Figure | None:
        """The figure; `None` where a contender has none, or gave a wrong reply in any round."""
        samples = self.samples.get(measure, {}).get(contender)
        if not samples or contender in self.refused.get(measure, {}):
            return None
        typical = _typical(samples)
        least = min(sample.value for sample in samples)
        return Figure(typical.value if DIFFERENCE in measure else least, typical)

    def ratio(self, measure: str, contender: str, to: str) -> float | None:
        """One contender's figure by another's."""
        figure, reference = self.figure(measure, contender), self.figure(measure, to)
        return figure.value / reference.value if figure and reference and reference.value else None

    def verdict(self, measure: str) -> tuple[Target, bool | None] | None:
        """The target of a measure, and whether we meet it; `None` where there is no target or no figure."""
        target, ours = TARGETS.get(measure), self.figure(measure, OURS)
        if target is None or ours is None:
            return None
        reference = self.figure(measure, target.to) if target.to else None
        return target, target.is_met(ours.value, reference.value if reference else None)


def about(rounds: int, seconds: float) -> dict[str, str]:
    """When, where and what, for the head of the report."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _DISTRIBUTIONS)
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "effort": f"{rounds} rounds, {seconds:g} s for each measure",
    }


def _typical(samples: list[Sample]) -> Sample:
    def median(name: str) -> float | None:
        values = [value for sample in samples if (value := getattr(sample, name)) is not None]
        return statistics.median(values) if values else None

    counts = samples[-1].counts
    return Sample(
        statistics.median(sample.value for sample in samples),
        median("per_second"),
        median("p50"),
        median("p99"),
        median("server_share"),
        counts,
    )
