"""Look-ups: shared, at most a second old, and forgotten when this process changed something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import ledgers
from soundkeep.catalog import tracks
from soundkeep.catalog.database import Catalog
from soundkeep.reading import lookup as lookups
from soundkeep.reading.lookup import Lookup

BLOB = ledgers.make_blob(b"sound")


class Counting(Catalog):
    """A catalog that counts how often it was asked."""

    asked = 0

    async def read(self, *arguments: Any, **options: Any) -> Any:
        self.asked += 1
        return await super().read(*arguments, **options)


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Counting]:
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    async with ledgers.opened(url) as made:
        await made.write(ledgers.add_track, ledgers.make_track("one", BLOB))
        await made.write(ledgers.add_present, BLOB, "disk")
        catalog = Counting(url)
        try:
            yield catalog
        finally:
            await catalog.close()


async def test_concurrent_askers_share_one_query_and_the_answer_is_kept(catalog: Counting) -> None:
    lookup = Lookup(catalog)
    answers = await asyncio.gather(*(lookup.track("one") for _ in range(20)))
    assert {answer.track.id for answer in answers if answer} == {"one"}
    assert [copy.store for copy in answers[0].copies] == ["disk"] if answers[0] else False
    await lookup.track("one")
    assert catalog.asked == 1


async def test_absence_is_kept_too(catalog: Counting) -> None:
    lookup = Lookup(catalog)
    assert [await lookup.track("none") for _ in range(3)] == [None, None, None]
    assert catalog.asked == 1


@pytest.mark.parametrize("name", ["", ".hidden", "a\x00b", "a/b", "ü", "x" * 129])
async def test_what_can_be_no_id_is_not_asked_for(catalog: Counting, name: str) -> None:
    assert await Lookup(catalog).track(name) is None
    assert catalog.asked == 0


async def test_a_change_of_our_own_is_seen_at_once(catalog: Counting) -> None:
    lookup = Lookup(catalog)
    found = await lookup.track("one")
    assert found is not None
    await catalog.write(tracks.bury, found.track)
    lookup.forget("one")
    assert await lookup.track("one") is None


async def test_an_answer_that_was_under_way_when_it_was_forgotten_is_not_kept(
    catalog: Counting,
) -> None:
    lookup = Lookup(catalog)
    asking = asyncio.create_task(lookup.track("one"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    lookup.forget("one")
    await asking
    assert lookup.cached("one") == (False, None)


async def test_an_answer_lives_no_longer_than_its_age(
    catalog: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MAX_AGE_SECONDS", 0.0)
    lookup = Lookup(catalog)
    await lookup.track("one")
    await lookup.track("one")
    assert catalog.asked == 2


async def test_what_is_known_is_bounded(catalog: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "MAX_ENTRIES", 2)
    lookup = Lookup(catalog)
    for name in ("one", "two", "three"):
        await lookup.track(name)
    assert lookup.cached("one") == (False, None)
    assert lookup.cached("three") == (True, None)


async def test_a_caller_that_leaves_does_not_take_the_answer_with_it(catalog: Counting) -> None:
    lookup = Lookup(catalog)
    leaving, staying = (asyncio.create_task(lookup.track("one")) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying is not None
