"""Speeches that come from elsewhere: their old keys, and when each was heard last."""

from alembic import op
from sqlalchemy import Column, Double, MetaData, Table, Text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

metadata = MetaData()

ByteText = Text().with_variant(Text(collation="C"), "postgresql")

speech_keys = Table(
    "speech_keys",
    metadata,
    Column("other_key", ByteText, primary_key=True),
    Column("speech_key", ByteText, nullable=False, index=True),
)


def upgrade() -> None:
    metadata.create_all(op.get_bind())
    op.add_column("speeches", Column("last_heard_at", Double))
