"""Bytes to be put as a `Source`: a file on this machine, or a few bytes in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from soundkeep.digest import CHUNK_BYTES, Digest
from soundkeep.errors import NotFound, Truncated
from soundkeep.stores.files import open_regular
from soundkeep.stores.interface import Bytes
from soundkeep.stores.pieces import span


@dataclass(frozen=True)
class FileSource:
    """A file that will never be changed; a store that can may take it over by a link.

    Opening it raises `NotFound` if it is gone, `Truncated` if it has become shorter.
    """

    path: Path
    digest: Digest
    size_bytes: int
    media_type: str
    cache_seconds: int | None = None

    @property
    def file(self) -> Path:
        """What `Source` calls it."""
        return self.path

    @property
    def checked(self) -> bool:
        return False

    async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        """The bytes of the half-open range, by the chunk."""
        file = await asyncio.to_thread(open_regular, self.path)
        if file is None:
            raise NotFound(f"there is no file {self.path}")
        start, stop = span(max(self.size_bytes, file.size_bytes), start, stop)
        while start < stop:
            piece = await asyncio.to_thread(file.read, min(CHUNK_BYTES, stop - start), start)
            if not piece:
                raise Truncated(f"{self.path} has become shorter")
            yield piece
            start += len(piece)


@dataclass(frozen=True)
class BytesSource:
    """Bytes in memory."""

    data: bytes
    media_type: str
    cache_seconds: int | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    @property
    def digest(self) -> Digest:
        return Digest.of(self.data)

    @property
    def file(self) -> Path | None:
        return None

    @property
    def checked(self) -> bool:
        return False

    async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        """The bytes of the half-open range, by the chunk."""
        start, stop = span(len(self.data), start, stop)
        for at in range(start, stop, CHUNK_BYTES):
            yield self.data[at : min(at + CHUNK_BYTES, stop)]
