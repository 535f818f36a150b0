"""One copy's verified chunks in order: what a store streams, cut into chunks and checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from soundkeep.digest import CHUNK_BYTES, chunk_span
from soundkeep.errors import StoreError, TimedOut, Truncated, Unavailable
from soundkeep.model import Blob, Copy
from soundkeep.stores.interface import Bytes, Store


class Feed:
    """Chunks `first` to `last` (exclusive) of one copy. Close it, also when it failed."""

    def __init__(
        self, store: Store, copy: Copy, blob: Blob, first: int, last: int, stall_seconds: float
    ) -> None:
        self.copy = copy
        start, _ = chunk_span(first, blob.size_bytes)
        _, stop = chunk_span(last - 1, blob.size_bytes)
        pieces = store.open(copy.locator or copy.key, start, stop)
        self._chunks = _checked(cut(_unless_stalled(pieces, stall_seconds)), blob, first)

    async def next(self) -> bytes:
        """The next chunk, checked. Raises `StoreError`: `Corrupt`, `Truncated`, `TimedOut` …"""
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            raise Truncated(f"{self.copy.store} ended before the last chunk") from None
        except StoreError:
            raise
        except Exception as error:
            # Whatever else comes out of a store (a catalog that is out under its check of the
            # marker, a bug) costs this copy and not the stream.
            raise Unavailable(f"{self.copy.store} failed: {error!r}") from error

    async def close(self) -> None:
        """Releases what the store holds open."""
        await self._chunks.aclose()


async def _unless_stalled(pieces: Bytes, seconds: float) -> Bytes:
    """Each piece is given its time anew: a store that is slow and steady has not stalled."""
    async with aclosing(pieces):
        while True:
            try:
                async with asyncio.timeout(seconds):
                    piece = await anext(pieces, None)
            except TimeoutError as error:
                raise TimedOut(f"nothing came for {seconds:g} s") from error
            if piece is None:
                return
            yield piece


async def cut(pieces: Bytes) -> Bytes:
    """Pieces of any size as chunks of 256 KiB; the last may be shorter."""
    pending = bytearray()
    async with aclosing(pieces):
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


async def _checked(chunks: Bytes, blob: Blob, first: int) -> AsyncGenerator[bytes, None]:
    """Raises `Corrupt` in place of a chunk that is not what it should be."""
    index = first
    async with aclosing(chunks):
        async for chunk in chunks:
            blob.chunk_hashes.check(index, chunk)
            yield chunk
            index += 1
