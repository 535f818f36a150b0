"""Segments: what was said, found by its key or by another that it is known by.

Who is having one spoken is in `speaking`, and what is made of several in `speeches`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, exists, func, literal, null, select, update

from soundkeep.catalog import sidecars
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import now, segment_keys, segments, speeches
from soundkeep.digest import Digest
from soundkeep.errors import Unplayable
from soundkeep.model import Chore, Money, Segment, SegmentName, SegmentState, Subject, SubjectKind

PAGE = 500  # keys in one statement


@dataclass(frozen=True, slots=True)
class Worth:
    """Segments of one voice, and what they cost."""

    engine: str
    model: str
    voice: str
    count: int
    cost: Money


# Made once: building a statement costs more than running it.
BY_KEY = select(segments).where(segments.c.key == bindparam("of_key"))
_BY_OTHER_KEY = (
    select(segments)
    .join(segment_keys, segment_keys.c.segment_key == segments.c.key)
    .where(segment_keys.c.other_key == bindparam("of_key"))
)
_NAMING = (
    select(segments.c.key, segments.c.revision)
    .where(segments.c.digest == bindparam("raw"))
    .union_all(
        select(null(), literal(0)).where(exists().where(speeches.c.digest == bindparam("raw")))
    )
)
_OF_KEY = segments.c.key == bindparam("of_key")
_RISE = (
    update(segments)
    .where(_OF_KEY)
    .values(revision=segments.c.revision + 1)
    .returning(segments.c.revision)
)
_NOTE_TIMING = _RISE.where(segments.c.digest == bindparam("raw")).values(
    timing=bindparam("found_out")
)


def find(tx: Tx, key: str) -> Segment | None:
    """The segment of this key, or of one that it is also known by, if it was spoken."""
    for query in (BY_KEY, _BY_OTHER_KEY):
        row = tx.run(query, {"of_key": key}).first()
        if row is not None and row.digest is not None:
            return segment_of(row)
    return None


def find_all(tx: Tx, keys: Sequence[str], *, hold: bool = False) -> list[Segment]:
    """The segments of these keys, in order. Raises `Unplayable` if one is no more. With `hold` none
    can be withdrawn until the transaction ends."""
    rows: dict[str, AnyRow] = {}
    wanted = sorted(set(keys))  # held in the order in which hits are written
    for first in range(0, len(wanted), PAGE):
        page = select(segments).where(segments.c.key.in_(wanted[first : first + PAGE]))
        if hold:
            page = page.order_by(segments.c.key).with_for_update(read=True)
        rows |= {row.key: row for row in tx.run(page) if row.digest is not None}
    missing = [key for key in keys if key not in rows]
    if missing:
        raise Unplayable(f"the segment {missing[0]} is no more")
    return [segment_of(rows[key]) for key in keys]


def worth_of(tx: Tx, keys: Sequence[str]) -> list[Worth]:
    """What it would cost to have these segments spoken again, by who spoke them."""
    table = segments.c
    who = (table.engine, table.model, table.voice, table.currency)
    found: list[Worth] = []
    for first in range(0, len(keys), PAGE):
        page = set(keys[first : first + PAGE])
        sums = (func.count().label("number"), func.sum(table.cost_billionths).label("cost"))
        for row in tx.run(select(*who, *sums).where(table.key.in_(page)).group_by(*who)):
            cost = Money(int(row.cost or 0), row.currency or "")
            found.append(Worth(row.engine, row.model, row.voice, row.number, cost))
    return found


def naming(tx: Tx, digest: Digest) -> list[SegmentName]:
    """The names that speech gives a blob: one for each segment, and one if it is a speech."""
    return [SegmentName(row.key, row.revision) for row in tx.run(_NAMING, {"raw": digest.raw})]


def also_known_as(tx: Tx, key: str, others: Collection[str]) -> None:
    """Other keys that find the segment from now on; one that is taken stays whose it is."""
    rows = [{"other_key": other, "segment_key": key} for other in sorted(others)]
    if rows:
        naming = conflict_insert(segment_keys, on_postgresql=tx.on_postgresql)
        tx.run(naming.on_conflict_do_nothing(), rows)
        revision = tx.run(_RISE, {"of_key": key}).scalar()
        segment = find(tx, key)
        if segment is not None and revision is not None:
            _tell_sidecars(tx, segment, revision)


def note_timing(tx: Tx, segment: Segment, timing: Mapping[str, Any]) -> None:
    """When the words of a segment are heard is known now, unless it was spoken anew meanwhile."""
    given = {"of_key": segment.key, "raw": segment.digest.raw, "found_out": json.dumps(timing)}
    revision = tx.run(_NOTE_TIMING, given).scalar()
    if revision is not None:
        _tell_sidecars(tx, segment, revision)


def _tell_sidecars(tx: Tx, segment: Segment, revision: int) -> None:
    """More is known of a segment: its sidecars are to say so."""
    subject = Subject(SubjectKind.SEGMENT, segment.key)
    sidecars.follow(tx, segment.digest, subject, revision)


def withdraw(tx: Tx, key: str) -> None:
    """The segment is as if it had never been spoken. Whatever it was refused for is forgotten."""
    tx.run(
        update(segments)
        .where(segments.c.key == key)
        .values(
            state=SegmentState.WANTED.value,
            digest=None,
            timing=None,
            refusals=0,
            chore=Chore.GENERATE.value,
            due_at=now(),
            last_error=None,
        )
    )
    tx.wakes = True


def segment_of(row: AnyRow) -> Segment:
    """A row of `segments` that has its sound."""
    return Segment(
        key=row.key,
        engine=row.engine,
        model=row.model,
        voice=row.voice,
        owner=row.owner,
        text=row.text,
        digest=Digest(bytes(row.digest)),
        timing=json.loads(row.timing) if row.timing is not None else None,
        characters=row.characters or 0,
        cost=Money(row.cost_billionths or 0, row.currency or ""),
    )
