"""A migration that cannot go on ends cleanly, and does not grow with what has to wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from copies.bench import RULES, Bench, opened
from reading.stage import noise
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copy_work import Claimed
from soundkeep.copies import migrating
from soundkeep.copies.migrating import CarryOut, Migrator, Move
from soundkeep.errors import CatalogUnavailable, Unavailable
from soundkeep.stores.interface import Store

COUNT = 12
MOVE = Move("disk", "backup")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path) as bench:
        for number in range(COUNT):
            await bench.stage.add(noise(100, number), "disk", name=f"t{number:02}")
        yield bench


def migrator(bench: Bench, carry_out: CarryOut) -> Migrator:
    return Migrator(
        bench.stage.catalog,
        bench.stage.stores,
        RULES,
        carry_out=carry_out,
        concurrency=lambda _: 1,
        holder="host/1/1",
        lease_seconds=60.0,
    )


async def test_the_first_fault_of_ours_ends_all_and_nothing_runs_on(bench: Bench) -> None:
    began: list[int] = []

    async def carry_out(store: Store, claimed: Claimed) -> bool:
        began.append(claimed.copy.id)
        if len(began) > 1:
            await asyncio.Event().wait()  # for ever
        raise CatalogUnavailable("it is gone")

    before = asyncio.all_tasks()
    with pytest.raises(CatalogUnavailable):
        async with asyncio.timeout(30):
            await migrator(bench, carry_out).run(MOVE)
    assert asyncio.all_tasks() == before
    assert len(began) < COUNT


async def test_who_interrupts_it_leaves_nothing_running(bench: Bench) -> None:
    under_way = asyncio.Event()

    async def carry_out(store: Store, claimed: Claimed) -> bool:
        under_way.set()
        await asyncio.Event().wait()
        return True

    before = asyncio.all_tasks()
    run = asyncio.create_task(migrator(bench, carry_out).run(MOVE))
    await asyncio.wait_for(under_way.wait(), 30)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert asyncio.all_tasks() == before


async def test_of_what_has_to_wait_only_so_much_is_remembered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the new store is out, and a million tracks are to go there."""

    async def carry_out(store: Store, claimed: Claimed) -> bool:
        raise AssertionError("nothing is copied to a store that is out")

    monkeypatch.setattr(migrating, "MOST_LATER", 3)
    monkeypatch.setattr(migrating, "OTHERS_SECONDS", 0.3)
    out = Unavailable("no")
    await bench.stage.catalog.write(store_rows.open_circuit, "backup", out, 60.0)
    moved = await migrator(bench, carry_out).run(MOVE)
    assert (moved.tracks, moved.waiting, moved.complete) == (COUNT, COUNT, False)
