"""Bits rot in the stores: scrubs find them and heal them, and no listener ever hears one."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.commands import program
from reading.stage import flip
from soundkeep import build
from soundkeep.build.house import House
from soundkeep.catalog import copies, scrubs
from soundkeep.catalog.schema import copies as table
from soundkeep.catalog.schema import now
from soundkeep.catalog.schema import scrubs as scrubs_table
from soundkeep.catalog.tracks import Query
from soundkeep.copies import scrubbing
from soundkeep.copies.scrubbing import Manners, Mode, Scrubber
from soundkeep.errors import Unsupported
from soundkeep.intake.recording import NewTrack
from soundkeep.model import CopyState, Lane, Track
from soundkeep.settings import Settings
from soundkeep.stores.interface import Stat, Store
from soundkeep.stores.local import LocalStore
from soundkeep.stores.wrappers import Wrapped
from soundkeep.worker import Worker, settled
from sounds import wav

STORES = ("one", "two", "three")
PERIOD = 30 * 86_400.0


@dataclass
class Scene:
    """Sounds in three directories."""

    data: Path
    house: House
    sounds: dict[str, bytes]

    def file(self, store: str, track: Track) -> Path:
        return self.data / store / "blobs" / track.blob.digest.hex

    async def tracks(self) -> list[Track]:
        found, cursor = [], None
        while True:
            listed = await self.house.keep.list(Query(cursor=cursor))
            found += [view.track for view in listed.views]
            if (cursor := listed.next_cursor) is None:
                return found

    async def rot_all_but_one(self) -> None:
        """One bit of every copy but one of each sound, in a chunk of its own."""
        chance = random.Random(6)
        for number, track in enumerate(await self.tracks()):
            for store in set(STORES) - {STORES[number % 3]}:
                flip(self.file(store, track), chance.randrange(track.blob.size_bytes))

    async def age(self, *stores: str, seconds: float = PERIOD + 60) -> None:
        """Nobody has looked at what lies there for so long."""
        old = table.update().where(table.c.store.in_(stores))
        await self.house.keep.catalog.write(
            lambda tx: tx.run(old.values(verified_at=now() - seconds, seen_at=None))
        )

    def all_whole(self, tracks: list[Track]) -> bool:
        return all(
            self.file(store, track).read_bytes() == self.sounds[track.path]
            for store in STORES
            for track in tracks
        )

    async def listen(self, heard: list[bool]) -> None:
        """Hears sounds from anywhere, for ever, and compares every byte."""
        tracks, chance = await self.tracks(), random.Random(7)
        while True:
            track = chance.choice(tracks)
            sound = self.sounds[track.path]
            start = chance.randrange(len(sound))
            pieces = self.house.keep.open(track.blob, start)
            heard.append(b"".join([piece async for piece in pieces]) == sound[start:])


@asynccontextmanager
async def opened(data: Path, count: int, **more: Any) -> AsyncIterator[Scene]:
    stores: Any = {name: {"kind": "local", "path": name, **more} for name in STORES}
    policy: Any = {"keep": STORES, "ack_copies": 3}
    inbox: Any = {"linger_seconds": 0}
    sounds = {f"{n:04}": wav(300_000 + 2 * n, n) for n in range(count)}
    async with build.opened(
        Settings(data=data, stores=stores, policy=policy, inbox=inbox)
    ) as house:
        for path, sound in sounds.items():
            await house.keep.add(_body(sound), NewTrack(path=path), lane=Lane.BULK)
        assert await settled(house, 60)
        yield Scene(data, house, sounds)


async def _body(sound: bytes) -> AsyncIterator[bytes]:
    yield sound


async def heal(scene: Scene) -> tuple[int, int]:
    """Scrubs everything while somebody listens; answers how much was found and healed."""
    heard: list[bool] = []
    began_at = await scene.house.keep.catalog.read(lambda tx: tx.now())
    listening = asyncio.create_task(scene.listen(heard))
    done = await scene.house.scrubber.now()
    assert await settled(scene.house, 600)
    listening.cancel()
    with suppress(asyncio.CancelledError):
        await listening
    assert heard
    assert all(heard)
    assert not any(one.unread or one.out for one in done)
    found = await scene.house.keep.catalog.read(scrubs.found_since, began_at)
    return len(found), sum(find.healed_at is not None for find in found)


async def test_a_bit_in_every_copy_but_one_is_found_and_healed(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", 30) as scene:
        await scene.rot_all_but_one()
        tracks = await scene.tracks()
        assert not scene.all_whole(tracks)
        found, healed = await heal(scene)
        # A listener may have found some before the scrub did, which are healed all the same.
        assert 0 < found <= 60
        assert healed == found
        assert scene.all_whole(tracks)
        assert await heal(scene) == (0, 0)


@pytest.mark.drill
async def test_a_thousand_sounds_rot_in_every_copy_but_one(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", 1000) as scene:
        await scene.rot_all_but_one()
        began = time.monotonic()
        found, healed = await heal(scene)
        seconds = time.monotonic() - began
        figures = (await scene.house.keep.status()).stores_json()
        read = sum(store["scrub"]["bytes_read"] for store in figures)
        print(
            f"\n{found} of 2,000 found by the scrub, {healed} healed: {seconds:.1f} s, {read:,} B"
        )
        assert healed == found
        assert scene.all_whole(await scene.tracks())


async def test_the_oldest_proofs_come_first_and_a_full_pass_is_noted(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", 4) as scene:
        catalog = scene.house.keep.catalog
        await scene.age("two", seconds=2 * PERIOD)
        before = await catalog.read(lambda tx: tx.now()) - PERIOD
        due = await catalog.read(scrubs.oldest, "two", before, 10, presence=False)
        assert len(due) == 4
        assert not await catalog.read(scrubs.oldest, "one", before, 10, presence=False)
        [done] = await scene.house.scrubber.now(["two"])
        assert (done.copies, done.bytes) == (4, sum(map(len, scene.sounds.values())))
        figures = (await catalog.read(scrubs.figures))["two"]
        assert figures.full_pass_at is not None
        assert not await catalog.read(scrubs.oldest, "two", before, 10, presence=False)


async def test_a_resident_worker_scrubs_what_is_due_and_mends_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", 5) as scene:
        await scene.rot_all_but_one()
        await scene.age(*STORES)
        worker = Worker(scene.house)
        worker.start()
        try:
            async with asyncio.timeout(60):
                tracks = await scene.tracks()
                while not scene.all_whole(tracks):
                    await asyncio.sleep(0.05)
        finally:
            await worker.stop(5)


async def test_where_reading_costs_a_look_finds_what_is_gone_or_cut_off(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", 3, scrub="presence") as scene:
        gone, cut, rotten = await scene.tracks()
        scene.file("one", gone).unlink()
        scene.file("one", cut).write_bytes(b"short")
        flip(scene.file("one", rotten), 1000)
        [done] = await scene.house.scrubber.now(["one"])
        assert (done.mode, done.copies, done.bytes, done.found) == (Mode.PRESENCE, 3, 0, 2)
        assert await settled(scene.house, 60)
        for track in (gone, cut):
            assert scene.file("one", track).read_bytes() == scene.sounds[track.path]
        held = await scene.house.keep.catalog.read(copies.of_blob, rotten.blob.digest)
        assert {copy.state for copy in held} == {CopyState.PRESENT}, "it takes reading to see that"


async def test_a_store_that_is_out_says_nothing_about_its_copies(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", 3) as scene:
        (scene.data / "one").rename(scene.data / "away")
        [done] = await scene.house.scrubber.now(["one"])
        assert (done.out, done.found) == (True, 0)
        for track in await scene.tracks():
            held = await scene.house.keep.catalog.read(copies.of_blob, track.blob.digest)
            assert {copy.state for copy in held} == {CopyState.PRESENT}


@pytest.mark.parametrize("mode", ["read", "presence"])
async def test_a_place_that_is_not_ours_says_nothing_about_our_copies(
    tmp_path: Path, mode: str
) -> None:
    """Another disk was mounted there, or the address leads elsewhere: nothing is found there."""
    async with opened(tmp_path / "data", 3, scrub=mode) as scene:
        (scene.data / "one").rename(scene.data / "away")
        other = LocalStore("other", scene.data / "one")
        await other.write_marker("of another catalog")
        await other.close()
        [done] = await scene.house.scrubber.now(["one"])
        assert (done.out, done.found) == (True, 0)
        for track in await scene.tracks():
            held = await scene.house.keep.catalog.read(copies.of_blob, track.blob.digest)
            assert {copy.state for copy in held} == {CopyState.PRESENT}


class Leaving(Wrapped):
    """A store from which a copy goes, as it should, while it is looked at."""

    def __init__(self, inner: Store, going: Callable[[], Awaitable[object]]) -> None:
        super().__init__(inner)
        self._going = going

    async def stat(self, locator: str) -> Stat | None:
        await self._going()
        return await super().stat(locator)


async def test_a_copy_that_was_let_go_meanwhile_is_not_found_to_be_wrong(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", 1, scrub="presence") as scene:
        [track] = await scene.tracks()
        keep = scene.house.keep

        async def delete() -> None:
            await keep.remove(track.id)
            assert await settled(scene.house, 60)

        [done] = await scrubber_of(scene, Leaving(keep.stores["one"], delete)).now(["one"])
        assert done.found == 0
        assert (await keep.catalog.read(scrubs.figures))["one"].found == 0


class Frozen(Wrapped):
    """A store that does not give out some objects, such as those in a cold class of storage."""

    def __init__(self, inner: Store, frozen: set[str]) -> None:
        super().__init__(inner)
        self.frozen = frozen

    async def stat(self, locator: str) -> Stat | None:
        if locator in self.frozen:
            raise Unsupported(f"{locator} is frozen")
        return await super().stat(locator)


def scrubber_of(scene: Scene, store: Store) -> Scrubber:
    """Looks at what lies in `one`, which is that store, from outside and without a budget."""
    keep, manners = scene.house.keep, Manners({"one": Mode.PRESENCE}, PERIOD, None)
    return Scrubber(
        keep.catalog, keep.copier, {"one": store}, scene.house.outages, manners, lambda _: 1
    )


async def test_what_cannot_be_read_keeps_no_other_copy_from_being_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of it than a page holds, and the oldest of all."""
    monkeypatch.setattr(scrubbing, "PAGE_COPIES", 2)
    async with opened(tmp_path / "data", 5, scrub="presence") as scene:
        await scene.age("one")
        catalog = scene.house.keep.catalog
        before = await catalog.read(lambda tx: tx.now())
        due = await catalog.read(scrubs.oldest, "one", before, 9, presence=True)
        frozen = {each.copy.key for each in due[:4]}
        lost = scene.data / "one" / due[4].copy.key
        lost.unlink()
        scrubber = scrubber_of(scene, Frozen(scene.house.keep.stores["one"], frozen))
        [done] = await scrubber.now(["one"])
        assert (done.copies, done.found, done.unread, done.out) == (1, 1, 4, False)
        assert await settled(scene.house, 60)

        await scene.age("one")
        lost.unlink()
        working = asyncio.create_task(scrubber.work())
        async with asyncio.timeout(30):
            while (await catalog.read(scrubs.figures))["one"].found < 2:
                await asyncio.sleep(0.02)
        working.cancel()


async def test_who_lost_the_turn_to_another_process_stops(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", 3, scrub="presence") as scene:
        await scene.age("one")
        catalog = scene.house.keep.catalog

        async def another_takes_it() -> None:
            expired = scrubs_table.update().values(turn_until=0)
            await catalog.write(lambda tx: tx.run(expired))
            assert await catalog.write(scrubs.take_turn, "one", "another's", 300.0)

        store = Leaving(scene.house.keep.stores["one"], another_takes_it)
        await scrubber_of(scene, store)._turn("one")
        before = await catalog.read(lambda tx: tx.now()) - PERIOD
        assert len(await catalog.read(scrubs.oldest, "one", before, 9, presence=True)) == 2


async def test_no_day_reads_more_than_its_budget(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", 1) as scene:
        catalog = scene.house.keep.catalog
        assert await catalog.read(scrubs.seconds_to_wait, 86_400.0) == 0
        await catalog.write(scrubs.pay, 1000, 86_400.0)
        await catalog.write(scrubs.pay, 500, 86_400.0)
        wait = await catalog.read(scrubs.seconds_to_wait, 86_400.0)
        assert 1400 < wait <= 1500, "a byte a second"
        assert await catalog.read(scrubs.seconds_to_wait, None) == 0


def test_the_command_says_what_was_wrong_and_what_is_healed(tmp_path: Path) -> None:
    run = program(tmp_path / "data")
    run("add", "-", "--id", "a", given=wav(300_000, 1))
    [file] = (tmp_path / "data/audio/blobs").iterdir()
    flip(file, 5000)
    said = run.json("scrub", "--now", fails=1)
    assert (said["healed"], [find["store"] for find in said["found"]]) == (1, ["disk"])
    assert file.read_bytes() == wav(300_000, 1)
    items = run.json("scrub")["items"]
    assert {one["store"]: (one["found"], one["healed"]) for one in items} == {
        "disk": (1, 1),
        "backup": (0, 0),
    }
