"""A store that calls an object otherwise than its key, and a ledger that never heard how."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

import ledgers
from copies.bench import DAY, Bench, opened
from copies.lost import BESIDE, RULES, Lost, about_to_be_lost
from copies.spelling import SpellingStore
from reading.stage import noise, read
from soundkeep.catalog import copies, sidecar_work, sidecars, tracks
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Tx
from soundkeep.catalog.schema import now, orphans
from soundkeep.copies import planning
from soundkeep.copies.orphans import Comparer
from soundkeep.copies.placement import Layout, Rules
from soundkeep.copies.rebuild import Rebuild
from soundkeep.intake import recording
from soundkeep.model import Chore, CopyState, Lane, SidecarState, Track
from soundkeep.stores.interface import Key, Store
from soundkeep.testing.expecting import listed
from soundkeep.testing.faulty import FaultyStore
from soundkeep.testing.sources import BytesSource

KEY = "year=2026/Grüße.mp3"
SPELLED = "year=3D2026/Gr=C3=BC=C3=9Fe.mp3"
CONTENT = noise(1000)
RULES_OF_ONE = Rules(("one",), (replace(RULES.stores[0], name="one"),))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """`one` spells."""
    async with opened(tmp_path) as bench:
        stores = bench.stage.stores
        stores["one"].inner = SpellingStore(stores["one"].inner)
        yield bench


async def unheard_of(bench: Bench) -> Track:
    """A track whose copy was written, by one who died before the ledger heard where."""
    track = await bench.stage.add(CONTENT, "disk", "backup")
    wanted = [Place("one", KEY)]
    await bench.stage.catalog.write(copies.want, track.blob.digest, wanted, Lane.BULK)
    await bench.stage.stores["one"].put(Key(KEY), BytesSource(CONTENT))
    assert await listed(bench.stage.stores["one"]) == [SPELLED]
    return track


async def age(bench: Bench) -> None:
    seen = orphans.update().values(first_seen_at=now() - 30 * DAY)
    await bench.stage.catalog.write(lambda tx: tx.run(seen))


async def test_a_copy_of_which_nobody_heard_goes_when_its_track_does(bench: Bench) -> None:
    track = await unheard_of(bench)
    await bench.stage.catalog.write(recording.remove, track.id, RULES)
    assert await bench.work(Chore.DROP, "one")
    assert await listed(bench.stage.stores["one"]) == []


async def test_a_sidecar_of_which_nobody_heard_goes_too(bench: Bench) -> None:
    track = await bench.stage.add(CONTENT, "one")
    named = Layout("{path}/é=.json", BESIDE.text)
    stores = (replace(RULES.stores[0], name="one", sidecars=named),)
    rules = Rules(("one",), stores)
    await bench.stage.catalog.write(planning.replan_one, track.blob.digest, rules)
    [row] = await bench.stage.catalog.read(sidecars.of_track, track.blob.digest, track.id)
    one = bench.stage.stores["one"]
    await one.put(Key(row.key), BytesSource(b"{}"))
    await bench.stage.catalog.write(recording.remove, track.id, rules)
    [claimed] = await bench.stage.catalog.write(
        sidecar_work.claim, Chore.REMOVE_SIDECAR, "one", holder="h/1/1", limit=9, lease_seconds=60
    )
    assert await bench.carry_out(Chore.REMOVE_SIDECAR, "one", claimed)
    assert await listed(one) == [f"blobs/{track.blob.digest}"]


async def test_a_doubted_copy_of_which_nobody_heard_is_read_where_it_lies(bench: Bench) -> None:
    track = await unheard_of(bench)
    await bench.change(track.blob, "one", state=CopyState.DOUBTED, chore=Chore.VERIFY, locator=None)
    for name in ("disk", "backup"):
        await bench.stage.stores[name].delete(str(bench.stage.key(track.blob)))
    assert await read(bench.reader, track.blob) == CONTENT
    puts = bench.stage.stores["one"].calls.count("put")
    await bench.stage.catalog.write(copies.due_now)
    assert await bench.work(Chore.VERIFY, "one")
    copy = await bench.copy(track.blob, "one")
    assert (copy.state, copy.locator) == (CopyState.PRESENT, SPELLED)
    assert bench.stage.stores["one"].calls.count("put") == puts, "it was not written anew"


async def test_what_a_row_without_a_locator_holds_is_no_orphan(bench: Bench) -> None:
    await unheard_of(bench)
    one = bench.stage.stores["one"]
    await one.put(Key("of/nobody=é"), BytesSource(b"x"))
    comparer = Comparer(bench.stage.catalog, cast(dict[str, Store], {"one": one}), RULES_OF_ONE)
    compared = await comparer.compare("one")
    assert [orphan.key for orphan in compared.orphans.named] == ["of/nobody=3D=C3=A9"]
    await age(bench)
    await comparer.mend(compared, DAY)
    await comparer.mend(await comparer.compare("one"), DAY)
    assert await listed(one) == [SPELLED]


async def test_what_came_to_an_orphans_key_without_a_locator_is_looked_at_again(
    bench: Bench,
) -> None:
    one = bench.stage.stores["one"]
    await one.put(Key(KEY), BytesSource(CONTENT))
    comparer = Comparer(
        bench.stage.catalog, cast(dict[str, Store], {"one": Late(one, bench)}), RULES_OF_ONE
    )
    await comparer.compare("one")
    await age(bench)
    await comparer.mend(await comparer.compare("one"), DAY)
    [copy] = await bench.stage.catalog.read(copies.in_store, "one", 0, 9)
    assert copy.state is CopyState.DOUBTED


class Late(SpellingStore):
    """A store in which a copy is recorded at a key just before an orphan goes from there."""

    def __init__(self, inner: FaultyStore, bench: Bench) -> None:
        super().__init__(inner)
        self._bench = bench

    async def delete(self, locator: str) -> None:
        track = await self._bench.stage.add(CONTENT, "disk")
        await self._bench.stage.catalog.write(_present_unheard, track)
        await self.inner.delete(locator)


def _present_unheard(tx: Tx, track: Track) -> None:
    [copy_id] = ledgers.add_present(tx, track.blob, "one")
    tx.connection.exec_driver_sql(
        "UPDATE copies SET key = ?, locator = NULL WHERE id = ?", (KEY, copy_id)
    )


async def test_a_catalog_is_made_anew_of_a_store_that_spells(tmp_path: Path) -> None:
    async with about_to_be_lost(tmp_path) as lost:
        stores = lost.bench.stage.stores
        stores["disk"].inner = SpellingStore(stores["disk"].inner)
        sounds = Layout("{owner}/é=/{path}")
        beside = Layout("über={track_id}.json", "über={track_id}.json")
        rule = replace(RULES.stores[0], name="disk", layout=sounds, sidecars=beside)
        rules = Rules(("disk",), (rule,))
        track = await _kept_there(lost, rules)
        tally = await Rebuild(lost.empty, stores["disk"], rule, rules).run(lambda: None)
        assert tally.left == []
        assert await lost.empty.read(tracks.find, "t") is not None
        [copy] = await lost.empty.read(copies.of_blob, track.blob.digest)
        assert (copy.key, copy.locator) == ("admin/é=/t.mp3", "admin/=C3=A9=3D/t.mp3")
        assert copy.state is CopyState.PRESENT
        [row] = await lost.empty.read(sidecars.of_track, track.blob.digest, "t")
        assert row.state is SidecarState.WRITTEN, "it lies there as it should"
        assert row.locator == "=C3=BCber=3Dt.json"


async def _kept_there(lost: Lost, rules: Rules) -> Track:
    """A track with its sidecar in `disk`, both written by the chores."""
    track = await lost.bench.stage.add(CONTENT, "backup", name="t")
    await lost.live.write(planning.replan_one, track.blob.digest, rules)
    assert await lost.bench.work(Chore.COPY, "disk")
    [claimed] = await lost.live.write(
        sidecar_work.claim, Chore.WRITE_SIDECAR, "disk", holder="h/1/1", limit=9, lease_seconds=60
    )
    assert await lost.bench.carry_out(Chore.WRITE_SIDECAR, "disk", claimed)
    disk = lost.bench.stage.stores["disk"]
    told = b"".join([piece async for piece in disk.open("=C3=BCber=3Dt.json")])
    assert json.loads(told)["soundkeep"]["key"] == "admin/é=/t.mp3"
    return track
