"""Renditions: which tracks shall also be there in which formats, and which are.

A rendition is a track of its own, so it is copied, proven, served and pushed like any other. Its
row ties it to the track it was made of: it is as public as that, and goes with it.

Whoever writes about a track's renditions takes their rows first, and the blob of a rendition only
after its row: so a track that is made private at the moment at which its rendition is recorded
leaves no rendition public.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Executable, and_, delete, exists, select, true, update

from soundkeep.catalog import claims
from soundkeep.catalog.claims import Lease
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import now, renditions
from soundkeep.errors import LeaseLost
from soundkeep.model import Chore, Lane


@dataclass(frozen=True, slots=True)
class Rendition:
    """One track in one other format."""

    id: int
    track_id: str
    format: str
    rendition_id: str | None  # the track that it is; None as long as it is not made
    is_due: bool  # whether it is still to be made
    rests: bool  # whether that failed, and waits for its next time
    last_error: str | None


@dataclass(frozen=True, slots=True)
class ClaimedRendition:
    """A rendition that this process is to make."""

    lease: Lease
    rendition: Rendition


def want(tx: Tx, track_id: str, formats: Collection[str], lane: Lane) -> None:
    """Asks for renditions that nobody has asked for before."""
    rows = [{"track_id": track_id, "format": each, "lane": lane.value} for each in sorted(formats)]
    if rows:
        tx.run(_wanting(tx.on_postgresql), rows)
        tx.wakes = True


def want_again(tx: Tx, track_id: str, format: str, lane: Lane) -> None:
    """Asks for one whose track was deleted, or that could not be made, as if for the first time.
    What is still to be made moves to this lane."""
    mine = and_(
        renditions.c.track_id == track_id,
        renditions.c.format == format,
        renditions.c.rendition_id.is_(None),
        renditions.c.lease_token.is_(None),
    )
    anew = {"chore": Chore.RENDER.value, "lane": lane.value, "attempts": 0, "last_error": None}
    tx.run(update(renditions).where(mine).values(due_at=now(), **anew))
    tx.wakes = True


def of_track(tx: Tx, track_id: str) -> list[Rendition]:
    """What a track is there in besides itself, or shall be."""
    rows = select(renditions).where(renditions.c.track_id == track_id)
    return [_rendition_of(row) for row in tx.run(rows.order_by(renditions.c.format))]


def take_of_track(tx: Tx, track_id: str) -> list[Rendition]:
    """The same, and nobody else writes about them until the transaction ends."""
    rows = select(renditions).where(renditions.c.track_id == track_id)
    return [_rendition_of(row) for row in tx.run(rows.order_by(renditions.c.id).with_for_update())]


def is_one(tx: Tx, track_id: str) -> bool:
    """Whether the track is a rendition of another."""
    return bool(tx.run(select(exists().where(renditions.c.rendition_id == track_id))).scalar_one())


def claim(tx: Tx, *, holder: str, limit: int, lease_seconds: float) -> list[ClaimedRendition]:
    """Leases renditions that are due to be made."""
    leased = claims.claim(
        tx,
        renditions,
        chore=Chore.RENDER.value,
        target=true(),
        holder=holder,
        limit=limit,
        lease_seconds=lease_seconds,
    )
    return [ClaimedRendition(lease, _rendition_of(row)) for lease, row in leased]


def take(tx: Tx, claimed: ClaimedRendition) -> None:
    """Takes the row of a rendition that is about to be recorded. Raises `LeaseLost`."""
    held = select(renditions.c.id).where(
        renditions.c.id == claimed.lease.row_id, renditions.c.lease_token == claimed.lease.token
    )
    if tx.run(held.with_for_update()).first() is None:
        raise LeaseLost


def made(tx: Tx, claimed: ClaimedRendition, rendition_id: str) -> None:
    """The rendition is this track. Raises `LeaseLost`."""
    claims.finish(
        tx, renditions, claimed.lease, chore=None, rendition_id=rendition_id, due_at=now()
    )
    tx.wakes = True


def cannot_be(tx: Tx, claimed: ClaimedRendition, why: str) -> None:
    """It can never be made. Raises `LeaseLost`."""
    claims.finish(tx, renditions, claimed.lease, chore=None, last_error=why[:500], due_at=now())
    tx.wakes = True


def forget(tx: Tx, track_id: str) -> None:
    """The track is gone, be it that of which renditions were made or a rendition."""
    tx.run(delete(renditions).where(renditions.c.track_id == track_id))
    tx.run(
        update(renditions)
        .where(renditions.c.rendition_id == track_id)
        .values(rendition_id=None, last_error="deleted")
    )


@cache
def _wanting(on_postgresql: bool) -> Executable:
    row = conflict_insert(renditions, on_postgresql=on_postgresql).values(
        created_at=now(), chore=Chore.RENDER.value, due_at=now(), attempts=0
    )
    wanting: Executable = row.on_conflict_do_nothing()
    return wanting


def _rendition_of(row: AnyRow) -> Rendition:
    return Rendition(
        id=row.id,
        track_id=row.track_id,
        format=row.format,
        rendition_id=row.rendition_id,
        is_due=row.chore is not None,
        rests=row.chore is not None and row.lease_token is None and row.last_error is not None,
        last_error=row.last_error,
    )
