"""Syncs as they are asked for: tracks pushed to stores or withdrawn, and how each stands there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from soundkeep import shown
from soundkeep.answers import Synced
from soundkeep.catalog import tracks
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.tracks import MAX_PAGE, Query
from soundkeep.copies import syncing
from soundkeep.copies.fronts import Fronts
from soundkeep.copies.placement import Rules
from soundkeep.copies.syncing import Order
from soundkeep.model import Operation

SYNC_POLL_SECONDS = 0.2  # while a sync waits for the ledger


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a sync is asked to do: for `track_ids`, or for a page of the tracks under `prefix`."""

    operation: Operation
    store: str | None = None  # every public store
    track_ids: tuple[str, ...] = ()
    prefix: str | None = None
    dry_run: bool = False  # only say how things stand
    wait_seconds: float = 0.0
    limit: int = MAX_PAGE
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class SyncPage:
    """How each track stands in each store. `next_cursor` is None on the last page of a prefix."""

    lines: Sequence[Synced]
    next_cursor: str | None

    def as_json(self) -> dict[str, Any]:
        """The same over HTTP and on the command line."""
        return shown.sync_json(self.lines, self.next_cursor)


class Syncs:
    """Asks for syncs and looks how they stand."""

    def __init__(self, catalog: Catalog, rules: Rules, fronts: Fronts) -> None:
        self._catalog = catalog
        self._rules = rules
        self._fronts = fronts

    async def sync(self, wanted: Wanted) -> SyncPage:
        """As `Keep.sync` promises."""
        order = Order(wanted.operation, syncing.stores_named(self._rules, wanted.store))
        ids, next_cursor = await self._ids_of(wanted)
        for track_id in () if wanted.dry_run else ids:
            await self._catalog.write(syncing.ask, track_id, order, self._rules)
        lines = await self._synced(ids, order)
        deadline = time.monotonic() + wanted.wait_seconds
        while any(line.due for line in lines) and (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(left, SYNC_POLL_SECONDS))
            lines = await self._synced(ids, order)
        return SyncPage(lines, next_cursor)

    async def _ids_of(self, wanted: Wanted) -> tuple[Sequence[str], str | None]:
        """The tracks that are meant, and where the next page begins."""
        if wanted.prefix is None:
            return wanted.track_ids, None
        query = Query(wanted.prefix, limit=wanted.limit, cursor=wanted.cursor)
        page = await self._catalog.read(tracks.page, query)
        return [track.id for track in page.items], page.next_cursor

    async def _synced(self, ids: Sequence[str], order: Order) -> Sequence[Synced]:
        return await self._catalog.read(syncing.look, ids, order, self._rules, self._fronts)
