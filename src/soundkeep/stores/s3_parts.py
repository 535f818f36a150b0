"""A source in parts of one size, each hashed before it is sent, and opened anew for each attempt.

A file of this machine is read twice, once for the hash and once for the request: no part of it is
ever held in memory. What comes from elsewhere is read once, and a part is held while it is sent.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundkeep.digest import Digest
from soundkeep.errors import Corrupt, NotFound, Truncated
from soundkeep.stores.files import OpenFile, open_regular
from soundkeep.stores.http_bodies import Piece, Pieces, each
from soundkeep.stores.interface import Source
from soundkeep.stores.pieces import exactly, grouped

READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """What one request sends."""

    size_bytes: int
    digest: Digest
    opened: Pieces

    @classmethod
    def of(cls, data: bytes) -> Part:
        """A few bytes."""
        return cls(len(data), Digest.of(data), lambda: each([data]))


async def parts_of(source: Source, part_bytes: int) -> AsyncGenerator[Part, None]:
    """The parts in order; only the last may be smaller. Close it with `aclosing`.

    Raises `Corrupt` in the end if they are not what the source said it was, `NotFound` and
    `Truncated` for a file that is gone or has become shorter, and whatever the source raises.
    """
    whole = None if source.checked else hashlib.sha256()
    parts = _of_file(source, source.file, part_bytes, whole) if source.file else None
    async with aclosing(parts or _of_pieces(source, part_bytes, whole)) as each_part:
        async for part in each_part:
            yield part
    if whole is not None and whole.digest() != source.digest.raw:
        raise Corrupt(f"the source does not have the digest that it names: {source.digest.hex}")


async def _of_file(
    source: Source, path: Path, part_bytes: int, whole: Any
) -> AsyncGenerator[Part, None]:
    file = await asyncio.to_thread(open_regular, path)
    if file is None:
        raise NotFound(f"there is no file {path}")
    if file.size_bytes > source.size_bytes:
        raise Corrupt(f"{path} has more than its {source.size_bytes} bytes")
    for start in range(0, source.size_bytes, part_bytes):
        stop = min(start + part_bytes, source.size_bytes)
        digest = await asyncio.to_thread(_digest_of_file, file, start, stop, whole)
        yield Part(stop - start, digest, _opener(source, start, stop))


def _opener(source: Source, start: int, stop: int) -> Pieces:
    return lambda: source.open(start, stop)


async def _of_pieces(source: Source, part_bytes: int, whole: Any) -> AsyncGenerator[Part, None]:
    """It is hashed in a thread: in the loop, every stream would stand still for 5 ms."""
    async with aclosing(grouped(exactly(source), part_bytes)) as groups:
        async for pieces in groups:
            digest = await asyncio.to_thread(_digest, pieces, whole)
            yield Part(sum(map(len, pieces)), digest, _holder(pieces))


def _holder(pieces: Sequence[Piece]) -> Pieces:
    return lambda: each(pieces)


def _digest(pieces: Sequence[Piece], whole: Any) -> Digest:
    """That of one part; the whole is hashed on the way, if it must be."""
    part = hashlib.sha256()
    for piece in pieces:
        part.update(piece)
        if whole is not None:
            whole.update(piece)
    return Digest(part.digest())


def _digest_of_file(file: OpenFile, start: int, stop: int, whole: Any) -> Digest:
    """The same of a stretch of a file."""
    part = hashlib.sha256()
    while start < stop:
        piece = file.read(min(READ_BYTES, stop - start), start)
        if not piece:
            raise Truncated("the file has become shorter")
        part.update(piece)
        if whole is not None:
            whole.update(piece)
        start += len(piece)
    return Digest(part.digest())
