"""A copy leaves when the law allows it, and is gone when its store says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import ledgers
from copies.bench import DAY, INBOX, MANNERS, RULES, Bench, opened
from reading.stage import noise, until
from soundkeep.answers import Removal
from soundkeep.catalog import copies, tracks
from soundkeep.catalog.database import Tx
from soundkeep.catalog.schema import now
from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import NotEnoughCopies
from soundkeep.intake import recording
from soundkeep.model import Blob, Chore, CopyState, Wish
from soundkeep.stores.memory import MemoryStore
from soundkeep.testing.faulty import Fault
from soundkeep.testing.sources import BytesSource

CONTENT = noise(CHUNK_BYTES + 17)
LINGER, SWEEP = MANNERS.linger_seconds, MANNERS.sweep_seconds


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path) as bench:
        yield bench


async def leaving(bench: Bench, store: str, *others: str) -> Blob:
    """A blob whose copy in `store` is asked to leave, and that others have too."""
    track = await bench.stage.add(CONTENT, store, *others)
    copy = await bench.copy(track.blob, store)
    await bench.stage.catalog.write(copies.wish, copy, Wish.LEAVE)
    return track.blob


async def nameless(bench: Bench, *stores: str) -> Blob:
    """A blob whose only track was deleted: its copies are to be dropped."""
    track = await bench.stage.add(CONTENT, *stores)
    await bench.stage.catalog.write(recording.remove, track.id, RULES)
    return track.blob


async def lies_in(bench: Bench, store: str, blob: Blob) -> bool:
    return await bench.stage.stores[store].inner.stat(str(bench.stage.key(blob))) is not None


# --- asking the law ------------------------------------------------------------------------------


async def test_a_copy_that_others_make_good_for_is_let_go_and_then_removed(bench: Bench) -> None:
    blob = await leaving(bench, "one", "backup")
    assert await bench.work(Chore.LEAVE, "one")
    assert await lies_in(bench, "one", blob), "letting go removes nothing yet"
    assert await bench.work(Chore.DROP, "one")
    assert not await lies_in(bench, "one", blob)
    # Forgetting it runs placement again: `disk` is of `keep` and has no copy.
    assert await bench.stage.states(blob) == {
        "backup": CopyState.PRESENT,
        "disk": CopyState.WANTED,
    }


async def test_the_only_copy_stays_however_often_it_asks(bench: Bench) -> None:
    blob = await leaving(bench, "one")
    for attempt in range(1, 4):
        assert not await bench.work(Chore.LEAVE, "one")
        copy = await bench.copy(blob, "one")
        assert (copy.state, copy.attempts) == (CopyState.PRESENT, attempt)
        assert "not_enough_copies" in (copy.last_error or "")
        await bench.change(blob, "one", due_at=now())


async def test_an_old_proof_is_renewed_by_reading_the_other_copy_whole(bench: Bench) -> None:
    blob = await leaving(bench, "one", "backup")
    await bench.change(blob, "backup", verified_at=now() - DAY - 1)
    reads = bench.stage.stores["backup"].calls.count("open")
    assert await bench.work(Chore.LEAVE, "one")
    assert bench.stage.stores["backup"].calls.count("open") == reads + 1
    assert (await bench.copy(blob, "one")).state is CopyState.UNWANTED


async def test_a_proof_that_is_fresh_enough_asks_nobody(bench: Bench) -> None:
    blob = await leaving(bench, "one", "backup")
    await bench.change(blob, "backup", verified_at=now() - DAY + 60)
    bench.stage.stores["backup"].break_with(Fault.unavailable())
    assert await bench.work(Chore.LEAVE, "one")
    assert (await bench.copy(blob, "one")).state is CopyState.UNWANTED


async def test_no_more_copies_are_read_than_the_law_asks_for(bench: Bench) -> None:
    blob = await leaving(bench, "one", "two", "backup", "disk")
    for store in ("two", "backup", "disk"):
        await bench.change(blob, store, verified_at=1000.0)
    before = sum(store.calls.count("open") for store in bench.stage.stores.values())
    assert await bench.work(Chore.LEAVE, "one")
    after = sum(store.calls.count("open") for store in bench.stage.stores.values())
    assert after == before + 1


async def test_another_copy_that_turns_out_bad_is_doubted_and_lets_nothing_go(
    bench: Bench,
) -> None:
    blob = await leaving(bench, "one", "backup")
    await bench.change(blob, "backup", verified_at=1000.0)
    bench.stage.stores["backup"].break_with(Fault.corrupting(at=9), verbs={"open"})
    assert not await bench.work(Chore.LEAVE, "one")
    assert await bench.stage.states(blob) == {
        "one": CopyState.PRESENT,
        "backup": CopyState.DOUBTED,
    }


async def test_another_copy_that_cannot_be_asked_proves_nothing_and_is_not_doubted(
    bench: Bench,
) -> None:
    blob = await leaving(bench, "one", "backup")
    await bench.change(blob, "backup", verified_at=1000.0)
    bench.stage.stores["backup"].break_with(Fault.unavailable())
    assert not await bench.work(Chore.LEAVE, "one")
    assert set((await bench.stage.states(blob)).values()) == {CopyState.PRESENT}


# --- removing ------------------------------------------------------------------------------------


class Clinging(MemoryStore):
    """Says that it deleted, and did not."""

    async def delete(self, locator: str) -> None:
        """Nothing."""


async def test_a_removal_counts_only_when_the_store_shows_nothing_any_more(bench: Bench) -> None:
    store = bench.stage.stores["one"]
    good, store.inner = store.inner, Clinging("one")
    await store.write_marker(await marker_of(good))
    blob = await nameless(bench, "one")
    assert not await bench.work(Chore.DROP, "one")
    copy = await bench.copy(blob, "one")
    assert copy.state is CopyState.UNWANTED
    assert "still shows" in (copy.last_error or "")
    assert not await complete(bench)

    store.inner = good
    assert await bench.work_again(Chore.DROP, "one")
    assert await bench.stage.states(blob) == {}
    assert await complete(bench)


async def marker_of(store: object) -> str:
    assert isinstance(store, MemoryStore)
    marker = await store.read_marker()
    assert marker is not None
    return marker


async def complete(bench: Bench) -> bool:
    receipt = await bench.stage.catalog.read(tracks.receipt, "sound")
    assert receipt is not None
    return receipt.complete


@pytest.mark.parametrize("store", ["disk", "backup", "one"])
@pytest.mark.parametrize(
    ("verb", "fault"),
    [
        ("delete", Fault.unavailable()),
        ("delete", Fault.lost_answers()),
        ("stat", Fault.unavailable()),
        ("stat", Fault.lost_answers()),
    ],
    ids=["delete refused", "delete done, answer lost", "stat refused", "stat's answer lost"],
)
async def test_a_removal_that_nobody_confirmed_is_tried_again(
    bench: Bench, store: str, verb: str, fault: Fault
) -> None:
    blob = await nameless(bench, store)
    bench.stage.stores[store].break_with(fault, verbs={verb}, times=1)
    assert not await bench.work(Chore.DROP, store)
    assert (await bench.copy(blob, store)).state is CopyState.UNWANTED
    assert not await complete(bench)
    assert await bench.work_again(Chore.DROP, store)
    assert not await lies_in(bench, store, blob)
    assert await bench.stage.states(blob) == {}
    receipt = await bench.stage.catalog.read(tracks.receipt, "sound")
    assert receipt is not None
    assert [(line.store, line.outcome) for line in receipt.lines] == [(store, Removal.REMOVED)]


async def test_a_delete_that_came_too_late_casts_doubt_on_what_it_may_have_hit(
    bench: Bench,
) -> None:
    """The first worker's delete hangs past its lease. Meanwhile the bytes are deleted by another,
    wanted again by a new track, copied there anew and proven; and then the delete arrives."""
    blob = await nameless(bench, "disk")
    disk = bench.stage.stores["disk"]
    late = await bench.claim(Chore.DROP, "disk", lease_seconds=0)
    disk.break_with(Fault.stalling(), verbs={"delete"}, times=1)
    deleting = asyncio.create_task(bench.carry_out(Chore.DROP, "disk", late))
    await until(lambda: "delete" in disk.calls)

    await bench.stage.stores["two"].put(bench.stage.key(blob), BytesSource(CONTENT))
    await bench.stage.catalog.write(named_again, blob)
    assert await bench.work(Chore.DROP, "disk")
    assert await bench.work(Chore.COPY, "disk")
    assert (await bench.copy(blob, "disk")).state is CopyState.PRESENT
    assert bench.stage.file(blob).read_bytes() == CONTENT

    disk.heal()
    assert not await deleting
    assert not bench.stage.file(blob).exists(), "it hit what it should not have"
    assert (await bench.copy(blob, "disk")).state is CopyState.DOUBTED
    assert await bench.work(Chore.VERIFY, "disk")
    assert bench.stage.file(blob).read_bytes() == CONTENT
    assert (await bench.copy(blob, "disk")).state is CopyState.PRESENT


def named_again(tx: Tx, blob: Blob) -> None:
    ledgers.add_track(tx, ledgers.make_track("again", blob))
    ledgers.add_present(tx, blob, "two")


# --- the inbox -----------------------------------------------------------------------------------


async def landed(bench: Bench, *stores: str) -> Blob:
    """A blob in the inbox, whose copy there asks to leave; present in these stores, if any."""
    track = await bench.stage.add(CONTENT, *stores, INBOX)
    await bench.change(track.blob, INBOX, wish=Wish.LEAVE, chore=Chore.LEAVE)
    return track.blob


async def present_since(bench: Bench, blob: Blob, store: str, seconds_ago: float) -> None:
    await bench.change(blob, store, since=now() - seconds_ago)


async def asks_again_in(bench: Bench, blob: Blob) -> float:
    due_at = (await bench.copy(blob, INBOX)).due_at
    clock = await bench.stage.catalog.read(Tx.now)
    assert due_at is not None
    return due_at - clock


async def test_an_inbox_copy_goes_once_every_placed_copy_was_present_long_enough(
    bench: Bench,
) -> None:
    blob = await landed(bench, "disk", "backup")
    await present_since(bench, blob, "disk", 5 * LINGER)
    await present_since(bench, blob, "backup", LINGER + 1)
    assert await bench.work(Chore.LEAVE, INBOX)
    assert (await bench.copy(blob, INBOX)).state is CopyState.UNWANTED
    assert await bench.work(Chore.DROP, INBOX)
    assert await bench.stage.states(blob) == {
        "disk": CopyState.PRESENT,
        "backup": CopyState.PRESENT,
    }


async def test_the_time_runs_from_the_last_placed_copy_that_became_present(bench: Bench) -> None:
    blob = await landed(bench, "disk", "backup")
    await present_since(bench, blob, "disk", 5 * LINGER)
    await present_since(bench, blob, "backup", 600)
    assert await bench.work(Chore.LEAVE, INBOX)
    assert (await bench.copy(blob, INBOX)).state is CopyState.PRESENT
    copied = await bench.copy(blob, "backup")
    assert (await bench.copy(blob, INBOX)).due_at == pytest.approx(copied.since + LINGER)


@pytest.mark.parametrize("missing", [CopyState.WANTED, CopyState.DOUBTED])
async def test_an_inbox_copy_stays_while_a_placed_copy_is_missing(
    bench: Bench, missing: CopyState
) -> None:
    blob = await landed(bench, "disk", "backup")
    for store in ("disk", "backup"):
        await present_since(bench, blob, store, 5 * LINGER)
    await bench.change(blob, "backup", state=missing)
    for _ in range(3):
        await bench.change(blob, INBOX, due_at=now())
        assert await bench.work(Chore.LEAVE, INBOX)
        copy = await bench.copy(blob, INBOX)
        assert (copy.state, copy.last_error) == (CopyState.PRESENT, None), "it is only too early"
        assert 0 < await asks_again_in(bench, blob) <= SWEEP


async def test_a_repaired_copy_starts_the_time_anew(bench: Bench) -> None:
    blob = await landed(bench, "disk", "backup")
    for store in ("disk", "backup"):
        await present_since(bench, blob, store, 5 * LINGER)
    await bench.stage.set_state(blob, "disk", CopyState.DOUBTED)
    assert await bench.work(Chore.VERIFY, "disk")
    assert await bench.work(Chore.LEAVE, INBOX)
    assert (await bench.copy(blob, INBOX)).state is CopyState.PRESENT
    assert LINGER - 60 < await asks_again_in(bench, blob) <= LINGER


async def test_an_inbox_copy_that_is_all_there_is_never_goes(bench: Bench) -> None:
    blob = await landed(bench)
    await present_since(bench, blob, INBOX, 1000 * LINGER)
    for _ in range(3):
        await bench.change(blob, INBOX, due_at=now())
        assert await bench.work(Chore.LEAVE, INBOX)
        assert (await bench.copy(blob, INBOX)).state is CopyState.PRESENT


async def test_the_law_is_asked_of_an_inbox_copy_too(bench: Bench) -> None:
    blob = await landed(bench, "disk", "backup")
    for store in ("disk", "backup"):
        await bench.change(blob, store, since=1000.0, verified_at=1000.0)
        bench.stage.stores[store].break_with(Fault.unavailable())
    claimed = await bench.claim(Chore.LEAVE, INBOX)
    with pytest.raises(NotEnoughCopies):
        await bench.dropper.leave(bench.stage.stores[INBOX], claimed)
    assert (await bench.copy(blob, INBOX)).state is CopyState.PRESENT


async def test_an_inbox_copy_of_what_nothing_names_need_not_wait(bench: Bench) -> None:
    blob = await landed(bench)

    def forget(tx: Tx) -> None:
        track = tracks.find(tx, "sound")
        assert track is not None
        tracks.bury(tx, track)

    await bench.stage.catalog.write(forget)
    assert await bench.work(Chore.LEAVE, INBOX)
    assert (await bench.copy(blob, INBOX)).state is CopyState.UNWANTED
    assert await bench.work(Chore.DROP, INBOX)
    assert not await lies_in(bench, INBOX, blob)
