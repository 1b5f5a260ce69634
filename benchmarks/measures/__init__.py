"""How each kind of measure is taken, inside the process of one contender."""

import importlib
from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

from benchmarks.sample import Sample

Take: TypeAlias = Callable[..., Awaitable[Sample]]


def kind(name: str) -> Take:
    """The function of that name, `module.function`."""
    module, _, function = name.partition(".")
    return cast("Take", getattr(importlib.import_module(f"{__name__}.{module}"), function))
