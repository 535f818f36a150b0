"""Small named values that belong to the whole catalog, as JSON, each with its time."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import delete, func, select

from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.schema import facts, now


def read(tx: Tx, name: str) -> Any:
    """The value, or None if it was never written."""
    value = tx.run(select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()
    return None if value is None else json.loads(value)


def values(tx: Tx, prefix: str) -> list[Any]:
    """The values whose names begin so."""
    found = select(facts.c.value).where(facts.c.name.startswith(prefix, autoescape=True))
    return [json.loads(value) for value in tx.run(found).scalars()]


def least_age_seconds(tx: Tx, prefix: str) -> float | None:
    """How long ago the last of the values was written whose names begin so, by the database's
    clock; None if there are none."""
    last = select(func.max(facts.c.at)).where(facts.c.name.startswith(prefix, autoescape=True))
    age: float | None = tx.run(select(now() - last.scalar_subquery())).scalar_one()
    return age


def write(tx: Tx, name: str, value: Any) -> None:
    """Writes the value at the database's time, in place of the last, also if others do so now."""
    new = {"value": json.dumps(value), "at": now()}
    row = conflict_insert(facts, on_postgresql=tx.on_postgresql).values(name=name, **new)
    tx.run(row.on_conflict_do_update(index_elements=[facts.c.name], set_=new))


def forget_all(tx: Tx, prefix: str) -> None:
    """Removes the values whose names begin so."""
    tx.run(delete(facts).where(facts.c.name.startswith(prefix, autoescape=True)))


def forget(tx: Tx, name: str) -> None:
    """Removes the value."""
    tx.run(delete(facts).where(facts.c.name == name))
