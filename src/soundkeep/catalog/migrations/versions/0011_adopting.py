"""Tracks that lie under keys of their own, where they were adopted; and errands of others."""

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, Table, Text

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

metadata = MetaData()

ByteText = Text().with_variant(Text(collation="C"), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")

errands = Table(
    "errands",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("store", ByteText, nullable=False),
    Column("key", ByteText),
    Column("track_id", ByteText),
    Column("operation", Text, nullable=False, server_default="upload"),
    Column("chore", Text),
    Column("lane", Text, nullable=False, server_default="b"),
    Column("due_at", Double, nullable=False, server_default="0"),
    Column("lease_token", Text),
    Column("lease_holder", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    sqlite_autoincrement=True,
)
Index(
    "errands_to_claim",
    errands.c.chore,
    errands.c.store,
    errands.c.lane,
    errands.c.due_at,
    sqlite_where=errands.c.chore.is_not(None),
    postgresql_where=errands.c.chore.is_not(None),
)
Index(
    "errands_by_holder",
    errands.c.lease_holder,
    sqlite_where=errands.c.lease_holder.is_not(None),
    postgresql_where=errands.c.lease_holder.is_not(None),
)


def upgrade() -> None:
    metadata.create_all(op.get_bind())
    op.add_column("tracks", Column("own_keys", Text, nullable=False, server_default="{}"))
