"""Copies that somebody acts on: who holds which, and what the row says after each outcome."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, bindparam, update

from soundkeep.catalog import claims, scrubs, sidecars
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Tx
from soundkeep.catalog.rows import copy_of
from soundkeep.catalog.schema import copies, now
from soundkeep.digest import Digest
from soundkeep.model import Blob, Chore, Copy, CopyState, chore_of


@dataclass(frozen=True, slots=True)
class Claimed:
    """A copy that this process may act on."""

    lease: claims.Lease
    copy: Copy
    known: Known | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """The blob of a leased copy, and every copy of it when that was leased."""

    blob: Blob
    copies: Sequence[Copy]


_LEASE_FOR_UPLOAD = claims.leasing(
    copies,
    and_(
        copies.c.digest == bindparam("raw"),
        copies.c.store.in_(bindparam("stores", expanding=True)),
        copies.c.chore == Chore.COPY.value,
        copies.c.due_at <= now(),
    ),
)
_LEASE_AT = claims.leasing(
    copies,
    and_(
        copies.c.digest == bindparam("raw"),
        copies.c.store == bindparam("in_store"),
        copies.c.key == bindparam("at_key"),
        copies.c.chore == Chore.COPY.value,
        copies.c.due_at <= now(),
    ),
)


def claim(
    tx: Tx, chore: Chore, store: str, *, holder: str, limit: int, lease_seconds: float
) -> list[Claimed]:
    """Leases copies of one store on which `chore` is due; none while the store is out."""
    leased = claims.claim_in_store(
        tx, copies, chore, store, holder=holder, limit=limit, lease_seconds=lease_seconds
    )
    return [Claimed(lease, copy_of(row)) for lease, row in leased]


def claim_for_upload(
    tx: Tx, digest: Digest, stores: Collection[str], *, holder: str, lease_seconds: float
) -> list[Claimed]:
    """Leases the wanted copies of one blob to the upload that brought it. (A leased row is not
    due; and whoever else would lease these waits for the blob's row, or skips them.)"""
    leased = claims.lease(
        tx,
        _LEASE_FOR_UPLOAD,
        {"raw": digest.raw, "stores": sorted(stores)},
        holder=holder,
        lease_seconds=lease_seconds,
    )
    return [Claimed(lease, copy_of(row)) for lease, row in leased]


def claim_at(
    tx: Tx, digest: Digest, place: Place, *, holder: str, lease_seconds: float
) -> Claimed | None:
    """Leases the copy that a blob is wanted to have there to whoever asked for it; None if it is
    not due, or leased."""
    leased = claims.lease(
        tx,
        _LEASE_AT,
        {"raw": digest.raw, "in_store": place.store, "at_key": place.key},
        holder=holder,
        lease_seconds=lease_seconds,
    )
    return next((Claimed(lease, copy_of(row)) for lease, row in leased), None)


def write_there(tx: Tx, claimed: Claimed) -> None:
    """From now on what lies there may be ours, whole or not: it is no claim any more. Raises
    `LeaseLost`."""
    claims.note(tx, copies, claimed.lease, verified=None)


def prove(tx: Tx, claimed: Claimed, *, locator: str, verified: str) -> None:
    """The copy was written or re-read whole: it is present. Raises `LeaseLost`."""
    copy = claimed.copy
    since = copy.since if copy.state is CopyState.PRESENT else now()
    claims.finish(
        tx,
        copies,
        claimed.lease,
        state=CopyState.PRESENT,
        since=since,
        locator=locator,
        verified=verified,
        verified_at=now(),
        chore=chore_of(CopyState.PRESENT, copy.wish),
        due_at=now(),
    )
    sidecars.sound_came(tx, copy.digest, copy.store, copy.key)
    if copy.state is CopyState.DOUBTED:
        scrubs.note_healed(tx, copy.id)


def prove_again(tx: Tx, copy: Copy, verified: str) -> None:
    """A present copy that nobody needed to lease was re-read whole."""
    which = and_(copies.c.id == copy.id, copies.c.state == CopyState.PRESENT.value)
    tx.run(update(copies).where(which).values(verified=verified, verified_at=now()))


def note_found(tx: Tx, copy: Copy, *, locator: str, verified: str) -> None:
    """A copy that was wanted or doubted was read whole where it should be, unless somebody is just
    working on it."""
    missing = copies.c.state.in_([CopyState.WANTED.value, CopyState.DOUBTED.value])
    which = and_(copies.c.id == copy.id, copies.c.lease_token.is_(None), missing)
    found = update(copies).where(which)
    present = found.values(
        state=CopyState.PRESENT,
        since=now(),
        locator=locator,
        verified=verified,
        verified_at=now(),
        chore=chore_of(CopyState.PRESENT, copy.wish),
        due_at=now(),
        attempts=0,
        last_error=None,
    )
    if tx.run(present).rowcount:
        sidecars.sound_came(tx, copy.digest, copy.store, copy.key)
        scrubs.note_healed(tx, copy.id)


def confirm_gone(tx: Tx, claimed: Claimed) -> None:
    """Forgets an unwanted copy whose bytes are confirmed to be gone. Raises `LeaseLost`.

    The caller takes the blob's row before and runs placement again after, in this transaction.
    """
    claims.forget(tx, copies, claimed.lease)
