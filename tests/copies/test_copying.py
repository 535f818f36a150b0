"""A copy counts when it was proven, and only then: against stores that lie, lose and break."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import ledgers
from copies.bench import Bench, opened
from reading.stage import SIZES, flip, noise
from soundkeep.catalog import copy_work
from soundkeep.catalog.copy_work import Claimed
from soundkeep.catalog.schema import now
from soundkeep.copies.copying import Copier
from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import LeaseLost, Unavailable
from soundkeep.model import Blob, Chore, CopyState
from soundkeep.stores.interface import Key, Receipt, Source
from soundkeep.stores.memory import MemoryStore
from soundkeep.testing.faulty import Fault
from soundkeep.testing.sources import BytesSource

CONTENT = noise(3 * CHUNK_BYTES + 17)
KINDS = ("disk", "backup", "one")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path) as bench:
        yield bench


async def wanted(bench: Bench, *stores: str, content: bytes = CONTENT) -> Blob:
    """A blob that is present in `two` and wanted in these stores."""
    track = await bench.stage.add(content, "two")
    await bench.stage.catalog.write(ledgers.want, track.blob, *stores)
    return track.blob


async def doubted(bench: Bench, store: str, *others: str) -> Blob:
    """A blob that is present in several stores, and doubted in the first."""
    track = await bench.stage.add(CONTENT, store, *others)
    await bench.stage.set_state(track.blob, store, CopyState.DOUBTED)
    return track.blob


def bent(*places: int) -> bytes:
    """The content with some bytes changed."""
    spoiled = bytearray(CONTENT)
    for at in places:
        spoiled[at] ^= 0xFF
    return bytes(spoiled)


async def spoil(bench: Bench, store: str, blob: Blob, *places: int) -> None:
    """Puts other bytes of the same length in the place of a copy."""
    await bench.stage.stores[store].inner.put(bench.stage.key(blob), BytesSource(bent(*places)))


# --- what is said of it --------------------------------------------------------------------------


class Noting(MemoryStore):
    """Remembers what it was told of each object."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.told: list[tuple[str, int | None]] = []

    async def put(self, key: Key, source: Source) -> Receipt:
        self.told.append((source.media_type, source.cache_seconds))
        return await super().put(key, source)


@pytest.mark.parametrize(("cached", "told"), [({"one": 600}, 600), ({"disk": 600}, None)])
async def test_a_public_store_is_told_the_media_type_and_how_long_caches_may_keep_it(
    bench: Bench, cached: dict[str, int], told: int | None
) -> None:
    blob = await wanted(bench, "one")
    noting = bench.stage.stores["one"].inner = Noting("one")
    copier = Copier(bench.stage.catalog, bench.reader, cached)
    store = bench.stage.stores["one"]
    await copier.copy(store, await bench.claim(Chore.COPY, "one"))
    await copier.copy_landed(store, await lost(bench, blob), blob, None)
    assert noting.told == [("audio/mpeg", told)] * 2


async def lost(bench: Bench, blob: Blob) -> Claimed:
    """The same copy, wanted and leased once more."""
    await bench.change(blob, "one", state="wanted", chore="copy")
    return await bench.claim(Chore.COPY, "one")


# --- a wanted copy -------------------------------------------------------------------------------


@pytest.mark.parametrize("store", KINDS)
@pytest.mark.parametrize("size", SIZES)
async def test_a_wanted_copy_is_made_byte_for_byte_and_proven(
    bench: Bench, store: str, size: int
) -> None:
    content = noise(size, seed=size)
    blob = await wanted(bench, store, content=content)
    assert await bench.work(Chore.COPY, store)
    copy = await bench.copy(blob, store)
    assert (copy.state, copy.verified, copy.last_error) == (CopyState.PRESENT, "read back", None)
    assert copy.verified_at is not None
    assert await bench.bytes_in(store, blob) == content


@pytest.mark.parametrize("store", KINDS)
async def test_a_put_that_was_done_but_answered_with_an_error_ends_with_a_present_copy(
    bench: Bench, store: str
) -> None:
    blob = await wanted(bench, store)
    bench.stage.stores[store].break_with(Fault.lost_answers(), verbs={"put"}, times=1)
    assert not await bench.work(Chore.COPY, store)
    copy = await bench.copy(blob, store)
    assert copy.state is CopyState.WANTED, "what was not answered is not believed"
    assert (copy.last_error or "").startswith(Unavailable.code)
    assert await bench.bytes_in(store, blob) == CONTENT

    assert await bench.work_again(Chore.COPY, store)
    copy = await bench.copy(blob, store)
    assert (copy.state, copy.last_error) == (CopyState.PRESENT, None)
    assert await bench.bytes_in(store, blob) == CONTENT


LIES = {
    "it changes a byte on the way in": ("put", Fault.corrupting(at=CHUNK_BYTES + 3)),
    "it changes the first byte on the way in": ("put", Fault.corrupting(at=0)),
    "it changes the last byte on the way in": ("put", Fault.corrupting(at=len(CONTENT) - 1)),
    "it changes a byte on the way out": ("open", Fault.corrupting(at=5)),
    "it breaks off": ("open", Fault.truncating(at=2 * CHUNK_BYTES + 1)),
    "it breaks off before the last byte": ("open", Fault.truncating(at=len(CONTENT) - 1)),
    "it ends early and says nothing": ("open", Fault.wrong_length(-1)),
    "it ends a whole chunk early": ("open", Fault.wrong_length(-17)),
    "it gives more than there is": ("open", Fault.wrong_length(1)),
    "it does not let itself be read": ("open", Fault.unavailable()),
}


@pytest.mark.parametrize("store", KINDS)
@pytest.mark.parametrize("lie", LIES)
async def test_what_does_not_come_back_whole_is_never_present(
    bench: Bench, store: str, lie: str
) -> None:
    blob = await wanted(bench, store)
    verb, fault = LIES[lie]
    bench.stage.stores[store].break_with(fault, verbs={verb})
    for attempt in range(1, 4):
        assert not await bench.work_again(Chore.COPY, store)
        copy = await bench.copy(blob, store)
        assert (copy.state, copy.attempts) == (CopyState.WANTED, attempt)
        assert copy.last_error

    bench.stage.stores[store].heal()
    assert await bench.work_again(Chore.COPY, store)
    assert (await bench.copy(blob, store)).state is CopyState.PRESENT
    assert await bench.bytes_in(store, blob) == CONTENT


async def test_an_outage_costs_the_row_no_attempt_and_opens_the_circuit(bench: Bench) -> None:
    blob = await wanted(bench, "one")
    bench.stage.stores["one"].break_with(Fault.unavailable())
    assert not await bench.work(Chore.COPY, "one")
    copy = await bench.copy(blob, "one")
    assert (copy.state, copy.attempts, copy.last_error) == (CopyState.WANTED, 0, None)
    assert (
        await bench.stage.catalog.write(
            copy_work.claim, Chore.COPY, "one", holder="h/1/1", limit=1, lease_seconds=60
        )
        == []
    )


async def test_who_lost_the_lease_under_a_put_does_not_mark_it_present(bench: Bench) -> None:
    """Nor does who held it meanwhile: its proof may be older than the late bytes."""
    blob = await wanted(bench, "one")
    sleeper = await bench.claim(Chore.COPY, "one", lease_seconds=0)
    awake = await bench.claim(Chore.COPY, "one")
    with pytest.raises(LeaseLost):
        await bench.copier.copy(bench.stage.stores["one"], sleeper)
    assert (await bench.copy(blob, "one")).state is CopyState.WANTED
    with pytest.raises(LeaseLost):
        await bench.copier.copy(bench.stage.stores["one"], awake)
    await bench.change(blob, "one", due_at=now())  # when that lease would have run out
    assert await bench.work(Chore.COPY, "one")
    assert (await bench.copy(blob, "one")).state is CopyState.PRESENT


async def test_a_blob_that_is_good_nowhere_is_not_copied_and_says_so(bench: Bench) -> None:
    blob = await wanted(bench, "disk")
    await spoil(bench, "two", blob, CHUNK_BYTES + 1)
    assert not await bench.work(Chore.COPY, "disk")
    copy = await bench.copy(blob, "disk")
    assert copy.state is CopyState.WANTED
    assert "unplayable" in (copy.last_error or "")
    assert await bench.stage.stores["disk"].stat(str(bench.stage.key(blob))) is None

    await bench.stage.stores["two"].put(bench.stage.key(blob), BytesSource(CONTENT))
    assert await bench.work_again(Chore.COPY, "disk")
    assert await bench.bytes_in("disk", blob) == CONTENT


async def test_a_failed_fsync_fails_the_put_and_the_next_writes_another_file(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = await wanted(bench, "disk")
    synced: list[int] = []
    held: list[int] = []
    fsync = os.fsync

    def failing_once(number: int) -> None:
        found = os.fstat(number)
        if found.st_size == len(CONTENT):
            synced.append(found.st_ino)
            if len(synced) == 1:
                held.append(os.dup(number))  # or the next file might get the same inode
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(number)

    monkeypatch.setattr(os, "fsync", failing_once)
    assert not await bench.work(Chore.COPY, "disk")
    assert (await bench.copy(blob, "disk")).state is CopyState.WANTED
    assert len(synced) == 1, "not tried again on the same file"
    assert not bench.stage.file(blob).exists()

    assert await bench.work_again(Chore.COPY, "disk")
    assert len(set(synced)) == 2
    assert bench.stage.file(blob).read_bytes() == CONTENT
    assert bench.stage.file(blob).stat().st_ino == synced[1]
    os.close(held[0])


# --- a doubted copy ------------------------------------------------------------------------------


async def test_a_doubted_copy_that_is_whole_is_present_again_without_being_written(
    bench: Bench,
) -> None:
    blob = await doubted(bench, "disk", "backup")
    before = bench.stage.stores["disk"].calls.count("put")
    assert await bench.work(Chore.VERIFY, "disk")
    assert (await bench.copy(blob, "disk")).state is CopyState.PRESENT
    assert bench.stage.stores["disk"].calls.count("put") == before


@pytest.mark.parametrize("store", KINDS)
@pytest.mark.parametrize("damage", ["changed", "gone", "short"])
async def test_a_damaged_copy_is_written_anew_from_another(
    bench: Bench, store: str, damage: str
) -> None:
    blob = await doubted(bench, store, "two")
    inner, key = bench.stage.stores[store].inner, bench.stage.key(blob)
    if damage == "changed":
        await spoil(bench, store, blob, 7)
    elif damage == "gone":
        await inner.delete(str(key))
    else:
        await inner.put(key, BytesSource(CONTENT[: 2 * CHUNK_BYTES]))
    assert await bench.work(Chore.VERIFY, store)
    assert (await bench.copy(blob, store)).state is CopyState.PRESENT
    assert await bench.bytes_in(store, blob) == CONTENT


@pytest.mark.parametrize("store", KINDS)
async def test_a_copy_is_healed_from_its_own_good_chunks_and_the_good_ones_of_another(
    bench: Bench, store: str
) -> None:
    blob = await doubted(bench, store, "two")
    await spoil(bench, store, blob, 3, 2 * CHUNK_BYTES)
    await spoil(bench, "two", blob, CHUNK_BYTES + 9, 3 * CHUNK_BYTES + 1)
    assert await bench.work(Chore.VERIFY, store)
    assert await bench.bytes_in(store, blob) == CONTENT

    await bench.reader.close()
    assert (await bench.copy(blob, "two")).state is CopyState.DOUBTED, "reading it told"
    assert await bench.work(Chore.VERIFY, "two")
    assert await bench.bytes_in("two", blob) == CONTENT
    assert set((await bench.stage.states(blob)).values()) == {CopyState.PRESENT}


async def test_a_copy_that_cannot_be_healed_stays_as_it_lies(bench: Bench) -> None:
    """Its good chunks may still be all there is of them."""
    blob = await doubted(bench, "disk", "two")
    flip(bench.stage.file(blob), 5)
    await spoil(bench, "two", blob, 5)
    before = bench.stage.file(blob).read_bytes()
    for _ in range(2):
        assert not await bench.work_again(Chore.VERIFY, "disk")
        copy = await bench.copy(blob, "disk")
        assert copy.state is CopyState.DOUBTED
        assert "unplayable" in (copy.last_error or "")
        assert bench.stage.file(blob).read_bytes() == before


async def test_a_store_that_cannot_be_asked_is_not_written_to_by_a_verification(
    bench: Bench,
) -> None:
    blob = await doubted(bench, "one", "two")
    before = bench.stage.stores["one"].calls.count("put")
    bench.stage.stores["one"].break_with(Fault.unavailable(), verbs={"open"})
    assert not await bench.work(Chore.VERIFY, "one")
    assert (await bench.copy(blob, "one")).state is CopyState.DOUBTED
    assert bench.stage.stores["one"].calls.count("put") == before


# --- a fresh proof -------------------------------------------------------------------------------


async def test_a_proof_is_renewed_by_reading_or_turns_into_doubt(bench: Bench) -> None:
    track = await bench.stage.add(CONTENT, "one")
    await bench.change(track.blob, "one", verified_at=1000.0)
    copy = await bench.copy(track.blob, "one")
    await bench.copier.prove(bench.stage.stores["one"], copy)
    renewed = await bench.copy(track.blob, "one")
    assert (renewed.verified_at or 0) > 1.7e9
    assert renewed.since == copy.since

    await spoil(bench, "one", track.blob, len(CONTENT) - 1)
    await bench.copier.prove(bench.stage.stores["one"], copy)
    assert (await bench.copy(track.blob, "one")).state is CopyState.DOUBTED


async def test_a_store_that_cannot_be_asked_neither_proves_nor_casts_doubt(bench: Bench) -> None:
    track = await bench.stage.add(CONTENT, "one")
    await bench.change(track.blob, "one", verified_at=1000.0)
    copy = await bench.copy(track.blob, "one")
    bench.stage.stores["one"].break_with(Fault.unavailable())
    with pytest.raises(Unavailable):
        await bench.copier.prove(bench.stage.stores["one"], copy)
    assert await bench.copy(track.blob, "one") == copy
