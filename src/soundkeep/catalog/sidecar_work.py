"""Sidecars that somebody acts on: who holds which, and what the row asks for after each outcome.

A change of the subject, or its deletion, takes no lease away: it changes what the row asks for, and
whoever holds the lease writes down an outcome that leads on to that.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import and_, bindparam, case, insert, null, update
from sqlalchemy.sql import ColumnElement

from soundkeep.catalog import claims
from soundkeep.catalog.database import Tx
from soundkeep.catalog.rows import sidecar_of
from soundkeep.catalog.schema import now, sidecars
from soundkeep.catalog.sidecars import DUE_AFTER_ANY_LEASE, IS_KEPT, LEASED, WAITS_FOR_ITS_SOUND
from soundkeep.model import Chore, Lane, Sidecar, Wish

LATER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ClaimedSidecar:
    """A sidecar that this process may act on."""

    lease: claims.Lease
    sidecar: Sidecar


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of a put."""

    claimed: ClaimedSidecar
    revision: int
    locator: str


# Made once: building a statement costs more than running it.
_WRITTEN = (
    update(sidecars)
    .where(sidecars.c.id == bindparam("of_row"), sidecars.c.lease_token == bindparam("of_token"))
    .values(
        revision=bindparam("shows"),
        locator=bindparam("lies_at"),
        chore=case(
            (and_(IS_KEPT, sidecars.c.wanted == bindparam("shows")), null()),
            else_=sidecars.c.chore,
        ),
        due_at=now(),
        lease_token=None,
        lease_holder=None,
        attempts=0,
        last_error=None,
    )
    .returning(sidecars.c.chore)
)


def claim(
    tx: Tx, chore: Chore, store: str, *, holder: str, limit: int, lease_seconds: float
) -> list[ClaimedSidecar]:
    """Leases sidecars of one store on which `chore` is due; none while the store is out."""
    leased = claims.claim_in_store(
        tx, sidecars, chore, store, holder=holder, limit=limit, lease_seconds=lease_seconds
    )
    return [ClaimedSidecar(lease, sidecar_of(row)) for lease, row in leased]


def note_written(tx: Tx, outcomes: Iterable[Written]) -> list[bool]:
    """Stores have these sidecars at these revisions. Each is at rest unless something else was
    asked for meanwhile. Answers for each whether the lease still held; else nothing was noted."""
    return [_note_written(tx, outcome) for outcome in outcomes]


def _note_written(tx: Tx, outcome: Written) -> bool:
    lease = outcome.claimed.lease
    shown = {"shows": outcome.revision, "lies_at": outcome.locator}
    row = tx.run(_WRITTEN, shown | {"of_row": lease.row_id, "of_token": lease.token}).first()
    tx.wakes |= row is not None and row.chore is not None
    return row is not None


def found_written(tx: Tx, store: str, key: str, locator: str, revision: int) -> None:
    """A store was found to have this sidecar as it should be, by one who read it there."""
    here = and_(sidecars.c.store == store, sidecars.c.key == key, sidecars.c.lease_token.is_(None))
    same = and_(here, IS_KEPT, sidecars.c.wanted == revision)
    tx.run(update(sidecars).where(same).values(revision=revision, locator=locator, chore=None))


def come_back_later(tx: Tx, claimed: ClaimedSidecar) -> None:
    """There is nothing to write of its subject. What was asked for meanwhile is due at once; if
    nothing was, the settings of this process are ahead of the rows."""
    still_to_write = sidecars.c.chore == Chore.WRITE_SIDECAR.value
    due_at = case((still_to_write, now() + LATER_SECONDS), else_=now())
    claims.finish(tx, sidecars, claimed.lease, due_at=due_at)
    tx.wakes = True


def note_gone(tx: Tx, claimed: ClaimedSidecar) -> None:
    """Forgets a sidecar that is confirmed to be gone. Raises `LeaseLost`."""
    claims.forget(tx, sidecars, claimed.lease)


def written_too_late(tx: Tx, sidecar: Sidecar, locator: str) -> None:
    """It was written by one who had lost the lease: what the row says is made true again. If
    there is no row any more, one is made that removes it."""
    if _due_again(tx, sidecar.store, sidecar.key):
        return
    tx.run(
        insert(sidecars).values(
            digest=sidecar.digest.raw,
            kind=sidecar.subject.kind,
            name=sidecar.subject.name,
            store=sidecar.store,
            key=sidecar.key,
            audio_key=sidecar.audio_key,
            public=sidecar.public,
            locator=locator,
            wish=Wish.LEAVE,
            wanted=sidecar.wanted,
            chore=Chore.REMOVE_SIDECAR,
            lane=Lane.BULK,
            due_at=now(),
            attempts=0,
        )
    )
    tx.wakes = True


def removed_too_late(tx: Tx, sidecar: Sidecar) -> None:
    """Whoever removed it may have lost the lease: if it is wanted now, it is written again."""
    write_again_at(tx, sidecar.store, sidecar.key)


def write_again_at(tx: Tx, store: str, key: str) -> None:
    """Something may have been removed there: what is wanted there now is written again."""
    _due_again(tx, store, key, IS_KEPT)


def _due_again(tx: Tx, store: str, key: str, *which: ColumnElement[bool]) -> bool:
    """Lets the row at this key begin anew once any lease on it has run out; whether there is one.

    Its chore is what is asked for; what waits for its sound goes on waiting.
    """
    leaves = sidecars.c.wish == Wish.LEAVE.value
    writes = and_(IS_KEPT, ~WAITS_FOR_ITS_SOUND)
    again = (
        update(sidecars)
        .where(sidecars.c.store == store, sidecars.c.key == key, *which)
        .values(
            chore=case(
                (leaves, Chore.REMOVE_SIDECAR.value),
                (writes, Chore.WRITE_SIDECAR.value),
                else_=null(),
            ),
            due_at=DUE_AFTER_ANY_LEASE,
            lease_token=case((LEASED, secrets.token_hex(8)), else_=null()),
        )
    )
    tx.wakes = True
    return tx.run(again).rowcount > 0
