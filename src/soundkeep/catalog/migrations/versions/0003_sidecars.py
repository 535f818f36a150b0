"""Sidecars: the JSON beside each sound, as rows of the ledger; receipts have a line for each.

Written out as they were then: `schema.py` moves on, this page does not.
"""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

metadata = MetaData()

ByteText = Text().with_variant(Text(collation="C"), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows only as INTEGER

sidecars = Table(
    "sidecars",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary(32), nullable=False, index=True),
    Column("track_id", ByteText, nullable=False),
    Column("store", ByteText, nullable=False),
    Column("key", ByteText, nullable=False),
    Column("audio_key", ByteText, nullable=False),
    Column("public", Boolean, nullable=False),
    Column("locator", Text),
    Column("wish", Text, nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("revision", Integer),
    Column("chore", Text),
    Column("lane", Text, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("lease_token", Text),
    Column("lease_holder", Text),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text),
    UniqueConstraint("store", "key", name="one_sidecar_per_key"),
    sqlite_autoincrement=True,
)

Index(
    "sidecars_to_claim",
    sidecars.c.chore,
    sidecars.c.store,
    sidecars.c.lane,
    sidecars.c.due_at,
    sqlite_where=sidecars.c.chore.is_not(None),
    postgresql_where=sidecars.c.chore.is_not(None),
)
Index(
    "sidecars_that_failed",
    sidecars.c.id,
    sqlite_where=sidecars.c.last_error.is_not(None),
    postgresql_where=sidecars.c.last_error.is_not(None),
)
Index(
    "sidecars_by_holder",
    sidecars.c.lease_holder,
    sqlite_where=sidecars.c.lease_holder.is_not(None),
    postgresql_where=sidecars.c.lease_holder.is_not(None),
)


def upgrade() -> None:
    metadata.create_all(op.get_bind())
    op.add_column("removals", Column("sidecar_id", Serial))
    op.create_index("ix_removals_sidecar_id", "removals", ["sidecar_id"])
