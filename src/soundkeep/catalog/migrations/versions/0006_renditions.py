"""Renditions: the same sound in other formats, as rows of the ledger.

Written out as they were then: `schema.py` moves on, this page does not.
"""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

metadata = MetaData()

ByteText = Text().with_variant(Text(collation="C"), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows only as INTEGER

renditions = Table(
    "renditions",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("track_id", ByteText, nullable=False),
    Column("format", ByteText, nullable=False),
    Column("rendition_id", ByteText, index=True),
    Column("created_at", Double, nullable=False),
    Column("chore", Text),
    Column("lane", Text, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("lease_token", Text),
    Column("lease_holder", Text),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text),
    UniqueConstraint("track_id", "format"),
    sqlite_autoincrement=True,
)

Index(
    "renditions_to_claim",
    renditions.c.chore,
    renditions.c.lane,
    renditions.c.due_at,
    sqlite_where=renditions.c.chore.is_not(None),
    postgresql_where=renditions.c.chore.is_not(None),
)


def upgrade() -> None:
    metadata.create_all(op.get_bind())
