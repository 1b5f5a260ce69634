"""The official SDK, silent while it works for us: its logs and errors show URLs with codes and bodies with tokens."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from fastapi_server.mcp.errors import MCPClientError

_at_work: ContextVar[bool] = ContextVar("_at_work", default=False)


class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _at_work.get()


for _name in ("mcp.client.auth.oauth2", "mcp.client.auth.utils"):
    logging.getLogger(_name).addFilter(_Quiet())


@contextmanager
def alone() -> Generator[None]:
    """Around what raises our errors in place of others: those others go, where a traceback would not show them."""
    try:
        yield
    except MCPClientError as error:
        if error.__suppress_context__:
            error.__context__ = None
        raise


@contextmanager
def quiet() -> Generator[None]:
    """Around everything that the SDK does: nothing of it is logged. Our errors say what failed."""
    token = _at_work.set(True)
    try:
        yield
    finally:
        _at_work.reset(token)
