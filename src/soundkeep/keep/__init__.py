"""The front door of the library: add, open, change, remove, and say how things stand.

    async with build.opened(settings) as house:
        added = await house.keep.add(body, NewTrack(path="book/ch1.mp3"))
        async for piece in house.keep.open(added.track.blob):
            ...

Everything here is short: bytes come in through `uploads` and `intake`, go out through `reading`,
and the ledger's worker does what an upload did not wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from soundkeep.answers import Receipt
from soundkeep.audio.jail import Jail
from soundkeep.catalog import copies, coverage, errands, scrubs, sidecars, tracks
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.tracks import Query
from soundkeep.copies import draining
from soundkeep.copies.copying import Copier
from soundkeep.copies.devices import share_one_device
from soundkeep.copies.fronts import Fronts
from soundkeep.copies.outages import Outages
from soundkeep.copies.placement import Rules
from soundkeep.digest import Digest
from soundkeep.errors import NoSuchStore, NoSuchTrack
from soundkeep.intake import recording
from soundkeep.intake.recording import NewTrack
from soundkeep.intake.spool import Announced, Spool
from soundkeep.keep import ledger, standing
from soundkeep.keep.ledger import Listed, Views
from soundkeep.keep.standing import Checked, Status
from soundkeep.keep.syncs import SyncPage, Syncs, Wanted
from soundkeep.keep.uploads import Added, Uploads
from soundkeep.model import Blob, Lane, Sidecar, Visibility
from soundkeep.reading.reader import Reader
from soundkeep.settings import Settings
from soundkeep.shown import TrackView
from soundkeep.stores.interface import Bytes, Store


class Keep:
    """One keep: a catalog, its stores, and the ways in and out."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: Catalog,
        stores: Mapping[str, Store],
        jail: Jail,
        spool: Spool,
        reader: Reader,
        copier: Copier,
        outages: Outages,
        rules: Rules,
        fronts: Fronts,
        holder: str,
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self.stores = stores
        self.reader = reader
        self.copier = copier
        self.rules = rules
        self.fronts = fronts
        self.holder = holder
        self.jail = jail
        self._views = Views(settings.policy.ack_copies, fronts)
        self._syncs = Syncs(catalog, rules, fronts)
        self._uploads = Uploads(
            settings=settings,
            catalog=catalog,
            stores=stores,
            jail=jail,
            spool=spool,
            copier=copier,
            outages=outages,
            rules=rules,
            holder=holder,
        )

    # --- in ---------------------------------------------------------------------------------

    async def add(
        self,
        body: AsyncIterator[bytes],
        new: NewTrack,
        announced: Announced = Announced(),  # noqa: B008 - a frozen value
        *,
        lane: Lane = Lane.INTERACTIVE,
    ) -> Added:
        """Keeps an upload: answers when `ack_copies` are verified or `ack_seconds` have passed.

        Raises what `BadInput`, `Conflict`, `WriteFailed` and `CatalogUnavailable` name; then
        nothing is kept. A caller that hangs up once the bytes are recorded loses nothing.
        """
        return await self._uploads.add(body, new, announced, lane=lane)

    async def add_file(self, file: Path, new: NewTrack, *, lane: Lane = Lane.BULK) -> Added:
        """Keeps a file of this machine. Raises as `add` does, and `OSError` if it is not readable.

        For the command line only: a path that comes from anybody else could be any file of ours.
        """
        return await self._uploads.add_file(file, new, lane=lane)

    async def copying(self) -> None:
        """Waits for what uploads began and no longer wait for."""
        await self._uploads.copying()

    # --- out --------------------------------------------------------------------------------

    def open(self, blob: Blob, start: int = 0, stop: int | None = None) -> Bytes:
        """Verified bytes of the half-open range. Raises `Unplayable` when no good copy is left."""
        return self.reader.open(blob, start, stop)

    async def track(self, track_id: str) -> TrackView:
        """Raises `NoSuchTrack`."""
        return await self.catalog.read(ledger.view, track_id, self._views)

    async def sidecars(self, track_id: str) -> list[Sidecar]:
        """A track's sidecars in all stores. Raises `NoSuchTrack`."""
        return await self.catalog.read(ledger.sidecars_of, track_id)

    async def held_at(self, owner: str, path: str) -> tuple[Digest, int] | None:
        """Digest and size of what a path holds; None if nothing."""
        return await self.catalog.read(tracks.held_at, owner, path)

    async def list(self, query: Query) -> Listed:
        """A page of tracks. Raises `BadCursor`."""
        return await self.catalog.read(ledger.page, query, self._views)

    # --- changing ---------------------------------------------------------------------------

    async def change(
        self,
        track_id: str,
        *,
        title: str | None = None,
        visibility: Visibility | None = None,
        metadata: dict[str, Any] | None = None,
        revision: int | None = None,
    ) -> TrackView:
        """Changes what is given. Raises `NoSuchTrack`, and `RevisionChanged` if `revision` is
        given and is not the track's any more."""
        await self.catalog.write(
            ledger.change, track_id, self.rules, title, visibility, metadata, revision
        )
        return await self.track(track_id)

    async def remove(self, track_id: str) -> Receipt:
        """Deletes a track; the receipt says how far each copy's removal has come.

        Deleting it again answers the same receipt. Raises `NoSuchTrack`.
        """
        receipt = await self.catalog.write(recording.remove, track_id, self.rules)
        if receipt is None:
            raise NoSuchTrack(f"there is no track {track_id}")
        return receipt

    async def receipt(self, track_id: str) -> Receipt:
        """The receipt of a deletion, or of what was withdrawn of a track that lives.

        Raises `NoSuchTrack` if there is neither."""
        receipt = await self.catalog.read(tracks.receipt, track_id)
        if receipt is None:
            raise NoSuchTrack(f"no track {track_id} was deleted or withdrawn")
        return receipt

    async def sync(self, wanted: Wanted) -> SyncPage:
        """Pushes tracks to a store or withdraws them from it, and says how each stands there.

        What one track cannot is on its line and fails nothing else. Asking again is the same as
        asking once. Raises `NoSuchStore`, `BadCursor`.
        """
        return await self._syncs.sync(wanted)

    async def retry(self, *, track_id: str | None = None, store: str | None = None) -> int:
        """Makes waiting rows due now: of a track, of a store, or all. Answers how many.

        Raises `NoSuchTrack`, `NoSuchStore`.
        """
        digest = None
        if track_id is not None:
            digest = (await self.track(track_id)).track.blob.digest
        if store is not None and store not in self.stores:
            raise NoSuchStore(f"there is no store {store}")
        return await self.catalog.write(ledger.due_now, store, digest)

    async def drain(self, name: str) -> None:
        """Begins to empty a store: the worker, or `replan_moved`, has its copies leave.

        Raises `NoSuchStore`, `StoreNeeded`.
        """
        await self.catalog.write(draining.drain, name, self.rules)

    async def resume(self, name: str) -> None:
        """Takes a store that is being drained into use again. Raises `NoSuchStore`."""
        await self.catalog.write(draining.resume, name, self.rules)

    async def store(self, name: str, *, anew: bool = False) -> dict[str, Any]:
        """One store's health, as JSON, as `status` tells it. Raises `NoSuchStore`."""
        for store in (await self.status(anew=anew)).stores_json():
            if store["name"] == name:
                return store
        raise NoSuchStore(f"there is no store {name}")

    # --- how things stand -------------------------------------------------------------------

    async def status(self, *, failing: int = 20, anew: bool = False) -> Status:
        """The figures of the last count, which a server makes every few seconds, and the stores'
        health. Counts itself if there was none, or if told to."""
        counted = None if anew else await self.catalog.read(coverage.last)
        if counted is None:
            counted = await self.catalog.read(coverage.count)
        return Status(
            coverage=counted,
            stores=await self.catalog.read(store_rows.known),
            configured={name: table.kind for name, table in self.settings.stores.items()},
            failing=await self.catalog.read(copies.page, failed=True, limit=failing),
            failing_sidecars=await self.catalog.read(sidecars.failing, failing),
            refused_errands=await self.catalog.read(errands.refused_count),
            one_device=await asyncio.to_thread(share_one_device, self.settings),
            scrubbed=await self.catalog.read(scrubs.figures),
            scrub_modes={name: table.scrub for name, table in self.settings.stores.items()},
        )

    async def check(self, *, limit: int = 100) -> Checked:
        """Counts exactly. Passes if every track belongs in a store, every placed copy is present,
        every placed sidecar is as its track is, and no track is temporary."""
        return await self.catalog.read(standing.check, limit)
