"""One copy's verified chunks in order: what a store streams, cut into chunks and checked."""

from __future__ import annotations

from soundkeep.digest import chunk_span
from soundkeep.errors import StoreError, Truncated, Unavailable
from soundkeep.model import Blob, Copy
from soundkeep.stores.interface import Store, lies_at
from soundkeep.stores.waits import Waits


class Feed:
    """Chunks `first` to `last` (exclusive) of one copy. Close it, also when it failed."""

    def __init__(
        self, store: Store, copy: Copy, blob: Blob, first: int, last: int, stall_seconds: float
    ) -> None:
        self.copy = copy
        self._blob = blob
        self._index = first
        start, _ = chunk_span(first, blob.size_bytes)
        _, stop = chunk_span(last - 1, blob.size_bytes)
        self._pieces = store.open(lies_at(store, copy), start, stop)
        self._waits = Waits(stall_seconds, f"nothing came for {stall_seconds:g} s")
        self._over = b""  # what came with the chunk before and belongs to the next

    async def next(self) -> bytes:
        """The next chunk, checked. Raises `StoreError`: `Corrupt`, `Truncated`, `TimedOut` …"""
        try:
            chunk = await self._whole()
        except StoreError:
            raise
        except Exception as error:
            # Whatever else comes out of a store (a catalog that is out under its check of the
            # marker, a bug) costs this copy and not the stream.
            raise Unavailable(f"{self.copy.store} failed: {error!r}") from error
        self._blob.chunk_hashes.check(self._index, chunk)
        self._index += 1
        return chunk

    async def close(self) -> None:
        """Releases what the store holds open."""
        self._waits.close()
        await self._pieces.aclose()

    async def _whole(self) -> bytes:
        """A piece that is a chunk goes through as it is."""
        start, stop = chunk_span(self._index, self._blob.size_bytes)
        missing = stop - start
        held: list[bytes] = []
        while True:
            piece = self._over or await self._piece()
            self._over = b""
            if len(piece) > missing:
                piece, self._over = piece[:missing], piece[missing:]
            held.append(piece)
            missing -= len(piece)
            if not missing:
                return piece if len(held) == 1 else b"".join(held)

    async def _piece(self) -> bytes:
        """Each is given its time anew: a store that is slow and steady has not stalled."""
        with self._waits:
            piece = await anext(self._pieces, None)
        if not piece:
            raise Truncated(f"{self.copy.store} ended before the last chunk")
        return piece
