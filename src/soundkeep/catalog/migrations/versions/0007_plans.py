"""Plans: what shall be spoken before anybody asks for it, segment by segment.

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
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

metadata = MetaData()

ByteText = Text().with_variant(Text(collation="C"), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows only as INTEGER

plans = Table(
    "plans",
    metadata,
    Column("id", ByteText, primary_key=True),
    Column("owner", ByteText, nullable=False),
    Column("name", Text, nullable=False),
    Column("engine", ByteText, nullable=False),
    Column("model", ByteText, nullable=False),
    Column("request", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("voices", Text, nullable=False),
    Column("collection", ByteText),
    Column("budget_billionths", BigInteger),
    Column("spent_billionths", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("rate_per_minute", Double),
    Column("window", Text),
    Column("ordering", Text, nullable=False),
    Column("standing", Boolean, nullable=False),
    Column("texts", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("next_at", Double, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("last_error", Text),
    Column("created_at", Double, nullable=False),
)

plan_items = Table(
    "plan_items",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("plan_id", ByteText, nullable=False),
    Column("segment_key", ByteText, nullable=False),
    Column("request", Text, nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("characters", BigInteger, nullable=False),
    Column("estimate_billionths", BigInteger, nullable=False),
    Column("counted_billionths", BigInteger, nullable=False),
    Column("begun_at", Double),
    Column("state", Text, nullable=False),
    Column("chore", Text),
    Column("lane", Text, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("lease_token", Text),
    Column("lease_holder", Text),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text),
    UniqueConstraint("plan_id", "segment_key", name="one_item_per_segment"),
    sqlite_autoincrement=True,
)

plan_speeches = Table(
    "plan_speeches",
    metadata,
    Column("plan_id", ByteText, primary_key=True),
    Column("speech_key", ByteText, primary_key=True),
)

Index(
    "plan_items_to_claim",
    plan_items.c.plan_id,
    plan_items.c.place,
    sqlite_where=plan_items.c.chore.is_not(None),
    postgresql_where=plan_items.c.chore.is_not(None),
)
Index(
    "plan_items_by_holder",
    plan_items.c.lease_holder,
    sqlite_where=plan_items.c.lease_holder.is_not(None),
    postgresql_where=plan_items.c.lease_holder.is_not(None),
)


def upgrade() -> None:
    metadata.create_all(op.get_bind())
    op.create_index("speech_tracks_by_collection", "speech_tracks", ["collection", "owner"])
