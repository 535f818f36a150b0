"""Stores as the catalog knows them: the id each must show, and the circuit that says it is out.

An outage is a fact about a store, not about the rows that wait for it. While a circuit is open
nothing is claimed for its store and no attempt is spent; one process at a time probes it.
"""

from __future__ import annotations

import uuid

from sqlalchemy import and_, bindparam, delete, select, update

from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import now, stores
from soundkeep.errors import SoundkeepError
from soundkeep.model import StoreState

# Made once: asked very often.
_OUT = select(stores.c.name).where(stores.c.opened_at.is_not(None))
_OPENED_AT = select(stores.c.opened_at).where(stores.c.name == bindparam("of_store"))
_DRAINING = select(stores.c.name).where(stores.c.draining_at.is_not(None))


def known(tx: Tx) -> dict[str, StoreState]:
    """Every store the catalog ever saw, by name."""
    return {row.name: _state(row) for row in tx.run(select(stores).order_by(stores.c.name))}


def outage(state: StoreState | None) -> str | None:
    """What keeps a store that is out, in a line; None if it is not."""
    if state is None or state.opened_at is None:
        return None
    return f"{state.name} is out: {state.error_code}: {state.error}"


def ensure(tx: Tx, name: str, kind: str) -> StoreState:
    """What the catalog knows of a store; one never seen gets an id, to be written as its marker."""
    known = select(stores).where(stores.c.name == name)
    row = tx.run(known).first()
    if row is None:  # two processes may see it first at once: they get the same id
        new = {"name": name, "kind": kind, "store_id": uuid.uuid4().hex, "first_seen_at": now()}
        insert = conflict_insert(stores, on_postgresql=tx.on_postgresql)
        tx.run(insert.values(**new).on_conflict_do_nothing())
        row = tx.run(known).one()
    return _state(row)


def note_marked(tx: Tx, name: str) -> None:
    """The store's marker was written or seen: from now on it must be there."""
    unmarked = and_(stores.c.name == name, stores.c.marked_at.is_(None))
    tx.run(update(stores).where(unmarked).values(marked_at=now()))


def drain(tx: Tx, name: str) -> bool:
    """From now on nothing is placed in the store; answers whether that is new."""
    in_use = and_(stores.c.name == name, stores.c.draining_at.is_(None))
    return tx.run(update(stores).where(in_use).values(draining_at=now())).rowcount > 0


def resume(tx: Tx, name: str) -> bool:
    """The store is in use again; answers whether it was being drained."""
    drained = and_(stores.c.name == name, stores.c.draining_at.is_not(None))
    return tx.run(update(stores).where(drained).values(draining_at=None)).rowcount > 0


def draining(tx: Tx) -> frozenset[str]:
    """The stores that are being drained."""
    return frozenset(tx.run(_DRAINING).scalars())


def take_draining(tx: Tx) -> frozenset[str]:
    """The same, with the row of every store taken: whoever else is about to drain one waits, and
    then sees what this transaction did. (All in one order, or two would wait for each other.)"""
    rows = select(stores.c.name, stores.c.draining_at).order_by(stores.c.name)
    taken = tx.run(rows.with_for_update()).all()
    return frozenset(row.name for row in taken if row.draining_at is not None)


def forget(tx: Tx, name: str) -> None:
    """The catalog never saw it."""
    tx.run(delete(stores).where(stores.c.name == name))


def open_circuit(tx: Tx, name: str, error: SoundkeepError, probe_seconds: float) -> bool:
    """The store is out, and why; answers whether it was not known to be out before."""
    why = {"error_code": error.code, "error": str(error)[:500]}
    newly = and_(stores.c.name == name, stores.c.opened_at.is_(None))
    opened = update(stores).where(newly).values(opened_at=now(), probe_at=now() + probe_seconds)
    was_closed = tx.run(opened.values(**why)).rowcount > 0
    if not was_closed:
        tx.run(update(stores).where(stores.c.name == name).values(**why))
    return was_closed


def close_circuit(tx: Tx, name: str) -> bool:
    """The store is back; answers whether it was out."""
    out = and_(stores.c.name == name, stores.c.opened_at.is_not(None))
    well = {"opened_at": None, "probe_at": None, "error_code": None, "error": None}
    return tx.run(update(stores).where(out).values(**well)).rowcount > 0


def is_out(tx: Tx, name: str) -> bool:
    """Whether the store's circuit is open."""
    return tx.run(_OPENED_AT, {"of_store": name}).scalar_one_or_none() is not None


def out(tx: Tx) -> frozenset[str]:
    """The stores whose circuit is open."""
    return frozenset(tx.run(_OUT).scalars())


def claim_probe(tx: Tx, name: str, probe_seconds: float) -> bool:
    """Whether it is for this process to probe the store now."""
    due = and_(stores.c.name == name, stores.c.opened_at.is_not(None), stores.c.probe_at <= now())
    return tx.run(update(stores).where(due).values(probe_at=now() + probe_seconds)).rowcount > 0


def _state(row: AnyRow) -> StoreState:
    return StoreState(
        name=row.name,
        kind=row.kind,
        store_id=row.store_id,
        marked=row.marked_at is not None,
        opened_at=row.opened_at,
        error_code=row.error_code,
        error=row.error,
        draining_at=row.draining_at,
    )
