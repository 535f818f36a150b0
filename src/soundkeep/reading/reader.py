"""Reads a blob from whichever copies are good, and goes on at the exact byte when one fails.

A blob is whole as long as each of its chunks is good somewhere. Copies are tried in the order of
`order`; a second one is asked too when the first is slow to answer; whatever goes wrong (an
error, a stall, a short body, a wrong hash) the next copy continues with the same chunk. A copy
that failed one chunk may serve the next: exclusion is by chunk, never by stream. What was wrong
with a copy's bytes is written into the ledger, which repairs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress

import structlog

from soundkeep.catalog import copies
from soundkeep.catalog.database import Catalog
from soundkeep.digest import CHUNK_BYTES, chunk_count
from soundkeep.errors import Corrupt, NotFound, SoundkeepError, StoreError, Truncated, Unplayable
from soundkeep.model import Blob, Copy
from soundkeep.reading.chunk_cache import ChunkCache
from soundkeep.reading.feed import Feed
from soundkeep.reading.order import Order
from soundkeep.settings import ReadingSettings
from soundkeep.stores.interface import Bytes, Store

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
        self._catalog = catalog
        self._stores = stores
        self._settings = settings
        self._cache = ChunkCache(settings.cache_bytes)
        self._doubting: dict[int, asyncio.Task[None]] = {}

    async def open(self, blob: Blob, start: int = 0, stop: int | None = None) -> Bytes:
        """The bytes of the half-open range, clipped to the blob. Close it with `aclosing`.

        Raises `Unplayable` when no copy has a good next chunk; what was yielded before is right.
        """
        stop = blob.size_bytes if stop is None else min(stop, blob.size_bytes)
        if start >= stop:
            return
        offset = start - start % CHUNK_BYTES
        async with aclosing(self._chunks(blob, start // CHUNK_BYTES, chunk_count(stop))) as chunks:
            async for chunk in chunks:
                piece = chunk[max(0, start - offset) : stop - offset]
                offset += len(chunk)
                yield piece

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
        while self._doubting:
            await asyncio.wait(list(self._doubting.values()))

    async def _chunks(self, blob: Blob, first: int, last: int) -> AsyncGenerator[bytes, None]:
        feed: Feed | None = None
        failed: dict[int, StoreError] = {}  # copies that could not give the chunk that is next
        index = first
        try:
            while index < last:
                if feed is None and (chunk := self._cache.get(blob.digest, index)) is not None:
                    yield chunk
                    index += 1
                    continue
                feed, chunk = await self._next(feed, blob, index, last, failed)
                failed.clear()
                yield chunk
                index += 1
        finally:
            if feed is not None:
                await feed.close()

    async def _next(
        self,
        feed: Feed | None,
        blob: Blob,
        index: int,
        last: int,
        failed: dict[int, StoreError],
    ) -> tuple[Feed, bytes]:
        """Chunk `index` from the feed that runs, or from a new one. Raises `Unplayable`."""
        if feed is not None:
            try:
                return feed, self._good(feed, blob, index, await feed.next())
            except StoreError as error:
                failed[feed.copy.id] = error
                self.failed(feed.copy, error)
                await feed.close()
        while candidates := await self._candidates(blob, failed):
            feeds = [self._feed(copy, blob, index, last) for copy in candidates]
            won = await self._race(feeds, failed)
            if won is not None:
                return won[0], self._good(won[0], blob, index, won[1])
        raise Unplayable(_why(blob, index, failed))

    async def _candidates(self, blob: Blob, failed: Mapping[int, StoreError]) -> list[Copy]:
        """The next copy to try, and with it one of no greater cost in case it is slow."""
        known = await self._catalog.read(copies.of_blob, blob.digest)
        left = self.order.sort(copy for copy in known if copy.id not in failed)
        hedges = [copy for copy in left[1:] if self.order.cost(copy) <= self.order.cost(left[0])]
        return left[:1] + hedges[:1]

    def _feed(self, copy: Copy, blob: Blob, first: int, last: int) -> Feed:
        store = self._stores[copy.store]
        return Feed(store, copy, blob, first, last, self._settings.stall_seconds)

    async def _race(
        self, feeds: list[Feed], failed: dict[int, StoreError]
    ) -> tuple[Feed, bytes] | None:
        """The first chunk of the first feed that has one; the others are closed.

        The second feed starts only if the first is slow. None if all that started failed.
        """
        running: dict[asyncio.Task[bytes], Feed] = {}
        waiting = list(feeds)
        try:
            while waiting or running:
                if waiting:
                    feed = waiting.pop(0)
                    running[asyncio.create_task(feed.next())] = feed
                hedge = self._settings.hedge_seconds if waiting else None
                done, _ = await asyncio.wait(
                    running, timeout=hedge, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    feed = running.pop(task)
                    try:
                        return feed, task.result()
                    except StoreError as error:
                        failed[feed.copy.id] = error
                        self.failed(feed.copy, error)
                        await feed.close()
                if done and not running:
                    return None
            return None
        finally:
            for task, feed in running.items():
                await _abandon(task, feed)

    def _good(self, feed: Feed, blob: Blob, index: int, chunk: bytes) -> bytes:
        self.order.answered(feed.copy.store)
        if self.order.cost(feed.copy):
            self._cache.put(blob.digest, index, chunk)
        return chunk

    async def _doubt(self, copy: Copy, error: StoreError) -> None:
        """An absence counts only if the store itself is there: unreachable is not lost."""
        try:
            if isinstance(error, NotFound) and not await self._is_absent(copy):
                return
            await self._catalog.write(copies.doubt, copy.id, f"{error.code}: {error}")
        except SoundkeepError as fault:
            log.info("doubt not noted", store=copy.store, key=copy.key, why=str(fault))

    async def _is_absent(self, copy: Copy) -> bool:
        """Whether the store itself, and the right one, says that nothing is there."""
        return await self._stores[copy.store].stat(copy.locator or copy.key) is None


async def _abandon(task: asyncio.Task[bytes], feed: Feed) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, StoreError):
        await task
    await feed.close()


def _why(blob: Blob, index: int, failed: Mapping[int, StoreError]) -> str:
    reasons = "; ".join(str(error) for error in failed.values()) or "it has no readable copy"
    return f"chunk {index} of {blob.digest.hex[:12]}… cannot be had now: {reasons}"
