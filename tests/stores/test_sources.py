"""A file as a source gives any range of its bytes, as often as asked, or says what is wrong."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path

import pytest

from soundkeep.digest import CHUNK_BYTES, Digest
from soundkeep.errors import NotFound, Truncated
from soundkeep.stores.interface import Source
from soundkeep.stores.sources import FileSource
from soundkeep.testing.expecting import fails_with

DATA = os.urandom(2 * CHUNK_BYTES + 1)
EDGES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(DATA) - 1, len(DATA))


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    path = tmp_path / "inbox"
    path.write_bytes(DATA)
    return FileSource(path, Digest.of(DATA), len(DATA), "audio/mpeg")


async def all_of(source: Source, start: int = 0, stop: int | None = None) -> bytes:
    async with aclosing(source.open(start, stop)) as pieces:
        return b"".join([piece async for piece in pieces])


@pytest.mark.parametrize("start", EDGES)
async def test_a_file_is_given_from_any_byte_to_any_other(source: FileSource, start: int) -> None:
    assert isinstance(source, Source)
    for stop in (*(edge for edge in EDGES if edge >= start), None):
        assert await all_of(source, start, stop) == DATA[start:stop]


async def test_a_file_that_is_gone_is_not_found(source: FileSource) -> None:
    source.path.unlink()
    await fails_with(NotFound, all_of(source))


async def test_a_file_that_became_shorter_is_truncated(source: FileSource) -> None:
    os.truncate(source.path, CHUNK_BYTES + 1)
    assert await all_of(source, 0, CHUNK_BYTES + 1) == DATA[: CHUNK_BYTES + 1]
    await fails_with(Truncated, all_of(source))


async def test_a_symbolic_link_is_no_source(source: FileSource, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(source.path)
    elsewhere = FileSource(link, source.digest, source.size_bytes, source.media_type)
    await fails_with(NotFound, all_of(elsewhere))
