"""Makes a copy present: writes it from wherever the blob is good, and proves it.

A copy is proven by what its store can prove: a checksum the store checked itself, or reading it
back through our own chunk hashes. Nothing here touches a row that the caller has not leased.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from soundkeep.catalog import blobs, copies, copy_work, tracks
from soundkeep.catalog.copy_work import Claimed, Known
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.digest import CHUNK_BYTES, Digest
from soundkeep.errors import ClaimNotTrue, Corrupt, LeaseLost, NotFound, StoreError, Truncated
from soundkeep.model import Blob, Copy, CopyState, Track
from soundkeep.reading.body import Body, Local
from soundkeep.reading.reader import Reader
from soundkeep.reading.trusted import check_file
from soundkeep.stores.interface import Bytes, Key, Store, lies_at
from soundkeep.stores.pieces import regrouped

READ_BACK = "read back"


@dataclass(frozen=True)
class BlobSource:
    """A blob as a store's `put` wants it: verified pieces from wherever they are good, and first
    from a file of this machine."""

    reader: Reader
    blob: Blob
    local: Local | None
    may_link: bool = False
    cache_seconds: int | None = None
    known: Sequence[Copy] = ()  # all copies, if they were looked up just now

    @property
    def size_bytes(self) -> int:
        return self.blob.size_bytes

    @property
    def digest(self) -> Digest:
        return self.blob.digest

    @property
    def media_type(self) -> str:
        return self.blob.sound.media_type

    @property
    def file(self) -> Path | None:
        return Path(self.local[1]) if self.local and self.may_link else None

    @property
    def checked(self) -> bool:
        """A `Body` gives only chunks that match their hashes."""
        return True

    async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        """Raises `Unplayable` when no copy has a good chunk."""
        end = self.blob.size_bytes if stop is None else min(stop, self.blob.size_bytes)
        body = Body(self.reader, self.blob, start, end, self.local, self.known)
        try:
            while piece := await body.next():
                yield piece  # type: ignore[misc] # a buffer of its own, that nobody changes
        finally:
            await body.close()


class Copier:
    """Carries out the chores `copy` and `verify`."""

    def __init__(
        self, catalog: Catalog, reader: Reader, cache_seconds: Mapping[str, int] | None = None
    ) -> None:
        """`cache_seconds` of each public store: what caches are told of what lies there."""
        self._catalog = catalog
        self._reader = reader
        self._cache_seconds = cache_seconds or {}

    async def copy(self, store: Store, claimed: Claimed) -> None:
        """Writes a wanted copy from wherever the blob is good, and proves it.

        Raises `StoreError`, `Unplayable`, `LeaseLost`.
        """
        known = claimed.known
        if known is None:
            known = await self._catalog.read(_known, claimed.copy.digest)
        local = self._reader.order.best_file(known.copies)
        source = BlobSource(self._reader, known.blob, local, known=known.copies)
        await self._put(store, claimed, source)

    async def copy_landed(
        self, store: Store, claimed: Claimed, blob: Blob, landed: Local | None
    ) -> None:
        """As `copy`, of an upload that has just landed; a store that links may take over its file.

        (A repair never links: damage to one would then be damage to both.)
        """
        await self._put(store, claimed, BlobSource(self._reader, blob, landed, may_link=True))

    async def _put(self, store: Store, claimed: Claimed, source: BlobSource) -> None:
        source = replace(source, cache_seconds=self._cache_seconds.get(store.name))
        if claimed.copy.is_claim:
            await self._catalog.write(copy_work.write_there, claimed)
        receipt = await store.put(Key(claimed.copy.key), source)
        blob = source.blob
        verified = receipt.verified or await self._read_back(store, receipt.locator, blob)
        try:
            await self._prove(claimed, receipt.locator, verified)
        except LeaseLost:
            # Our lease ran out under the put: it may have hit what somebody else put there since,
            # or it left bytes that no row knows of.
            await self._catalog.write(copies.written_too_late, claimed.copy, blob, receipt.locator)
            raise

    async def verify(self, store: Store, claimed: Claimed) -> None:
        """Re-reads a doubted copy, and writes it anew from good chunks if it is not whole.

        Its own good chunks serve too. Raises as `copy` does, and `ClaimNotTrue` instead of writing
        over what somebody else put there.
        """
        blob = await self._blob(claimed.copy)
        locator = lies_at(store, claimed.copy)
        try:
            verified = await self._read_back(store, locator, blob)
        except (Corrupt, NotFound, Truncated):
            await self._check_may_write(store, claimed.copy)
            await self.copy(store, claimed)
        else:
            await self._prove(claimed, locator, verified)

    async def _check_may_write(self, store: Store, copy: Copy) -> None:
        """Raises `ClaimNotTrue`, `StoreError`."""
        if await self.is_anothers(store, copy):
            claiming = await self._catalog.read(tracks.lying_at, copy.digest, copy.store, copy.key)
            raise _claim_not_true(copy, lies_at(store, copy), claiming)

    async def is_anothers(self, store: Store, copy: Copy) -> bool:
        """Whether other bytes lie there that nobody here wrote: a copy that is only claimed, under
        a key that does not name the sound itself, and what lies there is something else.

        Raises what says that the store could not be asked.
        """
        if not copy.is_claim or copy.digest.hex in copy.key:
            return False
        locator, blob = lies_at(store, copy), await self._blob(copy)
        try:
            await self._read_back(store, locator, blob)
        except Corrupt:
            return True
        except NotFound:
            return False
        except Truncated:
            stat = await store.stat(locator)
            if stat is not None and stat.size_bytes == blob.size_bytes:
                raise  # it broke off on its way
            return stat is not None
        return False

    async def prove(self, store: Store, copy: Copy) -> bool:
        """Re-reads a present copy because the law asks for a fresh proof; doubts it if it fails.

        Answers whether it is proven. Raises what says that the store could not be asked.
        """
        why = await self.look(store, copy)
        if why is not None:
            await self._catalog.write(copies.doubt, copy.id, why)
        return why is None

    async def look(self, store: Store, copy: Copy) -> str | None:
        """Re-reads a present copy: a fresh proof of it, or what is wrong with it.

        Raises what says that the store could not be asked.
        """
        blob = await self._blob(copy)
        try:
            verified = await self._read_back(store, lies_at(store, copy), blob)
        except (Corrupt, NotFound, Truncated) as error:
            return str(error) or error.code
        await self._catalog.write(copy_work.prove_again, copy, verified)
        return None

    async def _prove(self, claimed: Claimed, locator: str, verified: str) -> None:
        await self._catalog.write(copy_work.prove, claimed, locator=locator, verified=verified)

    async def _read_back(self, store: Store, locator: str, blob: Blob) -> str:
        """As the function; a file of this machine is read in one go, in a thread."""
        path = self._reader.order.path(store.name, locator)
        with suppress(StoreError, TimeoutError):  # then the store itself says what is the matter
            if path is not None:
                async with asyncio.timeout(self._reader.settings.stall_seconds):
                    await asyncio.to_thread(check_file, path, blob)
                return READ_BACK
        return await read_back(store, locator, blob)

    async def _blob(self, copy: Copy) -> Blob:
        return (await self._catalog.read(_known, copy.digest)).blob


def _claim_not_true(copy: Copy, locator: str, claiming: Sequence[Track]) -> ClaimNotTrue:
    """What to do about it, for the tracks of which somebody said that they lie there."""
    moved = "Move it away and this copy is written"
    back = " and ".join(
        f"`soundkeep sync {track.id} --store {copy.store} --delete`" for track in claiming
    )
    advice = f"{moved}, or take the claim back, which leaves it: {back}" if back else moved
    return ClaimNotTrue(
        f"another sound lies at {locator} in {copy.store}; it was left alone. {advice}"
    )


def _known(tx: Tx, digest: Digest) -> Known:
    blob = blobs.find(tx, digest)
    assert blob is not None, "a copy's row holds its blob's"
    return Known(blob, copies.of_blob(tx, digest))


async def read_back(store: Store, locator: str, blob: Blob) -> str:
    """Reads a copy whole and checks every chunk. Raises `Corrupt`, `Truncated`, `NotFound` or
    whatever keeps the store from answering."""
    index = 0
    pieces = store.open(locator)
    async with aclosing(pieces), aclosing(regrouped(pieces, CHUNK_BYTES)) as chunks:
        async for chunk in chunks:
            blob.chunk_hashes.check(index, chunk)
            index += 1
    if index != len(blob.chunk_hashes):
        raise Truncated(f"{index} of {len(blob.chunk_hashes)} chunks came back")
    return READ_BACK


def is_proven(copy: Copy) -> bool:
    """Whether the copy counts as verified."""
    return copy.state is CopyState.PRESENT and copy.verified is not None
