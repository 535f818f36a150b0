"""Pieces of bytes on their way into and out of stores: counted, regrouped, kept in their range.

Every store needs these few rules, and each is written once, here. What the bytes ought to be is
nobody's concern on this page: hashes are checked in `reading`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from soundkeep.errors import Corrupt, TooLarge, Truncated
from soundkeep.stores.interface import Bytes, Caps, Source


def check_fits(caps: Caps, source: Source) -> None:
    """Raises `TooLarge` for what the store does not take."""
    if caps.max_bytes is not None and source.size_bytes > caps.max_bytes:
        raise TooLarge(f"{source.size_bytes} bytes, and the store takes {caps.max_bytes}")


async def exactly(source: Source) -> Bytes:
    """The source's pieces; raises unless they are as many bytes as it announced. The last is given
    when the source has ended: whoever has every byte may make an object of them."""
    seen = 0
    last: bytes = b""
    async with aclosing(source.open()) as pieces:
        async for piece in pieces:
            seen += len(piece)
            if seen > source.size_bytes:
                raise Corrupt(f"the source gives more than its {source.size_bytes} bytes")
            if seen < source.size_bytes:
                yield piece
            elif piece:
                last = piece
    if seen < source.size_bytes:
        raise Truncated(f"the source gave {seen} of {source.size_bytes} bytes")
    if last:
        yield last


async def grouped(pieces: Bytes, size_bytes: int) -> AsyncGenerator[list[memoryview], None]:
    """The same bytes in groups of `size_bytes`; only the last may be smaller. Nothing is copied."""
    held: list[memoryview] = []
    count = 0
    async with aclosing(pieces):
        async for piece in pieces:
            rest = memoryview(piece)
            while rest:
                part = rest[: size_bytes - count]
                rest = rest[len(part) :]
                held.append(part)
                count += len(part)
                if count == size_bytes:
                    yield held
                    held, count = [], 0
    if count:
        yield held


async def regrouped(pieces: Bytes, size_bytes: int) -> Bytes:
    """The same bytes in pieces of `size_bytes`; only the last may be shorter. Each byte is copied
    once, and what came in pieces of that size not at all."""
    async with aclosing(grouped(pieces, size_bytes)) as groups:
        async for group in groups:
            yield _joined(group)


def _joined(group: list[memoryview]) -> bytes:
    whole = group[0].obj
    if isinstance(whole, bytes) and len(group) == 1 and len(group[0]) == len(whole):
        return whole
    return b"".join(group)


def span(size_bytes: int, start: int, stop: int | None) -> tuple[int, int]:
    """The half-open range with its end filled in. Raises `Truncated` if it lies outside."""
    end = size_bytes if stop is None else stop
    if not 0 <= start <= end <= size_bytes:
        raise Truncated(f"bytes {start} to {end} of an object that has {size_bytes}")
    return start, end
