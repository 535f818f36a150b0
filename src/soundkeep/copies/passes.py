"""Passes of placement over many blobs: after a change of settings, and for stores being drained.

Each page is a transaction, so a pass is never in anybody's way, and one that is interrupted goes
on where it stopped. Any process may carry on what another began.
"""

from __future__ import annotations

from soundkeep.catalog import blobs, copies, facts
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.copies.placement import Rules
from soundkeep.copies.planning import replan_one
from soundkeep.model import Copy

FACT = "placement"
PAGE_BLOBS = 200


async def replan_all(catalog: Catalog, rules: Rules) -> int:
    """Runs placement over every blob after a change of settings; answers how many it looked at.

    Goes on where an interrupted pass stopped. With unchanged settings it is one look-up.
    """
    fingerprint = rules.fingerprint()
    seen = 0
    while (cursor := await catalog.read(_cursor, fingerprint)) is not None:
        seen += await catalog.write(_replan_page, rules, fingerprint, cursor)
    return seen


def _cursor(tx: Tx, fingerprint: str) -> bytes | None:
    """Where the pass for these rules stands; None when it is done."""
    fact = facts.read(tx, FACT)
    if fact is None or fact["rules"] != fingerprint:
        return b""
    return None if fact["done"] else bytes.fromhex(fact["after"])


def _replan_page(tx: Tx, rules: Rules, fingerprint: str, after: bytes) -> int:
    digests = blobs.page(tx, after, PAGE_BLOBS)
    for digest in digests:
        replan_one(tx, digest, rules)
    last = digests[-1].hex if digests else ""
    facts.write(tx, FACT, {"rules": fingerprint, "after": last, "done": not digests})
    return len(digests)


async def replan_if_asked(catalog: Catalog, rules: Rules) -> int:
    """As `replan_all`, but not over what a process with other settings has placed: two of them
    would undo each other's work for ever."""
    fact = await catalog.read(facts.read, FACT)
    if fact is not None and fact["rules"] != rules.fingerprint():
        return 0
    return await replan_all(catalog, rules)


def ask_anew(tx: Tx) -> None:
    """Has placement run over every blob again, by whoever next looks."""
    facts.forget(tx, FACT)


async def replan_drained(catalog: Catalog, rules: Rules) -> int:
    """Lets everything leave that stays in a store being drained; answers how many rows that was.

    Also what an upload placed there while the draining began.
    """
    known = {store.name for store in rules.stores}
    drained = await catalog.read(store_rows.draining)
    return sum([await _replan_store(catalog, rules, name) for name in sorted(drained & known)])


async def _replan_store(catalog: Catalog, rules: Rules, store: str) -> int:
    changed, after = 0, ""
    while page := await catalog.read(copies.by_key, store, after, PAGE_BLOBS, staying=True):
        changed += await catalog.write(_replan_page_of, rules, page)
        after = page[-1].key
    return changed


def _replan_page_of(tx: Tx, rules: Rules, page: list[Copy]) -> int:
    """In the order in which blobs are taken by whoever takes several."""
    for digest in sorted({copy.digest for copy in page}, key=lambda digest: digest.raw):
        replan_one(tx, digest, rules)
    return len(page)
