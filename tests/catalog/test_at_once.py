"""Several processes that do the same at once: each gets an answer of ours, and one truth stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from ledgers import add_track, make_blob, make_track, opened
from soundkeep.catalog import facts, stores, tracks
from soundkeep.catalog.database import Catalog
from soundkeep.copies.placement import DEFAULT_LAYOUT, Layout, Rules, StoreRule
from soundkeep.errors import NoSuchTrack, RevisionChanged
from soundkeep.intake import recording
from soundkeep.keep import ledger

ROUNDS = 20
PROCESSES = 4
RULES = Rules(("disk",), (StoreRule("disk", Layout(DEFAULT_LAYOUT)),))


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
