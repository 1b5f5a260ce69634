"""How long to wait before trying again: a plain decision, with the dice injected."""

import random
from collections.abc import Callable, Iterator


def backoff_delays(
    attempts: int, *, base: float = 1.0, cap: float = 30.0, dice: Callable[[], float] = random.random
) -> Iterator[float]:
    """Seconds to wait before each of `attempts` retries: 1, 2, 4, … up to `cap`, each with jitter.

    Half of each delay is fixed and half is random, so that many clients of one server do not come back in step and
    yet none hammers it.

    Args:
        attempts: How many delays to give.
        base: The first delay, before jitter.
        cap: No delay is longer.
        dice: Gives a number in [0, 1).
    """
    ceiling = min(cap, base)
    for _ in range(attempts):
        yield ceiling * (0.5 + dice() / 2)
        ceiling = min(cap, ceiling * 2)
