"""A table claims that a copy lies where another sound does: that one is never lost by it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import ledgers
from copies.bench import RULES, Bench, opened
from reading.stage import noise
from soundkeep.catalog import copies, tracks
from soundkeep.catalog.copies import Place
from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import NotFound
from soundkeep.intake import recording
from soundkeep.model import Blob, Chore, CopyState, Lane, Wish
from soundkeep.stores.interface import Key
from soundkeep.testing.expecting import fails_with
from soundkeep.testing.expecting import read as read_in
from soundkeep.testing.faulty import Fault
from soundkeep.testing.sources import BytesSource

CONTENT = noise(2 * CHUNK_BYTES)
KEY = "old/tune.mp3"
OTHERS = {
    "of the same length": noise(2 * CHUNK_BYTES, seed=5),
    "that begins alike": CONTENT[:-1] + b"\0",
    "that is a part of it": CONTENT[:CHUNK_BYTES],
    "that goes on": CONTENT + b"\0",
    "that is empty": b"",
}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path) as bench:
        yield bench


async def claimed(bench: Bench, there: bytes | None) -> Blob:
    """A blob in `disk` and `backup` of which a table says that `one` has it, too."""
    if there is not None:
        await bench.stage.stores["one"].put(Key(KEY), BytesSource(there))
    track = await bench.stage.add(CONTENT, "disk", "backup")
    await bench.stage.catalog.write(
        copies.claim_to_be_there, track.blob.digest, Place("one", KEY), KEY, "a table says so"
    )
    await bench.stage.catalog.write(tracks.lies_at, track, "one", KEY)
    return track.blob


async def lies(bench: Bench) -> bytes:
    return await read_in(bench.stage.stores["one"].inner, KEY)


@pytest.mark.parametrize("how", OTHERS)
async def test_another_sound_at_a_claimed_key_stays_and_the_person_is_told(
    bench: Bench, how: str
) -> None:
    blob = await claimed(bench, OTHERS[how])
    assert not await bench.work(Chore.VERIFY, "one")
    copy = await bench.copy(blob, "one")
    assert (copy.state, copy.verified_at) == (CopyState.DOUBTED, None)
    assert copy.last_error is not None
    assert copy.last_error.startswith("claim_not_true: another sound lies at old/tune.mp3 in one")
    assert copy.last_error.endswith(": `soundkeep sync sound --store one --delete`")
    assert await lies(bench) == OTHERS[how]


async def test_the_person_is_told_of_every_track_that_is_claimed_to_lie_there_and_of_no_other(
    bench: Bench,
) -> None:
    blob = await claimed(bench, OTHERS["that is empty"])
    for name in ("likewise", "elsewhere"):
        twin = ledgers.make_track(name, blob)
        await bench.stage.catalog.write(ledgers.add_track, twin)
        key = KEY if name == "likewise" else "old/other.mp3"
        await bench.stage.catalog.write(tracks.lies_at, twin, "one", key)
    assert not await bench.work(Chore.VERIFY, "one")
    told = (await bench.copy(blob, "one")).last_error or ""
    assert told.endswith(
        "`soundkeep sync sound --store one --delete` and "
        "`soundkeep sync likewise --store one --delete`"
    )
    assert "elsewhere" not in told


async def test_a_claim_of_a_track_that_is_no_more_names_none(bench: Bench) -> None:
    blob = await claimed(bench, OTHERS["that is empty"])
    track = await bench.stage.catalog.read(tracks.find, "sound")
    assert track is not None
    await bench.stage.catalog.write(tracks.lies_no_more, track, "one")
    assert not await bench.work(Chore.VERIFY, "one")
    told = (await bench.copy(blob, "one")).last_error or ""
    assert told.endswith("Move it away and this copy is written")


async def test_once_the_other_sound_is_moved_away_the_copy_is_written(bench: Bench) -> None:
    blob = await claimed(bench, OTHERS["that goes on"])
    assert not await bench.work(Chore.VERIFY, "one")
    await bench.stage.stores["one"].inner.delete(KEY)
    assert await bench.work_again(Chore.VERIFY, "one")
    assert (await bench.copy(blob, "one")).state is CopyState.PRESENT
    assert await lies(bench) == CONTENT


async def test_a_claim_that_is_taken_back_leaves_the_other_sound_there(bench: Bench) -> None:
    other = OTHERS["of the same length"]
    blob = await claimed(bench, other)
    await bench.stage.catalog.write(copies.wish, await bench.copy(blob, "one"), Wish.LEAVE)
    assert await bench.work(Chore.LEAVE, "one")
    assert await bench.work(Chore.DROP, "one")
    assert await lies(bench) == other
    held = await bench.stage.catalog.read(copies.of_blob, blob.digest)
    assert "one" not in {copy.store for copy in held}


async def test_a_track_deleted_before_anybody_looked_takes_no_other_sound_along(
    bench: Bench,
) -> None:
    other = OTHERS["that begins alike"]
    await claimed(bench, other)
    await bench.stage.catalog.write(recording.remove, "sound", RULES)
    assert await bench.work(Chore.DROP, "one")
    assert await lies(bench) == other


async def test_what_is_there_as_claimed_goes_with_its_track(bench: Bench) -> None:
    await claimed(bench, CONTENT)
    await bench.stage.catalog.write(recording.remove, "sound", RULES)
    assert await bench.work(Chore.DROP, "one")
    await fails_with(NotFound, lies(bench))


async def test_a_body_that_breaks_off_says_nothing_of_whose_it_is(bench: Bench) -> None:
    blob = await claimed(bench, CONTENT)
    one = bench.stage.stores["one"]
    one.break_with(Fault.truncating(at=CHUNK_BYTES), verbs={"open"})
    assert not await bench.work(Chore.VERIFY, "one")
    copy = await bench.copy(blob, "one")
    assert copy.last_error is not None
    assert copy.last_error.startswith("store_truncated")
    one.heal()
    assert await bench.work_again(Chore.VERIFY, "one")
    assert one.calls.count("put") == 1, "it is as it was claimed, and was not written"


async def test_a_copy_that_was_ours_once_is_repaired_whatever_lies_there(bench: Bench) -> None:
    blob = await claimed(bench, CONTENT)
    assert await bench.work(Chore.VERIFY, "one")
    await bench.stage.stores["one"].put(Key(KEY), BytesSource(OTHERS["that goes on"]))
    await bench.stage.catalog.write(copies.doubt, (await bench.copy(blob, "one")).id, "a test")
    assert await bench.work(Chore.VERIFY, "one")
    assert await lies(bench) == CONTENT


async def test_a_claimed_copy_whose_repair_went_wrong_is_repaired_again(bench: Bench) -> None:
    """From our first put on, what is wrong there may be ours."""
    blob = await claimed(bench, None)
    one = bench.stage.stores["one"]
    one.break_with(Fault.corrupting(at=CHUNK_BYTES), verbs={"open"})
    assert not await bench.work(Chore.VERIFY, "one")
    one.heal()
    await one.inner.put(Key(KEY), BytesSource(OTHERS["of the same length"]))
    assert await bench.work_again(Chore.VERIFY, "one")
    assert await lies(bench) == CONTENT
    assert (await bench.copy(blob, "one")).state is CopyState.PRESENT


async def test_what_we_wrote_and_could_not_prove_goes_with_its_track(bench: Bench) -> None:
    """Nobody claimed it: it is ours, however it looks, and a receipt says that it is gone."""
    track = await bench.stage.add(CONTENT, "disk", "backup")
    await bench.stage.catalog.write(copies.want, track.blob.digest, {Place("one", KEY)}, Lane.BULK)
    one = bench.stage.stores["one"]
    one.break_with(Fault.corrupting(at=CHUNK_BYTES), verbs={"open"})
    assert not await bench.work(Chore.COPY, "one")
    await bench.stage.catalog.write(recording.remove, "sound", RULES)
    assert await bench.work(Chore.DROP, "one")
    one.heal()
    await fails_with(NotFound, lies(bench))
