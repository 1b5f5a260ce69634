"""Connections to the database: what SQLite needs to be told, so that several processes can share a file."""

import contextlib
import os
import sqlite3
from collections.abc import Generator
from typing import Any

from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, InvalidRequestError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from fastapi_server.mcp import ConfigError

WRITING = {"writing": True}
"""Execution options of transactions that write: SQLite then waits for its turn at once, and not half-way through."""

_BUSY_MILLISECONDS = 10_000
_LIKE = "sqlite+aiosqlite:///gateway.db or postgresql+asyncpg://user:password@host/name"
_ANSWER_SECONDS = {"timeout": 5, "command_timeout": 10}
"""For PostgreSQL: to connect, and for a statement."""
_LOCK = 0x6D_63_70_67_77
"""Any number that no other program takes for its lock."""


_REFUSED = frozenset({"22", "23"})
"""Classes of SQLSTATE: data exception, integrity constraint violation (ISO/IEC 9075-2, 24.1)."""


class StoreUnavailable(Exception):
    """The database cannot be reached, or does not do what it is asked; says why."""


class StoreRefused(Exception):
    """The database is there, but does not take the data that it was given; says why."""


@contextlib.contextmanager
def available() -> Generator[None]:
    """A block that asks the database.

    Raises:
        StoreUnavailable: It does not answer.
        StoreRefused: It does, and does not take the data.
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0] or type(error).__name__
        if _is_about_data(error):
            raise StoreRefused(f"the database does not take this: {reason}") from error
        raise StoreUnavailable(f"the database does not answer: {reason}") from error


def _is_about_data(error: Exception) -> bool:
    state: str | None = getattr(getattr(error, "orig", None), "sqlstate", None)  # of PostgreSQL
    return isinstance(error, (DataError, IntegrityError)) or (state is not None and state[:2] in _REFUSED)


def open_engine(database: str) -> AsyncEngine:
    """An engine for a URL of SQLAlchemy. A SQLite file is made where there is none, for its owner only.

    Raises:
        ConfigError: The URL is none, its driver is not installed, or the file cannot be made.
    """
    try:
        url = make_url(database)
        options = {} if database.startswith("sqlite") else {"pool_pre_ping": True, "connect_args": _ANSWER_SECONDS}
        engine = create_async_engine(url, **options)
    except (ArgumentError, InvalidRequestError, ModuleNotFoundError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"database: {reason}; a URL looks like {_LIKE}") from error
    if engine.dialect.name == "sqlite":
        if url.database and url.database != ":memory:":
            _make_private(url.database)
        event.listen(engine.sync_engine, "connect", _share_file)
        event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _make_private(path: str) -> None:
    """The journals beside the file get its mode from SQLite."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        os.chmod(path, 0o600)
    except OSError as error:
        raise ConfigError(f"database: {path}: {error.strerror or error}") from error


def _share_file(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor: Any = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    with contextlib.suppress(sqlite3.OperationalError):  # another connection changes it now, for this one, too
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, those of a migration too


def _begin(connection: Connection) -> None:
    writing = connection.get_execution_options().get("writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


async def take_turn(connection: AsyncConnection) -> None:
    """Be the only process in this section until the transaction ends. SQLite lets in one that writes anyway."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
