"""Writes and removes sidecars: the chores `write_sidecar` and `remove_sidecar`.

A sidecar is made of its subject as it is when the action runs, and the outcome says which revision
that was: if that changed meanwhile the row is due again. It proves nothing and no copy law
protects it, because the catalog can always write it anew; for the same reason what a store says it
took is not read back.
"""

from __future__ import annotations

from collections.abc import Mapping

from soundkeep.catalog import copies, sidecar_work, subjects, tracks
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.gathering import Gathered
from soundkeep.catalog.sidecar_work import ClaimedSidecar, Written
from soundkeep.catalog.subjects import Record
from soundkeep.copies.sidecar_form import MEDIA_TYPE, sidecar_bytes
from soundkeep.errors import LeaseLost, Unavailable
from soundkeep.model import Sidecar, Subject
from soundkeep.stores.interface import Key, Store, lies_at
from soundkeep.stores.sources import BytesSource


class SidecarKeeper:
    """Carries out both chores. `cache_seconds` is by public store: what caches are told."""

    def __init__(self, catalog: Catalog, cache_seconds: Mapping[str, int]) -> None:
        self._catalog = catalog
        self._cache_seconds = cache_seconds
        # They come in bursts: one transaction for all of a burst instead of two for each.
        self._record = Gathered(self._records)
        self._note = Gathered(self._note_all)

    async def write(self, store: Store, claimed: ClaimedSidecar) -> None:
        """Writes the sidecar as its subject is now. Raises `StoreError`, `LeaseLost`."""
        sidecar = claimed.sidecar
        record = await self._record(sidecar.subject)
        if record is None or not _may_describe(sidecar, record):
            # It was deleted or withdrawn since the claim, and the row says so by now.
            await self._catalog.write(sidecar_work.come_back_later, claimed)
            return
        receipt = await store.put(Key(sidecar.key), self._source(sidecar, record))
        if not await self._note(Written(claimed, record.revision, receipt.locator)):
            # Our lease ran out under the put: it may have replaced a newer one, or left one that
            # no row knows of.
            await self._catalog.write(sidecar_work.written_too_late, sidecar, receipt.locator)
            raise LeaseLost

    async def remove(self, store: Store, claimed: ClaimedSidecar) -> None:
        """Removes the sidecar and confirms that it is gone. Raises `StoreError`, `LeaseLost`."""
        sidecar = claimed.sidecar
        try:
            await _delete(store, sidecar)
            await self._catalog.write(_confirm, claimed)
        except BaseException:
            # Our lease may have run out under the delete, which then may have hit a new sidecar.
            # While the row is ours this changes nothing: it is not wanted.
            await self._catalog.write(sidecar_work.removed_too_late, sidecar)
            raise

    async def _records(self, of: list[Subject]) -> list[Record | None]:
        found = await self._catalog.read(subjects.find_all, of)
        return [found.get(subject) for subject in of]

    async def _note_all(self, outcomes: list[Written]) -> list[bool]:
        return await self._catalog.write(sidecar_work.note_written, outcomes)

    def _source(self, sidecar: Sidecar, record: Record) -> BytesSource:
        data = sidecar_bytes(record, sidecar.audio_key, public=sidecar.public)
        return BytesSource(data, MEDIA_TYPE, self._cache_seconds.get(sidecar.store))


def _may_describe(sidecar: Sidecar, record: Record) -> bool:
    """A segment may have been spoken anew, a track been made private."""
    return record.blob.digest == sidecar.digest and (record.public or not sidecar.public)


async def _delete(store: Store, sidecar: Sidecar) -> None:
    """Also one that was never noted as written: who wrote it may have died before that."""
    locator = lies_at(store, sidecar)
    await store.delete(locator)
    if await store.stat(locator) is not None:
        raise Unavailable(f"{store.name} still shows {sidecar.key} after deleting it")


def _confirm(tx: Tx, claimed: ClaimedSidecar) -> None:
    """The removal is a fact: tell the receipt, and let the sound go that waited for it."""
    sidecar = claimed.sidecar
    sidecar_work.note_gone(tx, claimed)
    tracks.confirm_sidecar_removal(tx, sidecar.id)
    copies.may_be_dropped(tx, sidecar.digest, Place(sidecar.store, sidecar.audio_key))
