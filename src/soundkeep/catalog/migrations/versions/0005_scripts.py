"""Speeches keep their script, of which their timing follows; the timing itself need not be kept."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("speeches", Column("script", Text()))
    op.drop_column("speeches", "timing")
