"""Brings a database to the tables of this version, whoever else does so at the same time."""

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.util.exc import CommandError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_server.gateway.store.engine import WRITING, take_turn
from fastapi_server.mcp import ConfigError


async def migrate(engine: AsyncEngine, revision: str = "head") -> None:
    """Run the migrations that are missing, all in one transaction; a second process waits, and finds nothing to do.

    Args:
        engine: Of the database.
        revision: The last to run.

    Raises:
        ConfigError: The database has tables that this version does not know.
    """
    async with engine.connect() as connection:
        await connection.execution_options(**WRITING)
        async with connection.begin():
            await take_turn(connection)
            await connection.run_sync(_upgrade, revision)


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "fastapi_server.gateway.store:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        found = MigrationContext.configure(connection).get_current_revision()
        raise ConfigError(
            f"database: it is of a newer version of the gateway, with tables of revision {found}; "
            "that version can use it, or GATEWAY_DATABASE can name another one"
        ) from error
