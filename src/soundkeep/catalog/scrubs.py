"""Scrubs: which copies nobody has looked at for longest, what was read, and what was wrong.

A copy's own `verified_at` is its proof, and `seen_at` a mere look, so a scrub that is interrupted
goes on with the oldest. One process at a time scrubs a store; all of them share one budget.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, case, delete, exists, func, insert, or_, select, update
from sqlalchemy.sql import ColumnElement

from soundkeep.catalog import facts
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.rows import copy_of
from soundkeep.catalog.schema import blobs, copies, finds, now, scrubs
from soundkeep.digest import Digest
from soundkeep.model import Copy, CopyState, Wish

BUDGET = "scrub budget"  # a fact: until when what was read is paid for
DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What scrubs of one store have done so far."""

    full_pass_at: float | None = None
    copies_read: int = 0
    bytes_read: int = 0
    found: int = 0
    healed: int = 0
    unhealed: int = 0  # still doubted; the others' copies have left since


@dataclass(frozen=True, slots=True)
class Due:
    """A copy that is to be looked at."""

    copy: Copy
    size_bytes: int
    looked_at: float  # the last time


@dataclass(frozen=True, slots=True)
class Find:
    """A copy that a scrub found to be wrong."""

    store: str
    key: str
    digest: Digest
    why: str
    found_at: float
    healed_at: float | None
    is_open: bool  # it is doubted still: neither healed, nor on its way out, nor gone


# What became of a find without being healed (its copy was let go, or forgotten with its store) is
# no event of its own: the copy's row says it. Whoever is doubted anew counts for the new find.
_IS_OPEN = and_(
    finds.c.healed_at.is_(None),
    exists().where(
        copies.c.id == finds.c.copy_id,
        copies.c.state == CopyState.DOUBTED.value,
        copies.c.wish == Wish.KEEP.value,
    ),
)


# --- turns ----------------------------------------------------------------------------------


def take_turn(tx: Tx, store: str, token: str, seconds: float) -> bool:
    """Takes or keeps the turn to scrub a store; answers False while it is another process's."""
    new = {"store": store, "pass_began_at": now(), "copies_read": 0, "bytes_read": 0}
    first = conflict_insert(scrubs, on_postgresql=tx.on_postgresql).values(**new)
    tx.run(first.on_conflict_do_nothing())
    free = or_(scrubs.c.turn_until.is_(None), scrubs.c.turn_until < now())
    mine = and_(scrubs.c.store == store, or_(free, scrubs.c.turn_token == token))
    taken = update(scrubs).where(mine).values(turn_token=token, turn_until=now() + seconds)
    return tx.run(taken).rowcount > 0


def end_turn(tx: Tx, store: str, token: str) -> None:
    """Lets the next one begin."""
    mine = and_(scrubs.c.store == store, scrubs.c.turn_token == token)
    tx.run(update(scrubs).where(mine).values(turn_token=None, turn_until=None))


def seconds_to_wait(tx: Tx, bytes_per_day: float | None) -> float:
    """How long nothing may be read, so that the budget of all processes holds."""
    paid_until = facts.read(tx, BUDGET) if bytes_per_day else None
    return max(0.0, float(paid_until) - tx.now()) if paid_until else 0.0


def pay(tx: Tx, size_bytes: int, bytes_per_day: float) -> None:
    """Takes what was read from the budget. Whatever was saved up is lost: no day exceeds it by
    more than one copy."""
    paid_until = max(float(facts.read(tx, BUDGET) or 0.0), tx.now())
    facts.write(tx, BUDGET, paid_until + size_bytes * DAY_SECONDS / bytes_per_day)


# --- looking --------------------------------------------------------------------------------


def oldest(
    tx: Tx, store: str, before: float, limit: int, *, presence: bool, after: Due | None = None
) -> list[Due]:
    """The copies that were proven before (or merely seen, where `presence` is enough), the oldest
    first, those `after` one only. It reads every row of the store: ask for many."""
    looked_at = _looked_at(presence=presence)
    rows = (
        select(copies, blobs.c.size_bytes, looked_at.label("looked_at"))
        .join(blobs, blobs.c.digest == copies.c.digest)
        .where(_due(store, before, presence=presence))
        .order_by(looked_at, copies.c.id)
        .limit(limit)
    )
    if after is not None:
        as_old = and_(looked_at == after.looked_at, copies.c.id > after.copy.id)
        rows = rows.where(or_(looked_at > after.looked_at, as_old))
    return [Due(copy_of(row), row.size_bytes, row.looked_at) for row in tx.run(rows)]


def _due(store: str, before: float, *, presence: bool) -> ColumnElement[bool]:
    return and_(
        copies.c.store == store,
        copies.c.state == CopyState.PRESENT,
        copies.c.wish != Wish.LEAVE,
        _looked_at(presence=presence) < before,
    )


def _looked_at(*, presence: bool) -> ColumnElement[float]:
    seen_at = [copies.c.seen_at] if presence else []
    return func.coalesce(*seen_at, copies.c.verified_at, 0.0)


def note_pass(tx: Tx, store: str) -> None:
    """Nothing in the store was last looked at before its pass began, so that this is a full one,
    and the next begins."""
    began = select(scrubs.c.pass_began_at).where(scrubs.c.store == store)
    began_at = tx.run(began).scalar_one_or_none()
    if began_at is not None and not oldest(tx, store, began_at, 1, presence=True):
        passed = update(scrubs).where(scrubs.c.store == store)
        tx.run(passed.values(full_pass_at=now(), pass_began_at=now()))


# --- noting ---------------------------------------------------------------------------------


def note_seen(tx: Tx, copy: Copy) -> None:
    """The copy is there; nobody has read it."""
    tx.run(update(copies).where(copies.c.id == copy.id).values(seen_at=now()))


def note_read(tx: Tx, store: str, size_bytes: int) -> None:
    """Counts a copy that was looked at, and what was read of it."""
    more = {
        "copies_read": scrubs.c.copies_read + 1,
        "bytes_read": scrubs.c.bytes_read + size_bytes,
    }
    tx.run(update(scrubs).where(scrubs.c.store == store).values(**more))


def note_find(tx: Tx, copy: Copy, why: str) -> None:
    """The copy is wrong."""
    row = {
        "copy_id": copy.id,
        "store": copy.store,
        "key": copy.key,
        "digest": copy.digest.raw,
        "why": why[:500],
        "found_at": now(),
    }
    tx.run(insert(finds).values(**row))


def note_healed(tx: Tx, copy_id: int) -> None:
    """A copy that was doubted is proven again."""
    open_finds = and_(finds.c.copy_id == copy_id, finds.c.healed_at.is_(None))
    tx.run(update(finds).where(open_finds).values(healed_at=now()))


def forget(tx: Tx, store: str) -> None:
    """Forgets what is known of a store that is no more."""
    tx.run(delete(scrubs).where(scrubs.c.store == store))
    tx.run(delete(finds).where(finds.c.store == store))


# --- figures --------------------------------------------------------------------------------


def figures(tx: Tx) -> dict[str, Figures]:
    """Of each store that was ever scrubbed."""
    counts = select(
        finds.c.store,
        func.count().label("found"),
        func.count(finds.c.healed_at).label("healed"),
        func.count(case((_IS_OPEN, 1))).label("unhealed"),
    )
    rows = tx.run(counts.group_by(finds.c.store))
    found = {row.store: (row.found, row.healed, row.unhealed) for row in rows}
    return {
        row.store: Figures(
            row.full_pass_at, row.copies_read, row.bytes_read, *found.get(row.store, (0, 0, 0))
        )
        for row in tx.run(select(scrubs))
    }


def found_since(tx: Tx, moment: float) -> list[Find]:
    """What was found to be wrong since then, in the order it was found."""
    every = select(finds, _IS_OPEN.label("is_open"))
    rows = every.where(finds.c.found_at >= moment).order_by(finds.c.id)
    return [
        Find(
            row.store,
            row.key,
            Digest(bytes(row.digest)),
            row.why,
            row.found_at,
            row.healed_at,
            bool(row.is_open),
        )
        for row in tx.run(rows)
    ]
