"""One copy's verified chunks in order: what a store streams, cut into chunks and checked."""

from __future__ import annotations

from contextlib import aclosing, closing

from soundkeep.digest import CHUNK_BYTES, chunk_span
from soundkeep.errors import StoreError, Truncated, Unavailable
from soundkeep.model import Blob, Copy
from soundkeep.stores.interface import Bytes, Store
from soundkeep.stores.pieces import regrouped
from soundkeep.stores.waits import Waits


class Feed:
    """Chunks `first` to `last` (exclusive) of one copy. Close it, also when it failed."""

    def __init__(
        self, store: Store, copy: Copy, blob: Blob, first: int, last: int, stall_seconds: float
    ) -> None:
        self.copy = copy
        self._hashes = blob.chunk_hashes
        self._index = first
        start, _ = chunk_span(first, blob.size_bytes)
        _, stop = chunk_span(last - 1, blob.size_bytes)
        pieces = store.open(copy.locator or copy.key, start, stop)
        self._chunks = regrouped(_unless_stalled(pieces, stall_seconds), CHUNK_BYTES)

    async def next(self) -> bytes:
        """The next chunk, checked. Raises `StoreError`: `Corrupt`, `Truncated`, `TimedOut` …"""
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise Truncated(f"{self.copy.store} ended before the last chunk") from None
        except StoreError:
            raise
        except Exception as error:
            # Whatever else comes out of a store (a catalog that is out under its check of the
            # marker, a bug) costs this copy and not the stream.
            raise Unavailable(f"{self.copy.store} failed: {error!r}") from error
        self._hashes.check(self._index, chunk)
        self._index += 1
        return chunk

    async def close(self) -> None:
        """Releases what the store holds open."""
        await self._chunks.aclose()


async def _unless_stalled(pieces: Bytes, seconds: float) -> Bytes:
    """Each piece is given its time anew: a store that is slow and steady has not stalled."""
    with closing(Waits(seconds, f"nothing came for {seconds:g} s")) as waits:
        async with aclosing(pieces):
            while True:
                with waits:
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                yield piece
