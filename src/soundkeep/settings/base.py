"""What every table of settings has in common."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

MIB = 1024 * 1024
PLAIN_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}\Z")  # of stores and engines


class Table(BaseModel):
    """Frozen, and without a field that nobody knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)
