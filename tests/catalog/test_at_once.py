"""Several processes that do the same at once: each gets an answer of ours, and one truth stands."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from ledgers import add_track, make_blob, make_track, opened, somebody_waits
from soundkeep.catalog import facts, stores, tracks
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.copies.draining import drain
from soundkeep.copies.placement import DEFAULT_LAYOUT, Layout, Rules, StoreRule
from soundkeep.errors import NoSuchTrack, RevisionChanged, StoreNeeded
from soundkeep.intake import recording
from soundkeep.keep import ledger

ROUNDS = 20
PROCESSES = 4
RULES = Rules(("disk",), (StoreRule("disk", Layout(DEFAULT_LAYOUT)),))
LAST_TWO = ("disk", "backup")
OF_TWO = Rules(LAST_TWO, tuple(StoreRule(name, Layout(DEFAULT_LAYOUT)) for name in LAST_TWO))


@pytest.fixture
async def catalog(database_url: str) -> AsyncIterator[Catalog]:
    async with opened(database_url) as found:
        yield found


async def at_once(call: Callable[[int], Coroutine[Any, Any, Any]]) -> list[Any]:
    """What each got, an error among it."""
    calls = (call(number) for number in range(PROCESSES))
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_a_figure_is_kept_by_many_workers_at_once(catalog: Catalog) -> None:
    for round_ in range(ROUNDS):
        got = await at_once(lambda number, n=round_: catalog.write(facts.write, f"f{n}", number))
        assert got == [None] * PROCESSES
        assert await catalog.read(facts.read, f"f{round_}") in range(PROCESSES)


async def test_a_store_first_seen_by_many_processes_gets_one_id(catalog: Catalog) -> None:
    for round_ in range(ROUNDS):
        got = await at_once(lambda _, n=round_: catalog.write(stores.ensure, f"s{n}", "local"))
        assert got == [got[0]] * PROCESSES
        assert got[0].store_id


async def test_of_the_last_two_private_stores_one_stays_whoever_drains_them(
    catalog: Catalog,
) -> None:
    for name in LAST_TWO:
        await catalog.write(stores.ensure, name, "local")
    for _ in range(ROUNDS):
        got = await at_once(lambda n: catalog.write(drain, LAST_TWO[n % 2], OF_TWO))
        refused = [name for name in LAST_TWO if isinstance(got[LAST_TWO.index(name)], StoreNeeded)]
        assert len(refused) == 1, got
        assert await catalog.read(stores.draining) == set(LAST_TWO) - set(refused)
        for name in LAST_TWO:
            await catalog.write(stores.resume, name)


async def test_a_drain_waits_for_one_that_has_just_begun_elsewhere(postgres_url: str) -> None:
    """Two processes, each with a connection of its own; the first has not committed yet."""
    async with opened(postgres_url) as first, opened(postgres_url) as second:
        for name in LAST_TWO:
            await first.write(stores.ensure, name, "local")
        began, may_end = threading.Event(), threading.Event()

        def drain_slowly(tx: Tx) -> None:
            drain(tx, "disk", OF_TWO)
            began.set()
            assert may_end.wait(20)

        slow = asyncio.create_task(first.write(drain_slowly))
        assert await asyncio.to_thread(began.wait, 20)
        late = asyncio.create_task(second.write(drain, "backup", OF_TWO))
        async with asyncio.timeout(20):
            while not (late.done() or await second.read(somebody_waits)):
                await asyncio.sleep(0.01)
        may_end.set()
        await slow
        with pytest.raises(StoreNeeded, match="without backup"):
            await late
        assert await first.read(stores.draining) == {"disk"}


async def test_a_track_deleted_by_many_at_once_gives_each_the_receipt(catalog: Catalog) -> None:
    for round_ in range(ROUNDS):
        track = make_track(f"t{round_}", make_blob(b"%d" % round_))
        await catalog.write(add_track, track)
        got = await at_once(lambda _, t=track: catalog.write(recording.remove, t.id, RULES))
        assert [receipt.track_id for receipt in got] == [track.id] * PROCESSES


async def test_of_many_changes_of_one_revision_one_is_made(catalog: Catalog) -> None:
    await catalog.write(add_track, make_track("t", make_blob(b"a")))
    for revision in range(1, ROUNDS):
        got = await at_once(
            lambda number, r=revision: catalog.write(
                ledger.change, "t", RULES, f"title {number}", None, None, r
            )
        )
        refused = [error for error in got if error is not None]
        assert [type(error) for error in refused] == [RevisionChanged] * (PROCESSES - 1)
    track = await catalog.read(tracks.find, "t")
    assert track is not None
    assert track.revision == ROUNDS


async def test_a_track_changed_while_it_is_deleted_is_changed_or_gone(catalog: Catalog) -> None:
    for round_ in range(ROUNDS):
        track = make_track(f"t{round_}", make_blob(b"%d" % round_))
        await catalog.write(add_track, track)
        _, changed = await asyncio.gather(
            catalog.write(recording.remove, track.id, RULES),
            catalog.write(ledger.change, track.id, RULES, "new", None, None, None),
            return_exceptions=True,
        )
        assert changed is None or isinstance(changed, NoSuchTrack)
        assert await catalog.read(tracks.find, track.id) is None
