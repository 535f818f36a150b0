"""The bytes of one answer: from a file of this machine while it is good, then from wherever.

A file is read inline, two chunks at a time: a hop to a thread costs 30 to 50 µs, reading 64 KB
that are in memory costs 5, and pieces of one chunk cost half as much again to send (docs/decisions/
0005). What is not in memory is read in a thread, within the time that any store has before it
counts as stalled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import StoreError, TimedOut
from soundkeep.model import Blob, Copy
from soundkeep.reading.reader import Reader
from soundkeep.reading.stream import Stream
from soundkeep.reading.trusted import Buffer, LocalFile

PIECE_BYTES = 2 * CHUNK_BYTES

Local = tuple[Copy, str]  # a copy, and the file of this machine that it is


class Body:
    """A half-open range of a blob, in verified pieces. Close it."""

    def __init__(
        self,
        reader: Reader,
        blob: Blob,
        start: int,
        stop: int,
        local: Local | None,
        known: Sequence[Copy] = (),
    ) -> None:
        """`local` is the best copy, if that is a file of this machine; `known` are all copies, if
        they were looked up just now."""
        self._reader = reader
        self._blob = blob
        self._at = start
        self._stop = stop
        self._local = local
        self._known = known
        self._file: LocalFile | None = None
        self._rest: Stream | None = None
        if local is None:
            reader.ahead.note(blob, start, stop)
        else:
            try:
                self._file = reader.trust.open(local[1], blob)
            except StoreError as error:
                reader.failed(local[0], error)

    async def next(self) -> Buffer:
        """The next piece; empty at the end. Raises `Unplayable` and `CatalogUnavailable`."""
        if self._at >= self._stop:
            return b""
        piece = await self._next_of_file() if self._file else await self._next_of_rest()
        self._at += len(piece)
        return piece

    def next_at_once(self, into: bytearray) -> Buffer | None:
        """The next piece if it is in memory and good; else None, and `next` sees to it.

        It may be a view of `into`, of `PIECE_BYTES`.
        """
        if self._at >= self._stop:
            return None
        if self._file is None:
            return self._next_cached()
        try:
            piece = self._file.read(self._at, self._piece_stop(), wait=False, into=into)
        except (BlockingIOError, StoreError):
            return None
        self._at += len(piece)
        return piece

    def _next_cached(self) -> Buffer | None:
        """From the memory that holds chunks of far stores, unless a stream is running already."""
        piece = None
        if self._rest is None:
            piece = self._reader.cached(self._blob, self._at, self._stop)
        if piece is not None:
            self._at += len(piece)
        return piece

    async def close(self) -> None:
        """Leaves nothing open."""
        self._file = None
        if self._rest is not None:
            await self._rest.close()

    async def _next_of_file(self) -> Buffer:
        assert self._file is not None
        assert self._local is not None
        try:
            try:
                return self._file.read(self._at, self._piece_stop(), wait=False)
            except BlockingIOError:
                return await self._read_in_thread(self._file)
        except StoreError as error:
            self._file = None
            self._reader.failed(self._local[0], error)
        return await self._next_of_rest()

    def _piece_stop(self) -> int:
        return min(self._stop, self._at + PIECE_BYTES)

    async def _read_in_thread(self, file: LocalFile) -> Buffer:
        seconds = self._reader.settings.stall_seconds
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.to_thread(file.read, self._at, self._piece_stop())
        except TimeoutError as error:
            raise TimedOut(f"the disk gave nothing for {seconds:g} s") from error

    async def _next_of_rest(self) -> Buffer:
        if self._rest is None:
            self._rest = self._reader.stream(self._blob, self._at, self._stop, self._known)
        chunk = await self._rest.next()
        offset = self._at - self._at % CHUNK_BYTES
        if self._at == offset and offset + len(chunk) <= self._stop:
            return chunk
        return memoryview(chunk)[self._at - offset : self._stop - offset]
