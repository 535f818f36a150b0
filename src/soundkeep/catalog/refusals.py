"""Takes that the judge refused: where they are kept, until a person accepts them or time is up.

The rows are written by `speaking.note_refused`, with the segment that they were meant for.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Select, delete, select

from soundkeep.catalog.database import Tx
from soundkeep.catalog.schema import now, refused_takes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A take that was refused, and why."""

    id: int
    segment_key: str
    reason: str
    host: str  # whose disk has it
    file: str
    made_at: float


def of_segment(tx: Tx, key: str) -> list[Refusal]:
    """Every take of a segment that was refused and is still kept, in order."""
    return _found(tx, select(refused_takes).where(refused_takes.c.segment_key == key))


def find(tx: Tx, take_id: int) -> Refusal | None:
    """The refused take of this number, if it is still kept."""
    found = _found(tx, select(refused_takes).where(refused_takes.c.id == take_id))
    return found[0] if found else None


def page(tx: Tx, after: int, limit: int) -> list[Refusal]:
    """The next refused takes in the order of their numbers; begin with 0."""
    return _found(tx, select(refused_takes).where(refused_takes.c.id > after).limit(limit))


def expired(tx: Tx, host: str, older_than_seconds: float, limit: int) -> list[Refusal]:
    """Some of those on this host's disk whose time is up."""
    due = refused_takes.c.made_at < now() - older_than_seconds
    mine = select(refused_takes).where(refused_takes.c.host == host, due)
    return _found(tx, mine.limit(limit))


def forget(tx: Tx, take_ids: Collection[int]) -> None:
    """They are not kept any more."""
    tx.run(delete(refused_takes).where(refused_takes.c.id.in_(take_ids)))


def _found(tx: Tx, rows: Select[tuple[object, ...]]) -> list[Refusal]:
    return [
        Refusal(row.id, row.segment_key, row.reason, row.host, row.file, row.made_at)
        for row in tx.run(rows.order_by(refused_takes.c.id))
    ]
