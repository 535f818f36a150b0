"""The first tables: blobs, tracks, copies, stores, and what is remembered of what is gone.

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
    UniqueConstraint,
)

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

metadata = MetaData()

ByteText = Text().with_variant(Text(collation="C"), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows only as INTEGER

blobs = Table(
    "blobs",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("chunk_hashes", LargeBinary, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("extension", Text, nullable=False),
    Column("codec", Text, nullable=False),
    Column("duration_seconds", Double, nullable=False),
    Column("bit_rate", Integer),
    Column("channels", Integer),
    Column("sample_rate_hz", Integer),
    Column("tags", Text, nullable=False),  # JSON
    Column("created_at", Double, nullable=False),
)

tracks = Table(
    "tracks",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("id", ByteText, nullable=False, unique=True),
    Column("owner", ByteText, nullable=False),
    Column("path", ByteText, nullable=False),
    Column("title", Text, nullable=False),
    Column("visibility", Text, nullable=False),
    Column("metadata", Text, nullable=False),  # JSON, as the application wrote it
    Column("words", Text, nullable=False),  # what search looks through; see search.py
    Column("digest", LargeBinary(32), ForeignKey("blobs.digest"), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("revision", Integer, nullable=False),
    UniqueConstraint("owner", "path", name="one_track_per_path"),
    Index("tracks_by_path", "path", "seq"),
    sqlite_autoincrement=True,
)

copies = Table(
    "copies",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary(32), ForeignKey("blobs.digest"), nullable=False, index=True),
    Column("store", ByteText, nullable=False),
    Column("key", ByteText, nullable=False),
    Column("locator", Text),
    Column("state", Text, nullable=False),
    Column("wish", Text, nullable=False),
    Column("since", Double, nullable=False),
    Column("verified", Text),
    Column("verified_at", Double),
    # What every claimable table has; see claims.py. A row at rest has no chore.
    Column("chore", Text),
    Column("lane", Text, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("lease_token", Text),
    Column("lease_holder", Text),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text),
    UniqueConstraint("store", "key", name="one_copy_per_key"),
    sqlite_autoincrement=True,  # a number never means another copy later
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("track_id", ByteText, primary_key=True),
    Column("owner", ByteText, nullable=False),
    Column("path", ByteText, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("visibility", Text, nullable=False),
    Column("deleted_at", Double, nullable=False),
)

removals = Table(
    "removals",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("track_id", ByteText, nullable=False, index=True),
    Column("store", ByteText, nullable=False),
    Column("key", ByteText, nullable=False),
    Column("copy_id", Serial, index=True),  # None when the copy stays
    Column("outcome", Text, nullable=False),  # see `answers.Removal`
    Column("confirmed_at", Double),
)

stores = Table(
    "stores",
    metadata,
    Column("name", ByteText, primary_key=True),
    Column("store_id", Text, nullable=False),  # what its marker must say
    Column("marked_at", Double),  # when the marker was written; None while it never was
    Column("kind", Text, nullable=False),
    Column("first_seen_at", Double, nullable=False),
    Column("opened_at", Double),  # when its circuit opened; None while it is closed
    Column("probe_at", Double),
    Column("error_code", Text),
    Column("error", Text),
)

facts = Table(
    "facts",
    metadata,
    Column("name", ByteText, primary_key=True),
    Column("value", Text, nullable=False),  # JSON
    Column("at", Double, nullable=False),
)

Index(
    "public_tracks_by_path",
    tracks.c.path,
    tracks.c.seq,
    sqlite_where=tracks.c.visibility == "public",
    postgresql_where=tracks.c.visibility == "public",
)
Index(
    "copies_to_claim",
    copies.c.chore,
    copies.c.store,
    copies.c.lane,
    copies.c.due_at,
    sqlite_where=copies.c.chore.is_not(None),
    postgresql_where=copies.c.chore.is_not(None),
)
Index(
    "copies_not_at_rest",
    copies.c.state,
    copies.c.id,
    sqlite_where=copies.c.state != "present",
    postgresql_where=copies.c.state != "present",
)
Index(
    "copies_that_failed",
    copies.c.id,
    sqlite_where=copies.c.last_error.is_not(None),
    postgresql_where=copies.c.last_error.is_not(None),
)
Index(
    "copies_by_holder",
    copies.c.lease_holder,
    sqlite_where=copies.c.lease_holder.is_not(None),
    postgresql_where=copies.c.lease_holder.is_not(None),
)

SQLITE_DDL = (
    "CREATE VIRTUAL TABLE track_words USING fts5"
    "(words, content='tracks', content_rowid='seq', prefix='2 3', tokenize='unicode61')",
    "CREATE TRIGGER track_words_in AFTER INSERT ON tracks BEGIN"
    " INSERT INTO track_words (rowid, words) VALUES (new.seq, new.words); END",
    "CREATE TRIGGER track_words_out AFTER DELETE ON tracks BEGIN INSERT INTO track_words"
    " (track_words, rowid, words) VALUES ('delete', old.seq, old.words); END",
    "CREATE TRIGGER track_words_new AFTER UPDATE OF words ON tracks BEGIN INSERT INTO track_words"
    " (track_words, rowid, words) VALUES ('delete', old.seq, old.words);"
    " INSERT INTO track_words (rowid, words) VALUES (new.seq, new.words); END",
)
POSTGRESQL_DDL = ("CREATE INDEX track_words ON tracks USING gin (to_tsvector('simple', words))",)


def upgrade() -> None:
    """Makes the tables and the index of words."""
    connection = op.get_bind()
    metadata.create_all(connection)
    on_postgresql = connection.dialect.name == "postgresql"
    for statement in POSTGRESQL_DDL if on_postgresql else SQLITE_DDL:
        connection.exec_driver_sql(statement)
