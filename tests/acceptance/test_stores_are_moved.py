"""Tracks move from one store to another: killed, run again, and against each other."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.commands import Program, program
from servers.soundkeep import eventually
from soundkeep import build
from soundkeep.build.house import House
from soundkeep.catalog import copies
from soundkeep.catalog.moving import Selection
from soundkeep.catalog.tracks import Query
from soundkeep.copies.migrating import Move, Moved
from soundkeep.errors import Conflict, NoSuchStore, StoreDrains
from soundkeep.intake.recording import NewTrack
from soundkeep.keep.syncs import Wanted
from soundkeep.model import Asked, Copy, CopyState, Lane, Operation, Track
from soundkeep.settings import Settings
from soundkeep.worker import settled
from sounds import wav

STORES = {
    "base": {"kind": "local", "path": "base"},
    "here": {"kind": "local", "path": "here"},
    "there": {"kind": "local", "path": "there"},
    "named": {"kind": "local", "path": "named", "key": "{track_id}"},
    "small": {"kind": "local", "path": "small", "max_bytes": 60_002},
    "cdn": {"kind": "local", "path": "cdn", "public": True},
}
COUNT = 24
MOVE = Move("here", "there")
ALL = Move("here", "there", delete_after=True)


@dataclass
class Scene:
    """A keep where sounds lie in `base`, as settings say, and in `here`, as somebody asked."""

    data: Path
    sounds: dict[str, bytes]

    @property
    def settings(self) -> Settings:
        keep = {"keep": ("base",)}
        inbox = {"linger_seconds": 0}
        given: dict[str, Any] = {"stores": STORES, "policy": keep, "inbox": inbox}
        return Settings(data=self.data, **given)

    @property
    def run(self) -> Program:
        return program(
            self.data,
            SOUNDKEEP_STORES=json.dumps(STORES),
            SOUNDKEEP_POLICY__KEEP='["base"]',
            SOUNDKEEP_INBOX__LINGER_SECONDS="0",
        )

    def lies(self, store: str) -> set[bytes]:
        """Every sound that lies in a directory store."""
        return {file.read_bytes() for file in (self.data / store / "blobs").glob("*")}

    async def tracks(self, house: House) -> Sequence[Track]:
        return [view.track for view in (await house.keep.list(Query())).views]

    async def places(self, house: House) -> set[frozenset[str]]:
        """Every set of stores, as the ledger says, that has a track."""
        return {
            frozenset(c.store for c in await held(house, track) if c.state is CopyState.PRESENT)
            for track in await self.tracks(house)
        }

    async def plays(self, house: House) -> bool:
        for track in await self.tracks(house):
            heard = b"".join([piece async for piece in house.keep.open(track.blob)])
            if heard != self.sounds[track.path]:
                return False
        return True


async def held(house: House, track: Track) -> list[Copy]:
    """The copies of a track, without the inbox's."""
    every = await house.keep.catalog.read(copies.of_blob, track.blob.digest)
    return [copy for copy in every if copy.store in STORES]


@pytest.fixture
async def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path / "data", {f"x/{n:03}": wav(60_000 + 2 * n, n) for n in range(COUNT)})
    async with build.opened(scene.settings) as house:
        for path, sound in scene.sounds.items():
            await house.keep.add(_body(sound), NewTrack(path=path), lane=Lane.BULK)
        await house.keep.sync(Wanted(Operation.UPLOAD, "here", prefix="x/"))
        assert await settled(house, 60)
        assert await scene.places(house) == {frozenset({"base", "here"})}
    return scene


@pytest.fixture
async def house(scene: Scene) -> AsyncIterator[House]:
    async with build.opened(scene.settings) as house:
        yield house


async def _body(sound: bytes) -> AsyncIterator[bytes]:
    yield sound


async def run(house: House, move: Move) -> Moved:
    """A migration, and everything that follows from it."""
    moved = await house.migrator.run(move)
    assert await settled(house, 60)
    return moved


async def test_a_look_counts_and_changes_nothing(scene: Scene, house: House) -> None:
    looked = await house.migrator.look(MOVE)
    size = sum(map(len, scene.sounds.values()))
    assert (looked.tracks, looked.bytes, looked.due, looked.due_bytes) == (COUNT, size, COUNT, size)
    assert looked.estimate_seconds
    limited = Move("here", "there", bytes_per_second=1000)
    assert (await house.migrator.look(limited)).estimate_seconds == pytest.approx(size / 1000)
    paused = Move("here", "there", batch=5, pause_seconds=100)
    estimate = (await house.migrator.look(paused)).estimate_seconds
    assert estimate is not None
    assert 400 <= estimate < 500, "four pauses between five batches"
    assert await scene.places(house) == {frozenset({"base", "here"})}
    assert not scene.lies("there")


async def test_what_was_moved_lies_in_the_new_store_and_stays_there(
    scene: Scene, house: House
) -> None:
    done = await run(house, MOVE)
    assert (done.copied, done.withdrawn, done.complete) == (COUNT, 0, True)
    assert await scene.places(house) == {frozenset({"base", "here", "there"})}
    again = await run(house, ALL)
    assert (again.there, again.copied, again.withdrawn) == (COUNT, 0, COUNT)
    assert await scene.places(house) == {frozenset({"base", "there"})}
    assert scene.lies("there") == set(scene.sounds.values())
    assert not scene.lies("here")
    assert len(list((scene.data / "there/tracks").glob("*.json"))) == COUNT
    assert not list((scene.data / "here/tracks").glob("*.json"))
    await house.replan()
    assert await settled(house, 60)
    assert not scene.lies("here"), "placement does not bring it back"
    assert (await house.migrator.look(MOVE)).tracks == 0
    assert (await house.keep.check()).passed


async def test_names_of_one_sound_that_are_moved_together_each_get_their_copy(
    scene: Scene, house: House
) -> None:
    path, sound = next(iter(scene.sounds.items()))
    for number in range(3):
        await house.keep.add(_body(sound), NewTrack(path=f"{path} again {number}"))
        scene.sounds[f"{path} again {number}"] = sound
    await house.keep.sync(Wanted(Operation.UPLOAD, "here", prefix="x/"))
    assert await settled(house, 60)
    done = await run(house, Move("here", "named", delete_after=True))
    assert (done.copied, done.withdrawn, done.complete) == (COUNT + 3, COUNT + 3, True)
    assert not scene.lies("here")
    for track in await scene.tracks(house):
        assert (scene.data / "named" / track.id).read_bytes() == scene.sounds[track.path]
        copies_ = {copy.key for copy in await held(house, track) if copy.store == "named"}
        assert track.id in copies_
    assert await scene.plays(house)
    assert (await house.keep.check()).passed


async def test_only_what_is_asked_for_is_moved(scene: Scene, house: House) -> None:
    async def number(**which: Any) -> int:
        return (await house.migrator.look(Move("here", "there", Selection(**which)))).tracks

    assert await number(prefix="x/00") == 10
    assert await number(prefix="y/") == 0
    assert await number(owner="nobody") == 0
    assert await number(owner="admin") == COUNT
    assert await number(until=1.0) == 0
    assert await number(since=1.0) == COUNT
    moved = await run(house, Move("here", "there", Selection("x/00"), delete_after=True))
    assert (moved.copied, moved.withdrawn) == (10, 10)
    assert len(scene.lies("here")) == COUNT - 10


async def test_what_the_new_store_cannot_have_is_named_and_stays(
    scene: Scene, house: House
) -> None:
    public = await run(house, Move("here", "cdn", delete_after=True))
    assert (public.refused, public.withdrawn, public.complete) == (COUNT, 0, False)
    assert {why.code for _, why in public.refusals} == {"track_is_private"}
    small = await run(house, Move("here", "small", delete_after=True))
    assert (small.copied, small.withdrawn, small.refused) == (2, 2, COUNT - 2)
    assert {why.code for _, why in small.refusals} == {"not_taken"}
    assert len(scene.lies("here")) == COUNT - 2
    for source, target, error in (
        ("here", "nowhere", NoSuchStore),
        ("here", "here", Conflict),
    ):
        with pytest.raises(error):
            await house.migrator.look(Move(source, target))
    await house.keep.drain("there")
    with pytest.raises(StoreDrains):
        await house.migrator.run(MOVE)


async def test_a_migration_that_was_killed_goes_on_where_it_was(scene: Scene) -> None:
    slow = ("migrate", "here", "there", "--execute", "--delete-after", "--bandwidth", "200k")
    with subprocess.Popen(scene.run.command(*slow), env=scene.run.environment()) as process:
        eventually(lambda: len(scene.lies("there")) >= 3)
        process.send_signal(signal.SIGKILL)
    assert len(scene.lies("there")) < COUNT
    assert scene.lies("base") == set(scene.sounds.values())
    done = scene.run.json("migrate", "here", "there", "--execute", "--delete-after")
    assert 0 < done["copied"] < COUNT
    assert done["copied"] + done["there"] >= COUNT - 4
    assert scene.lies("there") == set(scene.sounds.values())
    assert not scene.lies("here")


async def test_two_that_move_the_same_tracks_in_opposite_directions_lose_nothing(
    scene: Scene,
) -> None:
    """The two stores are all there is: one copy too many deleted would be the last."""
    async with build.opened(scene.settings) as house:
        await run(house, Move("base", "there", delete_after=True))
        assert await scene.places(house) == {frozenset({"here", "there"})}
    moving = ("migrate", "--execute", "--delete-after", "--bandwidth", "2M", "--json")
    directions = (("here", "there"), ("there", "here"), ("here", "there"))
    processes = [
        subprocess.Popen(
            scene.run.command(*moving, *direction),
            env=scene.run.environment(),
            stdout=subprocess.PIPE,
        )
        for direction in directions
    ]
    said = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert sum(one["withdrawn"] for one in said) >= COUNT
    async with build.opened(scene.settings) as house:
        assert await settled(house, 60)
        assert scene.lies("here") | scene.lies("there") == set(scene.sounds.values())
        assert await scene.plays(house)
        for track in await scene.tracks(house):
            withdrawn = {name for name, what in track.asked.items() if what is Asked.WITHDRAWN}
            assert not {"here", "there"} <= withdrawn, "each has a home"


async def test_of_two_opposite_withdrawals_only_the_first_counts(
    scene: Scene, house: House
) -> None:
    """Both stores have every track already, so each migration only withdraws, all at once."""
    await run(house, MOVE)
    back = Move("there", "here", delete_after=True)
    both = await asyncio.gather(house.migrator.run(ALL), house.migrator.run(back))
    assert sum(moved.withdrawn for moved in both) >= COUNT
    assert await settled(house, 60)
    for track in await scene.tracks(house):
        withdrawn = {name for name, what in track.asked.items() if what is Asked.WITHDRAWN}
        assert len(withdrawn) == 1
    assert await scene.places(house) <= {frozenset({"base", "here"}), frozenset({"base", "there"})}


def test_a_dry_run_is_what_happens_unless_told_otherwise(scene: Scene) -> None:
    looked = scene.run.json("migrate", "here", "there", "--where", "prefix=x/")
    assert (looked["due"], looked["executed"]) == (COUNT, False)
    assert not scene.lies("there")
    assert b"--execute" in scene.run("migrate", "here", "there", "--delete-after", fails=2).stderr
    assert b"colour" not in scene.run("migrate", "a", "b", "--where", "colour=red", fails=2).stdout
