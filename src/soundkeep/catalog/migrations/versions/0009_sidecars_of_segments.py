"""Sidecars of segments: a row is of a track or of a segment, which has revisions now as well."""

from alembic import op
from sqlalchemy import Column, Integer, Text

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("sidecars", "track_id", new_column_name="name")
    op.add_column("sidecars", Column("kind", Text, nullable=False, server_default="track"))
    op.add_column("segments", Column("revision", Integer, nullable=False, server_default="1"))
