"""What we want to reach. The only place where the numbers stand."""

from dataclasses import dataclass

from benchmarks.contenders import OFFICIAL


@dataclass(frozen=True, slots=True)
class Target:
    """What a measure of ours must not exceed.

    Attributes:
        at_most: The ratio to the figure of `to`, or a value in the measure's own unit.
        to: A contender; `None` where `at_most` is a value.
    """

    at_most: float
    to: str | None = OFFICIAL

    def is_met(self, ours: float, reference: float | None) -> bool | None:
        """Whether it is met; `None` where the figure that it is relative to is missing."""
        if self.to is None:
            return ours <= self.at_most
        return ours / reference <= self.at_most if reference else None


TARGETS: dict[str, Target] = {
    "stdio/call/1": Target(0.25),
    "stdio/call/32": Target(0.10),
    "json/call/1": Target(0.30),
    "json/call/32": Target(0.15),
    "events/call/1": Target(0.20),
    "events/call/32": Target(0.12),
    "sse/call/1": Target(0.30),
    "sse/call/32": Target(0.15),
}
"""By the name of the measure."""
