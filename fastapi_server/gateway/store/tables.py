"""The tables, and what one row of each is. Times are seconds since the epoch."""

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Double, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

_COUNTED = BigInteger().with_variant(Integer, "sqlite")
"""Ids that the database counts up; SQLite does so only for its `INTEGER`, which is as large."""


class Table(MappedAsDataclass, DeclarativeBase):
    """All tables; `Table.metadata` is what the migrations lead to."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {float: Double, str: String(255)}


class StoredServer(Table):
    """A server that was added while the gateway ran.

    Attributes:
        name: Of the server.
        entry: As in an `mcp.json`, sealed.
    """

    __tablename__ = "servers"

    name: Mapped[str] = mapped_column(primary_key=True)
    entry: Mapped[dict[str, Any]] = mapped_column(JSON)


class APIKey(Table):
    """An API key, without its secret.

    Attributes:
        id: Stands in the key, and finds it.
        name: What the audit log calls its holder.
        hash: SHA-256 of the secret, hexadecimal.
        prefix: The start of the key, to recognise it by.
        principal: On whose behalf its calls are made.
        metrics: It may read `/metrics`, which an administrator's may, too.
        servers: Patterns of the servers that it opens; `None` for all.
        allow: Patterns of the tools that it may call; `None` for all.
        deny: Patterns of those that it may not.
    """

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str]
    hash: Mapped[str] = mapped_column(String(64), repr=False)
    prefix: Mapped[str]
    principal: Mapped[str | None]
    admin: Mapped[bool]
    created: Mapped[float]
    expires: Mapped[float | None] = mapped_column(default=None)
    revoked: Mapped[float | None] = mapped_column(default=None)
    servers: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True), default=None)
    allow: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True), default=None)
    deny: Mapped[list[str]] = mapped_column(JSON, default_factory=list[str])
    metrics: Mapped[bool] = mapped_column(default=False)


class AuditEntry(Table):
    """One call that has ended.

    Attributes:
        method: Of the protocol, such as `tools/call`.
        target: Tool, URI or prompt.
        outcome: `ok`, or what went wrong, in one word.
        seconds: How long it took.
        arguments: Redacted; `None` where they are not kept.
    """

    __tablename__ = "audit_log"
    __table_args__ = (Index("audit_log_caller", "caller", "id"), Index("audit_log_server", "server", "id"))

    id: Mapped[int] = mapped_column(_COUNTED, init=False, primary_key=True)
    at: Mapped[float] = mapped_column(index=True)
    caller: Mapped[str]
    principal: Mapped[str | None]
    server: Mapped[str]
    method: Mapped[str]
    target: Mapped[str | None] = mapped_column(Text)
    outcome: Mapped[str]
    seconds: Mapped[float]
    arguments: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)


class MetricsPoint(Table):
    """How a server fared in one minute, as one process of the gateway saw it. Percentiles are in seconds."""

    __tablename__ = "metrics_history"
    __table_args__ = (Index("metrics_history_server", "server", "at"),)

    id: Mapped[int] = mapped_column(_COUNTED, init=False, primary_key=True)
    at: Mapped[float] = mapped_column(index=True)
    server: Mapped[str]
    calls: Mapped[int]
    errors: Mapped[int]
    p50: Mapped[float]
    p95: Mapped[float]
    p99: Mapped[float]


class StoredSecret(Table):
    """What all processes of one gateway have to share, and nobody gave them."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(Text, repr=False)
