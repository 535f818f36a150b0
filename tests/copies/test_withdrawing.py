"""A public copy goes while the world still reads it, and while its store is down: never reported
gone before it is, and nobody who listens to us hears a gap."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from copies.bench import Bench, opened
from reading.stage import noise
from soundkeep.answers import Removal, Standing, Synced
from soundkeep.catalog import copies, copy_work, tracks
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.database import Tx
from soundkeep.catalog.schema import copies as table
from soundkeep.catalog.schema import now
from soundkeep.copies import syncing
from soundkeep.copies.fronts import Fronts
from soundkeep.copies.placement import DEFAULT_LAYOUT, Layout, Rules, StoreRule
from soundkeep.copies.syncing import Order
from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import Unavailable
from soundkeep.intake import recording
from soundkeep.model import Asked, Chore, CopyState, Operation, Track, Visibility
from soundkeep.testing.faulty import Fault

CONTENT = noise(5 * CHUNK_BYTES + 17)
PLAIN = Layout(DEFAULT_LAYOUT)
RULES = Rules(
    ("two",),
    (
        StoreRule("one", PLAIN, public=True),
        *(StoreRule(name, PLAIN) for name in ("two", "disk", "backup")),
    ),
)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path, RULES) as bench:
        yield bench


async def make_private(bench: Bench, track: Track) -> None:
    await change(bench, track, RULES, Visibility.PRIVATE)


async def change(bench: Bench, track: Track, rules: Rules, visibility: Visibility) -> Track:
    def changed(tx: Tx) -> Track:
        found = tracks.find(tx, track.id)
        assert found is not None
        return recording.change(tx, found, rules, title="t", visibility=visibility, metadata={})

    return await bench.stage.catalog.write(changed)


async def look(bench: Bench, track: Track) -> Synced:
    order = Order(Operation.DELETE, syncing.stores_named(RULES, "one"))
    [line] = await bench.stage.catalog.read(syncing.look, [track.id], order, RULES, Fronts(()))
    return line


async def outcome(bench: Bench, track: Track) -> tuple[Removal, float | None]:
    receipt = await bench.stage.catalog.read(tracks.receipt, track.id)
    assert receipt is not None
    [line] = receipt.lines
    return line.outcome, line.confirmed_at


async def lies_in_one(bench: Bench, track: Track) -> bool:
    return await bench.stage.stores["one"].inner.stat(str(bench.stage.key(track.blob))) is not None


async def test_a_track_made_private_while_it_is_read_and_its_store_is_down(bench: Bench) -> None:
    """The store goes down after the law let its copy go: the row waits, and says so."""
    track = await bench.stage.add(CONTENT, "one", "two", public=True)
    public = bench.stage.stores["one"]
    heard = bytearray()
    async with aclosing(bench.reader.open(track.blob)) as pieces:
        heard += await anext(pieces)
        assert "open" in public.calls, "it is the public copy that is read"
        await make_private(bench, track)
        assert await bench.work(Chore.LEAVE, "one")
        public.break_with(Fault.unavailable())
        assert not await bench.work(Chore.DROP, "one")

        assert await lies_in_one(bench, track)
        line = await look(bench, track)
        assert (line.state, line.due) == (CopyState.UNWANTED, (Chore.DROP,))
        assert (line.why or "").startswith("one is out: store_unavailable")
        assert await outcome(bench, track) == (Removal.PENDING, None)
        async for piece in pieces:
            heard += piece
    assert heard == CONTENT

    public.heal()
    await bench.stage.catalog.write(store_rows.close_circuit, "one")
    assert await bench.work(Chore.DROP, "one")
    assert not await lies_in_one(bench, track)
    line = await look(bench, track)
    assert (line.state, line.due) == (Standing.GONE, ())
    assert await outcome(bench, track) == (Removal.REMOVED, line.since)
    assert await bench.bytes_in("two", track.blob) == CONTENT


async def test_nothing_of_it_is_claimed_while_the_store_is_known_to_be_down(bench: Bench) -> None:
    track = await bench.stage.add(CONTENT, "one", "two", public=True)
    await bench.stage.catalog.write(store_rows.open_circuit, "one", Unavailable("no"), 60.0)
    await make_private(bench, track)
    claimed = await bench.stage.catalog.write(
        copy_work.claim, Chore.LEAVE, "one", holder="host/1/1", limit=2, lease_seconds=60
    )
    assert claimed == []
    line = await look(bench, track)
    assert (line.state, line.due) == (CopyState.PRESENT, (Chore.LEAVE, Chore.DROP))
    assert await outcome(bench, track) == (Removal.PENDING, None)


async def test_the_public_copy_waits_for_the_private_one_that_the_law_needs(bench: Bench) -> None:
    """It was only in the public store: the private copy is made from it, and then it goes."""
    track = await bench.stage.add(CONTENT, "one", public=True)
    await make_private(bench, track)
    assert not await bench.work(Chore.LEAVE, "one")
    line = await look(bench, track)
    assert line.due == (Chore.LEAVE, Chore.DROP)
    assert "not_enough_copies" in (line.why or "")

    assert await bench.work(Chore.COPY, "two")
    assert await bench.work_again(Chore.LEAVE, "one")
    assert await bench.work(Chore.DROP, "one")
    assert not await lies_in_one(bench, track)
    assert await bench.bytes_in("two", track.blob) == CONTENT
    assert (await look(bench, track)).state is Standing.GONE


async def test_a_track_withdrawn_from_every_private_store_belongs_there_when_it_is_private(
    bench: Bench,
) -> None:
    """As after a migration to a public store: else no law would ever let it leave that one."""
    track = await bench.stage.add(CONTENT, "one", public=True)
    order = Order(Operation.DELETE, syncing.stores_named(RULES, "two"))
    await bench.stage.catalog.write(syncing.ask, track.id, order, RULES)
    withdrawn = await bench.stage.catalog.read(tracks.find, track.id)
    assert withdrawn is not None
    await make_private(bench, withdrawn)
    assert await bench.work(Chore.COPY, "two")
    assert await bench.work(Chore.LEAVE, "one")
    assert await bench.work(Chore.DROP, "one")
    assert not await lies_in_one(bench, track)
    assert await bench.bytes_in("two", track.blob) == CONTENT


async def test_what_was_withdrawn_stays_out_where_enough_other_stores_are_left(
    bench: Bench,
) -> None:
    rules = replace(RULES, keep=("two", "disk"))
    track = await bench.stage.add(CONTENT, "one", "disk", public=True)
    order = Order(Operation.DELETE, syncing.stores_named(rules, "two"))
    for least, asked in ((1, {"two": Asked.WITHDRAWN}), (2, {})):
        await bench.stage.catalog.write(syncing.ask, track.id, order, rules)
        given = replace(rules, min_copies=least)
        found = await change(bench, track, given, Visibility.PRIVATE)
        assert found.asked == asked
        await change(bench, track, given, Visibility.PUBLIC)


async def test_a_store_that_is_back_is_rid_at_once_of_what_had_failed_to_go(bench: Bench) -> None:
    """Its row had come to rest for an hour on the retry curve before the circuit opened."""
    track = await bench.stage.add(CONTENT, "one", "two", public=True)
    await make_private(bench, track)
    assert await bench.work(Chore.LEAVE, "one")
    row = table.update().where(table.c.store == "one")
    await bench.stage.catalog.write(lambda tx: tx.run(row.values(due_at=now() + 3600, attempts=9)))
    assert await bench.stage.catalog.write(copies.due_now, store="one") == 1
    assert await bench.work(Chore.DROP, "one")
    assert (await look(bench, track)).state is Standing.GONE
