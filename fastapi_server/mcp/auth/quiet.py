"""The official SDK's OAuth loggers, silent while it works for us: they show URLs with codes and bodies with tokens."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_at_work: ContextVar[bool] = ContextVar("_at_work", default=False)


class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _at_work.get()


for _name in ("mcp.client.auth.oauth2", "mcp.client.auth.utils"):
    logging.getLogger(_name).addFilter(_Quiet())


@contextmanager
def quiet() -> Generator[None]:
    """Around everything that the SDK does: nothing of it is logged. Our errors say what failed."""
    token = _at_work.set(True)
    try:
        yield
    finally:
        _at_work.reset(token)
