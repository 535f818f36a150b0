"""Stores that are being emptied, scrubs and what they found, and objects that no row knows."""

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, MetaData, Table, Text

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

metadata = MetaData()

ByteText = Text().with_variant(Text(collation="C"), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")

scrubs = Table(
    "scrubs",
    metadata,
    Column("store", ByteText, primary_key=True),
    Column("turn_token", Text),
    Column("turn_until", Double),
    Column("pass_began_at", Double, nullable=False),
    Column("full_pass_at", Double),
    Column("copies_read", BigInteger, nullable=False),
    Column("bytes_read", BigInteger, nullable=False),
)

finds = Table(
    "finds",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("copy_id", Serial, nullable=False, index=True),
    Column("store", ByteText, nullable=False, index=True),
    Column("key", ByteText, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("why", Text, nullable=False),
    Column("found_at", Double, nullable=False),
    Column("healed_at", Double),
    sqlite_autoincrement=True,
)

orphans = Table(
    "orphans",
    metadata,
    Column("store", ByteText, primary_key=True),
    Column("key", ByteText, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("first_seen_at", Double, nullable=False),
    Column("last_seen_at", Double, nullable=False),
)


def upgrade() -> None:
    metadata.create_all(op.get_bind())
    op.add_column("stores", Column("draining_at", Double))
    op.add_column("copies", Column("seen_at", Double))
