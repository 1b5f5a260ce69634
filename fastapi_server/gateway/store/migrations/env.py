"""What Alembic runs: with the connection that it was handed, in the transaction that is open there."""

from alembic import context

from fastapi_server.gateway.store.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
context.run_migrations()
