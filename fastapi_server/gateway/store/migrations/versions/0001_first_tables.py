"""The tables of the first version."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_COUNTED = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make them."""
    _servers_and_keys()
    _log_and_history()


def _servers_and_keys() -> None:
    op.create_table(
        "servers",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("entry", sa.JSON, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("prefix", sa.String(255), nullable=False),
        sa.Column("principal", sa.String(255)),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double),
        sa.Column("revoked", sa.Double),
        sa.Column("servers", sa.JSON(none_as_null=True)),
        sa.Column("allow", sa.JSON(none_as_null=True)),
        sa.Column("deny", sa.JSON, nullable=False),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def _log_and_history() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", _COUNTED, primary_key=True),
        sa.Column("at", sa.Double, nullable=False, index=True),
        sa.Column("caller", sa.String(255), nullable=False),
        sa.Column("principal", sa.String(255)),
        sa.Column("server", sa.String(255), nullable=False),
        sa.Column("method", sa.String(255), nullable=False),
        sa.Column("target", sa.Text),
        sa.Column("outcome", sa.String(255), nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("arguments", sa.JSON(none_as_null=True)),
    )
    op.create_index("audit_log_caller", "audit_log", ["caller", "id"])
    op.create_index("audit_log_server", "audit_log", ["server", "id"])
    op.create_table(
        "metrics_history",
        sa.Column("id", _COUNTED, primary_key=True),
        sa.Column("at", sa.Double, nullable=False, index=True),
        sa.Column("server", sa.String(255), nullable=False),
        sa.Column("calls", sa.Integer, nullable=False),
        sa.Column("errors", sa.Integer, nullable=False),
        sa.Column("p50", sa.Double, nullable=False),
        sa.Column("p95", sa.Double, nullable=False),
        sa.Column("p99", sa.Double, nullable=False),
    )
    op.create_index("metrics_history_server", "metrics_history", ["server", "at"])
