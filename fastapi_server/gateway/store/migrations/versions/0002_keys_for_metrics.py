"""Keys that may read the metrics and nothing else; what nobody used of stored servers goes."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Keys that there are get no more than they had."""
    op.add_column("api_keys", sa.Column("metrics", sa.Boolean, nullable=False, server_default=sa.false()))
    op.drop_column("servers", "enabled")
    op.drop_column("servers", "source")
