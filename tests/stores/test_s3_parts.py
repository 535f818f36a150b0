"""A source in parts: the same from a file as from pieces, and only if it is what it said it was."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path

import pytest

from soundkeep.digest import Digest
from soundkeep.errors import Corrupt, NotFound, Truncated
from soundkeep.stores.interface import Source
from soundkeep.stores.s3_parts import Part, parts_of
from soundkeep.stores.sources import BytesSource, FileSource

PART = 300_000  # not a multiple of the pieces that sources give


def file_source(path: Path, data: bytes) -> FileSource:
    path.write_bytes(data)
    return FileSource(path, Digest.of(data), len(data), "audio/wav")


async def read(part: Part) -> bytes:
    async with aclosing(part.opened()) as pieces:
        return b"".join([bytes(piece) async for piece in pieces])


async def all_parts(source: Source) -> list[Part]:
    async with aclosing(parts_of(source, PART)) as parts:
        return [part async for part in parts]


@pytest.mark.parametrize("size", [1, PART - 1, PART, PART + 1, 5 * PART, 5 * PART + 7])
async def test_a_file_and_pieces_have_the_same_parts_which_open_twice(
    tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    for source in (file_source(tmp_path / "file", data), BytesSource(data, "audio/wav")):
        parts = await all_parts(source)
        assert [part.size_bytes for part in parts] == [
            min(PART, size - start) for start in range(0, size, PART)
        ]
        for _ in range(2):
            sent = [await read(part) for part in parts]
            assert b"".join(sent) == data
        assert [part.digest for part in parts] == [Digest.of(each) for each in sent]


async def test_a_flipped_bit_anywhere_is_found_in_the_end(tmp_path: Path) -> None:
    data = os.urandom(3 * PART)
    source = file_source(tmp_path / "file", data)
    (tmp_path / "file").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Corrupt, match=source.digest.hex):
        await all_parts(source)


@pytest.mark.parametrize(
    ("found", "error"), [(2 * PART, Truncated), (PART + 5, Truncated), (4 * PART, Corrupt)]
)
async def test_a_file_of_another_length_is_not_sent_as_if_it_were_whole(
    tmp_path: Path, found: int, error: type[Exception]
) -> None:
    source = file_source(tmp_path / "file", os.urandom(3 * PART))
    os.truncate(tmp_path / "file", found)
    with pytest.raises(error):
        await all_parts(source)


async def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    source = file_source(tmp_path / "file", b"sound")
    (tmp_path / "file").unlink()
    with pytest.raises(NotFound, match="file"):
        await all_parts(source)
