"""Speech: segments, what they are also called, what they cost, and how often they were heard.

Written out as they were then: `schema.py` moves on, this page does not.
"""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

metadata = MetaData()

ByteText = Text().with_variant(Text(collation="C"), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows only as INTEGER

# As far as the tables of this page refer to it.
blobs = Table("blobs", metadata, Column("digest", LargeBinary(32), primary_key=True))

segments = Table(
    "segments",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("key", ByteText, nullable=False, unique=True),
    Column("engine", ByteText, nullable=False),
    Column("model", ByteText, nullable=False),
    Column("voice", ByteText, nullable=False),
    Column("owner", ByteText),
    Column("request", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("digest", LargeBinary(32), ForeignKey("blobs.digest"), index=True),
    Column("timing", Text),
    Column("characters", BigInteger),
    Column("cost_billionths", BigInteger),
    Column("currency", Text),
    Column("hits", BigInteger, nullable=False),
    Column("refusals", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("chore", Text),
    Column("lane", Text, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("lease_token", Text),
    Column("lease_holder", Text),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text),
    sqlite_autoincrement=True,
)

segment_keys = Table(
    "segment_keys",
    metadata,
    Column("other_key", ByteText, primary_key=True),
    Column("segment_key", ByteText, nullable=False, index=True),
)

refused_takes = Table(
    "refused_takes",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("segment_key", ByteText, nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("made_at", Double, nullable=False),
    sqlite_autoincrement=True,
)

speeches = Table(
    "speeches",
    metadata,
    Column("key", ByteText, primary_key=True),
    Column("format", Text, nullable=False),
    Column("segments", Text, nullable=False),
    Column("digest", LargeBinary(32), ForeignKey("blobs.digest"), index=True),
    Column("timing", Text),
    Column("hits", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
)

speech_tracks = Table(
    "speech_tracks",
    metadata,
    Column("speech_key", ByteText, primary_key=True),
    Column("owner", ByteText, primary_key=True),
    Column("collection", ByteText, primary_key=True),
    Column("track_id", ByteText, nullable=False, index=True),
)

purses = Table(
    "purses",
    metadata,
    Column("owner", ByteText, primary_key=True),
    Column("month", ByteText, primary_key=True),
    Column("currency", ByteText, primary_key=True),
    Column("spent_billionths", BigInteger, nullable=False),
)

intents = Table(
    "intents",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("segment_key", ByteText, nullable=False, index=True),
    Column("engine", ByteText, nullable=False),
    Column("model", ByteText, nullable=False),
    Column("voice", ByteText, nullable=False),
    Column("owner", ByteText, nullable=False),
    Column("month", ByteText, nullable=False),
    Column("currency", ByteText, nullable=False),
    Column("holder", Text, nullable=False),
    Column("lease_token", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("characters", BigInteger, nullable=False),
    Column("estimate_billionths", BigInteger, nullable=False),
    Column("cost_billionths", BigInteger, nullable=False),
    Column("request_id", Text),
    Column("error", Text),
    Column("made_at", Double, nullable=False),
    Column("ended_at", Double),
    Index("intents_by_month", "month", "owner"),
    sqlite_autoincrement=True,
)

speech_hits = Table(
    "speech_hits",
    metadata,
    Column("day", ByteText, primary_key=True),
    Column("owner", ByteText, primary_key=True),
    Column("engine", ByteText, primary_key=True),
    Column("model", ByteText, primary_key=True),
    Column("voice", ByteText, primary_key=True),
    Column("currency", ByteText, primary_key=True),
    Column("hits", BigInteger, nullable=False),
    Column("misses", BigInteger, nullable=False),
    Column("saved_billionths", BigInteger, nullable=False),
    Column("first_bytes", BigInteger, nullable=False),
    Column("first_byte_seconds", Double, nullable=False),
)

Index(
    "segments_to_claim",
    segments.c.chore,
    segments.c.engine,
    segments.c.lane,
    segments.c.due_at,
    sqlite_where=segments.c.chore.is_not(None),
    postgresql_where=segments.c.chore.is_not(None),
)
Index(
    "segments_by_holder",
    segments.c.lease_holder,
    sqlite_where=segments.c.lease_holder.is_not(None),
    postgresql_where=segments.c.lease_holder.is_not(None),
)
Index(
    "intents_that_are_open",
    intents.c.holder,
    sqlite_where=intents.c.state == "open",
    postgresql_where=intents.c.state == "open",
)


def upgrade() -> None:
    metadata.create_all(op.get_bind())
