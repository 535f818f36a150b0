"""The first tables: blobs, tracks, copies, stores, and what is remembered of what is gone."""

from alembic import op

from soundkeep.catalog import search
from soundkeep.catalog.schema import metadata

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes every table from the schema: this is the only revision that may."""
    connection = op.get_bind()
    metadata.create_all(connection)
    on_postgresql = connection.dialect.name == "postgresql"
    for statement in search.POSTGRESQL_DDL if on_postgresql else search.SQLITE_DDL:
        connection.exec_driver_sql(statement)
