"""What a person asked for of a track in a store, and that nothing undoes it later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from ledgers import add_track, make_blob, make_track, opened
from soundkeep.answers import Removal, Standing, Synced
from soundkeep.catalog import copies, copy_work, tracks
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.schema import copies as table
from soundkeep.copies import planning, syncing
from soundkeep.copies.fronts import Fronts
from soundkeep.copies.placement import DEFAULT_LAYOUT, Layout, Rules, StoreRule
from soundkeep.copies.syncing import Order
from soundkeep.errors import NoSuchStore
from soundkeep.intake import recording
from soundkeep.intake.recording import Inbox, NewTrack
from soundkeep.model import Asked, Chore, Copy, CopyState, Lane, Operation, Track, Visibility, Wish

BLOB = make_blob(b"a sound to be shown")
OWN = Layout("audio/{track_id}")
LEAVING, KEPT, RESTING = Wish.LEAVE, Wish.KEEP, Wish.REST
NO_FRONTS = Fronts(())


def rules(*keep: str, types: frozenset[str] | None = None, layout: Layout = OWN) -> Rules:
    """`cdn` is public and has keys of each track's own; `vault` is of nobody's `keep`."""
    plain = Layout(DEFAULT_LAYOUT)
    stores = [StoreRule(name, plain) for name in ("disk", "backup", "vault")]
    return Rules(keep, (*stores, StoreRule("cdn", layout, public=True, types=types)))


RULES = rules("disk", "backup")


@pytest.fixture
async def catalog(database_url: str) -> AsyncIterator[Catalog]:
    async with opened(database_url) as found:
        yield found


async def kept(catalog: Catalog, *names: str, public: bool = True, rules: Rules = RULES) -> None:
    """Tracks of one blob, each placed, their copies present."""

    def write(tx: Tx) -> None:
        for name in names:
            add_track(tx, make_track(name, BLOB, public=public))
        planning.replan(tx, BLOB, rules, lane=Lane.BULK)

    await catalog.write(write)
    await settle(catalog)


async def settle(catalog: Catalog) -> None:
    """Every wanted copy is written."""

    def write(tx: Tx) -> None:
        for store in ("disk", "backup", "vault", "cdn"):
            for claimed in copy_work.claim(
                tx, Chore.COPY, store, holder="h/1/1", limit=9, lease_seconds=60
            ):
                copy_work.prove(tx, claimed, locator=claimed.copy.key, verified="read back")

    await catalog.write(write)


async def sync(
    catalog: Catalog,
    operation: Operation,
    track_id: str,
    store: str | None,
    rules: Rules = RULES,
) -> Synced:
    order = Order(operation, syncing.stores_named(rules, store))
    await catalog.write(syncing.ask, track_id, order, rules)
    [line] = await catalog.read(syncing.look, [track_id], order, rules, NO_FRONTS)
    return line


async def push(catalog: Catalog, name: str, store: str | None, rules: Rules = RULES) -> Synced:
    return await sync(catalog, Operation.UPLOAD, name, store, rules)


async def withdraw(catalog: Catalog, name: str, store: str | None, rules: Rules = RULES) -> Synced:
    return await sync(catalog, Operation.DELETE, name, store, rules)


async def wishes(catalog: Catalog) -> dict[tuple[str, str], Wish]:
    """By store and key, what placement wants of each copy."""
    found = await catalog.read(copies.of_blob, BLOB.digest)
    return {(copy.store, copy.key.removesuffix(BLOB.digest.hex)): copy.wish for copy in found}


async def replanned(catalog: Catalog, rules: Rules) -> None:
    await catalog.write(planning.replan_one, BLOB.digest, rules)


async def track(catalog: Catalog, name: str) -> Track:
    found = await catalog.read(tracks.find, name)
    assert found is not None
    return found


async def drop_what_leaves(catalog: Catalog) -> None:
    """The law lets go what leaves, and its store confirms it."""

    def write(tx: Tx) -> None:
        for copy in copies.of_blob(tx, BLOB.digest):
            if copy.wish is Wish.LEAVE:
                tx.run(table.delete().where(table.c.id == copy.id))
                tracks.confirm_removal(tx, copy.id)

    await catalog.write(write)


# --- what is asked -------------------------------------------------------------------------------


async def test_withdrawing_makes_its_own_copy_leave_and_no_other(catalog: Catalog) -> None:
    await kept(catalog, "one", "two")
    line = await withdraw(catalog, "one", "cdn")
    assert (line.state, line.due) == (CopyState.PRESENT, (Chore.LEAVE, Chore.DROP))
    assert await wishes(catalog) == {
        ("disk", "blobs/"): KEPT,
        ("backup", "blobs/"): KEPT,
        ("cdn", "audio/one"): LEAVING,
        ("cdn", "audio/two"): KEPT,
    }
    await drop_what_leaves(catalog)
    assert (await withdraw(catalog, "one", "cdn")).state is Standing.GONE
    assert (await push(catalog, "two", "cdn")).state is CopyState.PRESENT


async def test_pushing_what_is_leaving_keeps_it_and_voids_the_receipt(catalog: Catalog) -> None:
    await kept(catalog, "one")
    await withdraw(catalog, "one", None)
    assert await catalog.read(tracks.receipt, "one") is not None
    line = await push(catalog, "one", None)
    assert (line.state, line.due) == (CopyState.PRESENT, ())
    assert (await wishes(catalog))["cdn", "audio/one"] is KEPT
    assert await catalog.read(tracks.receipt, "one") is None


@pytest.mark.parametrize(
    "later",
    [
        rules("disk"),
        rules("disk", "backup", "cdn"),
        rules("cdn", "disk"),
        rules("disk", "vault", "backup"),
        rules("disk", layout=Layout("other/{track_id}")),
    ],
)
async def test_no_change_of_settings_undoes_what_was_asked(catalog: Catalog, later: Rules) -> None:
    await kept(catalog, "one")
    await withdraw(catalog, "one", "cdn")
    await push(catalog, "one", "vault")
    await settle(catalog)
    await drop_what_leaves(catalog)
    for there in (later, RULES, rules("vault"), RULES):
        await replanned(catalog, there)
        found = await wishes(catalog)
        assert not [key for key in found if key[0] == "cdn"]
        assert found["vault", "blobs/"] is KEPT


async def test_the_same_upload_again_undoes_nothing(catalog: Catalog) -> None:
    await kept(catalog, "one")
    await withdraw(catalog, "one", "cdn")
    again = NewTrack(path="one.mp3", visibility=Visibility.PUBLIC)
    recorded = await catalog.write(
        recording.record, again, BLOB, inbox=Inbox("inbox@h", "k", 60.0), rules=RULES,
        lane=Lane.INTERACTIVE, holder="h/1/1", lease_seconds=60.0,
    )  # fmt: skip
    assert (recorded.track.id, recorded.created) == ("one", False)
    assert recorded.track.asked == {"cdn": Asked.WITHDRAWN}
    assert (await wishes(catalog))["cdn", "audio/one"] is LEAVING


async def test_the_upload_of_a_public_track_claims_no_copy_outside_keep(catalog: Catalog) -> None:
    new = NewTrack(path="new.mp3", visibility=Visibility.PUBLIC)
    recorded = await catalog.write(
        recording.record, new, BLOB, inbox=Inbox("inbox@h", "k", 60.0), rules=RULES,
        lane=Lane.INTERACTIVE, holder="h/1/1", lease_seconds=60.0,
    )  # fmt: skip
    assert {claimed.copy.store for claimed in recorded.claimed} == {"disk", "backup"}
    assert ("cdn", f"audio/{recorded.track.id}") in await wishes(catalog)


async def test_what_rests_somewhere_leaves_it_when_that_is_asked(catalog: Catalog) -> None:
    await kept(catalog, "one", rules=rules("disk", "backup", "vault"))
    await replanned(catalog, RULES)
    assert (await wishes(catalog))["vault", "blobs/"] is RESTING
    await withdraw(catalog, "one", "vault")
    assert (await wishes(catalog))["vault", "blobs/"] is LEAVING


async def test_what_rests_under_a_name_of_its_own_leaves_without_the_others(
    catalog: Catalog,
) -> None:
    shelf = (StoreRule("disk", Layout(DEFAULT_LAYOUT)), StoreRule("vault", OWN))
    await kept(catalog, "one", "two", rules=Rules(("disk", "vault"), shelf))
    await replanned(catalog, Rules(("disk",), shelf))
    await withdraw(catalog, "one", "vault", Rules(("disk",), shelf))
    assert await wishes(catalog) == {
        ("disk", "blobs/"): KEPT,
        ("vault", "audio/one"): LEAVING,
        ("vault", "audio/two"): RESTING,
    }


async def test_what_lies_under_a_former_key_leaves_too(catalog: Catalog) -> None:
    await kept(catalog, "one")
    later = rules("disk", "backup", layout=Layout("new/{track_id}"))
    await replanned(catalog, later)
    await settle(catalog)
    line = await withdraw(catalog, "one", "cdn", later)
    assert line.due == (Chore.LEAVE, Chore.DROP)
    found = await wishes(catalog)
    assert (found["cdn", "audio/one"], found["cdn", "new/one"]) == (LEAVING, LEAVING)
    receipt = await catalog.read(tracks.receipt, "one")
    assert receipt is not None
    assert {line.key for line in receipt.lines} == {"audio/one", "new/one"}


async def test_visibility_wins_over_what_was_asked(catalog: Catalog) -> None:
    await kept(catalog, "one")
    await push(catalog, "one", "cdn")
    pushed = await track(catalog, "one")
    private = {"title": "t", "visibility": Visibility.PRIVATE, "metadata": {}}
    await catalog.write(lambda tx: recording.change(tx, pushed, RULES, **private))  # type: ignore[arg-type]
    assert (await wishes(catalog))["cdn", "audio/one"] is LEAVING
    refused = await push(catalog, "one", "cdn")
    assert refused.refusal is not None
    assert (refused.state, refused.refusal.code) == (Standing.REFUSED, "track_is_private")
    assert (await wishes(catalog))["cdn", "audio/one"] is LEAVING


async def test_what_a_store_does_not_take_is_refused_and_not_remembered(catalog: Catalog) -> None:
    narrow = rules("disk", "backup", types=frozenset({"audio/flac"}))
    await kept(catalog, "one", rules=narrow)
    line = await push(catalog, "one", "cdn", narrow)
    assert line.refusal is not None
    assert line.refusal.code == "not_taken"
    assert (await track(catalog, "one")).asked == {}


async def test_a_store_that_is_not_there_is_named(catalog: Catalog) -> None:
    with pytest.raises(NoSuchStore, match="no store nowhere"):
        await push(catalog, "one", "nowhere")
    private = Rules(("disk",), (StoreRule("disk", OWN),))
    with pytest.raises(NoSuchStore, match="no public store"):
        await push(catalog, "one", None, private)


# --- receipts ------------------------------------------------------------------------------------


async def test_a_withdrawal_is_confirmed_by_the_store_and_not_by_asking(catalog: Catalog) -> None:
    await kept(catalog, "one")
    await withdraw(catalog, "one", "cdn")
    receipt = await catalog.read(tracks.receipt, "one")
    assert receipt is not None
    assert [(line.store, line.outcome) for line in receipt.lines] == [("cdn", Removal.PENDING)]
    await drop_what_leaves(catalog)
    line = await withdraw(catalog, "one", "cdn")
    assert (line.state, line.due) == (Standing.GONE, ())
    receipt = await catalog.read(tracks.receipt, "one")
    assert receipt is not None
    assert receipt.complete
    assert receipt.lines[0].confirmed_at == line.since


async def test_a_copy_that_another_name_wants_again_settles_the_receipt(catalog: Catalog) -> None:
    """Both names share the key. The second is withdrawn while the first's withdrawal is due."""
    shared = rules("disk", "backup", layout=Layout(DEFAULT_LAYOUT))
    await kept(catalog, "one", "two", rules=shared)
    assert (await withdraw(catalog, "one", "cdn", shared)).state is Standing.KEPT
    assert (await withdraw(catalog, "two", "cdn", shared)).due
    assert (await push(catalog, "one", "cdn", shared)).due == ()
    receipt = await catalog.read(tracks.receipt, "two")
    assert receipt is not None
    assert [line.outcome for line in receipt.lines] == [Removal.KEPT]


async def test_pushed_and_withdrawn_in_a_hurry_it_is_still_on_the_receipt(
    catalog: Catalog,
) -> None:
    await kept(catalog, "one")
    await withdraw(catalog, "one", "cdn")

    def released(tx: Tx) -> None:
        row = table.update().where(table.c.store == "cdn")
        tx.run(row.values(state="unwanted", chore="drop"))

    await catalog.write(released)
    line = await push(catalog, "one", "cdn")
    assert (line.state, line.due) == (CopyState.UNWANTED, (Chore.DROP, Chore.COPY))
    line = await withdraw(catalog, "one", "cdn")
    assert line.due == (Chore.DROP,)
    receipt = await catalog.read(tracks.receipt, "one")
    assert receipt is not None
    assert not receipt.complete


async def test_deleting_a_withdrawn_track_has_each_copy_on_its_receipt_once(
    catalog: Catalog,
) -> None:
    await kept(catalog, "one")
    await withdraw(catalog, "one", "cdn")
    receipt = await catalog.write(recording.remove, "one", RULES)
    assert receipt is not None
    assert sorted(line.store for line in receipt.lines) == ["backup", "cdn", "disk"]
    assert {line.outcome for line in receipt.lines} == {Removal.PENDING}


# --- how it stands -------------------------------------------------------------------------------


def test_what_is_due_follows_from_the_copy() -> None:
    copy = Copy(1, BLOB.digest, "cdn", "k", "k", CopyState.PRESENT, KEPT, since=0.0)
    expected = {
        CopyState.WANTED: ((Chore.COPY,), (Chore.LEAVE, Chore.DROP)),
        CopyState.PRESENT: ((), (Chore.LEAVE, Chore.DROP)),
        CopyState.DOUBTED: ((Chore.VERIFY,), (Chore.LEAVE, Chore.DROP)),
        CopyState.UNWANTED: ((Chore.DROP, Chore.COPY), (Chore.DROP,)),
    }
    for state, (to_have, to_lose) in expected.items():
        here = replace(copy, state=state)
        assert syncing._due_to_have(here) == to_have
        assert syncing._due_to_be_rid_of([here], None) == to_lose
    assert syncing._due_to_have(None) == (Chore.COPY,)
