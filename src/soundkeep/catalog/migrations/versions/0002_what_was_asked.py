"""What a person asked for of one track in one store: pushed there, or withdrawn from it."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tracks", Column("asked", Text, nullable=False, server_default="{}"))
