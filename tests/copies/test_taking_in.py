"""A catalog restored from an older backup takes in what its own store tells of and it does not
know. What it knows stays as it is, and what was deleted stays deleted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

import ledgers
from copies.lost import KEY, RULES, SEGMENT, TRACK, Lost, a_house, about_to_be_lost, keep, written
from copies.test_rebuild import everything
from reading.stage import noise
from soundkeep.catalog import copies, facts, segments, sidecars, tracks
from soundkeep.catalog import orphans as orphan_rows
from soundkeep.catalog.database import Tx
from soundkeep.catalog.schema import copies as copies_table
from soundkeep.catalog.schema import sidecars as sidecars_table
from soundkeep.copies import rebuild, syncing
from soundkeep.copies.drill import compare
from soundkeep.copies.marking import admit
from soundkeep.copies.rebuild import Tally
from soundkeep.copies.syncing import Operation, Order
from soundkeep.errors import Conflict
from soundkeep.intake import recording
from soundkeep.model import CopyState, SidecarState
from soundkeep.stores.interface import Key
from soundkeep.testing.sources import BytesSource


@pytest.fixture
async def lost(tmp_path: Path) -> AsyncIterator[Lost]:
    """A house with one track; its store `disk` is its own."""
    async with about_to_be_lost(tmp_path) as lost:
        await admit(lost.live, lost.bench.stage.stores["disk"], "local")
        await keep(lost, noise(100, 50), name="known")
        await written(lost)
        yield lost


@asynccontextmanager
async def restored(lost: Lost, folder: Path) -> AsyncIterator[Lost]:
    """The same with a copy of the catalog, as it is now, in place of the empty one."""
    copy = folder / "restored.db"
    at = lost.live.url.database or ""
    with closing(sqlite3.connect(at)) as live, closing(sqlite3.connect(copy)) as backup:
        live.backup(backup)
    async with ledgers.opened(f"sqlite:///{copy}") as catalog:
        yield replace(lost, empty=catalog)


async def take_in(lost: Lost) -> Tally:
    work = lost.rebuild("disk")
    await work.check()
    return await work.run(lambda: None)


def change(tx: Tx, track_id: str, title: str) -> None:
    track = tracks.find(tx, track_id)
    assert track is not None
    recording.change(
        tx, track, RULES, title=title, visibility=track.visibility, metadata=track.metadata
    )


async def test_all_that_came_after_the_backup_comes_back(lost: Lost, tmp_path: Path) -> None:
    async with restored(lost, tmp_path) as older:
        await a_house(lost)
        tally = await take_in(older)
        assert (tally.taken, tally.left) == ({TRACK: 4, SEGMENT: 1}, [])
        assert tally.there == {TRACK: 1, SEGMENT: 0}
        found = await older.compared()
        assert found.losses == [], "ids, titles, owners, paths, metadata, speech and segments"
        assert await older.empty.read(segments.find, "an old key") is not None
        assert await older.empty.read(facts.read, rebuild.FACT) is None, "it was not made anew"
        before = await older.empty.read(everything)
        again = await take_in(older)
        assert (again.there, again.bytes_read, again.left) == ({TRACK: 5, SEGMENT: 1}, 0, [])
        assert await older.empty.read(everything) == before


async def test_a_drill_says_what_would_be_taken_in(lost: Lost, tmp_path: Path) -> None:
    deleted = await keep(lost, noise(100, 9), name="deleted")
    async with (
        restored(lost, tmp_path) as older,
        ledgers.opened(f"sqlite:///{tmp_path}/beside.db") as beside,
    ):
        await older.empty.write(recording.remove, deleted.id, RULES)
        await a_house(lost)
        await replace(lost, empty=beside).run("disk")
        found = await compare(older.empty, beside)
        assert (found.losses, found.unknown_count) == ([], 5)
        names = [(each.kind, each.name) for each in found.unknown]
        assert names == [*((TRACK, f"t{n}") for n in range(4)), (SEGMENT, KEY)]
        assert (await compare(lost.live, beside)).unknown == []


async def test_what_is_taken_in_is_no_orphan_any_more(lost: Lost, tmp_path: Path) -> None:
    async with restored(lost, tmp_path) as older:
        new = await keep(lost, noise(100, 1), name="new")
        await written(lost)
        sound = f"blobs/{new.blob.digest.hex}"
        seen = {sound: 100, "tracks/new.json": 1}
        await older.empty.write(orphan_rows.note, "disk", seen, lambda locator: locator)
        await take_in(older)
        assert await older.empty.read(orphan_rows.of_store, "disk", "", 9) == []
        [copy] = [
            copy
            for copy in await older.empty.read(copies.of_blob, new.blob.digest)
            if copy.store == "disk"
        ]
        assert copy.state is CopyState.PRESENT
        states = await older.empty.read(sidecars.of_track, new.blob.digest, "new")
        assert {each.store: each.state for each in states}["disk"] is SidecarState.WRITTEN


async def test_a_track_that_was_deleted_does_not_come_back(lost: Lost, tmp_path: Path) -> None:
    """Its removal may be long confirmed, and the sidecar have come back with a disk."""
    async with restored(lost, tmp_path) as older:
        await older.empty.write(recording.remove, "known", RULES)
        [left] = (await take_in(older)).left
        assert (left.key, left.why) == ("tracks/known.json", "the track known was deleted here")
        gone = copies_table.delete()
        await older.empty.write(lambda tx: tx.run(gone))
        [left] = (await take_in(older)).left
        assert left.why == "the track known was deleted here"
        assert await older.empty.read(tracks.find, "known") is None


async def test_what_was_withdrawn_from_the_store_does_not_come_back_there(
    lost: Lost, tmp_path: Path
) -> None:
    """Its removal was confirmed, and sound and sidecar came back with a disk."""
    async with restored(lost, tmp_path) as older:
        [disk] = (rule for rule in RULES.stores if rule.name == "disk")
        order = Order(Operation.DELETE, (disk,))
        await older.empty.write(syncing.ask, "known", order, RULES)
        for table in (copies_table, sidecars_table):
            gone = table.delete().where(table.c.store == "disk")
            await older.empty.write(lambda tx, gone=gone: tx.run(gone))
        before = await older.empty.read(everything)
        [left] = (await take_in(older)).left
        assert (left.key, left.why) == (
            "tracks/known.json",
            "the track known was withdrawn from disk",
        )
        assert await older.empty.read(everything) == before


async def test_what_changed_after_the_backup_is_left_and_said(lost: Lost, tmp_path: Path) -> None:
    async with restored(lost, tmp_path) as older:
        await lost.live.write(change, "known", "Later")
        await written(lost)
        before = await older.empty.read(everything)
        [left] = (await take_in(older)).left
        assert left.key == "tracks/known.json"
        assert "the track as it was later (revision 2)" in left.why
        assert await older.empty.read(everything) == before


async def test_the_same_id_or_path_with_another_sound_is_left_and_said(
    lost: Lost, tmp_path: Path
) -> None:
    async with restored(lost, tmp_path) as older:
        for number, name in enumerate(("same-id", "same-path")):
            await keep(lost, noise(200, number), name=name)
            other = ledgers.make_track(name, ledgers.make_blob(noise(200, 2)))
            if name == "same-path":
                other = replace(other, id="another")
            await older.empty.write(ledgers.add_track, other)
        await written(lost)
        before = await older.empty.read(everything)
        left = {each.key: each.why for each in (await take_in(older)).left}
        assert "another track same-id" in left["tracks/same-id.json"]
        assert "is the track another in the catalog" in left["tracks/same-path.json"]
        assert await older.empty.read(everything) == before
        await older.empty.write(recording.remove, "another", RULES)
        assert (await take_in(older)).taken[TRACK] == 1, "the path is free by now"


async def test_speech_of_a_track_that_is_known_is_not_changed(lost: Lost, tmp_path: Path) -> None:
    """A sidecar that lagged behind would bring back what was taken from it."""
    await a_house(lost)
    async with restored(lost, tmp_path) as older:
        for table in ("speeches", "speech_tracks", "speech_keys", "renditions"):
            await older.empty.write(lambda tx, name=table: emptied(tx, name))
        before = await older.empty.read(everything)
        assert (await take_in(older)).left == []
        assert await older.empty.read(everything) == before


def emptied(tx: Tx, table: str) -> None:
    tx.connection.exec_driver_sql(f"DELETE FROM {table}")


async def test_a_segment_without_its_sound_gets_it(lost: Lost, tmp_path: Path) -> None:
    """It was asked for before the backup, and spoken and paid for after it."""
    await a_house(lost)
    async with restored(lost, tmp_path) as older:
        unspoken = "UPDATE segments SET state='wanted', digest=NULL, revision=1"
        await older.empty.write(lambda tx: tx.connection.exec_driver_sql(unspoken))
        assert (await take_in(older)).taken == {TRACK: 0, SEGMENT: 1}
        assert await older.empty.read(segments.find, KEY) == await lost.live.read(
            segments.find, KEY
        )


async def test_a_sound_that_is_just_being_removed_is_not_counted_on(
    lost: Lost, tmp_path: Path
) -> None:
    async with restored(lost, tmp_path) as older:
        known = await older.empty.read(tracks.find, "known")
        assert known is not None
        disk = lost.bench.stage.stores["disk"]
        said = json.loads(b"".join([piece async for piece in disk.open("tracks/known.json")]))
        said["soundkeep"] |= {"id": "twin", "path": "twin.mp3"}
        await disk.put(Key("tracks/twin.json"), BytesSource(json.dumps(said).encode()))
        await older.empty.write(recording.remove, "known", RULES)
        why = {each.key: each.why for each in (await take_in(older)).left}
        assert (
            why["tracks/twin.json"]
            == f"the sound at {said['soundkeep']['key']} is just being removed"
        )
        assert await older.empty.read(tracks.find, "twin") is None


async def test_the_store_of_another_catalog_is_refused_as_ever(lost: Lost, tmp_path: Path) -> None:
    async with restored(lost, tmp_path) as older:
        await keep(older, noise(100, 3), name="elsewhere")
        await older.empty.write(
            ledgers.add_track, ledgers.make_track("own", ledgers.make_blob(b"x"))
        )
        await lost.bench.stage.stores["disk"].write_marker("somebody else's")
        with pytest.raises(Conflict, match="this catalog's marker"):
            await take_in(older)
