"""Alembic's entry: runs revisions on the connection that `migrating` holds the lock on."""

from alembic import context

from soundkeep.catalog.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
