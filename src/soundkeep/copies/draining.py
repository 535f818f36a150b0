"""Empties a store: nothing more is placed there, and what lies there leaves by the copy law.

That it drains is a fact of the catalog, not a setting, so every process obeys it at once: each
decision about a blob reads it (`planning.as_of`), and `passes` goes over what lay there before.
"""

from __future__ import annotations

from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.database import Tx
from soundkeep.copies import passes
from soundkeep.copies.placement import Rules
from soundkeep.errors import NoSuchStore, StoreNeeded


def drain(tx: Tx, name: str, rules: Rules) -> None:
    """Begins, or goes on. Raises `NoSuchStore`, and `StoreNeeded` if no store of `policy.keep`
    would be left that may hold a private track, whoever drains the others."""
    _check_known(name, rules)
    drained = store_rows.take_draining(tx) | {name}
    left = (s for s in rules.stores if s.name in rules.keep and s.name not in drained)
    if all(store.public for store in left):
        raise StoreNeeded(
            f"without {name} policy.keep has no store that may hold a private track: "
            "add one first, and let the copies be made there"
        )
    store_rows.drain(tx, name)
    tx.wakes = True


def resume(tx: Tx, name: str, rules: Rules) -> None:
    """The store is in use again: what belongs there stays, and what came meanwhile is copied
    there. Raises `NoSuchStore`."""
    _check_known(name, rules)
    if store_rows.resume(tx, name):
        passes.ask_anew(tx)
        tx.wakes = True


def _check_known(name: str, rules: Rules) -> None:
    if name not in {store.name for store in rules.stores}:
        raise NoSuchStore(f"there is no store {name} in the settings")
