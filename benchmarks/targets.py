"""What we want to reach. The only place where the numbers stand."""

from dataclasses import dataclass

from benchmarks.contenders import OFFICIAL


@dataclass(frozen=True, slots=True)
class Target:
    """What a measure of ours must not exceed.

    Attributes:
        at_most: The ratio to the figure of `to`, or a value in the measure's own unit.
        to: A contender; `None` where `at_most` is a value.
        noise: A value that is as good as none.
    """

    at_most: float
    to: str | None = OFFICIAL
    noise: float = 0.0

    def is_met(self, ours: float, reference: float | None) -> bool | None:
        """Whether it is met; `None` where the figure that it is relative to is missing."""
        if self.to is None:
            return ours <= self.at_most
        if ours <= self.noise:
            return True
        return ours / reference <= self.at_most if reference else None


IDLE_NOISE = 0.5
"""Milliseconds in a second: so much an event loop takes that only waits."""

TARGETS: dict[str, Target] = {
    "stdio/call/1": Target(0.25),
    "stdio/call/32": Target(0.10),
    "json/call/1": Target(0.30),
    "json/call/32": Target(0.15),
    "events/call/1": Target(0.20),
    "events/call/32": Target(0.12),
    "sse/call/1": Target(0.30),
    "sse/call/32": Target(0.15),
    "stdio/structured/1": Target(0.15),
    "stdio/structured/32": Target(0.06),
    "stdio/tools/cold": Target(0.15),
    "json/tools/cold": Target(0.15),
    "stdio/large/1": Target(0.5),
    "json/large/1": Target(0.75),
    "events/large/1": Target(0.5),
    "stdio/large/10": Target(0.15),
    "json/large/10": Target(1.4),
    "events/large/10": Target(0.6),
    "stdio/peak": Target(3, to=None),
    "sse/peak": Target(3, to=None),
    "json/peak": Target(3, to=None),
    "events/peak": Target(3, to=None),
    "stdio/progress": Target(0.05),
    "sse/progress": Target(0.05),
    "events/progress": Target(0.05),
    "stdio/connect/cold": Target(0.15),
    "stdio/connect/warm": Target(0.40),
    "stdio/connect/requests": Target(1),
    "sse/connect/requests": Target(1),
    "json/connect/cold": Target(0.10),
    "json/connect/warm": Target(0.10),
    "json/connect/requests": Target(1),
    "stdio/memory": Target(0.40),
    "json/memory": Target(0.08),
    "stdio/idle": Target(1, noise=IDLE_NOISE),
    "sse/idle": Target(1, noise=IDLE_NOISE),
    "json/idle": Target(1, noise=IDLE_NOISE),
    "import": Target(0.5),
    "stdio/overhead/everything": Target(10, to=None),
    "json/overhead/everything": Target(10, to=None),
}
"""By the name of the measure."""
