"""Every byte right, whatever the copies do."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from reading.stage import SIZES, Stage, flip, noise, open_files, opened, read, until
from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import PermissionDenied, TimedOut, Unavailable, Unplayable, WriteFailed
from soundkeep.model import CopyState
from soundkeep.settings.house import ReadingSettings
from soundkeep.testing.faulty import Fault

HASTY = ReadingSettings(hedge_seconds=0.02, stall_seconds=30)
STALLING = ReadingSettings(hedge_seconds=30, stall_seconds=0.05)
UNCACHED = ReadingSettings(hedge_seconds=30, stall_seconds=30, cache_bytes=0)
CONTENT = noise(3 * CHUNK_BYTES + 17)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with opened(tmp_path) as stage:
        yield stage


@pytest.mark.parametrize("store", ["disk", "backup", "one"])
@pytest.mark.parametrize("size", SIZES)
async def test_any_range_of_any_size_comes_back_from_each_store_alone(
    stage: Stage, store: str, size: int
) -> None:
    content = noise(size)
    track = await stage.add(content, store)
    edges = {0, 1, size // 2, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, size - 1, size}
    reader = stage.reader()
    for start in edges:
        for stop in (*edges, size + 5, None):
            assert await read(reader, track.blob, start, stop) == content[start:stop]


async def test_a_file_that_has_not_room_for_the_last_bytes_is_an_error(
    stage: Stage, tmp_path: Path
) -> None:
    track = await stage.add(CONTENT, "disk")
    target = tmp_path / "saved"
    await stage.reader().save(track.blob, target)
    assert target.read_bytes() == CONTENT
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) - 1, limits[1]))
    try:
        with pytest.raises(WriteFailed):
            await stage.reader().save(track.blob, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_both_copies_damaged_in_different_chunks_still_give_every_byte(
    stage: Stage,
) -> None:
    track = await stage.add(CONTENT, "disk", "backup")
    flip(stage.file(track.blob), 5)
    flip(stage.file(track.blob), 2 * CHUNK_BYTES + 5)
    stage.stores["backup"].break_with(Fault.corrupting(at=CHUNK_BYTES + 9), verbs={"open"})
    reader = stage.reader(UNCACHED)
    assert await read(reader, track.blob) == CONTENT
    await reader.close()
    assert await stage.states(track.blob) == {
        "disk": CopyState.DOUBTED,
        "backup": CopyState.DOUBTED,
    }


@pytest.mark.parametrize(
    "at", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]
)
@pytest.mark.parametrize("kind", [Fault.truncating, Fault.corrupting, Fault.stalling])
async def test_the_next_copy_goes_on_at_the_exact_byte(
    stage: Stage, kind: Callable[[int], Fault], at: int
) -> None:
    track = await stage.add(CONTENT, "one", "two")
    stage.stores["one"].break_with(kind(at), verbs={"open"})
    reader = stage.reader(STALLING)
    assert await read(reader, track.blob) == CONTENT
    await reader.close()
    speaks_against_the_bytes = kind != Fault.stalling
    assert await stage.states(track.blob) == {
        "one": CopyState.DOUBTED if speaks_against_the_bytes else CopyState.PRESENT,
        "two": CopyState.PRESENT,
    }


@pytest.mark.parametrize("surplus", [-1, 1, -CHUNK_BYTES, CHUNK_BYTES])
async def test_a_body_of_the_wrong_length_is_noticed(stage: Stage, surplus: int) -> None:
    track = await stage.add(CONTENT, "one", "two")
    stage.stores["one"].break_with(Fault.wrong_length(surplus), verbs={"open"})
    assert await read(stage.reader(), track.blob) == CONTENT


async def test_a_copy_that_is_slow_to_answer_is_overtaken(stage: Stage) -> None:
    track = await stage.add(CONTENT, "one", "two")
    stage.stores["one"].break_with(Fault.stalling(), verbs={"open"})
    reader = stage.reader(HASTY)
    assert await read(reader, track.blob) == CONTENT
    await reader.close()
    assert set((await stage.states(track.blob)).values()) == {CopyState.PRESENT}


async def test_a_copy_of_greater_cost_is_not_asked_while_the_first_is_only_slow(
    stage: Stage,
) -> None:
    track = await stage.add(CONTENT, "disk", "backup")
    stage.stores["disk"].break_with(Fault.slow(0.2), verbs={"open"})
    assert await read(stage.reader(HASTY), track.blob) == CONTENT
    assert "open" not in stage.stores["backup"].calls


@pytest.mark.parametrize("error", [Unavailable(), TimedOut(), PermissionDenied()])
async def test_a_store_that_cannot_be_reached_loses_nothing_and_comes_later(
    stage: Stage, error: Unavailable
) -> None:
    track = await stage.add(CONTENT, "one", "two")
    stage.stores["one"].break_with(Fault.raising(error), verbs={"open"})
    reader = stage.reader(UNCACHED)
    assert await read(reader, track.blob) == CONTENT
    await reader.close()
    assert (await stage.states(track.blob))["one"] is CopyState.PRESENT
    assert await read(reader, track.blob) == CONTENT
    assert stage.stores["one"].calls.count("open") == 1


async def test_a_missing_file_is_doubted(stage: Stage) -> None:
    track = await stage.add(CONTENT, "disk", "backup")
    stage.file(track.blob).unlink()
    reader = stage.reader()
    assert await read(reader, track.blob) == CONTENT
    await reader.close()
    assert (await stage.states(track.blob))["disk"] is CopyState.DOUBTED


async def test_an_unmounted_directory_has_lost_nothing(stage: Stage) -> None:
    track = await stage.add(CONTENT, "disk", "backup")
    (stage.folder / "disk").rename(stage.folder / "elsewhere")
    (stage.folder / "disk").mkdir()
    reader = stage.reader()
    assert await read(reader, track.blob) == CONTENT
    await reader.close()
    assert (await stage.states(track.blob))["disk"] is CopyState.PRESENT


async def test_a_doubted_copy_is_read_when_no_other_is_left(stage: Stage) -> None:
    track = await stage.add(CONTENT, "disk", "backup")
    await stage.set_state(track.blob, "disk", CopyState.DOUBTED)
    assert await read(stage.reader(), track.blob) == CONTENT
    assert "open" not in stage.stores["disk"].calls
    stage.stores["backup"].break_with(Fault.unavailable())
    assert await read(stage.reader(), track.blob) == CONTENT


async def test_a_copy_that_was_let_go_is_never_read(stage: Stage) -> None:
    track = await stage.add(CONTENT, "disk")
    await stage.set_state(track.blob, "disk", CopyState.UNWANTED)
    with pytest.raises(Unplayable, match="no readable copy"):
        await read(stage.reader(), track.blob)


async def test_with_nothing_left_what_came_is_right_and_the_reasons_are_told(
    stage: Stage,
) -> None:
    track = await stage.add(CONTENT, "one", "two")
    for name in ("one", "two"):
        stage.stores[name].break_with(Fault.corrupting(at=CHUNK_BYTES), verbs={"open"})
    async with aclosing(stage.reader().open(track.blob)) as pieces:
        assert await anext(pieces) == CONTENT[:CHUNK_BYTES]
        with pytest.raises(Unplayable, match=r"chunk 1 .* does not match"):
            await anext(pieces)
    assert [stage.stores[name].calls.count("open") for name in ("one", "two")] == [1, 1]


async def test_a_reader_that_leaves_early_leaves_nothing_open(stage: Stage) -> None:
    track = await stage.add(CONTENT, "disk")
    async with aclosing(stage.reader().open(track.blob)) as pieces:
        assert await anext(pieces) == CONTENT[:CHUNK_BYTES]
        assert open_files(stage.folder)
    await until(lambda: not open_files(stage.folder))


async def test_chunks_of_slow_stores_are_remembered_and_those_of_files_are_not(
    stage: Stage,
) -> None:
    there = await stage.add(CONTENT, "one")
    here = await stage.add(noise(CHUNK_BYTES, seed=1), "disk", name="here")
    reader = stage.reader()
    for blob in (there.blob, here.blob):
        await read(reader, blob)
        await read(reader, blob)
    assert stage.stores["one"].calls.count("open") == 1
    assert stage.stores["disk"].calls.count("open") == 2


async def test_a_fault_is_written_down_once_a_stream(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = await stage.add(CONTENT, "one", "two")
    for name in ("one", "two"):
        for index in range(4):
            stage.stores[name].break_with(Fault.corrupting(at=index * CHUNK_BYTES), times=1)
    reader = stage.reader(UNCACHED)
    heard: list[str] = []
    monkeypatch.setattr(reader, "failed", lambda copy, error: heard.append(copy.store))
    with pytest.raises(Unplayable):
        await read(reader, track.blob)
    assert sorted(heard) == sorted(set(heard))
