"""A store that is out: nothing is claimed for it, no row pays for it, no upload waits for it; and
when it is back, everything that waited is done by itself, carefully at first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from soundkeep import build
from soundkeep.build import ground
from soundkeep.build.house import House
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.database import Tx
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import copies as table
from soundkeep.intake.recording import NewTrack
from soundkeep.keep.uploads import Added
from soundkeep.model import CopyState
from soundkeep.settings import Settings
from soundkeep.settings.house import PolicySettings, WorkerSettings
from soundkeep.settings.stores import LocalStoreSettings, MemoryStoreSettings
from soundkeep.stores import kinds
from soundkeep.stores.interface import Key, Receipt, Source, Store
from soundkeep.stores.memory import MemoryStore
from soundkeep.testing.faulty import Fault, FaultyStore
from soundkeep.worker import Worker
from sounds import wav

CONCURRENCY = 4
TRACKS = 12
BOUND_SECONDS = 20
PROBES = {"read_marker", "probe"}


class FarStore(FaultyStore):
    """One that can fail, also in the middle of a put, and tells how many puts were under way as
    each began."""

    def __init__(self) -> None:
        super().__init__(MemoryStore("far"))
        self.under_way = 0
        self.at_each_put: list[int] = []
        self.dies_in_the_next_put = False

    async def put(self, key: Key, source: Source) -> Receipt:
        self.under_way += 1
        self.at_each_put.append(self.under_way)
        if self.dies_in_the_next_put:
            self.break_with(Fault.unavailable(), verbs=PROBES)
            self.break_with(Fault.stalling(), verbs={"put"})
        try:
            return await super().put(key, source)
        finally:
            self.under_way -= 1


@dataclass(frozen=True)
class Scene:
    """A house that keeps everything far away first, and on the disk."""

    house: House
    far: FarStore

    async def add(self, seed: int) -> Added:
        async def body() -> AsyncIterator[bytes]:
            yield wav(2_000, seed)

        return await self.house.keep.add(body(), NewTrack(path=f"{seed}.wav"))

    async def rows(self) -> list[AnyRow]:
        """The copies in the far store."""

        def found(tx: Tx) -> list[AnyRow]:
            return list(tx.run(select(table).where(table.c.store == "far")))

        return await self.house.keep.catalog.read(found)

    async def is_out(self) -> bool:
        return await self.house.keep.catalog.read(store_rows.is_out, "far")

    async def is_filled(self) -> bool:
        rows = await self.rows()
        return len(rows) == TRACKS and all(row.state == CopyState.PRESENT.value for row in rows)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        worker = Worker(self.house)
        worker.start()
        try:
            yield
        finally:
            await worker.stop(BOUND_SECONDS)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[FarStore]:
    far, make_store = FarStore(), kinds.make_store

    def made(name: str, *arguments: object, **place: object) -> Store:
        return far if name == "far" else make_store(name, *arguments, **place)  # type: ignore[arg-type]

    monkeypatch.setattr(ground, "make_store", made)
    yield far
    far.heal()


@asynccontextmanager
async def opened(far: FarStore, data: Path, *, ack_seconds: float) -> AsyncIterator[Scene]:
    settings = Settings(
        data=data,
        stores={
            "far": MemoryStoreSettings(kind="memory", concurrency=CONCURRENCY, sidecars=False),
            "disk": LocalStoreSettings(kind="local", path=Path("audio")),
        },
        policy=PolicySettings(keep=("far", "disk"), ack_seconds=ack_seconds),
        worker=WorkerSettings(poll_seconds=0.05, probe_seconds=0.1),
    )
    async with build.opened(settings) as house:
        yield Scene(house, far)
        far.heal()


@pytest.fixture
async def scene(far: FarStore, tmp_path: Path) -> AsyncIterator[Scene]:
    async with opened(far, tmp_path, ack_seconds=600) as scene:
        yield scene


@pytest.fixture
async def hasty(far: FarStore, tmp_path: Path) -> AsyncIterator[Scene]:
    """The same, with uploads that wait for a store but for a moment."""
    async with opened(far, tmp_path, ack_seconds=1) as scene:
        yield scene


# --- uploads -------------------------------------------------------------------------------------


async def test_the_upload_that_meets_an_outage_spends_no_attempt_and_opens_the_circuit(
    scene: Scene,
) -> None:
    scene.far.break_with(Fault.unavailable())
    added = await scene.add(1)
    await scene.house.keep.copying()
    [row] = await scene.rows()
    assert (row.attempts, row.last_error, row.lease_token) == (0, None, None)
    assert await scene.is_out()
    view = await scene.house.keep.track(added.track.id)
    assert "disk" in {copy.store for copy in view.copies if copy.state is CopyState.PRESENT}


async def test_an_upload_whose_store_refuses_only_this_is_on_the_retry_curve(scene: Scene) -> None:
    scene.far.break_with(Fault.unavailable(), verbs={"put"})
    await scene.add(1)
    await scene.house.keep.copying()
    [row] = await scene.rows()
    assert (row.attempts, row.lease_token) == (1, None)
    assert row.last_error.startswith("store_unavailable")
    assert not await scene.is_out()


async def test_an_upload_does_not_wait_for_the_probe_of_a_store_that_failed(scene: Scene) -> None:
    scene.far.break_with(Fault.unavailable(), verbs={"put"})
    scene.far.break_with(Fault.stalling(), verbs={"probe"})
    async with asyncio.timeout(BOUND_SECONDS):
        await scene.add(1)
    assert not await scene.is_out(), "the probe still runs"
    scene.far.heal()
    await scene.house.keep.copying()


async def test_a_store_that_is_slow_to_take_an_upload_is_looked_at_before_it_gives_up(
    hasty: Scene,
) -> None:
    hasty.far.dies_in_the_next_put = True
    await hasty.add(1)
    async with asyncio.timeout(BOUND_SECONDS):
        while not await hasty.is_out():
            await asyncio.sleep(0.01)
    assert hasty.far.under_way, "the put still waits for its answer"


async def test_an_upload_asks_nothing_of_a_store_that_is_known_to_be_out(scene: Scene) -> None:
    scene.far.break_with(Fault.unavailable())
    await scene.add(1)
    await scene.house.keep.copying()
    scene.far.calls.clear()
    await scene.add(2)
    assert scene.far.calls == []
    assert [row.attempts for row in await scene.rows()] == [0, 0]


# --- the worker ----------------------------------------------------------------------------------


async def test_while_a_store_is_out_it_is_only_probed_and_no_row_is_claimed_for_it(
    scene: Scene,
) -> None:
    async with scene.working():
        scene.far.break_with(Fault.unavailable())
        for seed in range(TRACKS):
            await scene.add(seed)
        await scene.house.keep.copying()
        assert await scene.is_out()
        scene.far.calls.clear()
        async with asyncio.timeout(BOUND_SECONDS):
            while scene.far.calls.count("read_marker") < 5:
                for row in await scene.rows():
                    assert (row.lease_token, row.attempts, row.last_error) == (None, 0, None)
                await asyncio.sleep(0.01)
        assert set(scene.far.calls) <= PROBES


async def test_a_store_that_is_back_gets_all_it_missed_one_at_a_time_at_first(
    scene: Scene,
) -> None:
    async with scene.working():
        scene.far.break_with(Fault.unavailable())
        for seed in range(TRACKS):
            await scene.add(seed)
        await scene.house.keep.copying()
        assert await scene.is_out()
        scene.far.at_each_put.clear()
        scene.far.heal()
        scene.far.break_with(Fault.slow(0.05), verbs={"put"})
        async with asyncio.timeout(BOUND_SECONDS):
            while not await scene.is_filled():
                await asyncio.sleep(0.01)
    under_way = scene.far.at_each_put
    assert len(under_way) == TRACKS
    assert under_way[:2] == [1, 1], "the second waits for the first to succeed"
    assert all(count <= began for began, count in enumerate(under_way, 1))
    assert max(under_way) == CONCURRENCY
    assert not await scene.is_out()
