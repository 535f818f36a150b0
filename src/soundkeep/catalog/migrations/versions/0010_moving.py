"""Stores that are being emptied."""

from alembic import op
from sqlalchemy import Column, Double

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stores", Column("draining_at", Double))
