"""The copy law: nothing is let go before enough others have just been proven."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import update

from ledgers import add_present, add_track, make_blob, make_track, opened, states
from soundkeep.answers import Removal
from soundkeep.catalog import copies, copy_law, copy_work, tracks
from soundkeep.catalog.copies import Place
from soundkeep.catalog.copy_law import Law, Verdict
from soundkeep.catalog.copy_work import Claimed
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.schema import copies as table
from soundkeep.copies import dropping, passes, planning
from soundkeep.copies.placement import DEFAULT_LAYOUT, Layout, Rules, StoreRule
from soundkeep.errors import LeaseLost
from soundkeep.intake import recording
from soundkeep.intake.recording import Inbox, NewTrack
from soundkeep.model import Blob, Chore, CopyState, Lane, Visibility, Wish

BLOB = make_blob(b"the only sound")
LAYOUT = Layout(DEFAULT_LAYOUT)
DAY = 86400.0


def rules(*keep: str) -> Rules:
    return Rules(keep, tuple(StoreRule(name, LAYOUT) for name in keep))


def law(*stores: str, min_copies: int = 1) -> Law:
    return Law(frozenset(stores), min_copies, DAY)


@pytest.fixture
async def catalog(database_url: str) -> AsyncIterator[Catalog]:
    async with opened(database_url) as found:
        yield found


async def kept(catalog: Catalog, *stores: str, named: bool = True) -> list[int]:
    def write(tx: Tx) -> list[int]:
        add_track(tx, make_track("t", BLOB))
        if not named:
            track = tracks.find(tx, "t")
            assert track is not None
            tracks.bury(tx, track)
        return add_present(tx, BLOB, *stores)

    return await catalog.write(write)


async def leaving(catalog: Catalog, store: str, lease_seconds: float = 60) -> Claimed:
    """Lets a copy leave and leases it, as the worker does."""

    def write(tx: Tx) -> list[Claimed]:
        for copy in copies.of_blob(tx, BLOB.digest):
            if copy.store == store:
                copies.wish(tx, copy, Wish.LEAVE)
        return copy_work.claim(
            tx, Chore.LEAVE, store, holder="h/1/1", limit=1, lease_seconds=lease_seconds
        )

    [claimed] = await catalog.write(write)
    return claimed


async def age_proofs(catalog: Catalog, *stores: str) -> None:
    old = update(table).where(table.c.store.in_(stores)).values(verified_at=1000.0)
    await catalog.write(lambda tx: tx.run(old))


async def test_the_only_copy_is_never_let_go(catalog: Catalog) -> None:
    await kept(catalog, "disk")
    verdict = await catalog.write(copy_law.let_go, await leaving(catalog, "disk"), law("disk"))
    assert verdict == Verdict(let_go=False, proven=0)
    assert await states(catalog, BLOB) == {"disk": CopyState.PRESENT}


async def test_a_copy_goes_when_another_was_just_proven(catalog: Catalog) -> None:
    await kept(catalog, "disk", "backup")
    claimed = await leaving(catalog, "disk")
    assert (await catalog.write(copy_law.let_go, claimed, law("disk", "backup"))).let_go
    assert await states(catalog, BLOB) == {
        "disk": CopyState.UNWANTED,
        "backup": CopyState.PRESENT,
    }


async def test_an_old_proof_does_not_count_and_is_named(catalog: Catalog) -> None:
    await kept(catalog, "disk", "backup")
    await age_proofs(catalog, "backup")
    claimed = await leaving(catalog, "disk")
    verdict = await catalog.write(copy_law.let_go, claimed, law("disk", "backup"))
    assert not verdict.let_go
    assert [copy.store for copy in verdict.unproven] == ["backup"]


async def test_copies_in_the_same_store_or_an_inbox_do_not_count(catalog: Catalog) -> None:
    await kept(catalog, "disk", "inbox@host")

    def twice(tx: Tx) -> None:
        copies.record_present(
            tx, BLOB.digest, Place("disk", "elsewhere"), locator="elsewhere",
            verified="read back", wish=Wish.KEEP, due_in=0,
        )  # fmt: skip

    await catalog.write(twice)
    claimed = await leaving(catalog, "disk")
    assert not (await catalog.write(copy_law.let_go, claimed, law("disk", "inbox@host"))).let_go


async def test_copies_of_a_store_that_is_not_configured_do_not_count(catalog: Catalog) -> None:
    await kept(catalog, "disk", "former")
    claimed = await leaving(catalog, "disk")
    assert not (await catalog.write(copy_law.let_go, claimed, law("disk"))).let_go


async def test_doubted_wanted_and_unwanted_copies_do_not_count(catalog: Catalog) -> None:
    ids = await kept(catalog, "disk", "doubted", "unwanted")

    def prepare(tx: Tx) -> None:
        copies.doubt(tx, ids[1], "looks wrong")
        tx.run(update(table).where(table.c.id == ids[2]).values(state="unwanted", chore="drop"))
        copies.want(tx, BLOB.digest, [Place("wanted", "k")], Lane.BULK)

    await catalog.write(prepare)
    claimed = await leaving(catalog, "disk")
    everything = law("disk", "doubted", "unwanted", "wanted")
    assert (await catalog.write(copy_law.let_go, claimed, everything)) == Verdict(let_go=False)


async def test_as_many_must_be_proven_as_the_policy_says(catalog: Catalog) -> None:
    await kept(catalog, "a", "b", "c")
    stores = ("a", "b", "c")
    claimed = await leaving(catalog, "a")
    assert not (await catalog.write(copy_law.let_go, claimed, law(*stores, min_copies=3))).let_go
    assert (await catalog.write(copy_law.let_go, claimed, law(*stores, min_copies=2))).let_go


async def test_what_nothing_names_goes_entirely(catalog: Catalog) -> None:
    await kept(catalog, "disk", named=False)
    assert (
        await catalog.write(copy_law.let_go, await leaving(catalog, "disk"), law("disk"))
    ).let_go


async def test_two_processes_dropping_at_once_leave_one_copy(
    catalog: Catalog, database_url: str
) -> None:
    async with opened(database_url) as other:
        for _ in range(10):
            await catalog.write(forget_everything)
            await kept(catalog, "disk", "backup")
            first, second = await leaving(catalog, "disk"), await leaving(catalog, "backup")
            verdicts = await asyncio.gather(
                catalog.write(copy_law.let_go, first, law("disk", "backup")),
                other.write(copy_law.let_go, second, law("disk", "backup")),
            )
            assert sorted(verdict.let_go for verdict in verdicts) == [False, True]


def forget_everything(tx: Tx) -> None:
    for name in ("copies", "removals", "tombstones", "tracks", "blobs"):
        tx.connection.exec_driver_sql(f"DELETE FROM {name}")


async def test_a_worker_that_wakes_after_its_lease_ran_out_lets_nothing_go(
    catalog: Catalog,
) -> None:
    await kept(catalog, "disk", "backup")
    sleeper = await leaving(catalog, "disk", lease_seconds=0)
    awake = await leaving(catalog, "disk")
    with pytest.raises(LeaseLost):
        await catalog.write(copy_law.let_go, sleeper, law("disk", "backup"))
    assert (await states(catalog, BLOB))["disk"] is CopyState.PRESENT
    assert (await catalog.write(copy_law.let_go, awake, law("disk", "backup"))).let_go


# --- an upload of the same bytes arrives while a copy is being dropped ---------------------------


def upload(tx: Tx, track_id: str, *keep: str) -> recording.Recorded:
    return recording.record(
        tx,
        NewTrack(id=track_id),
        BLOB,
        inbox=Inbox("inbox@host", f"uploads/{track_id}", 3600),
        rules=rules(*keep),
        lane=Lane.INTERACTIVE,
        holder="h/1/1",
        lease_seconds=60,
    )


async def claim_drop(catalog: Catalog, store: str) -> Claimed:
    [claimed] = await catalog.write(
        copy_work.claim, Chore.DROP, store, holder="h/1/1", limit=1, lease_seconds=60
    )
    return claimed


async def test_an_upload_while_its_bytes_are_being_dropped_gets_copies_of_its_own(
    catalog: Catalog,
) -> None:
    await kept(catalog, "disk")
    await catalog.write(recording.remove, "t", rules("disk"))
    dropping_now = await claim_drop(catalog, "disk")

    recorded = await catalog.write(upload, "again", "disk")
    assert recorded.inbox_copy is not None, "an outgoing copy acknowledges nothing"
    assert recorded.claimed == [], "its key is still held by the outgoing copy"
    assert (await states(catalog, BLOB))["disk"] is CopyState.UNWANTED

    await catalog.write(dropping._confirm, dropping_now, rules("disk"))
    assert await states(catalog, BLOB) == {
        "disk": CopyState.WANTED,
        "inbox@host": CopyState.PRESENT,
    }
    receipt = await catalog.read(tracks.receipt, "t")
    assert receipt is not None
    assert [line.outcome for line in receipt.lines] == [Removal.REMOVED]


async def test_the_last_confirmation_forgets_the_blob_and_completes_the_receipt(
    catalog: Catalog,
) -> None:
    await kept(catalog, "disk", "backup")
    receipt = await catalog.write(recording.remove, "t", rules("disk", "backup"))
    assert receipt is not None
    assert not receipt.complete
    for store in ("disk", "backup"):
        await catalog.write(
            dropping._confirm, await claim_drop(catalog, store), rules("disk", "backup")
        )
    receipt = await catalog.read(tracks.receipt, "t")
    assert receipt is not None
    assert receipt.complete
    assert all(line.confirmed_at is not None for line in receipt.lines)
    left = await catalog.read(
        lambda tx: tx.connection.exec_driver_sql("SELECT count(*) FROM blobs").scalar_one()
    )
    assert left == 0


async def test_a_blob_that_another_track_names_keeps_its_copies(catalog: Catalog) -> None:
    await kept(catalog, "disk")
    await catalog.write(add_track, make_track("other", BLOB))
    receipt = await catalog.write(recording.remove, "t", rules("disk"))
    assert receipt is not None
    assert receipt.complete
    assert [line.outcome for line in receipt.lines] == [Removal.KEPT]
    assert await states(catalog, BLOB) == {"disk": CopyState.PRESENT}


async def test_making_a_track_private_leaves_the_public_store_by_the_law(
    catalog: Catalog,
) -> None:
    both = Rules(("disk",), (StoreRule("disk", LAYOUT), StoreRule("cdn", LAYOUT, public=True)))
    track = make_track("t", BLOB, public=True)

    def prepare(tx: Tx) -> None:
        add_track(tx, track)
        planning.replan(tx, BLOB, both, lane=Lane.BULK)
        tx.run(update(table).values(state="present", chore=None, verified_at=tx.now()))

    await catalog.write(prepare)
    assert set(await states(catalog, BLOB)) == {"disk", "cdn"}

    def hide(tx: Tx) -> None:
        found = tracks.find(tx, "t")
        assert found is not None
        recording.change(
            tx, found, both, title="t", visibility=recording.Visibility.PRIVATE, metadata={}
        )

    await catalog.write(hide)
    wishes = {copy.store: copy.wish for copy in await catalog.read(copies.of_blob, BLOB.digest)}
    assert wishes == {"disk": Wish.KEEP, "cdn": Wish.LEAVE}


async def test_a_change_of_settings_lets_copies_rest_and_takes_them_back(
    catalog: Catalog,
) -> None:
    blob: Blob = BLOB
    await kept(catalog, "disk", "backup")
    await passes.replan_all(catalog, rules("disk", "backup"))
    await passes.replan_all(catalog, rules("disk"))
    wishes = {copy.store: copy.wish for copy in await catalog.read(copies.of_blob, blob.digest)}
    assert wishes == {"disk": Wish.KEEP, "backup": Wish.REST}
    assert set((await states(catalog, blob)).values()) == {CopyState.PRESENT}
    await passes.replan_all(catalog, rules("disk", "backup", "third"))
    found = {copy.store: copy for copy in await catalog.read(copies.of_blob, blob.digest)}
    assert found["backup"].wish is Wish.KEEP
    assert found["third"].state is CopyState.WANTED
    assert await passes.replan_all(catalog, rules("disk", "backup", "third")) == 0


async def written_by_another_process(catalog: Catalog, placed: Rules) -> None:
    """A public track whose copy in `cdn` is being written just now."""

    def write(tx: Tx) -> list[Claimed]:
        add_track(tx, make_track("t", BLOB, public=True))
        planning.replan(tx, BLOB, placed, lane=Lane.BULK)
        return copy_work.claim(tx, Chore.COPY, "cdn", holder="h/1/1", limit=1, lease_seconds=60)

    assert await catalog.write(write)


WITH_CDN = Rules(("disk",), (StoreRule("disk", LAYOUT), StoreRule("cdn", LAYOUT, public=True)))


async def due(catalog: Catalog, chore: Chore, store: str) -> list[Claimed]:
    return await catalog.write(
        copy_work.claim, chore, store, holder="h/2/2", limit=9, lease_seconds=60
    )


async def test_a_second_change_does_not_end_the_rest_of_a_copy_still_being_written(
    catalog: Catalog,
) -> None:
    await written_by_another_process(catalog, WITH_CDN)
    track = await catalog.read(tracks.find, "t")
    assert track is not None
    await catalog.write(
        recording.change, track, WITH_CDN, title="t", visibility=Visibility.PRIVATE, metadata={}
    )
    await catalog.write(recording.remove, "t", WITH_CDN)
    assert await due(catalog, Chore.DROP, "cdn") == []


async def test_a_retry_does_not_end_the_rest_of_a_copy_still_being_written(
    catalog: Catalog,
) -> None:
    await written_by_another_process(catalog, WITH_CDN)
    await catalog.write(recording.remove, "t", WITH_CDN)
    await catalog.write(copies.due_now, store="cdn")
    assert await due(catalog, Chore.DROP, "cdn") == []


async def test_a_replaced_track_gets_its_key_when_the_former_copy_is_gone(
    catalog: Catalog,
) -> None:
    by_path = Rules(("disk",), (StoreRule("disk", Layout("{owner}/{path}")),))
    other = make_blob(b"other audio")

    def upload(tx: Tx, new: NewTrack, blob: Blob) -> None:
        inbox = Inbox("inbox@h", f"uploads/{blob.digest}", 0)
        recording.record(
            tx, new, blob, inbox=inbox, rules=by_path, lane=Lane.BULK,
            holder="h/1/1", lease_seconds=0,
        )  # fmt: skip

    await catalog.write(upload, NewTrack(path="a.mp3"), BLOB)
    await catalog.write(upload, NewTrack(path="a.mp3", replace=True), other)
    assert "disk" not in await states(catalog, other)
    [claimed] = await due(catalog, Chore.DROP, "disk")
    await catalog.write(dropping._confirm, claimed, by_path)
    assert (await states(catalog, other))["disk"] is CopyState.WANTED


async def add_public(catalog: Catalog, name: str, placed: Rules) -> None:
    def write(tx: Tx) -> None:
        before = tracks.naming(tx, BLOB.digest)
        add_track(tx, make_track(name, BLOB, public=True))
        planning.replan(tx, BLOB, placed, lane=Lane.BULK, names_before=before)

    await catalog.write(write)


async def test_withdrawal_takes_along_what_rests_in_a_public_store(catalog: Catalog) -> None:
    await add_public(catalog, "t", WITH_CDN)
    moved = Rules(
        ("disk",),
        (StoreRule("disk", LAYOUT), StoreRule("cdn", Layout("new/{digest}"), public=True)),
    )
    await passes.replan_all(catalog, moved)
    track = await catalog.read(tracks.find, "t")
    assert track is not None
    await catalog.write(
        recording.change, track, moved, title="t", visibility=Visibility.PRIVATE, metadata={}
    )
    held = await catalog.read(copies.of_blob, BLOB.digest)
    assert [c.wish for c in held if c.store == "cdn"] == [Wish.LEAVE, Wish.LEAVE]


async def test_a_receipt_does_not_wait_for_a_copy_that_another_track_wants_again(
    catalog: Catalog,
) -> None:
    await catalog.write(add_track, make_track("private", BLOB))
    await add_public(catalog, "first", WITH_CDN)
    await catalog.write(recording.remove, "first", WITH_CDN)
    await add_public(catalog, "second", WITH_CDN)
    receipt = await catalog.read(tracks.receipt, "first")
    assert receipt is not None
    assert [line.outcome for line in receipt.lines if line.store == "cdn"] == [Removal.KEPT]
    assert receipt.complete
