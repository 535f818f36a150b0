"""The front door of the library: add, open, change, remove, and say how things stand.

    async with build.opened(settings) as keep:
        added = await keep.add(body, NewTrack(path="book/ch1.mp3"))
        async for piece in keep.open(added.track.blob):
            ...

Everything here is short: bytes come in through `intake`, go out through `reading`, and the
ledger's worker does what an upload did not wait for.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from soundkeep import shown
from soundkeep.audio.jail import Jail
from soundkeep.catalog import claims, copies, coverage, errands, scrubs, sidecars, tracks
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copies import Claimed
from soundkeep.catalog.coverage import Coverage, SidecarCoverage, StoreCoverage
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.schema import copies as copies_table
from soundkeep.catalog.tracks import MAX_PAGE, Query
from soundkeep.copies import draining, syncing
from soundkeep.copies.copying import Copier
from soundkeep.copies.devices import share_one_device
from soundkeep.copies.fronts import Fronts
from soundkeep.copies.outages import Outages
from soundkeep.copies.placement import Rules
from soundkeep.copies.syncing import Order
from soundkeep.digest import Digest
from soundkeep.errors import (
    CatalogUnavailable,
    DiskFull,
    LeaseLost,
    NoSuchStore,
    NoSuchTrack,
    RevisionChanged,
    SoundkeepError,
)
from soundkeep.intake import recording
from soundkeep.intake.examine import Examiner, known_or_examined
from soundkeep.intake.inbox import discard_unless_recorded
from soundkeep.intake.recording import Inbox, NewTrack, Recorded
from soundkeep.intake.spool import Announced, Landed, Spool
from soundkeep.model import (
    Blob,
    Copy,
    Lane,
    Operation,
    Receipt,
    Sidecar,
    StoreState,
    Subject,
    Synced,
    Track,
    Visibility,
)
from soundkeep.reading.body import Local
from soundkeep.reading.reader import Reader
from soundkeep.settings import Settings
from soundkeep.shown import TrackView
from soundkeep.stores.interface import Bytes, Store

SYNC_POLL_SECONDS = 0.2  # while a sync waits for the ledger
CATALOG_IS_OUT = (CatalogUnavailable, DiskFull)

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Added:
    """The answer to an upload. `created` is False if the same track was there already."""

    track: Track
    created: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of tracks. `next_cursor` is None on the last."""

    views: list[TrackView]
    next_cursor: str | None


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


@dataclass(frozen=True, slots=True)
class Status:
    """How things stand: figures with their time, and each store's health."""

    coverage: Coverage
    stores: dict[str, StoreState]  # every store ever seen, by name
    configured: dict[str, str]  # name and kind of each store in the settings
    failing: list[Copy]
    failing_sidecars: list[Sidecar]
    refused_errands: int  # what other programs asked for and cannot be done
    one_device: bool  # whether every copy lies on the same device of this machine
    scrubbed: dict[str, scrubs.Figures]  # what scrubs of each store have done
    scrub_modes: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """The same over HTTP and on the command line."""
        return {
            **coverage_json(self.coverage),
            "stores": self.stores_json(),
            "failing": [shown.copy_json(copy) for copy in self.failing],
            "failing_sidecars": [shown.sidecar_json(each) for each in self.failing_sidecars],
            "refused_errands": self.refused_errands,
            "one_device": self.one_device,
        }

    def stores_json(self) -> list[dict[str, Any]]:
        """Each configured store with its health, and what else holds or held copies."""
        shares = {share.store: share for share in self.coverage.stores}
        names = [*self.configured, *(name for name in shares if name not in self.configured)]
        return [self._store_json(name, shares.get(name)) for name in names]

    def _store_json(self, name: str, share: StoreCoverage | None) -> dict[str, Any]:
        known = self.stores.get(name)
        out = known is not None and known.opened_at is not None
        configured = name in self.configured or copies.is_inbox(name)
        return {
            "name": name,
            "kind": self.configured.get(name) or (known.kind if known else None),
            "state": "not configured" if not configured else "out" if out else "up",
            "out_since": shown.when(known.opened_at) if known else None,
            "error": f"{known.error_code}: {known.error}" if known and out else None,
            "copies": share.states if share else {},
            "bytes_present": share.bytes_present if share else 0,
            "resting": share.resting if share else 0,
            "leaving": share.leaving if share else 0,
            "draining_since": shown.when(known.draining_at) if known else None,
            "failing": share.failing if share else 0,
            "sidecars": msgspec.to_builtins(share.sidecars if share else SidecarCoverage()),
            "scrub": self._scrub_json(name, share),
        }

    def _scrub_json(self, name: str, share: StoreCoverage | None) -> dict[str, Any]:
        figures = self.scrubbed.get(name, scrubs.Figures())
        return {
            "mode": self.scrub_modes.get(name),
            "full_pass_at": shown.when(figures.full_pass_at),
            "oldest_proof_at": shown.when(share.oldest_proof_at) if share else None,
            "copies_read": figures.copies_read,
            "bytes_read": figures.bytes_read,
            "found": figures.found,
            "healed": figures.healed,
            "unhealed": figures.unhealed,
        }


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether all copies and sidecars are where they should be, and the first that are not."""

    coverage: Coverage
    missing: list[Copy]
    unwritten: list[Sidecar]

    @property
    def passed(self) -> bool:
        counted = self.coverage
        return not (counted.missing or counted.unwritten or counted.temporary)

    def as_json(self) -> dict[str, Any]:
        """The same over HTTP and on the command line."""
        return {
            "passed": self.passed,
            **coverage_json(self.coverage),
            "missing_copies": [shown.copy_json(copy) for copy in self.missing],
            "unwritten_sidecars": [shown.sidecar_json(each) for each in self.unwritten],
        }


def coverage_json(coverage: Coverage) -> dict[str, Any]:
    """The figures, with the time they were counted at."""
    figures = msgspec.to_builtins(coverage)
    return {**figures, "counted_at": shown.when(coverage.counted_at)}


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
        self._views = _Views(settings.policy.ack_copies, fronts)
        self.holder = holder
        self.jail = jail
        self._outages = outages
        self._spool = spool
        self._examiner = Examiner(jail, settings.limits.types)
        self._uploads = asyncio.Semaphore(settings.limits.uploads)
        self._going_on: set[asyncio.Task[Any]] = set()
        self._looking_at: set[str] = set()  # stores that were slow to take an upload

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
        async with self._uploads:
            landed = await self._spool.receive(body, announced)
            recorded = await self._record(landed, new, lane)
        return await self._added(recorded, landed)

    async def add_file(self, file: Path, new: NewTrack, *, lane: Lane = Lane.BULK) -> Added:
        """Keeps a file of this machine. Raises as `add` does, and `OSError` if it is not readable.

        For the command line only: a path that comes from anybody else could be any file of ours.
        """
        async with self._uploads:
            landed = await self._spool.take(file)
            recorded = await self._record(landed, new, lane)
        return await self._added(recorded, landed)

    async def _added(self, recorded: Recorded, landed: Landed) -> Added:
        with suppress(*CATALOG_IS_OUT):  # it is kept all the same, and its track says how
            await self._acknowledge(recorded, landed)
        return Added(recorded.track, recorded.created)

    async def _record(self, landed: Landed, new: NewTrack, lane: Lane) -> Recorded:
        """Makes it a track; what landed is kept for as long as it is needed."""
        inbox = self.settings.inbox
        try:
            blob = await known_or_examined(self.catalog, self._examiner, landed)
        except BaseException:
            self._spool.discard(landed)
            raise
        try:
            recorded = await self.catalog.write(
                recording.record,
                new,
                blob,
                inbox=Inbox(self.settings.inbox_name, landed.key, inbox.linger_seconds),
                rules=self.rules,
                lane=lane,
                holder=self.holder,
                lease_seconds=self.settings.policy.ack_seconds + self.settings.worker.lease_seconds,
            )
        except Exception:
            inbox_name = self.settings.inbox_name
            await discard_unless_recorded(self.catalog, self._spool, inbox_name, landed)
            raise  # cancelled, the transaction may still end well; if not, the file is swept
        if recorded.inbox_copy is None:
            self._spool.discard(landed)
        return recorded

    async def _acknowledge(self, recorded: Recorded, landed: Landed) -> None:
        """Makes the upload's own copies, in the order of `keep`, until enough are verified.

        A slow store gets only its share of the time, and goes on in the background after it,
        where it is looked at: if it is out, the next uploads do not wait for it. What was not
        begun is given back to the ledger.
        """
        policy = self.settings.policy
        deadline = time.monotonic() + policy.ack_seconds
        waiting = sorted(
            recorded.claimed, key=lambda claimed: policy.keep.index(claimed.copy.store)
        )
        inbox_copy = recorded.inbox_copy
        local = (inbox_copy, str(landed.path)) if inbox_copy else None
        have = recorded.holders
        wanted = min(policy.ack_copies, have + len(waiting))
        try:
            while waiting and have < wanted and (left := deadline - time.monotonic()) > 0:
                claimed = waiting.pop(0)
                task = self._go_on(self._copy(claimed, recorded.track.blob, local))
                await asyncio.wait({task}, timeout=left / (len(waiting) + 1))
                if not task.done():
                    self._go_on(self._look_at(claimed.copy.store))
                elif task.result():
                    have += 1
        finally:
            await self._give_back(waiting)

    def _go_on(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Starts what ends by itself, whatever becomes of the caller."""
        task = asyncio.create_task(work)
        self._going_on.add(task)
        task.add_done_callback(self._going_on.discard)
        return task

    async def _copy(self, claimed: Claimed, blob: Blob, local: Local | None) -> bool:
        """Makes one copy; answers whether it is present now.

        Why not is found out and noted after that: nobody waits for the probe of a store.
        """
        try:
            await self.copier.copy_landed(self.stores[claimed.copy.store], claimed, blob, local)
        except SoundkeepError as error:
            self._go_on(self._write_down(claimed, error))
            return False
        return True

    async def _write_down(self, claimed: Claimed, error: SoundkeepError) -> None:
        """What cannot be noted is done again by the ledger once the lease has run out."""
        with suppress(LeaseLost, *CATALOG_IS_OUT):
            await self._outages.write_down(copies_table, claimed.lease, claimed.copy.store, error)

    async def _look_at(self, store: str) -> None:
        """Opens the circuit of a slow store if it is out; once, however many uploads it delays."""
        if store in self._looking_at:
            return
        self._looking_at.add(store)
        try:
            with suppress(*CATALOG_IS_OUT):
                await self._outages.admit(store)
        finally:
            self._looking_at.discard(store)

    async def _give_back(self, waiting: list[Claimed]) -> None:
        if waiting:
            await self.catalog.write(_release_all, waiting)

    # --- out --------------------------------------------------------------------------------

    def open(self, blob: Blob, start: int = 0, stop: int | None = None) -> Bytes:
        """Verified bytes of the half-open range. Raises `Unplayable` when no good copy is left."""
        return self.reader.open(blob, start, stop)

    async def track(self, track_id: str) -> TrackView:
        """Raises `NoSuchTrack`."""
        return await self.catalog.read(_view, track_id, self._views)

    async def sidecars(self, track_id: str) -> list[Sidecar]:
        """A track's sidecars in all stores. Raises `NoSuchTrack`."""
        return await self.catalog.read(_sidecars, track_id)

    async def held_at(self, owner: str, path: str) -> tuple[Digest, int] | None:
        """Digest and size of what a path holds; None if nothing."""
        return await self.catalog.read(tracks.held_at, owner, path)

    async def list(self, query: Query) -> Listed:
        """A page of tracks. Raises `BadCursor`."""
        return await self.catalog.read(_list, query, self._views)

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
            _change, track_id, self.rules, title, visibility, metadata, revision
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
        order = Order(wanted.operation, syncing.stores_named(self.rules, wanted.store))
        ids, next_cursor = await self._ids_of(wanted)
        for track_id in () if wanted.dry_run else ids:
            await self.catalog.write(syncing.ask, track_id, order, self.rules)
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
        page = await self.catalog.read(tracks.page, query)
        return [track.id for track in page.items], page.next_cursor

    async def _synced(self, ids: Sequence[str], order: Order) -> Sequence[Synced]:
        return await self.catalog.read(syncing.look, ids, order, self.rules, self.fronts)

    async def retry(self, *, track_id: str | None = None, store: str | None = None) -> int:
        """Makes waiting rows due now: of a track, of a store, or all. Answers how many.

        Raises `NoSuchTrack`, `NoSuchStore`.
        """
        digest = None
        if track_id is not None:
            digest = (await self.track(track_id)).track.blob.digest
        if store is not None and store not in self.stores:
            raise NoSuchStore(f"there is no store {store}")
        return await self.catalog.write(_due_now, store, digest)

    async def drain(self, name: str) -> None:
        """Begins to empty a store: the worker, or `replan_moved`, has its copies leave.

        Raises `NoSuchStore`, `StoreNeeded`.
        """
        await self.catalog.write(draining.drain, name, self.rules)

    async def resume(self, name: str) -> None:
        """Takes a store that is being drained into use again. Raises `NoSuchStore`."""
        await self.catalog.write(draining.resume, name, self.rules)

    async def store(self, name: str) -> dict[str, Any]:
        """One store's health, as JSON. Raises `NoSuchStore`."""
        for store in (await self.status()).stores_json():
            if store["name"] == name:
                return store
        raise NoSuchStore(f"there is no store {name}")

    # --- how things stand -------------------------------------------------------------------

    async def status(self, *, failing: int = 20) -> Status:
        """The figures of the last count (a fresh one if there is none), and the stores' health."""
        counted = await self.catalog.read(coverage.last)
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
        """Counts exactly. Passes if every placed copy is present, every placed sidecar is as its
        track is, and no track is temporary."""
        return await self.catalog.read(_check, limit)

    async def copying(self) -> None:
        """Waits for what uploads began and no longer wait for."""
        while self._going_on:
            await asyncio.wait(set(self._going_on))


@dataclass(frozen=True, slots=True)
class _Views:
    """Makes views of tracks, by the settings."""

    ack_copies: int
    fronts: Fronts

    def of(self, track: Track, held: Sequence[Copy], beside: Sequence[Sidecar]) -> TrackView:
        published = self.fronts.published(track, held, beside)
        return TrackView(track, tuple(held), self.ack_copies, published)


def _view(tx: Tx, track_id: str, views: _Views) -> TrackView:
    track = tracks.find(tx, track_id)
    if track is None:
        raise NoSuchTrack(f"there is no track {track_id}")
    digest = track.blob.digest
    return views.of(track, copies.of_blob(tx, digest), sidecars.of_track(tx, digest, track.id))


def _sidecars(tx: Tx, track_id: str) -> list[Sidecar]:
    track = tracks.find(tx, track_id)
    if track is None:
        raise NoSuchTrack(f"there is no track {track_id}")
    return sidecars.of_track(tx, track.blob.digest, track.id)


def _list(tx: Tx, query: Query, views: _Views) -> Listed:
    page = tracks.page(tx, query)
    digests = [track.blob.digest for track in page.items]
    held, beside = copies.of_blobs(tx, digests), defaultdict[Subject, list[Sidecar]](list)
    for sidecar in sidecars.of_blobs(tx, digests):
        beside[sidecar.subject].append(sidecar)
    found = [views.of(t, held.get(t.blob.digest, ()), beside[t.subject]) for t in page.items]
    return Listed(found, page.next_cursor)


def _change(
    tx: Tx,
    track_id: str,
    rules: Rules,
    title: str | None,
    visibility: Visibility | None,
    metadata: dict[str, Any] | None,
    revision: int | None,
) -> None:
    track = tracks.find(tx, track_id)
    if track is None:
        raise NoSuchTrack(f"there is no track {track_id}")
    if revision not in (None, track.revision):
        raise RevisionChanged(f"the track is at revision {track.revision}, not {revision}")
    recording.change(
        tx,
        track,
        rules,
        title=track.title if title is None else title,
        visibility=visibility or track.visibility,
        metadata=track.metadata if metadata is None else metadata,
    )


def _due_now(tx: Tx, store: str | None, digest: Digest | None) -> int:
    of_copies = copies.due_now(tx, store=store, digest=digest)
    return of_copies + sidecars.due_now(tx, store=store, digest=digest)


def _check(tx: Tx, limit: int) -> Checked:
    return Checked(coverage.count(tx), copies.missing(tx, limit), sidecars.unwritten(tx, limit))


def _release_all(tx: Tx, waiting: list[Claimed]) -> None:
    for claimed in waiting:
        claims.release(tx, copies_table, claimed.lease)
