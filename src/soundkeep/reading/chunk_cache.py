"""Verified chunks of slow stores, in bounded memory; the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict

from soundkeep.digest import Digest


class ChunkCache:
    """At most `max_bytes` of chunks, by digest and index. Content never changes under its name."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._chunks: OrderedDict[tuple[Digest, int], bytes] = OrderedDict()

    def get(self, digest: Digest, index: int) -> bytes | None:
        chunk = self._chunks.get((digest, index))
        if chunk is not None:
            self._chunks.move_to_end((digest, index))
        return chunk

    def put(self, digest: Digest, index: int, chunk: bytes) -> None:
        if len(chunk) > self._max_bytes or (digest, index) in self._chunks:
            return
        self._chunks[digest, index] = chunk
        self._bytes += len(chunk)
        while self._bytes > self._max_bytes:
            _, oldest = self._chunks.popitem(last=False)
            self._bytes -= len(oldest)
