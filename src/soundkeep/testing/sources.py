"""Bytes to be put, from memory; also sources that lie, break off or wait."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from soundkeep.stores import sources
from soundkeep.stores.interface import Bytes
from soundkeep.stores.pieces import span

PIECE_BYTES = 100_000  # divides no chunk, so that nobody relies on pieces being chunks


@dataclass(frozen=True)
class BytesSource(sources.BytesSource):
    """Bytes in memory as a `Source`; `announced_bytes` makes it lie about their number."""

    media_type: str = "audio/mpeg"
    announced_bytes: int | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.data) if self.announced_bytes is None else self.announced_bytes

    async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        start, stop = span(len(self.data), start, stop)
        for at in range(start, stop, PIECE_BYTES):
            yield self.data[at : min(at + PIECE_BYTES, stop)]


@dataclass(frozen=True)
class BreakingSource(BytesSource):
    """Raises `error` once half of the bytes went by."""

    error: Exception = field(default_factory=lambda: ConnectionResetError("the source broke off"))

    async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        yield self.data[: len(self.data) // 2]
        raise self.error


@dataclass(frozen=True)
class WaitingSource(BytesSource):
    """Gives half of the bytes, says so by `half_given`, and goes on when `may_go_on` is set."""

    half_given: asyncio.Event = field(default_factory=asyncio.Event)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, start: int = 0, stop: int | None = None) -> Bytes:
        half = len(self.data) // 2
        yield self.data[:half]
        self.half_given.set()
        await self.may_go_on.wait()
        yield self.data[half:]
