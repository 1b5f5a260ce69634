"""The database, as the gateway asks it."""

import asyncio
import contextlib
import functools
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from fastapi_server.gateway.store.engine import WRITING, available, open_engine, take_turn
from fastapi_server.gateway.store.migrate import migrate
from fastapi_server.gateway.store.tables import APIKey, AuditEntry, MetricsPoint, StoredSecret, StoredServer

ArgumentsT = ParamSpec("ArgumentsT")
ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class AuditQuery:
    """Which entries of the audit log to read, the newest first.

    Attributes:
        since: Only those from this time on.
        before: Only those with a smaller id: the next page after the one that ended there.
        limit: How many at most.
    """

    caller: str | None = None
    server: str | None = None
    since: float | None = None
    before: int | None = None
    limit: int = 100


def _to_the_end(
    method: "Callable[Concatenate[Store, ArgumentsT], Coroutine[Any, Any, ValueT]]",
) -> "Callable[Concatenate[Store, ArgumentsT], Coroutine[Any, Any, ValueT]]":
    """A method that is done even if whoever awaits it is cancelled: drivers leave open what is given up half-way."""

    @functools.wraps(method)
    async def done(store: "Store", /, *args: ArgumentsT.args, **kwargs: ArgumentsT.kwargs) -> ValueT:
        task = asyncio.get_running_loop().create_task(method(store, *args, **kwargs))
        store._under_way.add(task)  # pyright: ignore[reportPrivateUsage] - it is one of its methods
        task.add_done_callback(store._under_way.discard)  # pyright: ignore[reportPrivateUsage]
        return await asyncio.shield(task)

    return done


class Store:
    """What outlives the process, for use in an `async with`. What it gives are copies.

    What is asked of it is done, even if whoever asks is cancelled meanwhile.
    While the database is away, everything raises `StoreUnavailable`, and works again once it is back. What it does not
    take as data raises `StoreRefused`.

    Args:
        database: URL of SQLAlchemy, for SQLite or PostgreSQL.

    Raises:
        ConfigError: The URL is wrong, its driver is not installed, or the file cannot be made.
    """

    def __init__(self, database: str) -> None:
        self._engine = open_engine(database)
        self._reading = async_sessionmaker(self._engine, expire_on_commit=False)
        self._writing = async_sessionmaker(self._engine.execution_options(**WRITING), expire_on_commit=False)
        self._under_way = set[asyncio.Task[Any]]()

    async def __aenter__(self) -> Self:
        """Connect, and bring the tables up to date."""
        try:
            await self._migrate()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all connections, once what is under way is done."""
        await self._close()

    async def _close(self) -> None:
        while self._under_way:
            await asyncio.wait(self._under_way)
        await self._engine.dispose()

    @_to_the_end
    async def _migrate(self) -> None:
        with available():
            await migrate(self._engine)

    @contextlib.asynccontextmanager
    async def _read(self) -> AsyncGenerator[AsyncSession]:
        with available():
            async with self._reading() as session:
                yield session

    @contextlib.asynccontextmanager
    async def _write(self) -> AsyncGenerator[AsyncSession]:
        with available():
            async with self._writing.begin() as session:
                yield session

    @_to_the_end
    async def servers(self) -> list[StoredServer]:
        """All servers, by name."""
        async with self._read() as session:
            return list(await session.scalars(select(StoredServer).order_by(StoredServer.name)))

    @_to_the_end
    async def put_server(self, server: StoredServer) -> None:
        """Add a server, or replace the one of that name."""
        async with self._write() as session:
            await session.merge(server)

    @_to_the_end
    async def remove_server(self, name: str) -> bool:
        """Whether there was one of that name."""
        async with self._write() as session:
            gone = await session.scalar(
                delete(StoredServer).where(StoredServer.name == name).returning(StoredServer.name)
            )
        return gone is not None

    @_to_the_end
    async def keys(self) -> list[APIKey]:
        """All keys, revoked ones too, the oldest first."""
        async with self._read() as session:
            return list(await session.scalars(select(APIKey).order_by(APIKey.created, APIKey.id)))

    @_to_the_end
    async def key(self, key_id: str) -> APIKey | None:
        """The key of that id, revoked or not."""
        async with self._read() as session:
            return await session.get(APIKey, key_id)

    @_to_the_end
    async def add_key(self, key: APIKey) -> None:
        """Add a key."""
        async with self._write() as session:
            session.add(key)

    @_to_the_end
    async def add_first_key(self, key: APIKey) -> bool:
        """Add a key where there is none yet; whether that was so."""
        async with self._write() as session:
            await take_turn(await session.connection())
            first = await session.scalar(select(APIKey.id).limit(1)) is None
            if first:
                session.add(key)
        return first

    @_to_the_end
    async def revoke_key(self, key_id: str, at: float) -> APIKey | None:
        """The key, revoked now or before; `None` where there is none."""
        async with self._write() as session:
            unrevoked = (APIKey.id == key_id, APIKey.revoked.is_(None))
            await session.execute(update(APIKey).where(*unrevoked).values(revoked=at))
            return await session.get(APIKey, key_id)

    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries to the audit log, all or none."""
        await self._add(entries)

    @_to_the_end
    async def audit(self, query: AuditQuery) -> list[AuditEntry]:
        """Entries of the audit log, the newest first."""
        statement = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(query.limit)
        if query.caller is not None:
            statement = statement.where(AuditEntry.caller == query.caller)
        if query.server is not None:
            statement = statement.where(AuditEntry.server == query.server)
        if query.since is not None:
            statement = statement.where(AuditEntry.at >= query.since)
        if query.before is not None:
            statement = statement.where(AuditEntry.id < query.before)
        async with self._read() as session:
            return list(await session.scalars(statement))

    async def add_history(self, points: Sequence[MetricsPoint]) -> None:
        """Add to the history of metrics, all or none."""
        await self._add(points)

    @_to_the_end
    async def _add(self, rows: Sequence[AuditEntry] | Sequence[MetricsPoint]) -> None:
        if not rows:
            return
        kind = type(rows[0])
        columns = [column.key for column in kind.__table__.columns if not column.primary_key]
        values = [{column: getattr(row, column) for column in columns} for row in rows]
        async with self._write() as session:  # in one statement: as objects, SQLite gets one for each
            await session.execute(insert(kind), values)

    @_to_the_end
    async def history(self, server: str, since: float) -> list[MetricsPoint]:
        """The minutes of a server, the oldest first; one for each process that there was."""
        statement = select(MetricsPoint).where(MetricsPoint.server == server, MetricsPoint.at >= since)
        async with self._read() as session:
            return list(await session.scalars(statement.order_by(MetricsPoint.at, MetricsPoint.id)))

    @_to_the_end
    async def forget_before(self, at: float) -> None:
        """Delete what is older from the audit log and the history of metrics."""
        async with self._write() as session:
            await session.execute(delete(AuditEntry).where(AuditEntry.at < at))
            await session.execute(delete(MetricsPoint).where(MetricsPoint.at < at))

    @_to_the_end
    async def secret(self, name: str) -> str:
        """A secret of that name, made where there is none; whichever process asks, it is the same."""
        async with self._write() as session:
            await take_turn(await session.connection())
            secret = await session.get(StoredSecret, name)
            if secret is None:
                secret = StoredSecret(name, secrets.token_urlsafe(32))
                session.add(secret)
        return secret.value
