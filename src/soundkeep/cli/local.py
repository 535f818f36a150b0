"""The door to the keep in this machine's data directory, with a worker of its own.

A server may run on the same data meanwhile: the ledger keeps the two apart.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from soundkeep import build, shown
from soundkeep.catalog.tracks import Query
from soundkeep.cli.doors import Door, Json, Listing
from soundkeep.intake.parsing import new_track
from soundkeep.intake.spool import Announced
from soundkeep.keep import Keep
from soundkeep.model import Lane
from soundkeep.settings import Settings
from soundkeep.worker import Worker

SETTLE_SECONDS = 600.0
STOP_SECONDS = 5.0
PLACE = "http://127.0.0.1:8000"  # where `serve` would answer, if nothing else is set


@asynccontextmanager
async def opened(settings: Settings, *, bulk: bool) -> AsyncIterator[Door]:
    """Opens the keep, and works its ledger while it is open."""
    async with build.opened(settings) as house:
        worker = Worker(house)
        worker.start()
        try:
            yield LocalDoor(house.keep, worker, Lane.BULK if bulk else Lane.INTERACTIVE)
        finally:
            await worker.stop(STOP_SECONDS)


class LocalDoor:
    """See `doors.Door`."""

    def __init__(self, keep: Keep, worker: Worker, lane: Lane) -> None:
        self._keep = keep
        self._worker = worker
        self._lane = lane
        self._base_url = (keep.settings.http.base_url or PLACE).rstrip("/")

    async def add(self, body: AsyncIterator[bytes], fields: dict[str, str]) -> tuple[Json, bool]:
        added = await self._keep.add(body, new_track(fields), Announced(), lane=self._lane)
        return shown.track_json(added.view, self._base_url), added.created

    async def page(self, listing: Listing) -> Json:
        query = Query(listing.prefix, listing.search, limit=listing.limit, cursor=listing.cursor)
        listed = await self._keep.list(query)
        items = (shown.track_json(view, self._base_url) for view in listed.views)
        return shown.items(items, listed.next_cursor)

    async def show(self, track_id: str) -> Json:
        return shown.track_json(await self._keep.track(track_id), self._base_url)

    async def get(self, track_id: str) -> AsyncGenerator[bytes, None]:
        view = await self._keep.track(track_id)
        async with aclosing(self._keep.open(view.track.blob)) as pieces:
            async for piece in pieces:
                yield piece

    async def remove(self, track_id: str) -> Json:
        return shown.receipt_json(await self._keep.remove(track_id))

    async def status(self) -> Json:
        return (await self._keep.status()).as_json()

    async def check(self) -> Json:
        return (await self._keep.check()).as_json()

    async def retry(self, track_id: str | None, store: str | None) -> int:
        return await self._keep.retry(track_id=track_id, store=store)

    async def settle(self) -> None:
        await self._worker.settle(SETTLE_SECONDS)
