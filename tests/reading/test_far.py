"""Reading from far away: chunks kept and fetched beforehand, and a race when a store is slow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reading.stage import PATIENT, Stage, noise, opened, read, until
from soundkeep.digest import CHUNK_BYTES
from soundkeep.model import Track
from soundkeep.reading.body import PIECE_BYTES, Body
from soundkeep.reading.pace import ENOUGH, SHORTEST_SECONDS, Paces
from soundkeep.reading.reader import Reader
from soundkeep.settings.house import ReadingSettings
from soundkeep.testing.faulty import Fault

CONTENT = noise(3 * CHUNK_BYTES + 17)
UNCACHED = ReadingSettings(cache_bytes=0)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with opened(tmp_path) as stage:
        yield stage


def at_once(reader: Reader, track: Track, start: int, stop: int) -> bytes | None:
    piece = Body(reader, track.blob, start, stop, None).next_at_once(bytearray(PIECE_BYTES))
    return None if piece is None else bytes(piece)


async def heard(reader: Reader, track: Track, start: int, stop: int) -> bytes:
    return await rest_of(Body(reader, track.blob, start, stop, None))


async def rest_of(body: Body) -> bytes:
    pieces = []
    while piece := await body.next():
        pieces.append(bytes(piece))
    await body.close()
    return b"".join(pieces)


async def test_a_chunk_that_was_read_once_is_answered_at_once(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one")
    reader = stage.reader()
    assert at_once(reader, track, 5, 10) is None
    assert await heard(reader, track, 5, 10) == CONTENT[5:10]
    assert at_once(reader, track, 0, CHUNK_BYTES + 1) == CONTENT[:CHUNK_BYTES]
    assert at_once(reader, track, CHUNK_BYTES, CHUNK_BYTES + 1) is None
    assert stage.stores["one"].calls.count("open") == 1


async def test_who_reads_on_in_order_finds_the_next_chunk_there(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one")
    reader = stage.reader()
    step = CHUNK_BYTES // 2
    for start in (0, step):
        assert await heard(reader, track, start, start + step) == CONTENT[start:][:step]
    await until(lambda: reader.cache.get(track.blob.digest, 1) is not None)
    stage.stores["one"].break_with(Fault.unavailable())
    start = 2 * step
    assert at_once(reader, track, start, start + step) == CONTENT[start:][:step]
    await reader.close()


async def test_who_jumps_about_has_nothing_fetched_for_it(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one")
    reader = stage.reader()
    for start in (0, 2 * CHUNK_BYTES, CHUNK_BYTES):
        await heard(reader, track, start, start + 1)
    await reader.close()
    assert stage.stores["one"].calls.count("open") == 3


async def test_nothing_is_fetched_beforehand_where_nothing_can_be_kept(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one")
    reader = stage.reader(UNCACHED)
    for start in (0, 10, 20):
        await heard(reader, track, start, start + 10)
    await reader.close()
    assert stage.stores["one"].calls.count("open") == 3


async def test_what_cannot_be_fetched_beforehand_harms_nobody(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one")
    reader = stage.reader()
    await heard(reader, track, 0, 10)
    stage.stores["one"].break_with(Fault.truncating(at=CHUNK_BYTES), verbs={"open"})
    assert await heard(reader, track, 10, 20) == CONTENT[10:20]
    await until(lambda: not reader.ahead._running)
    stage.stores["one"].heal()
    assert await read(reader, track.blob) == CONTENT
    await reader.close()


async def test_a_fetch_on_its_way_ends_with_the_reader(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one")
    reader = stage.reader(PATIENT)
    await heard(reader, track, 0, 10)
    stage.stores["one"].break_with(Fault.stalling(), verbs={"open"})
    await heard(reader, track, 10, 20)
    assert reader.ahead._running
    await reader.close()
    assert not reader.ahead._running


def test_a_store_is_raced_when_it_is_slower_than_nineteen_of_its_twenty_last_readings() -> None:
    paces = Paces(0.25)
    for _ in range(ENOUGH - 1):
        paces.note("far", 1.0)
    assert paces.patience_seconds("far") == 0.25
    for _ in range(120):
        paces.note("far", 1.0)
    for _ in range(5):
        paces.note("far", 9.0)
    assert paces.patience_seconds("far") == 1.0
    for _ in range(5):
        paces.note("far", 9.0)
    assert paces.patience_seconds("far") == 9.0
    for _ in range(ENOUGH):
        paces.note("near", 0.0001)
    assert paces.patience_seconds("near") == SHORTEST_SECONDS


async def test_a_store_that_became_slower_than_its_own_habit_is_overtaken(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one", "two")
    reader = stage.reader(ReadingSettings(hedge_seconds=30, stall_seconds=30, cache_bytes=0))
    for _ in range(ENOUGH):
        await read(reader, track.blob, 0, 1)
    stage.stores["one"].break_with(Fault.stalling(), verbs={"open"})
    assert await read(reader, track.blob) == CONTENT
    await reader.close()


async def test_copies_that_were_just_looked_up_are_read_without_the_catalog(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one")
    reader = stage.reader(UNCACHED)
    known = await reader.copies(track.blob)
    await stage.catalog.close()
    body = Body(reader, track.blob, 5, len(CONTENT), None, known)
    assert await rest_of(body) == CONTENT[5:]


async def test_where_no_copy_that_was_known_is_good_the_catalog_knows_more(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one", "two")
    reader = stage.reader(UNCACHED)
    known = [copy for copy in await reader.copies(track.blob) if copy.store == "one"]
    stage.stores["one"].break_with(Fault.truncating(at=CHUNK_BYTES + 7), verbs={"open"})
    body = Body(reader, track.blob, 5, len(CONTENT), None, known)
    assert await rest_of(body) == CONTENT[5:]
    assert stage.stores["two"].calls.count("open") == 1
    await reader.close()
