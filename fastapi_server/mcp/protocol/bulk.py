"""Making thousands of objects at once, all of which stay."""

import contextlib
import gc
import sys
from collections.abc import Generator

_WAITS_BY_ITSELF = sys.version_info >= (3, 12)
"""From 3.12 on the collector never runs within a call of an extension."""


@contextlib.contextmanager
def uncollected() -> Generator[None]:
    """Have the garbage collector look through what a block makes once, afterwards, and not at every 700th object.

    For one call of an extension that decodes or validates much: half of what that costs may be the collector's, which
    finds nothing, because nothing has been let go yet. Where a program has turned the collector off, it stays off.
    """
    if _WAITS_BY_ITSELF or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
