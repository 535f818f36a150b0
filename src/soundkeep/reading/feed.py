"""One copy's verified chunks in order: what a store streams, cut into chunks and checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from soundkeep.digest import CHUNK_BYTES, chunk_span
from soundkeep.errors import TimedOut, Truncated
from soundkeep.model import Blob, Copy
from soundkeep.stores.interface import Bytes, Store


class Feed:
    """Chunks `first` to `last` (exclusive) of one copy. Close it, also when it failed."""

    def __init__(
        self, store: Store, copy: Copy, blob: Blob, first: int, last: int, stall_seconds: float
    ) -> None:
        self.copy = copy
        self._stall_seconds = stall_seconds
        self._chunks = _chunks(store, copy, blob, first, last)

    async def next(self) -> bytes:
        """The next chunk, checked. Raises `StoreError`: `Corrupt`, `Truncated`, `TimedOut` …"""
        try:
            async with asyncio.timeout(self._stall_seconds):
                return await anext(self._chunks)
        except TimeoutError as error:
            raise TimedOut(
                f"{self.copy.store} sent nothing for {self._stall_seconds:g} s"
            ) from error
        except StopAsyncIteration:
            raise Truncated(f"{self.copy.store} ended before the last chunk") from None

    async def close(self) -> None:
        """Releases what the store holds open."""
        await self._chunks.aclose()


async def _chunks(
    store: Store, copy: Copy, blob: Blob, first: int, last: int
) -> AsyncGenerator[bytes, None]:
    start, _ = chunk_span(first, blob.size_bytes)
    _, stop = chunk_span(last - 1, blob.size_bytes)
    index = first
    pieces = store.open(copy.locator or copy.key, start, stop)
    async with aclosing(pieces), aclosing(cut(pieces)) as chunks:
        async for chunk in chunks:
            blob.chunk_hashes.check(index, chunk)
            yield chunk
            index += 1


async def cut(pieces: Bytes) -> AsyncGenerator[bytes, None]:
    """Pieces of any size as chunks of 256 KiB; the last may be shorter."""
    pending = bytearray()
    async for piece in pieces:
        if not pending and len(piece) == CHUNK_BYTES:
            yield piece
            continue
        pending += piece
        while len(pending) >= CHUNK_BYTES:
            yield bytes(pending[:CHUNK_BYTES])
            del pending[:CHUNK_BYTES]
    if pending:
        yield bytes(pending)
