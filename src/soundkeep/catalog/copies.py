"""Copies: the rows of the ledger, what is wanted of them, and what speaks against them.

State and wish change together with the chore that follows from them (`model.chore_of`), so a row
always says itself what is still to be done. A change made by anybody but the holder of a lease
takes the lease away: what that holder then writes down is refused. What becomes of a copy that
somebody acts on is in `copy_work`, and whether one may go in `copy_law`.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from sqlalchemy import (
    Executable,
    and_,
    bindparam,
    case,
    exists,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy import delete as delete_rows
from sqlalchemy.sql import ColumnElement

from soundkeep.catalog import blobs as blob_rows
from soundkeep.catalog import claims, facts
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.rows import copy_of, select_copies
from soundkeep.catalog.schema import copies, now
from soundkeep.digest import Digest
from soundkeep.errors import Unplayable
from soundkeep.model import CLAIMED, Blob, Chore, Copy, CopyState, Lane, Wish, chore_of
from soundkeep.settings import INBOX_PREFIX

WAITING = "waiting for "  # so begin the names of the facts that a blob waits for a key


@dataclass(frozen=True, slots=True)
class Place:
    """Where placement wants a blob."""

    store: str
    key: str


# Made once: building a statement costs more than running it.
_OF_BLOB = select_copies().where(copies.c.digest == bindparam("raw")).order_by(copies.c.id)
_OF_BLOBS = (
    select_copies()
    .where(copies.c.digest.in_(bindparam("all_raw", expanding=True)))
    .order_by(copies.c.id)
)
_TAKE_STATES = (
    select(copies.c.store, copies.c.key, copies.c.state)
    .where(copies.c.digest == bindparam("raw"))
    .order_by(copies.c.id)
    .with_for_update(read=True)
)
_RECORD_DUE = insert(copies).values(since=now(), due_at=now())
_RECORD_PRESENT = (
    insert(copies)
    .values(since=now(), verified_at=now(), due_at=now() + bindparam("due_in"))
    .returning(copies.c.id)
)
_OUTSIDE_INBOXES: ColumnElement[bool] = ~copies.c.store.startswith(INBOX_PREFIX)
_DUE_THERE = claims.making_due(
    copies,
    and_(
        _OUTSIDE_INBOXES,
        copies.c.store == bindparam("of_store"),
        copies.c.digest == bindparam("raw"),
    ),
)
_HELD = select(copies.c.store, copies.c.key, copies.c.digest).where(
    tuple_(copies.c.store, copies.c.key).in_(bindparam("places", expanding=True))
)


# --- looking --------------------------------------------------------------------------------


def of_blob(tx: Tx, digest: Digest) -> list[Copy]:
    """Every copy of a blob, in the order they were recorded."""
    return [copy_of(row) for row in tx.run(_OF_BLOB, {"raw": digest.raw})]


def of_blobs(tx: Tx, digests: Collection[Digest]) -> dict[Digest, list[Copy]]:
    """The copies of many blobs at once."""
    found: dict[Digest, list[Copy]] = {}
    for row in tx.run(_OF_BLOBS, {"all_raw": [digest.raw for digest in digests]}):
        copy = copy_of(row)
        found.setdefault(copy.digest, []).append(copy)
    return found


def been_present(tx: Tx, digest: Digest) -> frozenset[Place]:
    """Where a blob's sound came, and nobody has found it gone. Until the transaction ends, whoever
    proves that another came waits: else neither would see what the other asks for."""
    return frozenset(
        Place(row.store, row.key)
        for row in tx.run(_TAKE_STATES, {"raw": digest.raw})
        if row.state in (CopyState.PRESENT.value, CopyState.DOUBTED.value)
    )


def missing(tx: Tx, limit: int) -> list[Copy]:
    """Placed copies that are not present."""
    rows = (
        select_copies()
        .where(copies.c.state != CopyState.PRESENT.value, copies.c.wish == Wish.KEEP.value)
        .order_by(copies.c.id)
        .limit(limit)
    )
    return [copy_of(row) for row in tx.run(rows)]


def wanted_in(tx: Tx, stores: Collection[str], limit: int) -> list[Copy]:
    """Placed copies of these stores that are still to be written, in the order they were
    recorded."""
    rows = (
        select_copies()
        .where(copies.c.store.in_(sorted(stores)), copies.c.chore == Chore.COPY.value)
        .order_by(copies.c.id)
        .limit(limit)
    )
    return [copy_of(row) for row in tx.run(rows)]


def find(tx: Tx, copy_id: int) -> Copy | None:
    """One copy."""
    row = tx.run(select_copies().where(copies.c.id == copy_id)).first()
    return copy_of(row) if row else None


def page(
    tx: Tx,
    *,
    state: CopyState | None = None,
    store: str | None = None,
    failed: bool = False,
    after: int = 0,
    limit: int = 100,
) -> list[Copy]:
    """Copies by state or failure, in the order they were recorded, those after `after` only."""
    rows = select_copies().where(copies.c.id > after).order_by(copies.c.id).limit(limit)
    if state is not None:
        rows = rows.where(copies.c.state == state.value)
    if store is not None:
        rows = rows.where(copies.c.store == store)
    if failed:
        rows = rows.where(copies.c.last_error.is_not(None))
    return [copy_of(row) for row in tx.run(rows)]


def in_store(tx: Tx, store: str, after: int, limit: int) -> list[Copy]:
    """The copies of one store that should be there, in the order they were recorded."""
    rows = (
        select_copies()
        .where(copies.c.store == store, copies.c.id > after)
        .where(copies.c.state.in_([CopyState.PRESENT.value, CopyState.DOUBTED.value]))
        .order_by(copies.c.id)
        .limit(limit)
    )
    return [copy_of(row) for row in tx.run(rows)]


def by_key(tx: Tx, store: str, after: str, limit: int, *, staying: bool = False) -> list[Copy]:
    """The copies of one store, by key, those after `after` only; if `staying`, only such as are
    neither asked to leave nor let go."""
    rows = select_copies().where(copies.c.store == store, copies.c.key > after)
    if staying:
        rows = rows.where(copies.c.wish != Wish.LEAVE, copies.c.state != CopyState.UNWANTED)
    return [copy_of(row) for row in tx.run(rows.order_by(copies.c.key).limit(limit))]


def unknown_keys(tx: Tx, store: str, keys: Collection[str]) -> set[str]:
    """Which of these keys of a store no row knows."""
    known = select(copies.c.key).where(copies.c.store == store, copies.c.key.in_(keys))
    return set(keys) - set(tx.run(known).scalars())


def keys_at(tx: Tx, store: str, locator: str, key: str | None) -> list[str]:
    """Under which keys that object of a store is known, or would be; `key` is the one that the
    locator came from, if any."""
    here = or_(copies.c.key.in_({locator, key} - {None}), copies.c.locator == locator)
    return list(tx.run(select(copies.c.key).where(copies.c.store == store, here)).scalars())


# --- wanting --------------------------------------------------------------------------------


def record_present(
    tx: Tx, digest: Digest, place: Place, *, locator: str, verified: str, wish: Wish, due_in: float
) -> int:
    """Records a copy whose bytes were just written by us; answers its id."""
    row = {
        **_row(digest, CopyState.PRESENT, wish, Lane.BULK),
        "store": place.store,
        "key": place.key,
        "locator": locator,
        "verified": verified,
        "due_in": due_in,
    }
    return int(tx.run(_RECORD_PRESENT, row).scalar_one())


def want(tx: Tx, digest: Digest, places: Collection[Place], lane: Lane) -> None:
    """Records wanted copies. A key that an outgoing copy still holds is left alone: whoever
    confirms that removal runs placement again, also for the blob that waits for the key."""
    if not places:
        return
    wanted = sorted((place.store, place.key) for place in places)
    fields = _row(digest, CopyState.WANTED, Wish.KEEP, lane)
    rows = [{**fields, "store": store, "key": key} for store, key in wanted]
    recorded = tx.run(_recording_free(tx.on_postgresql), rows).rowcount
    tx.wakes |= recorded > 0
    if recorded == len(wanted):
        return
    held = tx.run(_HELD, {"places": wanted}).all()
    if len(held) < len(wanted):  # somebody has let a key go in between
        want(tx, digest, places, lane)
        return
    for row in held:
        if bytes(row.digest) != digest.raw:
            facts.write(tx, _waiting(Place(row.store, row.key)), digest.hex)


@cache
def _recording_free(on_postgresql: bool) -> Executable:
    """Records due copies where nobody holds the key."""
    row = conflict_insert(copies, on_postgresql=on_postgresql).values(since=now(), due_at=now())
    recording: Executable = row.on_conflict_do_nothing(index_elements=["store", "key"])
    return recording


def claim_to_be_there(tx: Tx, digest: Digest, place: Place, locator: str | None, why: str) -> None:
    """Somebody says that a copy lies there: it is doubted, so that the worker looks before it
    writes. One that is known to be there, or is just being written, stays as it is. `locator` is
    what the store calls it, if they say that."""
    here = and_(copies.c.store == place.store, copies.c.key == place.key)
    free = and_(here, copies.c.state == CopyState.WANTED, copies.c.lease_token.is_(None))
    said = {"last_error": why, "locator": locator}
    untouched = copies.c.attempts == 0  # else what lies there may be half of ours
    changed = _take_over(
        tx,
        free,
        state=CopyState.DOUBTED,
        chore=Chore.VERIFY,
        since=now(),
        verified=case((untouched, CLAIMED), else_=None),
        **said,
    )
    if not changed and not tx.run(select(copies.c.id).where(here)).first():
        row = _row(digest, CopyState.DOUBTED, Wish.KEEP, Lane.BULK)
        there = {"store": place.store, "key": place.key, "verified": CLAIMED}
        tx.run(_RECORD_DUE, [row | there | said])
        tx.wakes = True


def take_waiting(tx: Tx, place: Place) -> Digest | None:
    """The blob that waited for this key, which is free now; it waits no more."""
    waiting = facts.read(tx, _waiting(place))
    if waiting is None:
        return None
    facts.forget(tx, _waiting(place))
    return Digest.parse(waiting)


def wish(tx: Tx, copy: Copy, wanted: Wish, lane: Lane = Lane.INTERACTIVE) -> None:
    """Changes what placement wants of a copy, and what is to be done with it now."""
    chore = chore_of(copy.state, wanted)
    _take_over(tx, copies.c.id == copy.id, wish=wanted, chore=chore, lane=lane)


def abandon(tx: Tx, digest: Digest) -> None:
    """Lets every copy of a blob go. Only for a blob that nothing names: no law protects it."""
    which = and_(copies.c.digest == digest.raw, copies.c.state != CopyState.UNWANTED.value)
    _take_over(tx, which, state=CopyState.UNWANTED, since=now(), chore=Chore.DROP)


def doubt(tx: Tx, copy_id: int, why: str) -> bool:
    """Marks a present copy doubted, which makes it due; answers whether it was present."""
    which = and_(copies.c.id == copy_id, copies.c.state == CopyState.PRESENT.value)
    leaving = copies.c.wish == Wish.LEAVE.value
    changed = _take_over(
        tx,
        which,
        state=CopyState.DOUBTED,
        since=now(),
        chore=case((leaving, Chore.LEAVE.value), else_=Chore.VERIFY.value),
        lane=Lane.INTERACTIVE,
        last_error=why[:500],
    )
    return changed > 0


def doubt_at(tx: Tx, store: str, key: str, why: str) -> bool:
    """Doubts whatever copy is recorded as present under this key; one that is just being written
    there is written again, since its writer may have proven it a moment too early."""
    which = and_(copies.c.store == store, copies.c.key == key)
    _take_over(tx, and_(which, copies.c.state == CopyState.WANTED.value))
    copy_id = tx.run(select(copies.c.id).where(which)).scalar_one_or_none()
    return copy_id is not None and doubt(tx, copy_id, why)


def written_too_late(tx: Tx, copy: Copy, blob: Blob, locator: str) -> None:
    """Bytes were written under this copy's key by one who had lost its lease.

    What is recorded there now is doubted. If nothing is, nobody else knows of them: they are
    recorded as unwanted, and so removed.
    """
    blob_rows.ensure(tx, blob)
    held = exists().where(copies.c.store == copy.store, copies.c.key == copy.key)
    if tx.run(select(held)).scalar_one():
        doubt_at(tx, copy.store, copy.key, "written too late")
        return
    row = _row(copy.digest, CopyState.UNWANTED, Wish.LEAVE, Lane.BULK)
    tx.run(_RECORD_DUE, [{**row, "store": copy.store, "key": copy.key, "locator": locator}])
    tx.wakes = True


# --- forgotten, or due again ----------------------------------------------------------------


def forget(tx: Tx, which: Collection[Copy]) -> None:
    """Forgets copies whose store nobody knows any more. Their blobs' rows are taken."""
    tx.run(delete_rows(copies).where(copies.c.id.in_([copy.id for copy in which])))


def is_inbox(store: str) -> bool:
    """Whether a copy in this store is only on its way. It never counts."""
    return store.startswith(INBOX_PREFIX)


def due_now(tx: Tx, *, store: str | None = None, digest: Digest | None = None) -> int:
    """Makes waiting rows due at once: of a store that is back, of one blob, or all. (What lingers
    in an inbox does not wait for anybody.)"""
    if store is not None and digest is not None:
        return claims.run_due(tx, _DUE_THERE, {"of_store": store, "raw": digest.raw})
    which = _OUTSIDE_INBOXES
    if store is not None:
        which = and_(which, copies.c.store == store)
    if digest is not None:
        which = and_(which, copies.c.digest == digest.raw)
    return claims.make_due(tx, copies, which)


def may_be_dropped(tx: Tx, digest: Digest, place: Place) -> None:
    """What this copy's removal waited for is done."""
    here = and_(copies.c.store == place.store, copies.c.key == place.key)
    claims.make_due(tx, copies, and_(copies.c.digest == digest.raw, here))


def due_now_unplayable(tx: Tx) -> int:
    """Makes due what could not be copied because no source was readable: one may be back."""
    return claims.make_due(tx, copies, copies.c.last_error.startswith(Unplayable.code))


def waiting(tx: Tx) -> set[Digest]:
    """The blobs that wait for a key which another blob's copy still holds."""
    return {Digest.parse(value) for value in facts.values(tx, WAITING)}


def _waiting(place: Place) -> str:
    """The name of the fact that a blob waits for a key."""
    return waiting_in(place.store) + place.key


def waiting_in(store: str) -> str:
    """What the names of all such facts about one store begin with."""
    return f"{WAITING}{store} "


def _row(digest: Digest, state: CopyState, wished: Wish, lane: Lane) -> dict[str, object]:
    """What a new row says besides its place and its times."""
    return {
        "digest": digest.raw,
        "state": state,
        "wish": wished,
        "chore": chore_of(state, wished),
        "lane": lane,
        "attempts": 0,
    }


def _take_over(tx: Tx, which: ColumnElement[bool], **values: object) -> int:
    """Changes rows from outside. Who holds a lease on one loses it, and the row rests until that
    lease would have run out: until then its holder may still be writing.

    Until then the row carries a token that nobody holds, so that neither a second change nor a
    retry ends the rest. Whoever finds the holder dead may end it.
    """
    leased = copies.c.lease_token.is_not(None)
    resting = {
        "lease_token": case((leased, secrets.token_hex(8)), else_=None),
        "due_at": case((leased, copies.c.due_at), else_=now()),
        "attempts": 0,
    }
    tx.wakes = True
    return tx.run(update(copies).where(which).values(**{**resting, **values})).rowcount
