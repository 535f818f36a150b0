"""Sidecars: which should lie beside which sound, and which do. `copies/sidecars.py` writes them.

A row says which revision of its subject (a track or a segment) the sidecar should show and which
it shows. It has no chore until its sound is there for the first time, so that nobody finds a
sidecar that describes nothing; from then on it is due whenever the two revisions differ.

What becomes of a row that somebody acts on is in `sidecar_work`. Only a sidecar that is wanted anew
begins without the lease of one who may still be removing it.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache

from sqlalchemy import (
    Executable,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.sql import ColumnElement

from soundkeep.catalog import claims
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.rows import select_sidecars, sidecar_of
from soundkeep.catalog.schema import now, sidecars
from soundkeep.digest import Digest
from soundkeep.model import Chore, Lane, Sidecar, Subject, Wish


@dataclass(frozen=True, slots=True)
class SidecarPlace:
    """Where placement wants a sidecar: of what at which revision, beside which sound."""

    store: str
    key: str
    subject: Subject
    audio_key: str
    public: bool
    revision: int


LEASED = sidecars.c.lease_token.is_not(None)
DUE_AFTER_ANY_LEASE = case((LEASED, sidecars.c.due_at), else_=now())
WAITS_FOR_ITS_SOUND = and_(sidecars.c.revision.is_(None), sidecars.c.chore.is_(None))
IS_KEPT = sidecars.c.wish == Wish.KEEP.value
_UNWRITTEN = or_(sidecars.c.revision.is_(None), sidecars.c.revision != sidecars.c.wanted)

# Made once: building a statement costs more than running it.
_OF_BLOB = select_sidecars().where(sidecars.c.digest == bindparam("raw")).order_by(sidecars.c.id)
_FOLLOW = (
    update(sidecars)
    .where(sidecars.c.digest == bindparam("of_blob"), sidecars.c.kind == bindparam("of_kind"))
    .where(sidecars.c.name == bindparam("of_name"))
    .where(IS_KEPT)
    .values(
        wanted=bindparam("now_wanted"),
        chore=case((WAITS_FOR_ITS_SOUND, null()), else_=Chore.WRITE_SIDECAR.value),
        due_at=DUE_AFTER_ANY_LEASE,
        attempts=0,
    )
)
_SOUND_CAME = (
    update(sidecars)
    .where(sidecars.c.digest == bindparam("of_blob"), sidecars.c.store == bindparam("in_store"))
    .where(sidecars.c.audio_key == bindparam("beside"), sidecars.c.chore.is_(None))
    .where(IS_KEPT, _UNWRITTEN)
    .values(chore=Chore.WRITE_SIDECAR.value, due_at=DUE_AFTER_ANY_LEASE, attempts=0)
)


# --- looking --------------------------------------------------------------------------------


def of_blob(tx: Tx, digest: Digest) -> list[Sidecar]:
    """The sidecars beside every copy of a blob, in the order they were recorded."""
    return [sidecar_of(row) for row in tx.run(_OF_BLOB, {"raw": digest.raw})]


def of_blobs(tx: Tx, digests: Collection[Digest]) -> list[Sidecar]:
    """The sidecars beside every copy of several blobs."""
    raw = [digest.raw for digest in digests]
    rows = select_sidecars().where(sidecars.c.digest.in_(raw)).order_by(sidecars.c.id)
    return [sidecar_of(row) for row in tx.run(rows)]


def of_track(tx: Tx, digest: Digest, track_id: str) -> list[Sidecar]:
    """One track's sidecars, also if it is deleted."""
    return [sidecar for sidecar in of_blob(tx, digest) if sidecar.track_id == track_id]


def unwritten(tx: Tx, limit: int) -> list[Sidecar]:
    """Placed sidecars that no store has as their subjects are now."""
    rows = select_sidecars().where(is_unwritten()).order_by(sidecars.c.id).limit(limit)
    return [sidecar_of(row) for row in tx.run(rows)]


def failing(tx: Tx, limit: int) -> list[Sidecar]:
    """Those whose last attempt failed."""
    failed = select_sidecars().where(sidecars.c.last_error.is_not(None))
    return [sidecar_of(row) for row in tx.run(failed.order_by(sidecars.c.id).limit(limit))]


def is_unwritten() -> ColumnElement[bool]:
    """The condition that a placed sidecar is still to be written."""
    return and_(IS_KEPT, or_(_UNWRITTEN, sidecars.c.chore.is_not(None)))


def by_store(tx: Tx) -> dict[str, tuple[int, int, int]]:
    """How many each store has that are written, due and failing."""
    leaving = sidecars.c.wish == Wish.LEAVE.value
    counts = select(
        sidecars.c.store,
        func.count(case((and_(IS_KEPT, ~is_unwritten()), 1))).label("written"),
        func.count(case((or_(leaving, is_unwritten()), 1))).label("due"),
        func.count(sidecars.c.last_error).label("failing"),
    ).group_by(sidecars.c.store)
    return {row.store: (row.written, row.due, row.failing) for row in tx.run(counts)}


def leaves_beside(tx: Tx, digest: Digest, store: str, audio_key: str) -> bool:
    """Whether a sidecar beside this sound is still to be removed."""
    leaving = exists().where(
        sidecars.c.digest == digest.raw,
        sidecars.c.store == store,
        sidecars.c.audio_key == audio_key,
        sidecars.c.wish == Wish.LEAVE.value,
    )
    return bool(tx.run(select(leaving)).scalar_one())


def keys_at(tx: Tx, store: str, locator: str, key: str | None) -> list[str]:
    """Under which keys that object of a store is known, or would be; `key` is the one that the
    locator came from, if any."""
    here = or_(sidecars.c.key.in_({locator, key} - {None}), sidecars.c.locator == locator)
    return list(tx.run(select(sidecars.c.key).where(sidecars.c.store == store, here)).scalars())


# --- wanting --------------------------------------------------------------------------------


def want(
    tx: Tx, digest: Digest, places: Iterable[SidecarPlace], writable: Collection[SidecarPlace]
) -> None:
    """Wants sidecars, also such as rest or are being removed. The `writable` among them are due
    now, since their sound is there."""
    rows = [
        {
            "digest": digest.raw,
            "kind": place.subject.kind,
            "name": place.subject.name,
            "store": place.store,
            "key": place.key,
            "audio_key": place.audio_key,
            "public": place.public,
            "wanted": place.revision,
            "chore": Chore.WRITE_SIDECAR if place in writable else None,
        }
        for place in sorted(places, key=lambda place: (place.store, place.key))
    ]
    if rows:
        tx.run(_wanting(tx.on_postgresql), rows)
        tx.wakes = True


@cache
def _wanting(on_postgresql: bool) -> Executable:
    """One statement for a new row and for one that is there. Made once.

    The row of another subject is left alone: no layout gives two of them one key, but a key that is
    too long falls back to another layout's.
    """
    row = conflict_insert(sidecars, on_postgresql=on_postgresql).values(
        wish=Wish.KEEP, lane=Lane.BULK, attempts=0, due_at=now()
    )
    new = row.excluded
    as_before = and_(
        sidecars.c.wish != Wish.LEAVE.value,
        sidecars.c.audio_key == new.audio_key,
        sidecars.c.public == new.public,
    )
    nobodys = literal(secrets.token_hex(8))  # a lease that was held is lost: its holder may be late
    wanting: Executable = row.on_conflict_do_update(
        index_elements=[sidecars.c.store, sidecars.c.key],
        set_={
            "digest": new.digest,
            "audio_key": new.audio_key,
            "public": new.public,
            "wanted": new.wanted,
            "wish": new.wish,
            "revision": case((as_before, sidecars.c.revision), else_=null()),
            "chore": new.chore,
            "lane": new.lane,
            "due_at": DUE_AFTER_ANY_LEASE,
            "lease_token": case((LEASED, nobodys), else_=null()),
            "attempts": 0,
            "last_error": null(),
        },
        where=and_(sidecars.c.kind == new.kind, sidecars.c.name == new.name),
    )
    return wanting


def follow(tx: Tx, digest: Digest, subject: Subject, revision: int) -> None:
    """A track or a segment has changed: its sidecars are to show this revision."""
    of = {"of_blob": digest.raw, "of_kind": subject.kind, "of_name": subject.name}
    tx.run(_FOLLOW, {**of, "now_wanted": revision})
    tx.wakes = True


def sound_came(tx: Tx, digest: Digest, store: str, key: str) -> None:
    """A copy is present: what waited to lie beside it is due."""
    given = {"of_blob": digest.raw, "in_store": store, "beside": key}
    tx.wakes |= tx.run(_SOUND_CAME, given).rowcount > 0


def leave(tx: Tx, which: Collection[Sidecar]) -> None:
    """Sends sidecars away: there is no law about them, the catalog can write them again."""
    _ask(tx, which, Wish.LEAVE, Chore.REMOVE_SIDECAR)


def forget_store(tx: Tx, store: str) -> list[int]:
    """Forgets every sidecar of a store that nobody knows any more; answers their numbers."""
    gone = delete(sidecars).where(sidecars.c.store == store).returning(sidecars.c.id)
    return list(tx.run(gone).scalars())


def leave_with(tx: Tx, digest: Digest, store: str, audio_key: str) -> None:
    """Sends away what rests beside a sound that goes itself."""
    beside = (each for each in of_blob(tx, digest) if each.audio_key == audio_key)
    leave(tx, [each for each in beside if each.store == store and each.wish is Wish.REST])


def rest(tx: Tx, which: Collection[Sidecar]) -> None:
    """A change of settings unplaced these: they stay as they are, and are not rewritten."""
    _ask(tx, which, Wish.REST, None)


def _ask(tx: Tx, which: Collection[Sidecar], wish: Wish, chore: Chore | None) -> None:
    if not which:
        return
    asked = update(sidecars).where(sidecars.c.id.in_([sidecar.id for sidecar in which]))
    values = {"wish": wish, "chore": chore, "lane": Lane.INTERACTIVE, "attempts": 0}
    tx.run(asked.values(**values, due_at=DUE_AFTER_ANY_LEASE))
    tx.wakes = True


def due_now(tx: Tx, *, store: str | None = None, digest: Digest | None = None) -> int:
    """Makes waiting rows due at once: of a store that is back, of one blob, or all."""
    which: list[ColumnElement[bool]] = [sidecars.c.chore.is_not(None)]
    if store is not None:
        which.append(sidecars.c.store == store)
    if digest is not None:
        which.append(sidecars.c.digest == digest.raw)
    return claims.make_due(tx, sidecars, and_(*which))


def number(tx: Tx, which: ColumnElement[bool]) -> int:
    """How many rows there are of a kind."""
    return int(tx.run(select(func.count()).select_from(sidecars).where(which)).scalar_one())
