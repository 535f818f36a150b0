"""Keeps the inbox in order: names what its disk has lost, and removes what became nothing.

Only this host reads its inbox, so only this host can tell.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta

import structlog

from soundkeep.catalog import copies
from soundkeep.catalog.database import Catalog
from soundkeep.errors import CatalogUnavailable, DiskFull
from soundkeep.intake.spool import Landed, Spool
from soundkeep.stores.interface import Store, lies_at

ABANDONED_AFTER = timedelta(hours=1)  # an upload that takes longer than this is not in order
PAGE = 500

log = structlog.get_logger()


async def name_losses(catalog: Catalog, inbox: Store) -> int:
    """Doubts every copy that the inbox should have and has not; answers how many there are."""
    lost, after = 0, 0
    while page := await catalog.read(copies.in_store, inbox.name, after, PAGE):
        after = page[-1].id
        for copy in page:
            if await inbox.stat(lies_at(inbox, copy)) is None:
                lost += await catalog.write(
                    copies.doubt, copy.id, f"{inbox.name} has lost it: its disk is not what it was"
                )
    if lost:
        log.error("the inbox has lost uploads", inbox=inbox.name, lost=lost)
    return lost


async def discard_unless_recorded(
    catalog: Catalog, spool: Spool, inbox: str, landed: Landed
) -> None:
    """Removes what a transaction that failed did not record.

    It asks first: a connection that broke under the commit does not say how that ended. If nobody
    can be asked now the file stays, and is swept if it turns out to be unknown.
    """
    with suppress(CatalogUnavailable, DiskFull):
        if await catalog.read(copies.unknown_keys, inbox, [landed.key]):
            spool.discard(landed)


async def remove_abandoned(catalog: Catalog, inbox: Store) -> int:
    """Removes uploads that were published but never recorded, because their process died between.

    Nobody was told that they are kept. Answers how many there were.
    """
    horizon = time.time() - ABANDONED_AFTER.total_seconds()
    removed = await inbox.reap(ABANDONED_AFTER)
    old: list[str] = []
    async for stat in inbox.list():
        if (stat.modified_at or time.time()) < horizon:
            old.append(stat.locator)
        if len(old) == PAGE:
            removed += await _remove_unknown(catalog, inbox, old)
            old = []
    return removed + await _remove_unknown(catalog, inbox, old)


async def _remove_unknown(catalog: Catalog, inbox: Store, locators: list[str]) -> int:
    unknown = await catalog.read(copies.unknown_keys, inbox.name, locators)
    for locator in unknown:
        await inbox.delete(locator)
    return len(unknown)
