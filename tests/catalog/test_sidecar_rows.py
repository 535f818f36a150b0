"""Rows of sidecars: due when their sound is there, at the revision of their track, and no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import update

from ledgers import make_blob, opened, somebody_waits
from soundkeep.answers import Removal
from soundkeep.catalog import (
    blobs,
    claims,
    copy_work,
    coverage,
    sidecar_work,
    sidecars,
    stores,
    tracks,
)
from soundkeep.catalog.coverage import SidecarCoverage
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.schema import now
from soundkeep.catalog.schema import sidecars as table
from soundkeep.catalog.sidecar_work import ClaimedSidecar, Written
from soundkeep.copies import passes
from soundkeep.copies.placement import (
    DEFAULT_LAYOUT,
    DEFAULT_SIDECAR_LAYOUT,
    Layout,
    Rules,
    StoreRule,
)
from soundkeep.errors import LeaseLost, Unavailable
from soundkeep.intake import recording
from soundkeep.intake.recording import Inbox, NewTrack
from soundkeep.model import Blob, Chore, Lane, Sidecar, SidecarState, Visibility

BLOB = make_blob(b"a sound with words beside it")
LAYOUT = Layout(DEFAULT_LAYOUT)
BESIDE = Layout(DEFAULT_SIDECAR_LAYOUT, DEFAULT_SIDECAR_LAYOUT)
DISK = StoreRule("disk", LAYOUT, sidecars=BESIDE)
CDN = StoreRule("cdn", Layout("audio/{track_id}.{ext}"), public=True, sidecars=BESIDE)
RULES = Rules(("disk",), (DISK, CDN))
WITHOUT = Rules(("disk",), (replace(DISK, sidecars=None), replace(CDN, sidecars=None)))
LEASE = 60.0


@pytest.fixture
async def catalog(database_url: str) -> AsyncIterator[Catalog]:
    async with opened(database_url) as found:
        yield found


async def upload(
    catalog: Catalog, name: str, *, blob: Blob = BLOB, public: bool = False, rules: Rules = RULES
) -> None:
    await catalog.write(
        recording.record,
        NewTrack(name, visibility=Visibility.PUBLIC if public else Visibility.PRIVATE),
        blob,
        inbox=Inbox("inbox@host", f"uploads/{uuid4()}", 3600),
        rules=rules,
        lane=Lane.BULK,
        holder="host/1/1",
        lease_seconds=0,
    )


async def copied(catalog: Catalog, store: str, blob: Blob = BLOB) -> None:
    """Every copy that is due in a store is proven to be there."""

    def prove(tx: Tx) -> None:
        for claimed in copy_work.claim(
            tx, Chore.COPY, store, holder="h/1/1", limit=9, lease_seconds=LEASE
        ):
            copy_work.prove(tx, claimed, locator=claimed.copy.key, verified="read back")

    await catalog.write(prove)


async def claim(
    catalog: Catalog, chore: Chore, store: str = "disk", lease_seconds: float = LEASE
) -> ClaimedSidecar:
    [claimed] = await catalog.write(
        sidecar_work.claim, chore, store, holder="h/1/1", limit=9, lease_seconds=lease_seconds
    )
    return claimed


async def note(catalog: Catalog, claimed: ClaimedSidecar, revision: int = 1) -> bool:
    """Writes the outcome of a put; whether the lease still held."""
    outcome = Written(claimed, revision, claimed.sidecar.key)
    [held] = await catalog.write(sidecar_work.note_written, [outcome])
    return held


async def write(catalog: Catalog, store: str = "disk") -> None:
    """As the worker does, without a store."""
    claimed = await claim(catalog, Chore.WRITE_SIDECAR, store)
    track = await catalog.read(tracks.find, claimed.sidecar.subject.name)
    assert track is not None
    assert await note(catalog, claimed, track.revision)


async def rename(catalog: Catalog, name: str, title: str) -> None:
    def change(tx: Tx) -> None:
        track = tracks.find(tx, name)
        assert track is not None
        recording.change(
            tx, track, RULES, title=title, visibility=track.visibility, metadata=track.metadata
        )

    await catalog.write(change)


async def show(catalog: Catalog, name: str, visibility: Visibility) -> None:
    def change(tx: Tx) -> None:
        track = tracks.find(tx, name)
        assert track is not None
        recording.change(
            tx, track, RULES, title=track.title, visibility=visibility, metadata={"n": 1}
        )

    await catalog.write(change)


async def rows(catalog: Catalog, blob: Blob = BLOB) -> list[Sidecar]:
    return await catalog.read(sidecars.of_blob, blob.digest)


async def states(catalog: Catalog) -> dict[tuple[str, str], SidecarState]:
    return {(each.store, each.subject.name): each.state for each in await rows(catalog)}


async def is_due(catalog: Catalog, chore: Chore, store: str = "disk") -> bool:
    target = (table, chore, store)
    return (await catalog.read(claims.waits, [target])).get(target) == 0


# --- beside a sound ------------------------------------------------------------------------------


async def test_a_sidecar_waits_for_its_sound_and_is_due_when_that_is_there(
    catalog: Catalog,
) -> None:
    await upload(catalog, "one")
    assert await states(catalog) == {("disk", "one"): SidecarState.WAITING}
    assert not await is_due(catalog, Chore.WRITE_SIDECAR)
    await copied(catalog, "disk")
    assert await states(catalog) == {("disk", "one"): SidecarState.DUE}
    await write(catalog)
    assert await states(catalog) == {("disk", "one"): SidecarState.WRITTEN}
    assert (await rows(catalog))[0].revision == 1


async def test_a_second_track_with_the_same_sound_need_not_wait(catalog: Catalog) -> None:
    await upload(catalog, "one")
    await copied(catalog, "disk")
    await write(catalog)
    await upload(catalog, "two")
    assert await states(catalog) == {
        ("disk", "one"): SidecarState.WRITTEN,
        ("disk", "two"): SidecarState.DUE,
    }


async def test_a_track_that_is_named_while_its_sound_comes_is_not_left_waiting(
    postgres_url: str,
) -> None:
    """Two processes: one has proven the copy and not committed when the other names it."""
    async with opened(postgres_url) as first, opened(postgres_url) as second:
        await upload(first, "one")
        [claimed] = await first.write(
            copy_work.claim, Chore.COPY, "disk", holder="h/1/1", limit=9, lease_seconds=LEASE
        )
        proven, may_end = threading.Event(), threading.Event()

        def prove_slowly(tx: Tx) -> None:
            copy_work.prove(tx, claimed, locator=claimed.copy.key, verified="read back")
            proven.set()
            assert may_end.wait(20)

        proving = asyncio.create_task(first.write(prove_slowly))
        assert await asyncio.to_thread(proven.wait, 20)
        naming = asyncio.create_task(upload(second, "two"))
        async with asyncio.timeout(20):
            while not (naming.done() or await second.read(somebody_waits)):
                await asyncio.sleep(0.01)
        may_end.set()
        await asyncio.gather(proving, naming)
        assert set((await states(first)).values()) == {SidecarState.DUE}


async def test_in_a_store_of_one_copy_for_each_track_each_sidecar_waits_for_its_own(
    catalog: Catalog,
) -> None:
    await upload(catalog, "one", public=True)
    await copied(catalog, "cdn")
    await upload(catalog, "two", public=True)
    found = await states(catalog)
    assert found["cdn", "one"] is SidecarState.DUE
    assert found["cdn", "two"] is SidecarState.WAITING


async def test_a_public_store_has_the_sidecars_of_public_tracks_only(catalog: Catalog) -> None:
    await upload(catalog, "secret")
    await upload(catalog, "open", public=True)
    assert set(await states(catalog)) == {("disk", "secret"), ("disk", "open"), ("cdn", "open")}


# --- following its track -------------------------------------------------------------------------


async def written(catalog: Catalog, name: str = "one", *, public: bool = False) -> None:
    await upload(catalog, name, public=public)
    for store in ("disk", "cdn") if public else ("disk",):
        await copied(catalog, store)
        await write(catalog, store)


async def test_a_changed_track_makes_its_sidecar_due_and_no_other(catalog: Catalog) -> None:
    await written(catalog, "one")
    await upload(catalog, "two")
    await write(catalog)
    await rename(catalog, "one", "Another")
    assert await states(catalog) == {
        ("disk", "one"): SidecarState.DUE,
        ("disk", "two"): SidecarState.WRITTEN,
    }
    await write(catalog)
    assert [each.revision for each in await rows(catalog)] == [2, 1]


async def test_a_change_while_it_is_written_makes_it_due_again_at_once(catalog: Catalog) -> None:
    await upload(catalog, "one")
    await copied(catalog, "disk")
    claimed = await claim(catalog, Chore.WRITE_SIDECAR)
    await rename(catalog, "one", "Another")
    assert not await is_due(catalog, Chore.WRITE_SIDECAR), "its holder still writes"
    assert await note(catalog, claimed)
    assert await is_due(catalog, Chore.WRITE_SIDECAR)
    await write(catalog)
    [row] = await rows(catalog)
    assert (row.revision, row.state) == (2, SidecarState.WRITTEN)


async def test_a_change_before_its_sound_is_there_goes_on_waiting(catalog: Catalog) -> None:
    await upload(catalog, "one")
    await rename(catalog, "one", "Another")
    assert await states(catalog) == {("disk", "one"): SidecarState.WAITING}
    await copied(catalog, "disk")
    await write(catalog)
    assert (await rows(catalog))[0].revision == 2


async def test_changes_and_outcomes_at_once_never_leave_an_old_sidecar_at_rest(
    catalog: Catalog,
) -> None:
    await upload(catalog, "one")
    await copied(catalog, "disk")
    for number in range(20):
        claimed = await claim(catalog, Chore.WRITE_SIDECAR)
        track = await catalog.read(tracks.find, "one")
        assert track is not None
        await asyncio.gather(
            rename(catalog, "one", f"title {number}"),
            note(catalog, claimed, track.revision),
        )
        [row] = await rows(catalog)
        assert row.state is SidecarState.DUE
        assert row.wanted == track.revision + 1


# --- going ---------------------------------------------------------------------------------------


async def test_a_track_made_private_takes_its_public_sidecar_away(catalog: Catalog) -> None:
    await written(catalog, public=True)
    await show(catalog, "one", Visibility.PRIVATE)
    assert await states(catalog) == {
        ("disk", "one"): SidecarState.DUE,
        ("cdn", "one"): SidecarState.LEAVING,
    }
    assert await is_due(catalog, Chore.REMOVE_SIDECAR, "cdn")
    await show(catalog, "one", Visibility.PUBLIC)
    assert (await states(catalog))["cdn", "one"] is SidecarState.DUE


async def test_a_deletion_while_it_is_written_is_carried_out_by_whoever_comes_next(
    catalog: Catalog,
) -> None:
    await upload(catalog, "one")
    await copied(catalog, "disk")
    claimed = await claim(catalog, Chore.WRITE_SIDECAR)
    await catalog.write(recording.remove, "one", RULES)
    assert not await is_due(catalog, Chore.REMOVE_SIDECAR), "its holder may still be writing"
    assert await note(catalog, claimed)
    assert await is_due(catalog, Chore.REMOVE_SIDECAR)


async def test_the_receipt_of_a_deletion_waits_for_each_sidecar(catalog: Catalog) -> None:
    await written(catalog, public=True)
    await upload(catalog, "two", public=True)
    await catalog.write(recording.remove, "one", RULES)
    for store in ("disk", "cdn"):
        claimed = await claim(catalog, Chore.REMOVE_SIDECAR, store)
        assert await outcome(catalog, claimed.sidecar) is Removal.PENDING
        await catalog.write(sidecar_work.note_gone, claimed)
        await catalog.write(tracks.confirm_sidecar_removal, claimed.sidecar.id)
        assert await outcome(catalog, claimed.sidecar) is Removal.REMOVED
    assert {track_id for _, track_id in await states(catalog)} == {"two"}


async def outcome(catalog: Catalog, sidecar: Sidecar) -> Removal:
    receipt = await catalog.read(tracks.receipt, sidecar.subject.name)
    assert receipt is not None
    at = (sidecar.store, sidecar.key)
    return next(line.outcome for line in receipt.lines if (line.store, line.key) == at)


async def test_a_track_that_comes_back_takes_the_lease_of_who_still_removes_its_sidecar(
    catalog: Catalog,
) -> None:
    """Its sound is there all the time, under another name."""
    await written(catalog)
    await upload(catalog, "two")
    await write(catalog)
    await catalog.write(recording.remove, "one", RULES)
    late = await claim(catalog, Chore.REMOVE_SIDECAR)
    await upload(catalog, "one")
    assert (await rows(catalog))[0].revision is None
    with pytest.raises(LeaseLost):
        await catalog.write(sidecar_work.note_gone, late)
    await catalog.write(sidecar_work.removed_too_late, late.sidecar)
    assert not await is_due(catalog, Chore.WRITE_SIDECAR), "the delete may still arrive"
    await end_rest(catalog)
    await write(catalog)
    assert set((await states(catalog)).values()) == {SidecarState.WRITTEN}


async def end_rest(catalog: Catalog) -> None:
    ended = update(table).values(lease_token=None, due_at=now())
    await catalog.write(lambda tx: tx.run(ended))


async def test_one_that_was_written_after_its_row_was_gone_is_removed(catalog: Catalog) -> None:
    await upload(catalog, "one")
    await copied(catalog, "disk")
    late = await claim(catalog, Chore.WRITE_SIDECAR, lease_seconds=0)
    await catalog.write(recording.remove, "one", RULES)
    await catalog.write(sidecar_work.note_gone, await claim(catalog, Chore.REMOVE_SIDECAR))
    assert not await note(catalog, late)
    await catalog.write(sidecar_work.written_too_late, late.sidecar, "k")
    claimed = await claim(catalog, Chore.REMOVE_SIDECAR)
    assert (claimed.sidecar.key, claimed.sidecar.locator) == (late.sidecar.key, "k")


async def test_one_that_was_written_too_late_is_written_again(catalog: Catalog) -> None:
    await upload(catalog, "one")
    await copied(catalog, "disk")
    late = await claim(catalog, Chore.WRITE_SIDECAR, lease_seconds=0)
    await rename(catalog, "one", "Another")
    await write(catalog)
    await catalog.write(sidecar_work.written_too_late, late.sidecar, "k")
    assert await is_due(catalog, Chore.WRITE_SIDECAR)


# --- settings ------------------------------------------------------------------------------------


async def test_tracks_that_were_there_before_get_theirs_when_settings_change(
    catalog: Catalog,
) -> None:
    for number in range(3):
        await upload(catalog, f"t{number}", blob=make_blob(b"%d" % number), rules=WITHOUT)
    await copied(catalog, "disk")
    await passes.replan_all(catalog, WITHOUT)
    assert not await is_due(catalog, Chore.WRITE_SIDECAR)
    await passes.replan_all(catalog, RULES)
    for _ in range(3):
        [claimed] = await catalog.write(
            sidecar_work.claim, Chore.WRITE_SIDECAR, "disk", holder="h/1/1", limit=1,
            lease_seconds=LEASE,
        )  # fmt: skip
        assert await note(catalog, claimed)
    counted = await catalog.read(coverage.count)
    assert {each.store: each.sidecars for each in counted.stores}["disk"] == SidecarCoverage(3)


async def test_settings_that_unplace_sidecars_let_them_rest_and_delete_nothing(
    catalog: Catalog,
) -> None:
    await written(catalog)
    await passes.replan_all(catalog, WITHOUT)
    assert await states(catalog) == {("disk", "one"): SidecarState.RESTING}
    await rename(catalog, "one", "Another")
    assert await states(catalog) == {("disk", "one"): SidecarState.RESTING}
    await passes.replan_all(catalog, RULES)
    await write(catalog)
    [row] = await rows(catalog)
    assert (row.state, row.revision) == (SidecarState.WRITTEN, 2)


async def test_one_that_rests_goes_with_its_track(catalog: Catalog) -> None:
    await written(catalog)
    await passes.replan_all(catalog, WITHOUT)
    await catalog.write(recording.remove, "one", WITHOUT)
    assert await is_due(catalog, Chore.REMOVE_SIDECAR)


async def test_one_that_rests_in_public_goes_when_its_track_is_made_private(
    catalog: Catalog,
) -> None:
    await written(catalog, public=True)
    await passes.replan_all(catalog, WITHOUT)
    await show(catalog, "one", Visibility.PRIVATE)
    assert (await states(catalog))["cdn", "one"] is SidecarState.LEAVING


async def test_another_key_of_the_sound_makes_its_sidecar_wait_for_the_sound_there(
    catalog: Catalog,
) -> None:
    await written(catalog)
    moved = Rules(("disk",), (replace(DISK, layout=Layout("sounds/{digest}")), CDN))
    await passes.replan_all(catalog, moved)
    assert await states(catalog) == {("disk", "one"): SidecarState.WAITING}
    await copied(catalog, "disk")
    await write(catalog)
    assert (await rows(catalog))[0].audio_key == f"sounds/{BLOB.digest}"


# --- figures -------------------------------------------------------------------------------------


async def test_the_figures_tell_written_due_and_failing_apart(catalog: Catalog) -> None:
    await written(catalog)
    await upload(catalog, "two")
    claimed = await claim(catalog, Chore.WRITE_SIDECAR)
    await catalog.write(claims.fail, table, claimed.lease, "no luck")
    await upload(catalog, "three")
    counted = await catalog.read(coverage.count)
    [disk] = [each for each in counted.stores if each.store == "disk"]
    assert disk.sidecars == SidecarCoverage(written=1, due=2, failing=1)
    assert counted.unwritten == 2
    assert [each.track_id for each in await catalog.read(sidecars.unwritten, 9)] == ["two", "three"]
    assert [each.last_error for each in await catalog.read(sidecars.failing, 9)] == ["no luck"]


async def test_nothing_is_claimed_for_a_store_that_is_out(catalog: Catalog) -> None:
    await upload(catalog, "one")
    await copied(catalog, "disk")
    await catalog.write(stores.ensure, "disk", "local")
    await catalog.write(stores.open_circuit, "disk", Unavailable("gone"), 5)
    assert not await catalog.write(
        sidecar_work.claim,
        Chore.WRITE_SIDECAR,
        "disk",
        holder="h/1/1",
        limit=9,
        lease_seconds=LEASE,
    )
    assert (await rows(catalog))[0].attempts == 0


async def test_a_blob_is_forgotten_though_a_sidecar_of_it_is_still_to_be_removed(
    catalog: Catalog,
) -> None:
    await upload(catalog, "one")
    await copied(catalog, "disk")
    await catalog.write(recording.remove, "one", RULES)

    def drop(tx: Tx) -> None:
        for store in ("disk", "inbox@host"):
            for claimed in copy_work.claim(
                tx, Chore.DROP, store, holder="h/1/1", limit=9, lease_seconds=LEASE
            ):
                copy_work.confirm_gone(tx, claimed)
        blobs.forget_if_gone(tx, BLOB.digest)

    await catalog.write(drop)
    assert await catalog.read(blobs.find, BLOB.digest) is None
    await catalog.write(sidecar_work.note_gone, await claim(catalog, Chore.REMOVE_SIDECAR))
    assert await rows(catalog) == []


async def test_a_store_that_settings_make_public_keeps_private_sidecars_and_deletes_nothing(
    catalog: Catalog,
) -> None:
    """As it keeps the copies: they rest, and go when the track itself changes or goes."""
    await written(catalog)
    shown = Rules(("backup",), (StoreRule("backup", LAYOUT), replace(DISK, public=True)))
    await passes.replan_all(catalog, shown)
    assert await states(catalog) == {("disk", "one"): SidecarState.RESTING}


async def test_a_store_that_settings_make_public_gets_its_sidecars_anew_without_owners(
    catalog: Catalog,
) -> None:
    await written(catalog, public=True)
    shown = Rules(("backup",), (StoreRule("backup", LAYOUT), replace(DISK, public=True), CDN))
    await passes.replan_all(catalog, shown)
    claimed = await claim(catalog, Chore.WRITE_SIDECAR)
    assert (claimed.sidecar.public, claimed.sidecar.revision) == (True, None)
