"""Small named values that belong to the whole catalog, as JSON, each with its time."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import delete, insert, select

from soundkeep.catalog.database import Tx
from soundkeep.catalog.schema import facts, now


def read(tx: Tx, name: str) -> Any:
    """The value, or None if it was never written."""
    value = tx.run(select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()
    return None if value is None else json.loads(value)


def write(tx: Tx, name: str, value: Any) -> None:
    """Writes the value at the database's time, in place of the last."""
    tx.run(delete(facts).where(facts.c.name == name))
    tx.run(insert(facts).values(name=name, value=json.dumps(value), at=now()))
