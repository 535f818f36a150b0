"""Sidecars in real stores: beside their sound, as the track is now, and gone with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ledgers
from copies.bench import LEASE_SECONDS, RULES, Bench, opened
from reading.stage import noise, until
from soundkeep.answers import Removal
from soundkeep.catalog import sidecar_work, sidecars, tracks
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.database import Tx
from soundkeep.catalog.sidecar_work import ClaimedSidecar
from soundkeep.catalog.subjects import TrackRecord
from soundkeep.copies import planning
from soundkeep.copies.placement import DEFAULT_LAYOUT, DEFAULT_SIDECAR_LAYOUT, Layout, StoreRule
from soundkeep.copies.sidecar_form import sidecar_bytes
from soundkeep.copies.sidecars import SidecarKeeper
from soundkeep.intake import recording
from soundkeep.model import Chore, CopyState, Sidecar, SidecarState, Track, Visibility
from soundkeep.stores.interface import Key, Receipt, Source
from soundkeep.stores.memory import MemoryStore
from soundkeep.stores.wrappers import Wrapped
from soundkeep.testing.faulty import Fault

CONTENT = noise(70_000)
BESIDE = Layout(DEFAULT_SIDECAR_LAYOUT, DEFAULT_SIDECAR_LAYOUT)
CDN = StoreRule("one", Layout(DEFAULT_LAYOUT), public=True, sidecars=BESIDE)
WITH_SIDECARS = replace(
    RULES, stores=(*(replace(store, sidecars=BESIDE) for store in RULES.stores), CDN)
)
CACHE_SECONDS = 777


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """`disk` and `backup` are private; `one` is public."""
    async with opened(tmp_path) as bench:
        bench.keeper = SidecarKeeper(bench.stage.catalog, {"one": CACHE_SECONDS})
        yield bench


async def keep(bench: Bench, *stores: str, name: str = "sound", public: bool = False) -> Track:
    """A track whose sound is in these stores, and whose sidecars are due there."""
    track = await bench.stage.add(CONTENT, *stores, name=name, public=public)
    await bench.stage.catalog.write(planning.replan_one, track.blob.digest, WITH_SIDECARS)
    return track


async def now(bench: Bench, track: Track) -> Track:
    found = await bench.stage.catalog.read(tracks.find, track.id)
    assert found is not None
    return found


async def change(bench: Bench, track: Track, **values: Any) -> None:
    track = await now(bench, track)
    before = {
        "title": track.title,
        "visibility": track.visibility,
        "metadata": track.metadata,
    }
    await bench.stage.catalog.write(recording.change, track, WITH_SIDECARS, **{**before, **values})


async def claim(
    bench: Bench, chore: Chore, store: str, lease_seconds: float = LEASE_SECONDS
) -> ClaimedSidecar:
    [claimed] = await bench.stage.catalog.write(
        sidecar_work.claim, chore, store, holder="host/1/1", limit=2, lease_seconds=lease_seconds
    )
    return claimed


async def work(bench: Bench, chore: Chore, store: str) -> bool:
    await bench.stage.catalog.write(sidecars.due_now)
    return await carry_out(bench, chore, store, await claim(bench, chore, store))


async def carry_out(bench: Bench, chore: Chore, store: str, claimed: ClaimedSidecar) -> bool:
    return await bench.carry_out(chore, store, claimed)


async def row(bench: Bench, track: Track, store: str) -> Sidecar | None:
    found = await bench.stage.catalog.read(sidecars.of_track, track.blob.digest, track.id)
    return next((sidecar for sidecar in found if sidecar.store == store), None)


async def state(bench: Bench, track: Track, store: str) -> SidecarState | None:
    found = await row(bench, track, store)
    return found.state if found else None


async def lying_in(bench: Bench, store: str, track: Track) -> bytes | None:
    """The sidecar in the store itself, past every fault that was set."""
    inner, key = bench.stage.stores[store].inner, f"tracks/{track.id}.json"
    if await inner.stat(key) is None:
        return None
    return b"".join([piece async for piece in inner.open(key)])


def as_it_should_be(track: Track, store: str) -> bytes:
    return sidecar_bytes(TrackRecord(track), f"blobs/{track.blob.digest}", public=store == "one")


# --- written -------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["disk", "backup", "one"])
async def test_a_sidecar_lies_beside_its_sound_in_every_kind_of_store(
    bench: Bench, store: str
) -> None:
    track = await keep(bench, store, public=True)
    assert await work(bench, Chore.WRITE_SIDECAR, store)
    assert await lying_in(bench, store, track) == as_it_should_be(await now(bench, track), store)
    assert await state(bench, track, store) is SidecarState.WRITTEN
    assert await bench.bytes_in(store, track.blob) == CONTENT


async def test_none_is_written_where_the_sound_is_still_to_come(bench: Bench) -> None:
    track = await keep(bench, "backup")
    assert await state(bench, track, "disk") is SidecarState.WAITING
    assert await bench.work(Chore.COPY, "disk")
    assert await work(bench, Chore.WRITE_SIDECAR, "disk")
    assert await lying_in(bench, "disk", track) is not None


async def test_two_tracks_with_the_same_sound_have_one_each(bench: Bench) -> None:
    one = await keep(bench, "disk", name="first")
    assert await work(bench, Chore.WRITE_SIDECAR, "disk")
    two = ledgers.make_track("second", one.blob)
    await bench.stage.catalog.write(ledgers.add_track, two)
    await bench.stage.catalog.write(planning.replan_one, one.blob.digest, WITH_SIDECARS)
    assert await work(bench, Chore.WRITE_SIDECAR, "disk")
    for track in (one, two):
        assert (
            json.loads(await lying_in(bench, "disk", track) or b"")["soundkeep"]["id"] == track.id
        )


class Noting(Wrapped):
    """Remembers what it was given to put."""

    given: Source | None = None

    async def put(self, key: Key, source: Source) -> Receipt:
        self.given = source
        return await self.inner.put(key, source)


@pytest.mark.parametrize(("store", "cache_seconds"), [("one", CACHE_SECONDS), ("disk", None)])
async def test_a_store_is_told_that_it_is_json_and_how_long_caches_may_keep_it(
    bench: Bench, store: str, cache_seconds: int | None
) -> None:
    await keep(bench, store, public=True)
    noting = Noting(bench.stage.stores[store])
    await bench.keeper.write(noting, await claim(bench, Chore.WRITE_SIDECAR, store))
    assert noting.given is not None
    assert noting.given.media_type == "application/json"
    assert noting.given.cache_seconds == cache_seconds


# --- following its track -------------------------------------------------------------------------


async def test_it_follows_the_title_and_leaves_the_applications_own_fields_as_they_were(
    bench: Bench,
) -> None:
    track = await keep(bench, "disk")
    await change(bench, track, metadata={"z": 1, "a": "ä", "n": {"y": 2.5, "b": [None]}})
    assert await work(bench, Chore.WRITE_SIDECAR, "disk")
    before = await lying_in(bench, "disk", track) or b""
    await change(bench, track, title="Another title")
    assert await work(bench, Chore.WRITE_SIDECAR, "disk")
    after = await lying_in(bench, "disk", track) or b""

    assert json.loads(after)["soundkeep"]["title"] == "Another title"
    own = before.index(b'"soundkeep"')
    assert before[:own] == after[:own]


async def test_a_change_that_comes_while_it_is_written_is_written_next(bench: Bench) -> None:
    track = await keep(bench, "disk")
    disk = bench.stage.stores["disk"]
    disk.break_with(Fault.stalling(), verbs={"put"}, times=1)
    claimed = await claim(bench, Chore.WRITE_SIDECAR, "disk")
    puts = disk.calls.count("put")
    writing = asyncio.create_task(carry_out(bench, Chore.WRITE_SIDECAR, "disk", claimed))
    await until(lambda: disk.calls.count("put") > puts)
    await change(bench, track, title="Another title")
    disk.heal()
    assert await writing
    assert await state(bench, track, "disk") is SidecarState.DUE
    assert await work(bench, Chore.WRITE_SIDECAR, "disk")
    assert await lying_in(bench, "disk", track) == as_it_should_be(await now(bench, track), "disk")


async def test_one_deleted_since_the_claim_is_not_written(bench: Bench) -> None:
    track = await keep(bench, "disk")
    claimed = await claim(bench, Chore.WRITE_SIDECAR, "disk")
    await bench.stage.catalog.write(recording.remove, track.id, WITH_SIDECARS)
    assert await carry_out(bench, Chore.WRITE_SIDECAR, "disk", claimed)
    assert await lying_in(bench, "disk", track) is None
    assert await carry_out(
        bench, Chore.REMOVE_SIDECAR, "disk", await claim(bench, Chore.REMOVE_SIDECAR, "disk")
    )
    assert await row(bench, track, "disk") is None


async def test_one_made_private_since_the_claim_is_not_written_in_public(bench: Bench) -> None:
    track = await keep(bench, "one", "disk", public=True)
    claimed = await claim(bench, Chore.WRITE_SIDECAR, "one")
    await change(bench, track, visibility=Visibility.PRIVATE)
    assert await carry_out(bench, Chore.WRITE_SIDECAR, "one", claimed)
    assert await lying_in(bench, "one", track) is None


# --- when things break ---------------------------------------------------------------------------


async def test_a_store_that_is_out_costs_no_attempt_and_gets_it_when_it_is_back(
    bench: Bench,
) -> None:
    track = await keep(bench, "disk")
    disk = bench.stage.stores["disk"]
    disk.break_with(Fault.unavailable())
    assert not await work(bench, Chore.WRITE_SIDECAR, "disk")
    found = await row(bench, track, "disk")
    assert found is not None
    assert (found.attempts, found.last_error) == (0, None)
    assert "disk" in await bench.stage.catalog.read(store_rows.out)

    disk.heal()
    await bench.stage.catalog.write(store_rows.close_circuit, "disk")
    assert await work(bench, Chore.WRITE_SIDECAR, "disk")
    assert await lying_in(bench, "disk", track) is not None


@pytest.mark.parametrize("store", ["disk", "backup", "one"])
async def test_a_put_whose_answer_is_lost_is_put_again(bench: Bench, store: str) -> None:
    track = await keep(bench, store, public=True)
    bench.stage.stores[store].break_with(Fault.lost_answers(), verbs={"put"}, times=1)
    assert not await work(bench, Chore.WRITE_SIDECAR, store)
    found = await row(bench, track, store)
    assert found is not None
    assert (found.attempts, found.state) == (1, SidecarState.DUE)
    assert "lose its answer" in (found.last_error or "")
    assert await work(bench, Chore.WRITE_SIDECAR, store)
    assert await lying_in(bench, store, track) == as_it_should_be(await now(bench, track), store)


async def test_a_crash_between_the_put_and_its_outcome_is_a_lease_that_runs_out(
    bench: Bench,
) -> None:
    track = await keep(bench, "disk")
    dead = await claim(bench, Chore.WRITE_SIDECAR, "disk", lease_seconds=0)
    source = bench.keeper._source(dead.sidecar, TrackRecord(await now(bench, track)))
    await bench.stage.stores["disk"].put(Key(dead.sidecar.key), source)
    assert await state(bench, track, "disk") is SidecarState.DUE
    assert await work(bench, Chore.WRITE_SIDECAR, "disk")
    assert await state(bench, track, "disk") is SidecarState.WRITTEN
    assert await lying_in(bench, "disk", track) == as_it_should_be(await now(bench, track), "disk")


async def test_one_that_a_dead_process_wrote_without_a_word_is_removed_with_its_track(
    bench: Bench,
) -> None:
    track = await keep(bench, "disk")
    dead = await claim(bench, Chore.WRITE_SIDECAR, "disk", lease_seconds=0)
    source = bench.keeper._source(dead.sidecar, TrackRecord(await now(bench, track)))
    await bench.stage.stores["disk"].put(Key(dead.sidecar.key), source)
    await bench.stage.catalog.write(recording.remove, track.id, WITH_SIDECARS)
    assert await work(bench, Chore.REMOVE_SIDECAR, "disk")
    assert await lying_in(bench, "disk", track) is None


async def test_a_put_that_ends_after_others_wrote_a_newer_one_is_made_good(bench: Bench) -> None:
    track = await keep(bench, "disk")
    disk = bench.stage.stores["disk"]
    disk.break_with(Fault.stalling(), verbs={"put"}, times=1)
    late = await claim(bench, Chore.WRITE_SIDECAR, "disk", lease_seconds=0)
    puts = disk.calls.count("put")
    writing = asyncio.create_task(carry_out(bench, Chore.WRITE_SIDECAR, "disk", late))
    await until(lambda: disk.calls.count("put") > puts)
    await change(bench, track, title="Newer")
    assert await work(bench, Chore.WRITE_SIDECAR, "disk")
    disk.heal()
    assert not await writing
    old = json.loads(await lying_in(bench, "disk", track) or b"")
    assert old["soundkeep"]["title"] != "Newer", "it hit what it should not have"
    assert await state(bench, track, "disk") is SidecarState.DUE
    assert await work(bench, Chore.WRITE_SIDECAR, "disk")
    assert await lying_in(bench, "disk", track) == as_it_should_be(await now(bench, track), "disk")


# --- removed -------------------------------------------------------------------------------------


async def written(bench: Bench, *stores: str, public: bool = False) -> Track:
    track = await keep(bench, *stores, public=public)
    for store in stores:
        assert await work(bench, Chore.WRITE_SIDECAR, store)
    return track


async def outcomes(bench: Bench, track: Track, store: str) -> dict[str, Removal]:
    """By the folder, of the receipt's lines about one store."""
    receipt = await bench.stage.catalog.read(tracks.receipt, track.id)
    assert receipt is not None
    mine = [line for line in receipt.lines if line.store == store]
    return {line.key.partition("/")[0]: line.outcome for line in mine}


async def test_it_goes_with_its_track_and_before_its_sound(bench: Bench) -> None:
    track = await written(bench, "disk")
    await bench.stage.catalog.write(recording.remove, track.id, WITH_SIDECARS)
    assert await bench.work(Chore.DROP, "disk")
    assert await bench.bytes_in("disk", track.blob) == CONTENT, "the sound waits"
    assert (await bench.stage.states(track.blob))["disk"] is CopyState.UNWANTED

    assert await work(bench, Chore.REMOVE_SIDECAR, "disk")
    assert await lying_in(bench, "disk", track) is None
    receipt = await outcomes(bench, track, "disk")
    assert receipt == {"tracks": Removal.REMOVED, "blobs": Removal.PENDING}
    assert await bench.work(Chore.DROP, "disk"), "and is due as soon as that is confirmed"
    assert "disk" not in await bench.stage.states(track.blob)
    assert set((await outcomes(bench, track, "disk")).values()) == {Removal.REMOVED}


class Clinging(MemoryStore):
    """Says that it deleted, and did not."""

    async def delete(self, locator: str) -> None:
        """Nothing."""


async def test_a_removal_counts_only_when_the_store_shows_nothing_any_more(bench: Bench) -> None:
    track = await written(bench, "one", public=True)
    good = bench.stage.stores["one"].inner
    assert isinstance(good, MemoryStore)
    clinging = Clinging("one")
    clinging.__dict__.update(good.__dict__)
    bench.stage.stores["one"].inner = clinging
    await bench.stage.catalog.write(recording.remove, track.id, WITH_SIDECARS)
    assert not await work(bench, Chore.REMOVE_SIDECAR, "one")
    assert set((await outcomes(bench, track, "one")).values()) == {Removal.PENDING}

    bench.stage.stores["one"].inner = good
    assert await work(bench, Chore.REMOVE_SIDECAR, "one")
    assert (await outcomes(bench, track, "one"))["tracks"] is Removal.REMOVED


@pytest.mark.parametrize("verb", ["delete", "stat"])
@pytest.mark.parametrize("store", ["disk", "backup", "one"])
async def test_a_removal_that_nobody_confirmed_is_tried_again(
    bench: Bench, store: str, verb: str
) -> None:
    track = await written(bench, store, public=True)
    await bench.stage.catalog.write(recording.remove, track.id, WITH_SIDECARS)
    bench.stage.stores[store].break_with(Fault.lost_answers(), verbs={verb}, times=1)
    assert not await work(bench, Chore.REMOVE_SIDECAR, store)
    found = await row(bench, track, store)
    assert found is not None
    assert (found.state, found.attempts) == (SidecarState.LEAVING, 1)
    assert await work(bench, Chore.REMOVE_SIDECAR, store)
    assert await lying_in(bench, store, track) is None
    assert await row(bench, track, store) is None


async def test_a_delete_that_comes_too_late_is_made_good(bench: Bench) -> None:
    """It hangs past its lease; meanwhile the track is made public again and its sidecar written."""
    track = await written(bench, "one", "disk", public=True)
    await change(bench, track, visibility=Visibility.PRIVATE)
    one = bench.stage.stores["one"]
    one.break_with(Fault.stalling(), verbs={"delete"}, times=1)
    late = await claim(bench, Chore.REMOVE_SIDECAR, "one", lease_seconds=0)
    removing = asyncio.create_task(carry_out(bench, Chore.REMOVE_SIDECAR, "one", late))
    await until(lambda: one.calls[-1] == "delete")
    await bench.stage.catalog.write(end_every_rest)
    await change(bench, track, visibility=Visibility.PUBLIC)
    await bench.stage.catalog.write(end_every_rest)
    assert await work(bench, Chore.WRITE_SIDECAR, "one")
    one.heal()
    assert not await removing
    assert await lying_in(bench, "one", track) is None, "it hit what it should not have"
    assert await state(bench, track, "one") is SidecarState.DUE
    assert await work(bench, Chore.WRITE_SIDECAR, "one")
    assert await lying_in(bench, "one", track) == as_it_should_be(await now(bench, track), "one")


def end_every_rest(tx: Tx) -> None:
    """As time does, once a lease that was taken away has run out."""
    tx.connection.exec_driver_sql(
        "UPDATE sidecars SET lease_token = NULL, due_at = 0 WHERE lease_token IS NOT NULL"
    )
