"""A store in a dictionary: the contract at its shortest, and the twin of every other in tests.

What it holds dies with the process, so it never counts where bytes must last.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta

from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import NotFound
from soundkeep.stores.interface import RESERVED_PREFIX, Bytes, Caps, Key, Receipt, Source, Stat
from soundkeep.stores.pieces import check_fits, exactly, span


class MemoryStore:
    """Objects by key."""

    def __init__(
        self,
        name: str,
        *,
        public: bool = False,
        max_bytes: int | None = None,
        types: frozenset[str] | None = None,
    ) -> None:
        self.name = name
        self.caps = Caps(public=public, max_bytes=max_bytes, types=types)
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._marker: str | None = None

    async def probe(self) -> None:
        """It is always there."""

    async def read_marker(self) -> str | None:
        return self._marker

    async def write_marker(self, store_id: str) -> None:
        self._marker = store_id

    async def put(self, key: Key, source: Source) -> Receipt:
        check_fits(self.caps, source)
        async with aclosing(exactly(source)) as pieces:
            data = b"".join([piece async for piece in pieces])
        self._objects[str(key)] = data, time.time()
        return Receipt(str(key))

    async def stat(self, locator: str) -> Stat | None:
        if locator not in self._objects:
            return None
        data, modified_at = self._objects[locator]
        return Stat(locator, len(data), modified_at=modified_at)

    async def open(self, locator: str, start: int = 0, stop: int | None = None) -> Bytes:
        if locator not in self._objects:
            raise NotFound(f"{self.name} has no {locator}")
        data, _ = self._objects[locator]
        start, stop = span(len(data), start, stop)
        for at in range(start, stop, CHUNK_BYTES):
            yield data[at : min(at + CHUNK_BYTES, stop)]

    async def delete(self, locator: str) -> None:
        self._objects.pop(locator, None)

    async def list(self, prefix: str = "", after: str | None = None) -> AsyncIterator[Stat]:
        for locator in sorted(self._objects):  # code points sort as their UTF-8 bytes do
            seen = not locator.startswith(RESERVED_PREFIX) and locator.startswith(prefix)
            if seen and locator > (after or "") and (stat := await self.stat(locator)):
                yield stat

    async def sign(self, locator: str, expires_in: timedelta) -> str | None:
        return None

    async def reap(self, older_than: timedelta) -> int:
        return 0

    async def close(self) -> None:
        """What it holds stays, for whoever opens it again in a test."""
