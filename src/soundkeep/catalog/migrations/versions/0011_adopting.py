"""Tracks that lie under keys of their own, where they were adopted."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tracks", Column("own_keys", Text, nullable=False, server_default="{}"))
