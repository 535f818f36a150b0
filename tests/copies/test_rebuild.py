"""A catalog made anew from one store: all that sidecars tell, and only what sounds prove."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ledgers
from copies.lost import (
    ASKED,
    KEY,
    PRIVATE,
    RULES,
    SEGMENT,
    SIZES,
    TRACK,
    Lost,
    a_house,
    about_to_be_lost,
    keep,
    written,
)
from reading.stage import flip, noise
from soundkeep.catalog import copies, coverage, renditions, segments, sidecars, speeches, tracks
from soundkeep.catalog.database import Tx
from soundkeep.copies import planning
from soundkeep.copies.marking import admit, take_over
from soundkeep.copies.placement import Layout, Rules
from soundkeep.copies.rebuild import Rebuild
from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import Conflict, Misconfigured
from soundkeep.intake import recording
from soundkeep.model import CopyState, SidecarState, Wish
from soundkeep.speech.keys import canonical
from soundkeep.stores.interface import Key
from soundkeep.testing.faulty import Fault
from soundkeep.testing.sources import BytesSource


@pytest.fixture
async def lost(tmp_path: Path) -> AsyncIterator[Lost]:
    async with about_to_be_lost(tmp_path) as lost:
        yield lost


# --- everything comes back -----------------------------------------------------------------------


@pytest.mark.parametrize("store", ["disk", "backup"])
async def test_a_catalog_made_of_one_store_knows_all_that_the_lost_one_knew(
    lost: Lost, store: str
) -> None:
    await a_house(lost)
    tally = await lost.run(store)
    assert (tally.taken, tally.left) == ({TRACK: 4, SEGMENT: 1}, [])
    found = await lost.compared()
    assert found.losses == []
    assert found.compared == {"tracks": 4, "segments": 1, "speeches": 1}

    segment = await lost.empty.read(segments.find, "an old key")
    assert segment == await lost.live.read(segments.find, KEY)
    assert await lost.empty.read(speeches.track_of, "whole", "admin", "book") == "t3"
    assert await lost.empty.read(renditions.is_one, "t1")
    for number in range(len(SIZES)):
        track = await lost.empty.read(tracks.find, f"t{number}")
        before = await lost.live.read(tracks.find, f"t{number}")
        assert track is not None
        assert before is not None
        assert track.blob == before.blob, "chunk hashes and all"


async def test_the_same_is_so_on_postgresql(lost: Lost, postgres_url: str) -> None:
    await a_house(lost)
    async with ledgers.opened(postgres_url) as empty:
        elsewhere = replace(lost, empty=empty)
        for _ in range(2):
            assert (await elsewhere.run("disk")).left == []
            assert (await elsewhere.compared()).losses == []


async def test_the_copy_that_was_read_is_proven_and_the_others_are_wanted(lost: Lost) -> None:
    await a_house(lost)
    await lost.run("disk")
    track = await lost.empty.read(tracks.find, "t0")
    assert track is not None
    held = {c.store: c for c in await lost.empty.read(copies.of_blob, track.blob.digest)}
    assert {store: copy.state for store, copy in held.items()} == {
        "disk": CopyState.PRESENT,
        "backup": CopyState.WANTED,
    }
    assert held["disk"].verified == "read back"


async def test_what_a_second_store_still_has_need_not_be_copied_there_again(lost: Lost) -> None:
    await a_house(lost)
    await lost.run("disk")
    rebuild = lost.rebuild("backup")
    await rebuild.check()
    tally = await rebuild.run(lambda: None)
    assert (tally.there, tally.left) == ({TRACK: 4, SEGMENT: 1}, [])
    counted = await lost.empty.read(coverage.count)
    assert (counted.missing, counted.unwritten) == (0, 0)


async def test_a_sidecar_that_is_as_it_should_be_is_not_written_again(lost: Lost) -> None:
    await a_house(lost)
    await lost.edit("tracks/t0.json", title="Changed by hand")
    await lost.run("disk")
    states = {}
    for number in range(2):
        track = await lost.empty.read(tracks.find, f"t{number}")
        assert track is not None
        for each in await lost.empty.read(sidecars.of_track, track.blob.digest, track.id):
            states[track.id, each.store] = each.state
    assert states == {
        ("t0", "disk"): SidecarState.DUE,  # in its own form
        ("t0", "backup"): SidecarState.WAITING,
        ("t1", "disk"): SidecarState.WRITTEN,
        ("t1", "backup"): SidecarState.WAITING,
    }


async def test_a_sound_that_many_tracks_have_is_read_once(lost: Lost) -> None:
    content = noise(3 * CHUNK_BYTES + 17)
    for number in range(5):
        track = ledgers.make_track(f"t{number}", ledgers.make_blob(content))
        if not number:
            await keep(lost, content, "disk", name="t0")
        else:
            await lost.live.write(ledgers.add_track, track)
    await lost.live.write(planning.replan_one, ledgers.make_blob(content).digest, RULES)
    await written(lost)
    tally = await lost.run("disk")
    assert (tally.taken[TRACK], tally.bytes_read) == (5, len(content))


# --- only what is proven -------------------------------------------------------------------------


async def test_a_sound_with_one_wrong_bit_is_reported_and_never_taken(lost: Lost) -> None:
    await a_house(lost)
    track = await lost.live.read(tracks.find, "t2")
    assert track is not None
    flip(lost.bench.stage.file(track.blob), 1000)
    tally = await lost.run("disk")
    [left] = tally.left
    assert left.key == "tracks/t2.json"
    assert "is not the one that it tells of" in left.why
    assert await lost.empty.read(tracks.find, "t2") is None
    [loss] = (await lost.compared()).losses
    assert (loss.kind, loss.name) == ("track", "t2")

    assert (await lost.run("backup")).left == []
    assert (await lost.compared()).losses == [], "another store has it whole"


@pytest.mark.parametrize(
    ("ours", "why"),
    [
        ({"version": 9}, "newer Soundkeep"),
        ({"owner": None}, "names no owner"),
        ({"path": "../up"}, "path"),
        ({"digest": "zz"}, "digest"),
        ({"key": "blobs/nowhere"}, "no sound at blobs/nowhere"),
        ({"created_at": "yesterday"}, "no time"),
        ({"path": "t1.mp3"}, "is the track t1 in the catalog"),
    ],
)
async def test_what_cannot_be_believed_is_left_with_the_reason(
    lost: Lost, ours: dict[str, Any], why: str
) -> None:
    for number in (1, 2):
        await keep(lost, noise(100, number), "disk", name=f"t{number}")
    await written(lost)
    await lost.edit("tracks/t2.json", **ours)
    tally = await lost.run("disk")
    assert tally.taken[TRACK] == 1
    [left] = tally.left
    assert left.key == "tracks/t2.json" or "path" in ours, "either may be first"
    assert why.replace("t1", "t") in left.why.replace("t1", "t").replace("t2", "t")


async def test_a_segment_whose_key_is_not_that_of_its_request_is_left(lost: Lost) -> None:
    await a_house(lost)
    request = canonical(replace(ASKED, text="Once, a wolf.")).decode()
    await lost.edit(f"segments/{KEY}.json", request=request)
    tally = await lost.run("disk")
    assert [left.why for left in tally.left] == ["its segment_key is not that of its request"]
    assert await lost.empty.read(segments.find, KEY) is None


async def test_a_file_that_is_no_sidecar_is_left_and_another_folder_not_looked_at(
    lost: Lost,
) -> None:
    disk = lost.bench.stage.stores["disk"]
    for key in ("tracks/notes.json", "tracks/readme.txt", "other/t1.json"):
        await disk.put(Key(key), BytesSource(b"{}"))
    tally = await lost.run("disk")
    assert [left.key for left in tally.left] == ["tracks/notes.json"]


# --- again, and on -------------------------------------------------------------------------------


async def test_a_rebuild_that_is_repeated_changes_nothing_and_reads_no_sound(lost: Lost) -> None:
    await a_house(lost)
    await lost.run("disk")
    before = await lost.empty.read(everything)
    rebuild = lost.rebuild("disk")
    await rebuild.check()
    tally = await rebuild.run(lambda: None)
    assert (tally.taken, tally.there) == ({TRACK: 0, SEGMENT: 0}, {TRACK: 4, SEGMENT: 1})
    assert tally.bytes_read == 0
    assert await lost.empty.read(everything) == before


def everything(tx: Tx) -> list[Any]:
    """All rows that say what there is; their times of work go on."""
    rows: list[Any] = []
    for table in ("blobs", "tracks", "copies", "sidecars", "segments", "speeches", "renditions"):
        found = tx.connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1")
        rows += ({**row, "due_at": None} for row in found.mappings())
    return rows


async def test_a_rebuild_goes_on_when_the_store_is_back(lost: Lost) -> None:
    await a_house(lost)
    lost.bench.stage.stores["disk"].break_with(Fault.unavailable(), verbs={"open"}, times=3)
    tally = await lost.run("disk")
    assert tally.left_count == 3
    lost.bench.stage.stores["disk"].heal()
    assert (await lost.run("disk")).left == []
    assert (await lost.compared()).losses == []


async def test_a_catalog_with_tracks_of_its_own_is_refused(lost: Lost) -> None:
    await a_house(lost)
    await lost.empty.write(ledgers.add_track, ledgers.make_track("own", ledgers.make_blob(b"x")))
    with pytest.raises(Conflict, match="does not tell the same of own"):
        await lost.rebuild("disk").check()


async def test_a_catalog_whose_tracks_the_store_tells_of_alike_is_not(lost: Lost) -> None:
    """Nothing is lost there, and what the store knows besides is added."""
    await a_house(lost)
    track = await lost.live.read(tracks.find, "t0")
    assert track is not None
    await lost.empty.write(ledgers.add_track, track)
    rebuild = lost.rebuild("disk")
    await rebuild.check()
    tally = await rebuild.run(lambda: None)
    assert (tally.taken[TRACK], tally.there[TRACK], tally.left) == (3, 1, [])


async def test_what_was_deleted_since_stays_deleted(lost: Lost) -> None:
    await a_house(lost)
    await lost.run("disk")
    await lost.empty.write(recording.remove, "t2", RULES)
    [left] = (await lost.run("disk")).left
    assert (left.key, left.why) == ("tracks/t2.json", "the track t2 was deleted here")


async def test_a_layout_that_was_changed_meanwhile_lets_the_old_copies_rest(lost: Lost) -> None:
    await keep(lost, noise(100), "disk", name="t0")
    await written(lost)
    moved = tuple(replace(rule, layout=Layout("sounds/{digest}")) for rule in PRIVATE)
    disk = lost.bench.stage.stores["disk"]
    await Rebuild(lost.empty, disk, moved[0], Rules(RULES.keep, moved)).run(lambda: None)
    track = await lost.empty.read(tracks.find, "t0")
    assert track is not None
    found = await lost.empty.read(copies.of_blob, track.blob.digest)
    assert {(copy.key.partition("/")[0], copy.wish) for copy in found if copy.store == "disk"} == {
        ("blobs", Wish.REST),
        ("sounds", Wish.KEEP),
    }


# --- whose store it is ---------------------------------------------------------------------------


async def test_a_store_that_was_taken_over_is_the_new_catalogs_and_no_other(lost: Lost) -> None:
    disk = lost.bench.stage.stores["disk"]
    with pytest.raises(Misconfigured, match="another catalog"):
        await admit(lost.empty, disk, "local")
    ours = await take_over(lost.empty, disk, "local")
    assert await admit(lost.empty, disk, "local") == ours == await disk.read_marker()
    assert await take_over(lost.empty, disk, "local") == ours, "it may be repeated"
    with pytest.raises(Misconfigured, match="another catalog"):
        await admit(lost.live, disk, "local")
