"""What lies in a store, as far as a migration needs it: its tracks page by page, and the rest."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import exists, func, select
from sqlalchemy.sql import ColumnElement

from soundkeep.catalog.database import Tx
from soundkeep.catalog.rows import select_tracks, track_of
from soundkeep.catalog.schema import copies, tracks
from soundkeep.catalog.tracks import Query, conditions
from soundkeep.model import Asked, CopyState, Track

HOLDING = (CopyState.PRESENT, CopyState.DOUBTED)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tracks of a store. Times are those of their making."""

    prefix: str = ""
    owner: str | None = None
    since: float | None = None
    until: float | None = None


def tracks_in(
    tx: Tx, store: str, which: Selection, after: int, limit: int
) -> tuple[list[Track], int | None]:
    """A page of the tracks whose sound lies in the store and that nobody withdrew from it, and
    where the next page begins; None on the last."""
    holds = exists().where(
        copies.c.digest == tracks.c.digest, copies.c.store == store, copies.c.state.in_(HOLDING)
    )
    wanted = select_tracks().where(tracks.c.seq > after, holds, *_conditions(which))
    rows = list(tx.run(wanted.order_by(tracks.c.seq).limit(limit)))
    found = [track_of(row) for row in rows]
    here = [track for track in found if track.asked.get(store) is not Asked.WITHDRAWN]
    return here, rows[-1].seq if len(rows) == limit else None


def nameless_in(tx: Tx, store: str) -> int:
    """How many copies in the store belong to no track: they are speech."""
    named = exists().where(tracks.c.digest == copies.c.digest)
    nameless = select(func.count()).select_from(copies).where(copies.c.store == store, ~named)
    return int(tx.run(nameless.where(copies.c.state.in_(HOLDING))).scalar_one())


def _conditions(which: Selection) -> list[ColumnElement[bool]]:
    found = conditions(Query(which.prefix, owner=which.owner))
    if which.since is not None:
        found.append(tracks.c.created_at >= which.since)
    if which.until is not None:
        found.append(tracks.c.created_at < which.until)
    return found
