"""How many copies each store has, in each state: counted now and then, kept with its time.

A full count of a million rows takes a third of a second, so `status` shows the last one and when
it was; `check` counts anew.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Select, and_, func, select

from soundkeep.catalog import copies as copy_rows
from soundkeep.catalog import facts, sidecars
from soundkeep.catalog.database import Tx
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import blobs, copies, tracks
from soundkeep.digest import Digest
from soundkeep.model import CopyState, Wish
from soundkeep.settings import INBOX_PREFIX

FACT = "coverage"
DIGESTS_AT_ONCE = 500  # of those that one statement asks for

_IS_UNPLACED = ~(
    select(copies.c.id)
    .where(copies.c.digest == tracks.c.digest, copies.c.wish == Wish.KEEP.value)
    .where(~copies.c.store.startswith(INBOX_PREFIX))
    .exists()
)


class SidecarCoverage(msgspec.Struct, frozen=True):
    """One store's sidecars: those that are as their tracks are, those still to be written or
    removed, and those whose last attempt failed. One that rests is none of them."""

    written: int = 0
    due: int = 0
    failing: int = 0


class StoreCoverage(msgspec.Struct, frozen=True):
    """One store's share. `resting` copies are no longer placed there, `leaving` ones wait for the
    copy law or for their removal; both are in `states` too."""

    store: str
    states: dict[str, int] = {}
    bytes_present: int = 0
    resting: int = 0
    leaving: int = 0
    failing: int = 0
    sidecars: SidecarCoverage = SidecarCoverage()
    oldest_proof_at: float | None = None  # of its present copies


class Coverage(msgspec.Struct, frozen=True):
    """All stores' shares at one moment."""

    counted_at: float
    tracks: int
    blobs: int
    bytes: int
    temporary: int  # tracks that are in an inbox only
    temporary_bytes: int
    missing: int  # placed copies that are not present
    stores: list[StoreCoverage]
    unwritten: int = 0  # placed sidecars that are not as their tracks are
    unplaced: int = 0  # tracks that belong in no store: what they have is not repaired


def count(tx: Tx) -> Coverage:
    """Counts everything exactly."""
    total, size = _number_and_bytes(
        tx, select(func.count(), func.sum(blobs.c.size_bytes)).select_from(blobs)
    )
    temporary, temporary_bytes = _temporary(tx)
    shares = _shares(tx)
    return Coverage(
        counted_at=tx.now(),
        tracks=tx.run(select(func.count()).select_from(tracks)).scalar_one(),
        blobs=total,
        bytes=size,
        temporary=temporary,
        temporary_bytes=temporary_bytes,
        missing=_missing(tx),
        stores=shares,
        unwritten=sidecars.number(tx, sidecars.is_unwritten()),
        unplaced=_number_unplaced(tx),
    )


def keep(tx: Tx, coverage: Coverage) -> None:
    """Keeps the figures for everybody."""
    facts.write(tx, FACT, msgspec.to_builtins(coverage))


def last(tx: Tx) -> Coverage | None:
    """The figures of the last count, with their time."""
    value = facts.read(tx, FACT)
    return msgspec.convert(value, type=Coverage) if value else None


def _shares(tx: Tx) -> list[StoreCoverage]:
    """One pass over all copies, and one over all sidecars."""
    failing = func.count(copies.c.last_error)
    groups = (
        select(
            copies.c.store,
            copies.c.state,
            copies.c.wish,
            func.count().label("copies"),
            func.sum(blobs.c.size_bytes).label("bytes"),
            failing.label("failing"),
            func.min(copies.c.verified_at).label("proven_at"),
        )
        .join(blobs, blobs.c.digest == copies.c.digest)
        .group_by(copies.c.store, copies.c.state, copies.c.wish)
    )
    shares: dict[str, StoreCoverage] = {}
    for row in tx.run(groups):
        before = shares.get(row.store) or StoreCoverage(row.store)
        here = row.state == CopyState.PRESENT
        leaves = row.wish == Wish.LEAVE or row.state == CopyState.UNWANTED
        shares[row.store] = StoreCoverage(
            row.store,
            {**before.states, row.state: before.states.get(row.state, 0) + row.copies},
            before.bytes_present + (int(row.bytes) if here else 0),
            before.resting + (row.copies if row.wish == Wish.REST else 0),
            before.leaving + (row.copies if leaves else 0),
            before.failing + row.failing,
            oldest_proof_at=_older(before.oldest_proof_at, row.proven_at if here else None),
        )
    for store, beside in sidecars.by_store(tx).items():
        share = shares.get(store) or StoreCoverage(store)
        shares[store] = msgspec.structs.replace(share, sidecars=SidecarCoverage(*beside))
    return [shares[name] for name in sorted(shares)]


def _older(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _missing(tx: Tx) -> int:
    placed = and_(copies.c.wish == Wish.KEEP.value, copies.c.state != CopyState.PRESENT.value)
    return int(tx.run(select(func.count()).select_from(copies).where(placed)).scalar_one())


def unplaced(tx: Tx, limit: int) -> list[str]:
    """The ids of the first tracks that belong in no store."""
    waiting = copy_rows.waiting(tx)
    found = select(tracks.c.id, tracks.c.digest).where(_IS_UNPLACED).order_by(tracks.c.id)
    rows = tx.run(found.limit(limit + len(waiting)))
    return [row.id for row in rows if Digest(bytes(row.digest)) not in waiting][:limit]


def _number_unplaced(tx: Tx) -> int:
    """Those that wait for a key, which an outgoing copy of another sound still holds, do belong
    there."""
    number = select(func.count()).select_from(tracks).where(_IS_UNPLACED)
    unplaced = int(tx.run(number).scalar_one())
    if unplaced:
        waiting = sorted(digest.raw for digest in copy_rows.waiting(tx))
        for begin in range(0, len(waiting), DIGESTS_AT_ONCE):
            some = tracks.c.digest.in_(waiting[begin : begin + DIGESTS_AT_ONCE])
            unplaced -= tx.run(number.where(some)).scalar_one()
    return unplaced


def _temporary(tx: Tx) -> tuple[int, int]:
    """Tracks without a present copy outside an inbox, and their bytes."""
    held = (
        select(copies.c.id)
        .where(copies.c.digest == tracks.c.digest, copies.c.state == CopyState.PRESENT.value)
        .where(~copies.c.store.startswith(INBOX_PREFIX))
        .exists()
    )
    unheld = (
        select(func.count(), func.sum(blobs.c.size_bytes))
        .select_from(tracks)
        .join(blobs, blobs.c.digest == tracks.c.digest)
        .where(~held)
    )
    return _number_and_bytes(tx, unheld)


def _number_and_bytes(tx: Tx, query: Select[*tuple[Any, ...]]) -> tuple[int, int]:
    row: AnyRow = tx.run(query).one()
    return int(row[0]), int(row[1] or 0)
