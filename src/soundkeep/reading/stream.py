"""One reading of a blob, chunk by chunk, from copy to copy.

A second copy is asked too when the first is slow to answer; whatever goes wrong (an error, a
stall, a short body, a wrong hash) the next copy continues with the same chunk. A copy that failed
one chunk may serve the next: exclusion is by chunk, never by stream, and each copy is tried at
most once for a chunk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from soundkeep.errors import CatalogUnavailable, StoreError, Unplayable
from soundkeep.model import Blob, Copy
from soundkeep.reading.chunk_cache import ChunkCache
from soundkeep.reading.feed import Feed
from soundkeep.reading.order import Order
from soundkeep.reading.pace import Paces


class Copies(Protocol):
    """What a stream needs of the reader that started it."""

    @property
    def order(self) -> Order: ...
    @property
    def cache(self) -> ChunkCache: ...
    @property
    def paces(self) -> Paces: ...

    async def copies(self, blob: Blob) -> list[Copy]: ...
    def feed(self, copy: Copy, blob: Blob, first: int, last: int) -> Feed: ...
    def failed(self, copy: Copy, error: StoreError) -> None: ...


class Stream:
    """Chunks `first` to `last` (exclusive) of a blob, one for each `next`. Close it."""

    def __init__(
        self, reader: Copies, blob: Blob, first: int, last: int, known: Sequence[Copy] = ()
    ) -> None:
        """`known` copies are tried at first, without asking the catalog."""
        self._reader = reader
        self._blob = blob
        self._index = first  # of the chunk that is next
        self._last = last
        self._feed: Feed | None = None
        self._failed: dict[int, str] = {}  # why which copies could not give that chunk
        self._reported: set[tuple[int, str]] = set()
        self._known = known
        self._asks = not known

    async def next(self) -> bytes:
        """The next chunk, good. Raises `Unplayable` and `CatalogUnavailable`."""
        chunk = await self._read_on() if self._feed is not None else None
        if chunk is None:
            chunk = self._reader.cache.get(self._blob.digest, self._index)
        if chunk is None:
            chunk = await self._begin()
        self._index += 1
        self._failed.clear()
        return chunk

    async def close(self) -> None:
        """Leaves nothing open."""
        if self._feed is not None:
            feed, self._feed = self._feed, None
            await feed.close()

    async def _read_on(self) -> bytes | None:
        """The chunk from the feed that is open; None, and the feed closed, if it failed."""
        assert self._feed is not None
        try:
            return self._good(self._feed, await self._feed.next())
        except StoreError as error:
            self._note(self._feed, error)
            await self.close()
            return None

    async def _begin(self) -> bytes:
        """The chunk from a copy that was not tried for it yet; that copy then goes on."""
        while candidates := await self._candidates():
            if len(candidates) == 1:
                chunk = await self._try(candidates[0])
                if chunk is not None:
                    return chunk
            elif won := await self._race(candidates):
                self._feed, chunk = won
                return self._good(self._feed, chunk)
        raise Unplayable(_why(self._blob, self._index, self._failed))

    async def _candidates(self) -> list[Copy]:
        """The next copy to try, and with it one of no greater cost in case it is slow."""
        order = self._reader.order
        left = [] if self._asks else self._untried()
        if not left:
            await self._ask()
            left = self._untried()
        self._asks = True  # whoever comes back may have read for long, and copies move
        hedges = [copy for copy in left[1:] if order.cost(copy) <= order.cost(left[0])]
        return left[:1] + hedges[:1]

    def _untried(self) -> list[Copy]:
        return [c for c in self._reader.order.sort(self._known) if c.id not in self._failed]

    async def _ask(self) -> None:
        """A catalog that is out ends no running stream."""
        try:
            self._known = await self._reader.copies(self._blob)
        except CatalogUnavailable:
            if not self._known:
                raise

    async def _try(self, copy: Copy) -> bytes | None:
        """The first chunk of a copy that there is no other to race with; None if it failed."""
        started = time.monotonic()
        self._feed = self._reader.feed(copy, self._blob, self._index, self._last)
        chunk = await self._read_on()
        if chunk is not None:
            self._reader.paces.note(copy.store, time.monotonic() - started)
        return chunk

    async def _race(self, candidates: list[Copy]) -> tuple[Feed, bytes] | None:
        """The first chunk of the first feed that has one; the others are closed.

        The second starts only if the first is slow. None if all that started failed.
        """
        running: dict[asyncio.Task[bytes], Feed] = {}
        began: dict[Feed, float] = {}
        waiting = list(candidates)
        try:
            while True:
                if waiting:
                    feed = self._reader.feed(waiting.pop(0), self._blob, self._index, self._last)
                    running[asyncio.create_task(feed.next())] = feed
                    began[feed] = time.monotonic()
                    patience = self._reader.paces.patience_seconds(feed.copy.store)
                done, _ = await asyncio.wait(
                    running,
                    timeout=patience if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    feed = running.pop(task)
                    try:
                        chunk = task.result()
                    except StoreError as error:
                        self._note(feed, error)
                        await feed.close()
                    else:
                        self._note_pace(feed, began)
                        return feed, chunk
                if done and not running:
                    return None
        finally:
            for task, feed in running.items():
                self._note_pace(feed, began)
                await _abandon(task, feed)

    def _note_pace(self, feed: Feed, began: dict[Feed, float]) -> None:
        self._reader.paces.note(feed.copy.store, time.monotonic() - began[feed])

    def _good(self, feed: Feed, chunk: bytes) -> bytes:
        order = self._reader.order
        order.answered(feed.copy.store)
        if order.cost(feed.copy):
            self._reader.cache.put(self._blob.digest, self._index, chunk)
        return chunk

    def _note(self, feed: Feed, error: StoreError) -> None:
        """Excludes the copy from this chunk, and reports each kind of fault once a stream."""
        self._failed[feed.copy.id] = _named(feed.copy.store, error)
        fault = (feed.copy.id, error.code)
        if fault not in self._reported:
            self._reported.add(fault)
            self._reader.failed(feed.copy, error)


async def _abandon(task: asyncio.Task[bytes], feed: Feed) -> None:
    """Ends a feed that runs. Waits without taking its outcome, nor our own cancellation."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
    await feed.close()


def _named(store: str, error: StoreError) -> str:
    """What failed, and where: some stores say their name themselves."""
    says = str(error)
    return says if says.startswith(f"{store}: ") else f"{store}: {says}"


def _why(blob: Blob, index: int, failed: Mapping[int, str]) -> str:
    reasons = "; ".join(failed.values()) or "it has no readable copy"
    return f"chunk {index} of {blob.digest.hex[:12]}… cannot be had now: {reasons}"
