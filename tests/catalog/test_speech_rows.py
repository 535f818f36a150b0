"""Segments as rows: who may have one spoken, and what the others are told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from sqlalchemy import update

from ledgers import make_blob, opened
from soundkeep.catalog import blobs, hits, money, refusals, speaking, speeches
from soundkeep.catalog import segments as segment_rows
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.hits import Count, Heard
from soundkeep.catalog.money import IntentState, Order, Outcome
from soundkeep.catalog.schema import now, segments
from soundkeep.catalog.speaking import Claimed, Held, Noted, Requested
from soundkeep.catalog.speeches import Speech
from soundkeep.errors import LeaseLost, OverBudget
from soundkeep.model import Blob, Money, Segment

LEASE = 60.0
COST = Money.of(Decimal("0.5"), "USD")
BLOB = make_blob(b"a take")


@pytest.fixture
async def catalog(database_url: str) -> AsyncIterator[Catalog]:
    async with opened(database_url) as found:
        yield found


def wish(key: str = "key") -> Requested:
    return Requested(key, '{"form":1}', "fake", "tts-1", "nova", None, "Hello.")


async def want(
    catalog: Catalog, key: str = "key", *, budget: Money | None = None
) -> Segment | Held | Noted | Claimed:
    order = Order(key, "fake", "tts-1", "nova", "anna", 6, COST, budget)
    return await catalog.write(
        speaking.want, wish(key), order, holder="host/1/1", lease_seconds=LEASE
    )


async def claimed(catalog: Catalog, key: str = "key") -> Claimed:
    standing = await want(catalog, key)
    assert isinstance(standing, Claimed)
    return standing


def keep(tx: Tx, mine: Claimed, blob: Blob = BLOB) -> None:
    blobs.ensure(tx, blob)
    outcome = Outcome(IntentState.DONE, COST, characters=6)
    speaking.keep(tx, mine, outcome, digest=blob.digest, timing={"words": []})


async def time_passes(catalog: Catalog) -> None:
    """What the passing of time does to a lease, and to a rest."""
    await catalog.write(lambda tx: tx.run(update(segments).values(due_at=now() - 1)))


async def test_of_many_who_want_it_one_has_it_spoken(catalog: Catalog) -> None:
    standings = await asyncio.gather(*(want(catalog) for _ in range(20)))
    assert sum(isinstance(standing, Claimed) for standing in standings) == 1
    assert sum(isinstance(standing, Held) for standing in standings) == 19
    assert len(await catalog.read(money.of_segment, "key")) == 1


async def test_what_was_spoken_is_found_by_all_its_keys(catalog: Catalog) -> None:
    assert await catalog.read(segment_rows.find, "key") is None
    mine = await claimed(catalog)
    await catalog.write(segment_rows.also_known_as, "key", ["older", "imported"])
    assert await catalog.read(segment_rows.find, "older") is None, "it is not there yet"
    await catalog.write(keep, mine)
    found = await want(catalog)
    assert isinstance(found, Segment)
    assert (found.digest, found.cost, found.timing) == (BLOB.digest, COST, {"words": []})
    for key in ("key", "older", "imported"):
        assert await catalog.read(segment_rows.find, key) == found
    await catalog.write(segment_rows.also_known_as, "another", ["older"])
    assert await catalog.read(segment_rows.find, "older") == found


async def test_who_lost_the_lease_keeps_nothing(catalog: Catalog) -> None:
    late = await claimed(catalog)
    await time_passes(catalog)
    holder = await claimed(catalog)
    with pytest.raises(LeaseLost):
        await catalog.write(keep, late)
    first, second = await catalog.read(money.of_segment, "key")
    assert (first.state, second.state) == (IntentState.UNKNOWN, IntentState.OPEN)
    await catalog.write(keep, holder)
    assert [each.state for each in await catalog.read(money.of_segment, "key")] == [
        IntentState.UNKNOWN,
        IntentState.DONE,
    ]


async def test_times_of_a_take_that_was_withdrawn_are_not_those_of_the_next(
    catalog: Catalog,
) -> None:
    await catalog.write(keep, await claimed(catalog))
    withdrawn = await catalog.read(segment_rows.find, "key")
    assert withdrawn is not None
    await catalog.write(segment_rows.withdraw, "key")
    await catalog.write(keep, await claimed(catalog), make_blob(b"another take"))
    await catalog.write(segment_rows.note_timing, withdrawn, {"words": ["of the first"]})
    found = await catalog.read(segment_rows.find, "key")
    assert found is not None
    assert found.timing == {"words": []}
    await catalog.write(segment_rows.note_timing, found, {"words": ["of the second"]})
    found = await catalog.read(segment_rows.find, "key")
    assert found is not None
    assert found.timing == {"words": ["of the second"]}


async def test_what_is_being_made_into_a_speech_is_withdrawn_after_that(catalog: Catalog) -> None:
    await catalog.write(keep, await claimed(catalog))
    held, withdrawn = threading.Event(), threading.Event()
    order: list[str] = []

    def assemble(tx: Tx) -> None:
        segment_rows.find_all(tx, ["key", "key"], hold=True)
        held.set()
        withdrawn.wait(1)  # in vain, if it is held
        order.append("recorded")

    def withdraw(tx: Tx) -> None:
        held.wait(20)
        segment_rows.withdraw(tx, "key")
        order.append("withdrawn")
        withdrawn.set()

    await asyncio.gather(catalog.write(assemble), catalog.write(withdraw))
    assert order == ["recorded", "withdrawn"]


async def test_over_budget_nothing_is_written_at_all(catalog: Catalog) -> None:
    with pytest.raises(OverBudget):
        await want(catalog, budget=Money(0, "USD"))
    assert await catalog.read(speaking.look, "key") is None
    assert await catalog.read(money.of_segment, "key") == []


async def test_a_fault_that_may_pass_is_told_until_its_rest_is_over(catalog: Catalog) -> None:
    mine = await claimed(catalog)
    fault = Noted("engine_unavailable", "no answer: try later", 0.0)
    await catalog.write(speaking.note_error, mine, fault, retryable=True)
    told = await want(catalog)
    assert isinstance(told, Noted)
    assert (told.code, told.message) == (fault.code, fault.message)
    assert told.seconds > 0
    await time_passes(catalog)
    await claimed(catalog)


async def test_a_fault_that_stays_is_told_to_who_waited_and_not_to_who_comes(
    catalog: Catalog,
) -> None:
    mine = await claimed(catalog)
    fault = Noted("engine_unauthorised", "the key\x00 is wrong", 0.0)
    await catalog.write(speaking.note_error, mine, fault, retryable=False)
    looked = await catalog.read(speaking.look, "key")
    assert looked == Noted("engine_unauthorised", "the key is wrong", 0.0)
    await claimed(catalog)
    assert isinstance(await catalog.read(speaking.look, "key"), Held), "the old fault is forgotten"


async def test_after_two_refused_takes_the_key_rests_for_a_day(catalog: Catalog) -> None:
    fault = Noted("take_refused", "silent", 0.0)
    for number in range(2):
        mine = await claimed(catalog)
        await catalog.write(
            speaking.note_refused,
            mine,
            fault,
            key="key",
            reason="silent",
            host="h",
            file=f"{number}",
        )
    told = await want(catalog)
    assert isinstance(told, Noted)
    assert 86000 < told.seconds <= 86400
    assert [row.file for row in await catalog.read(refusals.of_segment, "key")] == ["0", "1"]
    await time_passes(catalog)
    mine = await claimed(catalog)
    await catalog.write(
        speaking.note_refused, mine, fault, key="key", reason="silent", host="h", file="2"
    )
    await claimed(catalog)


async def test_the_figures_are_the_sums_of_what_was_flushed_and_paid(catalog: Catalog) -> None:
    mine = await claimed(catalog)
    await catalog.write(keep, mine)
    heard = Heard("anna", "fake", "tts-1", "nova", "USD")
    other = Heard("ben", "fake", "tts-1", "echo", "USD")
    first = {heard: Count(3, 1, 3 * COST.billionths, 2, 0.5), other: Count(1, 0, 7, 0, 0.0)}
    await catalog.write(hits.flush, first, {"key": 3}, {"s": 2})
    await catalog.write(hits.flush, {heard: Count(hits=4)}, {"key": 4}, {})
    figures = await catalog.read(hits.figures)
    assert (figures.hits, figures.misses, figures.hit_rate, figures.unknown) == (8, 1, 8 / 9, 0)
    assert figures.spent == (COST,)
    assert figures.saved == (Money(3 * COST.billionths + 7, "USD"),)
    assert [voice.voice for voice in figures.voices] == ["nova", "echo"]
    assert figures.voices[0].first_byte_seconds == 0.25
    assert (await catalog.read(hits.figures, "ben")).hits == 1
    assert (await catalog.read(hits.figures, "nobody")).hit_rate is None


async def test_a_speech_remembers_its_segments_and_its_tracks(catalog: Catalog) -> None:
    said = Speech("s", "mp3", ("one", "two"), None, None, 0)
    assert await catalog.read(speeches.find, "s") is None
    await catalog.write(speeches.record, said)
    assert await catalog.read(speeches.find, "s") == said
    assert await catalog.read(speeches.track_of, "s", "anna", "book") is None
    for track in ("t1", "t2"):
        await catalog.write(speeches.note_track, "s", "anna", "book", track)
    assert await catalog.read(speeches.track_of, "s", "anna", "book") == "t2"
    assert await catalog.read(speeches.track_of, "s", "ben", "book") is None
