"""Reads a blob from whichever copies are good, and goes on at the exact byte when one fails.

A blob is whole as long as each of its chunks is good somewhere. `order` says which copy comes
first, `stream` goes from one to the next; what was wrong with a copy's bytes is written into the
ledger from here, which repairs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

import structlog

from soundkeep.catalog import copies
from soundkeep.catalog.database import Catalog
from soundkeep.digest import CHUNK_BYTES, chunk_count, chunk_span, chunks_touching
from soundkeep.errors import (
    CatalogUnavailable,
    Corrupt,
    NotFound,
    SoundkeepError,
    StoreError,
    Truncated,
    Unplayable,
)
from soundkeep.model import Blob, Copy
from soundkeep.reading.ahead import ReadAhead
from soundkeep.reading.chunk_cache import ChunkCache
from soundkeep.reading.feed import Feed
from soundkeep.reading.order import Order
from soundkeep.reading.pace import Paces
from soundkeep.reading.stream import Stream
from soundkeep.reading.trusted import Trust
from soundkeep.settings.house import ReadingSettings
from soundkeep.stores.interface import Bytes, Store, lies_at
from soundkeep.writing import writing

SPEAKS_AGAINST_THE_BYTES = (Corrupt, NotFound, Truncated)

log = structlog.get_logger()


class Reader:
    """Verified bytes of any blob."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        settings: ReadingSettings,
        keep: Sequence[str],
    ) -> None:
        self.order = Order(stores, keep)
        self.settings = settings
        self.cache = ChunkCache(settings.cache_bytes)
        self.trust = Trust(settings.trust_seconds, settings.hot_bytes)
        self.paces = Paces(settings.hedge_seconds)
        self.ahead = ReadAhead(self._fetch)
        self._catalog = catalog
        self._stores = stores
        self._doubting: dict[int, asyncio.Task[None]] = {}

    async def open(self, blob: Blob, start: int = 0, stop: int | None = None) -> Bytes:
        """The bytes of the half-open range, clipped to the blob. Close it with `aclosing`.

        Raises `Unplayable` when no copy has a good next chunk; what was yielded before is right.
        Raises `CatalogUnavailable` when nobody can say where the copies are.
        """
        stop = blob.size_bytes if stop is None else min(stop, blob.size_bytes)
        if start >= stop:
            return
        stream = self.stream(blob, start, stop)
        try:
            for index in chunks_touching(start, stop):
                offset = index * CHUNK_BYTES
                chunk = await stream.next()
                yield chunk[max(0, start - offset) : stop - offset]
        finally:
            await stream.close()

    async def save(self, blob: Blob, target: Path) -> None:
        """All of it in a file. Raises as `open` does, and `DiskFull`, `WriteFailed`."""
        with writing("the data directory"), target.open("wb") as file:
            async with aclosing(self.open(blob)) as pieces:
                async for piece in pieces:
                    file.write(piece)

    def stream(self, blob: Blob, start: int, stop: int, known: Sequence[Copy] = ()) -> Stream:
        """The chunks that the half-open range touches. `known` copies, which somebody has just
        looked up, are tried first, and the catalog is asked only when none of them is good."""
        return Stream(self, blob, start // CHUNK_BYTES, chunk_count(stop), known)

    def cached(self, blob: Blob, start: int, stop: int) -> memoryview | None:
        """Verified bytes from `start`, up to `stop` or the end of their chunk, if in memory."""
        index = start // CHUNK_BYTES
        chunk = self.cache.get(blob.digest, index)
        if chunk is None:
            return None
        offset = index * CHUNK_BYTES
        return memoryview(chunk)[start - offset : stop - offset]

    async def copies(self, blob: Blob) -> list[Copy]:
        """Where a blob should be, as the catalog knows it now. Raises `CatalogUnavailable`."""
        return await self._catalog.read(copies.of_blob, blob.digest)

    def feed(self, copy: Copy, blob: Blob, first: int, last: int) -> Feed:
        """The chunks of one copy."""
        store = self._stores[copy.store]
        return Feed(store, copy, blob, first, last, self.settings.stall_seconds)

    def failed(self, copy: Copy, error: StoreError) -> None:
        """Notes what is wrong with a copy, or with its store, without making a listener wait."""
        log.info("copy failed", store=copy.store, key=copy.key, code=error.code, why=str(error))
        if not isinstance(error, SPEAKS_AGAINST_THE_BYTES):
            self.order.failed(copy.store)
        elif copy.id not in self._doubting:
            task = asyncio.create_task(self._doubt(copy, error))
            self._doubting[copy.id] = task
            task.add_done_callback(lambda _: self._doubting.pop(copy.id, None))

    async def close(self) -> None:
        """Waits until every doubt is written down."""
        await self.ahead.close()
        while self._doubting:
            await asyncio.wait(list(self._doubting.values()))

    async def _fetch(self, blob: Blob, index: int) -> None:
        """Reads one chunk into the cache, if there is any cache and it is not there."""
        start, stop = chunk_span(index, blob.size_bytes)
        if not self.settings.cache_bytes or self.cache.get(blob.digest, index) is not None:
            return
        with suppress(Unplayable, CatalogUnavailable):
            async with aclosing(self.open(blob, start, stop)) as pieces:
                async for _ in pieces:
                    pass

    async def _doubt(self, copy: Copy, error: StoreError) -> None:
        """An absence counts only if the store itself confirms it: unreachable is not lost."""
        try:
            if not isinstance(error, NotFound) or await self._is_absent(copy):
                await self._catalog.write(copies.doubt, copy.id, f"{error.code}: {error}")
        except StoreError as fault:
            self.order.failed(copy.store)
            log.info("store not reached", store=copy.store, code=fault.code, why=str(fault))
        except SoundkeepError as fault:
            log.warning("doubt not noted", store=copy.store, key=copy.key, why=str(fault))

    async def _is_absent(self, copy: Copy) -> bool:
        """Asked by `stat`, which makes sure that this is the store we mean; `probe` need not."""
        store = self._stores[copy.store]
        return await store.stat(lies_at(store, copy)) is None
