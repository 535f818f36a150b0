"""Errands: what other programs ask for, each a row until it is done.

A signed webhook writes them, and so may any trigger in the same PostgreSQL database: one row with
`chore`, `store`, and `key` (of `adopt`) or `track_id` (of `sync`). One that cannot be done whoever
tries is kept with the reason and without a chore, for a person to see.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, insert, select

from soundkeep.catalog import claims
from soundkeep.catalog.database import Tx
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import errands
from soundkeep.model import Chore, Operation


@dataclass(frozen=True, slots=True)
class Errand:
    """One thing that somebody else asked for. Its texts are theirs: nothing is checked yet."""

    chore: Chore
    store: str
    key: str | None = None
    track_id: str | None = None
    operation: str = Operation.UPLOAD
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """An errand that this process may run."""

    lease: claims.Lease
    errand: Errand


def add(tx: Tx, errand: Errand) -> None:
    """Asks for it."""
    tx.run(
        insert(errands).values(
            chore=errand.chore,
            store=errand.store,
            key=errand.key,
            track_id=errand.track_id,
            operation=errand.operation,
        )
    )
    tx.wakes = True


def claim(
    tx: Tx, chore: Chore, store: str, *, holder: str, limit: int, lease_seconds: float
) -> list[Claimed]:
    """Leases errands that are due; none while the store is out."""
    leased = claims.claim_in_store(
        tx, errands, chore, store, holder=holder, limit=limit, lease_seconds=lease_seconds
    )
    return [Claimed(lease, _errand(row)) for lease, row in leased]


def done(tx: Tx, claimed: Claimed) -> None:
    """Forgets it. Raises `LeaseLost`."""
    claims.forget(tx, errands, claimed.lease)


def refuse(tx: Tx, claimed: Claimed, why: str) -> None:
    """It cannot be done, and trying again would not help. Raises `LeaseLost`."""
    claims.finish(tx, errands, claimed.lease, chore=None, last_error=why[:500])


def refused(tx: Tx, limit: int) -> list[Errand]:
    """Those that could not be done, the last ones first."""
    rows = select(errands).where(errands.c.chore.is_(None)).order_by(errands.c.id.desc())
    return [_errand(row) for row in tx.run(rows.limit(limit))]


def refused_count(tx: Tx) -> int:
    """How many could not be done."""
    refused_ones = select(func.count()).select_from(errands).where(errands.c.chore.is_(None))
    return int(tx.run(refused_ones).scalar_one())


def _errand(row: AnyRow) -> Errand:
    chore = row.chore or (Chore.ADOPT if row.key is not None else Chore.SYNC)
    return Errand(Chore(chore), row.store, row.key, row.track_id, row.operation, row.last_error)
