"""Sidecars of segments: beside what was said, with all for which it would be paid again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from copies.bench import INBOX, LEASE_SECONDS, RULES, Bench, opened
from reading.stage import noise
from soundkeep.catalog import imports, sidecar_work, sidecars, tracks
from soundkeep.catalog import segments as segment_rows
from soundkeep.catalog import speeches as speech_rows
from soundkeep.catalog.database import Tx
from soundkeep.catalog.schema import segments, speeches
from soundkeep.catalog.speeches import Speech
from soundkeep.copies import passes, planning
from soundkeep.copies.placement import (
    DEFAULT_LAYOUT,
    DEFAULT_SEGMENT_LAYOUT,
    DEFAULT_SIDECAR_LAYOUT,
    Layout,
    StoreRule,
)
from soundkeep.intake import recording
from soundkeep.intake.recording import Inbox
from soundkeep.model import Blob, Chore, CopyState, Lane, Sidecar, SidecarState

CONTENT = noise(70_000)
BESIDE = Layout(DEFAULT_SIDECAR_LAYOUT, DEFAULT_SIDECAR_LAYOUT)
SAID = Layout(DEFAULT_SEGMENT_LAYOUT, DEFAULT_SEGMENT_LAYOUT)
PRIVATE = tuple(replace(store, sidecars=BESIDE, segment_sidecars=SAID) for store in RULES.stores)
CDN = StoreRule("one", Layout(DEFAULT_LAYOUT), public=True, sidecars=BESIDE)
WITH_SIDECARS = replace(RULES, stores=(*PRIVATE, CDN))
KEY = "5e" * 32
TIMING = {"timing_source": "provider", "sentences": [], "words": [], "duration_seconds": 1.5}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """`disk` and `backup` are private; `one` is public."""
    async with opened(tmp_path) as bench:
        yield bench


async def heard(bench: Bench, *stores: str, public: bool = False) -> Blob:
    """A sound that lies in these stores, under the name of a track."""
    return (await bench.stage.add(CONTENT, *stores, public=public)).blob


def say(tx: Tx, blob: Blob, key: str = KEY) -> None:
    """What an engine said is that sound."""
    row = insert(segments).values(
        key=key, engine="e", model="m", voice="v", request='{"text":"t"}', text="t",
        state="present", digest=blob.digest.raw, characters=1, cost_billionths=180_000,
        currency="USD", hits=0, refusals=0, created_at=0, lane="b", due_at=0, attempts=0,
    )  # fmt: skip
    recording.record_speech(
        tx,
        blob,
        lambda: tx.run(row),
        inbox=Inbox(INBOX, f"uploads/{key}", 3600),
        rules=WITH_SIDECARS,
        lane=Lane.BULK,
    )


async def rows(bench: Bench, blob: Blob) -> dict[str, Sidecar]:
    """The segment's, by store."""
    found = await bench.stage.catalog.read(sidecars.of_blob, blob.digest)
    return {each.store: each for each in found if each.segment_key == KEY}


async def work(bench: Bench, chore: Chore, *stores: str) -> None:
    """Everything that is due of it."""
    await bench.stage.catalog.write(sidecars.due_now)
    for store in stores:
        for claimed in await bench.stage.catalog.write(
            sidecar_work.claim, chore, store, holder="h/1/1", limit=9, lease_seconds=LEASE_SECONDS
        ):
            assert await bench.carry_out(chore, store, claimed)


async def lying_in(bench: Bench, store: str, key: str = f"segments/{KEY}.json") -> Any:
    inner = bench.stage.stores[store].inner
    if await inner.stat(key) is None:
        return None
    return json.loads(b"".join([piece async for piece in inner.open(key)]))["soundkeep"]


async def test_it_lies_beside_what_was_said_in_private_stores_and_in_no_public_one(
    bench: Bench,
) -> None:
    blob = await heard(bench, "disk", "backup", "one", public=True)
    await bench.stage.catalog.write(say, blob)
    assert (await rows(bench, blob)).keys() == {"disk", "backup"}
    await work(bench, Chore.WRITE_SIDECAR, "disk", "backup", "one")
    for store in ("disk", "backup"):
        ours = await lying_in(bench, store)
        assert (ours["segment_key"], ours["key"]) == (KEY, f"blobs/{blob.digest}")
        assert (ours["cost"], ours["currency"]) == (0.00018, "USD")
        assert ours["digest"] == blob.digest.hex
    assert await lying_in(bench, "one") is None


async def test_it_waits_for_its_sound(bench: Bench) -> None:
    blob = await heard(bench, "disk")
    await bench.stage.catalog.write(say, blob)
    states = {store: row.state for store, row in (await rows(bench, blob)).items()}
    assert states == {"disk": SidecarState.DUE, "backup": SidecarState.WAITING}
    assert await bench.work(Chore.COPY, "backup")
    assert (await rows(bench, blob))["backup"].state is SidecarState.DUE


async def test_a_timing_that_is_found_out_and_another_key_make_it_due_again(bench: Bench) -> None:
    blob = await heard(bench, "disk")
    await bench.stage.catalog.write(say, blob)
    await work(bench, Chore.WRITE_SIDECAR, "disk")
    found = await bench.stage.catalog.read(segment_rows.find, KEY)
    assert found is not None
    await bench.stage.catalog.write(segment_rows.note_timing, found, TIMING)
    assert (await rows(bench, blob))["disk"].state is SidecarState.DUE
    await bench.stage.catalog.write(segment_rows.also_known_as, KEY, ["old"])
    await work(bench, Chore.WRITE_SIDECAR, "disk")
    ours = await lying_in(bench, "disk")
    assert (ours["timing"], ours["timing_source"]) == (TIMING, "provider")
    assert ours["other_keys"] == ["old"]
    assert (await rows(bench, blob))["disk"].state is SidecarState.WRITTEN


async def test_a_segment_that_is_revoked_takes_it_away_and_the_tracks_stays(bench: Bench) -> None:
    blob = await heard(bench, "disk")
    await bench.stage.catalog.write(planning.replan_one, blob.digest, WITH_SIDECARS)
    await bench.stage.catalog.write(say, blob)
    await work(bench, Chore.WRITE_SIDECAR, "disk")
    await bench.stage.catalog.write(revoke, blob)
    await work(bench, Chore.REMOVE_SIDECAR, "disk", "backup")
    assert await lying_in(bench, "disk") is None
    assert await rows(bench, blob) == {}
    assert await lying_in(bench, "disk", "tracks/sound.json") is not None


def revoke(tx: Tx, blob: Blob) -> None:
    recording.withdraw_speech(
        tx, blob.digest, lambda: segment_rows.withdraw(tx, KEY), rules=WITH_SIDECARS
    )


async def test_one_revoked_since_the_claim_is_not_written(bench: Bench) -> None:
    blob = await heard(bench, "disk")
    await bench.stage.catalog.write(say, blob)
    await bench.stage.catalog.write(sidecars.due_now)
    [claimed] = await bench.stage.catalog.write(
        sidecar_work.claim, Chore.WRITE_SIDECAR, "disk", holder="h/1/1", limit=9, lease_seconds=60
    )
    await bench.stage.catalog.write(revoke, blob)
    assert await bench.carry_out(Chore.WRITE_SIDECAR, "disk", claimed)
    assert await lying_in(bench, "disk") is None


async def test_the_sound_goes_only_after_it(bench: Bench) -> None:
    blob = await heard(bench, "disk")
    await bench.stage.catalog.write(say, blob)
    await work(bench, Chore.WRITE_SIDECAR, "disk")
    await bench.stage.catalog.write(recording.remove, "sound", WITH_SIDECARS)
    await bench.stage.catalog.write(revoke, blob)
    assert await bench.work(Chore.DROP, "disk")
    assert (await bench.stage.states(blob))["disk"] is CopyState.UNWANTED
    await work(bench, Chore.REMOVE_SIDECAR, "disk")
    assert await bench.work(Chore.DROP, "disk")
    assert "disk" not in await bench.stage.states(blob)


async def test_what_was_said_before_there_were_any_gets_its_own_by_itself(bench: Bench) -> None:
    blob = await heard(bench, "disk")
    await bench.stage.catalog.write(say, blob)
    await bench.stage.catalog.write(forget)
    await passes.replan_all(bench.stage.catalog, WITH_SIDECARS)
    await work(bench, Chore.WRITE_SIDECAR, "disk")
    assert (await lying_in(bench, "disk"))["segment_key"] == KEY


def forget(tx: Tx) -> None:
    tx.connection.exec_driver_sql("DELETE FROM sidecars")


# --- speeches ------------------------------------------------------------------------------------


def is_speech(tx: Tx, blob: Blob) -> None:
    script: Mapping[str, Any] = {"shown": "T", "segments": [[0, 1, [[0, 1]]]]}
    speech_rows.record(tx, Speech("whole", "mp3", (KEY,), blob.digest, script, 0))
    tx.run(speeches.update().values(hits=4, last_heard_at=0.0))
    speech_rows.note_track(tx, "whole", "admin", "book", "sound")


async def test_a_tracks_tells_which_speech_it_is_but_not_in_public(bench: Bench) -> None:
    blob = await heard(bench, "disk", "one", public=True)
    await bench.stage.catalog.write(is_speech, blob)
    await bench.stage.catalog.write(planning.replan_one, blob.digest, WITH_SIDECARS)
    await work(bench, Chore.WRITE_SIDECAR, "disk", "one")
    [told] = (await lying_in(bench, "disk", "tracks/sound.json"))["speeches"]
    assert told.pop("created_at").endswith("Z")
    assert told == {
        "key": "whole",
        "other_keys": [],
        "format": "mp3",
        "segments": [KEY],
        "script": {"shown": "T", "segments": [[0, 1, [[0, 1]]]]},
        "collections": ["book"],
        "hits": 4,
        "last_heard_at": "1970-01-01T00:00:00.000Z",
    }
    assert "speeches" not in await lying_in(bench, "one", "tracks/sound.json")


async def test_another_key_of_a_speech_makes_its_tracks_sidecar_due_again(bench: Bench) -> None:
    blob = await heard(bench, "disk")
    await bench.stage.catalog.write(is_speech, blob)
    await bench.stage.catalog.write(planning.replan_one, blob.digest, WITH_SIDECARS)
    await work(bench, Chore.WRITE_SIDECAR, "disk")
    await bench.stage.catalog.write(imports.also_known_as, "whole", ["older"])
    await work(bench, Chore.WRITE_SIDECAR, "disk")
    ours = await lying_in(bench, "disk", "tracks/sound.json")
    assert ours["speeches"][0]["other_keys"] == ["older"]
    track = await bench.stage.catalog.read(tracks.find, "sound")
    assert track is not None
    assert ours["revision"] == track.revision == 2
