"""What is sent, a piece at a time: opened anew for each attempt, and never joined to a whole.

aiohttp wraps whatever a body raises into an error of the connection. A source that failed must not
look like a store that did, so what it raised is kept here for whoever sent it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from aiohttp import Payload
from aiohttp.abc import AbstractStreamWriter

Piece = bytes | memoryview
Pieces = Callable[[], AsyncGenerator[Any, None]]


class Body(Payload):
    """Pieces of a known length in all. `failure` is what opening or reading them raised."""

    _autoclose = True

    def __init__(self, size_bytes: int, opened: Pieces, stall_seconds: float) -> None:
        super().__init__(opened)
        self._opened = opened
        self._stall_seconds = stall_seconds
        self._size = size_bytes
        self.failure: Exception | None = None

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Raises `TimeoutError` when the server does not take the next piece in time."""
        async with aclosing(self._opened()) as pieces:
            while (piece := await self._next(pieces)) is not None:
                async with asyncio.timeout(self._stall_seconds):
                    await writer.write(piece)

    async def _next(self, pieces: AsyncGenerator[Any, None]) -> Piece | None:
        try:
            piece: Piece | None = await anext(pieces, None)
        except Exception as error:
            self.failure = error
            raise
        return piece

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise NotImplementedError("a body is bytes, and is not read for itself")


async def each(pieces: Sequence[Piece]) -> AsyncGenerator[Piece, None]:
    """What is in memory already."""
    for piece in pieces:
        yield piece
