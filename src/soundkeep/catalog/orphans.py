"""Orphans: objects in a store that no row knows, with the time they were first seen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import and_, delete, select

from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.rows import copy_of, select_copies
from soundkeep.catalog.schema import copies, now, orphans, sidecars
from soundkeep.model import Copy, CopyState

KeyOf: TypeAlias = Callable[[str], str | None]  # the key whose object a store calls so, if any


@dataclass(frozen=True, slots=True)
class Orphan:
    """An object that no row knows."""

    store: str
    key: str  # its locator there
    size_bytes: int
    first_seen_at: float


def unknown(tx: Tx, store: str, locators: Collection[str], key_of: KeyOf) -> set[str]:
    """Which of these no row holds: neither a copy, in whatever state, nor a sidecar.

    What was never noted as written is known by its key alone: by the one that `key_of` says such a
    locator came from."""
    keys = {locator: key_of(locator) for locator in locators}
    named = {*locators, *(key for key in keys.values() if key is not None)}
    left = set(locators)
    for table in (copies, sidecars):
        here = table.c.store == store
        known = set(tx.run(select(table.c.key).where(here, table.c.key.in_(named))).scalars())
        left -= {locator for locator in left if known & {locator, keys[locator]}}
        noted = select(table.c.locator).where(here, table.c.locator.in_(left))
        left -= set(tx.run(noted).scalars()) if left else set()
    return left


def note(tx: Tx, store: str, sizes: Mapping[str, int], key_of: KeyOf) -> list[str]:
    """Remembers, of these objects, those that no row knows, and since when; answers which."""
    strange = sorted(unknown(tx, store, sizes, key_of))
    if not strange:
        return []
    rows = [
        {"store": store, "key": key, "size_bytes": sizes[key], "first_seen_at": moment}
        for moment in [tx.now()]
        for key in strange
    ]
    seen = conflict_insert(orphans, on_postgresql=tx.on_postgresql).values(last_seen_at=now())
    again = {"size_bytes": seen.excluded.size_bytes, "last_seen_at": now()}
    keys = [orphans.c.store, orphans.c.key]
    tx.run(seen.on_conflict_do_update(index_elements=keys, set_=again), rows)
    return strange


def of_store(tx: Tx, store: str, after: str, limit: int) -> list[Orphan]:
    """The orphans of a store, by key, those after `after` only."""
    rows = select(orphans).where(orphans.c.store == store, orphans.c.key > after)
    return [
        Orphan(row.store, row.key, row.size_bytes, row.first_seen_at)
        for row in tx.run(rows.order_by(orphans.c.key).limit(limit))
    ]


def not_seen_since(tx: Tx, store: str, moment: float, limit: int) -> list[str]:
    """The keys of some orphans that are gone, or have become known."""
    rows = select(orphans.c.key).where(orphans.c.store == store).limit(limit)
    return list(tx.run(rows.where(orphans.c.last_seen_at < moment)).scalars())


def forget(tx: Tx, store: str, key: str) -> None:
    """It is no orphan any more."""
    tx.run(delete(orphans).where(orphans.c.store == store, orphans.c.key == key))


def forget_store(tx: Tx, store: str) -> None:
    """Forgets those of a store that is no more."""
    tx.run(delete(orphans).where(orphans.c.store == store))


def present_between(
    tx: Tx, store: str, after: str, upto: str | None, before: float, limit: int
) -> list[Copy]:
    """The first present copies of a store, by key, whose keys lie in that range (to the end without
    `upto`), and which were there before that moment."""
    in_range = and_(copies.c.store == store, copies.c.key > after)
    if upto is not None:
        in_range = and_(in_range, copies.c.key <= upto)
    rows = select_copies().where(in_range, copies.c.state == CopyState.PRESENT)
    rows = rows.where(copies.c.since < before).order_by(copies.c.key)
    return [copy_of(row) for row in tx.run(rows.limit(limit))]
