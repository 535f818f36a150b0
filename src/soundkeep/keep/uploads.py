"""An upload, from its bytes to the answer: recorded, then copied until enough copies are verified.

It works its own rows off while somebody waits for it; what it did not wait for is the ledger's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from soundkeep.audio.jail import Jail
from soundkeep.catalog import claims
from soundkeep.catalog.copy_work import Claimed
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.schema import copies as copies_table
from soundkeep.copies.copying import Copier
from soundkeep.copies.outages import Outages
from soundkeep.copies.placement import Rules
from soundkeep.errors import CatalogUnavailable, DiskFull, LeaseLost, SoundkeepError
from soundkeep.intake import recording
from soundkeep.intake.examine import Examiner, known_or_examined
from soundkeep.intake.inbox import discard_unless_recorded
from soundkeep.intake.recording import Inbox, NewTrack, Recorded
from soundkeep.intake.spool import Announced, Landed, Spool
from soundkeep.model import Blob, Lane, Track
from soundkeep.reading.body import Local
from soundkeep.settings import Settings
from soundkeep.stores.interface import Store

CATALOG_IS_OUT = (CatalogUnavailable, DiskFull)

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Added:
    """The answer to an upload. `created` is False if the same track was there already."""

    track: Track
    created: bool


class Uploads:
    """Takes uploads in, at most so many at once."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: Catalog,
        stores: Mapping[str, Store],
        jail: Jail,
        spool: Spool,
        copier: Copier,
        outages: Outages,
        rules: Rules,
        holder: str,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._stores = stores
        self._spool = spool
        self._copier = copier
        self._outages = outages
        self._rules = rules
        self._holder = holder
        self._lease_seconds = settings.policy.ack_seconds + settings.worker.lease_seconds
        self._examiner = Examiner(jail, settings.limits.types)
        self._at_once = asyncio.Semaphore(settings.limits.uploads)
        self._going_on: set[asyncio.Task[Any]] = set()
        self._looking_at: set[str] = set()  # stores that were slow to take an upload

    async def add(
        self,
        body: AsyncIterator[bytes],
        new: NewTrack,
        announced: Announced,
        *,
        lane: Lane,
    ) -> Added:
        """As `Keep.add` promises."""
        async with self._at_once:
            landed = await self._spool.receive(body, announced)
            recorded = await self._record(landed, new, lane)
        return await self._added(recorded, landed)

    async def add_file(self, file: Path, new: NewTrack, *, lane: Lane) -> Added:
        """As `Keep.add_file` promises."""
        async with self._at_once:
            landed = await self._spool.take(file)
            recorded = await self._record(landed, new, lane)
        return await self._added(recorded, landed)

    async def _added(self, recorded: Recorded, landed: Landed) -> Added:
        with suppress(*CATALOG_IS_OUT):  # it is kept all the same, and its track says how
            await self._acknowledge(recorded, landed)
        return Added(recorded.track, recorded.created)

    async def _record(self, landed: Landed, new: NewTrack, lane: Lane) -> Recorded:
        """Makes it a track; what landed is kept for as long as it is needed."""
        inbox = self._settings.inbox
        try:
            blob = await known_or_examined(self._catalog, self._examiner, landed)
        except BaseException:
            self._spool.discard(landed)
            raise
        try:
            recorded = await self._catalog.write(
                recording.record,
                new,
                blob,
                inbox=Inbox(self._settings.inbox_name, landed.key, inbox.linger_seconds),
                rules=self._rules,
                lane=lane,
                holder=self._holder,
                lease_seconds=self._lease_seconds,
            )
        except Exception:
            inbox_name = self._settings.inbox_name
            await discard_unless_recorded(self._catalog, self._spool, inbox_name, landed)
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
        policy = self._settings.policy
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
            await self._copier.copy_landed(self._stores[claimed.copy.store], claimed, blob, local)
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
            await self._catalog.write(_release_all, waiting)

    async def copying(self) -> None:
        """Waits for what uploads began and no longer wait for."""
        while self._going_on:
            await asyncio.wait(set(self._going_on))


def _release_all(tx: Tx, waiting: list[Claimed]) -> None:
    for claimed in waiting:
        claims.release(tx, copies_table, claimed.lease)
