"""Makes a copy present: writes it from wherever the blob is good, and proves it.

A copy is proven by what its store can prove: a checksum the store checked itself, or reading it
back through our own chunk hashes. Nothing here touches a row that the caller has not leased.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from soundkeep.catalog import blobs, copies
from soundkeep.catalog.copies import Claimed
from soundkeep.catalog.database import Catalog
from soundkeep.digest import Digest
from soundkeep.errors import Corrupt, LeaseLost, NotFound, Truncated
from soundkeep.model import Blob, Copy, CopyState
from soundkeep.reading.feed import cut
from soundkeep.reading.reader import Reader
from soundkeep.stores.interface import Bytes, Key, Store

READ_BACK = "read back"


@dataclass(frozen=True)
class BlobSource:
    """A blob as a store's `put` wants it: verified chunks from wherever they are good."""

    reader: Reader
    blob: Blob
    file: Path | None = None
    cache_seconds: int | None = None

    @property
    def size_bytes(self) -> int:
        return self.blob.size_bytes

    @property
    def digest(self) -> Digest:
        return self.blob.digest

    @property
    def media_type(self) -> str:
        return self.blob.sound.media_type

    def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        """Raises `Unplayable` when no copy has a good chunk."""
        return self.reader.open(self.blob, start, stop)


class Copier:
    """Carries out the chores `copy` and `verify`."""

    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader

    async def copy(self, store: Store, claimed: Claimed) -> None:
        """Writes a wanted copy from wherever the blob is good, and proves it.

        Raises `StoreError`, `Unplayable`, `LeaseLost`.
        """
        await self.copy_from(store, claimed, await self._blob(claimed.copy), None)

    async def copy_from(
        self, store: Store, claimed: Claimed, blob: Blob, file: Path | None
    ) -> None:
        """As `copy`, of a blob at hand; a store that links may take over `file`."""
        receipt = await store.put(Key(claimed.copy.key), BlobSource(self._reader, blob, file))
        verified = receipt.verified or await read_back(store, receipt.locator, blob)
        try:
            await self._prove(claimed, receipt.locator, verified)
        except LeaseLost:
            # Our lease ran out under the put: it may have hit what somebody else put there since,
            # or it left bytes that no row knows of.
            await self._catalog.write(copies.written_too_late, claimed.copy, blob, receipt.locator)
            raise

    async def verify(self, store: Store, claimed: Claimed) -> None:
        """Re-reads a doubted copy, and writes it anew from good chunks if it is not whole.

        Its own good chunks serve too. Raises as `copy` does.
        """
        blob = await self._blob(claimed.copy)
        locator = claimed.copy.locator or claimed.copy.key
        try:
            verified = await read_back(store, locator, blob)
        except (Corrupt, NotFound, Truncated):
            await self.copy(store, claimed)
        else:
            await self._prove(claimed, locator, verified)

    async def prove(self, store: Store, copy: Copy) -> None:
        """Re-reads a present copy because the law asks for a fresh proof; doubts it if it fails.

        Raises what says that the store could not be asked.
        """
        blob = await self._blob(copy)
        try:
            verified = await read_back(store, copy.locator or copy.key, blob)
        except (Corrupt, NotFound, Truncated) as error:
            await self._catalog.write(copies.doubt, copy.id, str(error))
        else:
            await self._catalog.write(copies.prove_again, copy, verified)

    async def _prove(self, claimed: Claimed, locator: str, verified: str) -> None:
        await self._catalog.write(copies.prove, claimed, locator=locator, verified=verified)

    async def _blob(self, copy: Copy) -> Blob:
        blob = await self._catalog.read(blobs.find, copy.digest)
        assert blob is not None, "a copy's row holds its blob's"
        return blob


async def read_back(store: Store, locator: str, blob: Blob) -> str:
    """Reads a copy whole and checks every chunk. Raises `Corrupt`, `Truncated`, `NotFound` or
    whatever keeps the store from answering."""
    index = 0
    pieces = store.open(locator)
    async with aclosing(pieces), aclosing(cut(pieces)) as chunks:
        async for chunk in chunks:
            blob.chunk_hashes.check(index, chunk)
            index += 1
    if index != len(blob.chunk_hashes):
        raise Truncated(f"{index} of {len(blob.chunk_hashes)} chunks came back")
    return READ_BACK


def is_proven(copy: Copy) -> bool:
    """Whether the copy counts as verified."""
    return copy.state is CopyState.PRESENT and copy.verified is not None
