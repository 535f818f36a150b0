"""A take while it is spoken: a file that grows, read by any number of followers.

Whoever joins late reads from the start; nobody's slowness holds up another, and no follower costs
memory. The last `HELD_BACK_BYTES` wait until the take is kept, so that no stream of a take that is
refused ends well.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from soundkeep.errors import SoundkeepError

HELD_BACK_BYTES = 64 * 1024
PIECE_BYTES = 64 * 1024


class Live:
    """The file is read through one descriptor, which outlives its names."""

    def __init__(self, file: Path) -> None:
        self._number: int | None = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._readers = 0
        self._size_bytes = 0
        self._ended = False
        self._error: SoundkeepError | None = None
        self._moved = asyncio.Event()
        self.first_byte_at: float | None = None  # by the monotonic clock

    @property
    def can_be_joined(self) -> bool:
        """Whether the file is still open, and good. After that the take lies in the stores."""
        return self._number is not None and self._error is None

    def grown(self, size_bytes: int) -> None:
        """So many bytes are in the file by now."""
        if self.first_byte_at is None:
            self.first_byte_at = time.monotonic()
        self._size_bytes = size_bytes
        self._tell()

    def end(self, error: SoundkeepError | None = None) -> None:
        """The take is kept as it is, or it is not and every stream of it breaks off. Whatever ends
        it first counts."""
        if not self._ended:
            self._ended, self._error = True, error
            self._tell()
            self._close_unless_read()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The whole take from its first byte. Raises what ended it."""
        assert self._number is not None
        self._readers += 1
        try:
            at = 0
            while True:
                for_now = self._readable_bytes
                while at < for_now:
                    # Just written, so in memory: a hop to a thread costs more than the read.
                    piece = os.pread(self._number, min(PIECE_BYTES, for_now - at), at)
                    at += len(piece)
                    yield piece
                if self._error is not None:
                    raise self._error
                if self._ended and at == self._size_bytes:
                    return
                await self._more_than(for_now)
        finally:
            self._readers -= 1
            self._close_unless_read()

    @property
    def _readable_bytes(self) -> int:
        if self._ended:
            return 0 if self._error is not None else self._size_bytes
        return max(0, self._size_bytes - HELD_BACK_BYTES)

    async def _more_than(self, size_bytes: int) -> None:
        while not self._ended and self._readable_bytes <= size_bytes:
            await self._moved.wait()

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def _close_unless_read(self) -> None:
        if self._ended and not self._readers and self._number is not None:
            number, self._number = self._number, None
            os.close(number)
