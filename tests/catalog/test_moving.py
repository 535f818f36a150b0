"""The rows of draining, migrating, scrubbing and orphans, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import ledgers
from soundkeep.catalog import claims, copies, copy_work, in_use, moving, orphans, scrubs, tracks
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copy_law import Law
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.moving import Selection
from soundkeep.catalog.schema import copies as copies_table
from soundkeep.catalog.schema import facts, now
from soundkeep.copies import draining, forgetting, passes
from soundkeep.copies.forgetting import Forgetter
from soundkeep.copies.placement import DEFAULT_LAYOUT, Layout, Rules, StoreRule
from soundkeep.errors import NoSuchStore, StoreNeeded
from soundkeep.intake import recording
from soundkeep.model import Asked, Chore, Copy, CopyState, Wish
from soundkeep.stores.interface import AS_IT_IS

DAY = 86_400.0
RULES = Rules(
    ("disk", "backup"),
    tuple(StoreRule(name, Layout(DEFAULT_LAYOUT)) for name in ("disk", "backup")),
)
LAW = Law(frozenset({"disk", "backup"}), min_copies=1, proof_age=DAY)
HOLDER = claims.holder_name("there")
BLOBS = [ledgers.make_blob(bytes([n]) * 9) for n in range(4)]


@pytest.fixture
async def catalog(database_url: str) -> AsyncIterator[Catalog]:
    """Four tracks in both stores and in `old`, which the settings no longer have."""
    async with ledgers.opened(database_url) as catalog:
        for number, blob in enumerate(BLOBS):
            track = ledgers.make_track(f"x/{number}", blob, owner="ann" if number else "bob")
            await catalog.write(ledgers.add_track, track)
            await catalog.write(ledgers.add_present, blob, "disk", "backup", "old")
        for name in ("disk", "backup", "old"):
            await catalog.write(store_rows.ensure, name, "test")
        yield catalog


async def wishes(catalog: Catalog, store: str) -> set[Wish]:
    rows = await catalog.read(copies.by_key, store, "", 100)
    return {copy.wish for copy in rows}


async def test_what_drains_leaves_and_what_is_used_again_stays(catalog: Catalog) -> None:
    await catalog.write(draining.drain, "disk", RULES)
    assert await catalog.read(store_rows.draining) == {"disk"}
    assert await passes.replan_drained(catalog, RULES) == len(BLOBS)
    assert await wishes(catalog, "disk") == {Wish.LEAVE}
    assert await passes.replan_drained(catalog, RULES) == 0
    with pytest.raises(StoreNeeded):
        await catalog.write(draining.drain, "backup", RULES)
    with pytest.raises(NoSuchStore):
        await catalog.write(draining.drain, "old", RULES)
    await catalog.write(draining.resume, "disk", RULES)
    await passes.replan_if_asked(catalog, RULES)
    assert await wishes(catalog, "disk") == {Wish.KEEP}


async def test_the_placement_of_a_process_with_other_settings_is_not_undone(
    catalog: Catalog,
) -> None:
    await passes.replan_all(catalog, RULES)
    assert await passes.replan_if_asked(catalog, Rules(("disk",), RULES.stores)) == 0
    assert await wishes(catalog, "backup") == {Wish.KEEP}


async def test_a_store_that_others_make_good_for_is_forgotten(catalog: Catalog) -> None:
    forgetter = Forgetter(catalog, LAW, LAW.stores)
    held = await forgetter.look("old")
    assert (held.copies, held.bytes, held.needed_copies) == (4, 36, 0)
    await forgetter.forget("old")
    assert await catalog.read(copies.by_key, "old", "", 100) == []
    assert "old" not in await catalog.read(store_rows.known)
    for name, error in (("disk", StoreNeeded), ("old", NoSuchStore)):
        with pytest.raises(error):
            await forgetter.forget(name)


async def test_a_store_that_has_the_last_copy_is_forgotten_only_by_who_says_so(
    catalog: Catalog,
) -> None:
    for copy in await catalog.read(copies.of_blob, BLOBS[0].digest):
        if copy.store != "old":
            await catalog.write(copies.doubt, copy.id, "for a test")
    forgetter = Forgetter(catalog, LAW, LAW.stores)
    held = await forgetter.look("old")
    [needed] = held.needed
    assert (needed.others, needed.lost, needed.tracks[0].id) == (0, False, "x/0")
    with pytest.raises(StoreNeeded):
        await forgetter.forget("old")
    assert len(await catalog.read(copies.by_key, "old", "", 100)) == 4
    await forgetter.forget("old", needed_too=True)
    assert await catalog.read(copies.by_key, "old", "", 100) == []


async def test_tracks_are_found_by_store_and_by_what_is_said_of_them(catalog: Catalog) -> None:
    async def ids(**which: object) -> list[str]:
        selection = Selection(**which)  # type: ignore[arg-type]
        found, _ = await catalog.read(moving.tracks_in, "disk", selection, 0, 100)
        return [track.id for track in found]

    assert await ids() == ["x/0", "x/1", "x/2", "x/3"]
    assert await ids(prefix="x/2") == ["x/2"]
    assert await ids(owner="bob") == ["x/0"]
    assert await ids(until=1.0) == []
    track = await catalog.read(tracks.find, "x/1")
    assert track is not None
    await catalog.write(tracks.ask, track, "disk", Asked.WITHDRAWN)
    page, after = await catalog.read(moving.tracks_in, "disk", Selection(), 0, 2)
    assert [each.id for each in page] == ["x/0"]
    rest, end = await catalog.read(moving.tracks_in, "disk", Selection(), after or 0, 3)
    assert ([each.id for each in rest], end) == (["x/2", "x/3"], None)
    assert await catalog.read(moving.nameless_in, "disk") == 0


async def test_one_process_at_a_time_scrubs_a_store_oldest_first(catalog: Catalog) -> None:
    assert await catalog.write(scrubs.take_turn, "disk", "mine", 60)
    assert await catalog.write(scrubs.take_turn, "disk", "mine", 60)
    assert not await catalog.write(scrubs.take_turn, "disk", "theirs", 60)
    for days, blob in enumerate(BLOBS):
        row = copies_table.update().where(
            copies_table.c.digest == blob.digest.raw, copies_table.c.store == "disk"
        )
        await catalog.write(lambda tx, r=row, d=days: tx.run(r.values(verified_at=now() - d * DAY)))
    before = await catalog.read(Tx.now) - DAY / 2
    due = await catalog.read(scrubs.oldest, "disk", before, 10, presence=False)
    assert [each.copy.digest for each in due] == [blob.digest for blob in BLOBS[:0:-1]]
    await catalog.write(scrubs.note_pass, "disk")
    assert (await catalog.read(scrubs.figures))["disk"].full_pass_at is None
    for each in due:
        await catalog.write(scrubs.note_seen, each.copy)
        await catalog.write(scrubs.note_read, "disk", each.size_bytes)
    await catalog.write(scrubs.note_find, due[0].copy, "rotten")
    first = await catalog.read(scrubs.oldest, "disk", before + DAY, 10, presence=True)
    for each in first:
        await catalog.write(scrubs.note_seen, each.copy)
    await catalog.write(scrubs.note_pass, "disk")
    figures = (await catalog.read(scrubs.figures))["disk"]
    assert figures.full_pass_at is not None
    assert (figures.copies_read, figures.bytes_read) == (3, 27)
    assert (figures.found, figures.healed) == (1, 0)
    await catalog.write(scrubs.note_healed, due[0].copy.id)
    [find] = await catalog.read(scrubs.found_since, 0.0)
    assert (find.why, find.healed_at is not None) == ("rotten", True)
    await catalog.write(scrubs.end_turn, "disk", "mine")
    assert await catalog.write(scrubs.take_turn, "disk", "theirs", 60)


async def found_wrong(catalog: Catalog, number: int = 0) -> Copy:
    """A copy in `disk` that a scrub found wrong."""
    held = await catalog.read(copies.of_blob, BLOBS[number].digest)
    copy = next(copy for copy in held if copy.store == "disk")
    await catalog.write(scrubs.take_turn, "disk", "mine", 60)
    await catalog.write(copies.doubt, copy.id, "rotten")
    await catalog.write(scrubs.note_find, copy, "rotten")
    return copy


async def figures_of_finds(catalog: Catalog) -> tuple[int, int, int]:
    """Found, healed, and not healed yet."""
    figures = (await catalog.read(scrubs.figures))["disk"]
    return figures.found, figures.healed, figures.unhealed


async def test_what_was_found_wrong_and_left_is_neither_healed_nor_waits_for_it(
    catalog: Catalog,
) -> None:
    await found_wrong(catalog, 0)
    await found_wrong(catalog, 1)
    assert await figures_of_finds(catalog) == (2, 0, 2)
    await catalog.write(recording.remove, "x/0", RULES)
    assert await figures_of_finds(catalog) == (2, 0, 1), "it is on its way out"
    [claimed] = await catalog.write(
        copy_work.claim, Chore.DROP, "disk", holder="h/1/1", limit=9, lease_seconds=60
    )
    await catalog.write(copy_work.confirm_gone, claimed)
    assert await figures_of_finds(catalog) == (2, 0, 1)
    finds = await catalog.read(scrubs.found_since, 0.0)
    assert [find.is_open for find in finds] == [False, True]


async def test_what_was_found_wrong_and_then_whole_by_a_rebuild_is_healed(
    catalog: Catalog,
) -> None:
    copy = await found_wrong(catalog)
    await catalog.write(
        lambda tx: copy_work.note_found(tx, copy, locator="x", verified="read back")
    )
    assert await figures_of_finds(catalog) == (1, 1, 0)


async def test_what_is_found_wrong_a_second_time_waits_once(catalog: Catalog) -> None:
    copy = await found_wrong(catalog)
    await catalog.write(
        lambda tx: copy_work.note_found(tx, copy, locator="x", verified="read back")
    )
    await found_wrong(catalog)
    assert await figures_of_finds(catalog) == (2, 1, 1)


async def test_orphans_are_what_no_row_holds_in_whatever_state(catalog: Catalog) -> None:
    held = str(RULES.stores[0].layout.key(BLOBS[0], ledgers.make_track("t", BLOBS[0])))
    await catalog.write(orphans.note, "disk", {held: 9, "stray": 5, "another": 6}, AS_IT_IS.key_of)
    first = await catalog.read(orphans.of_store, "disk", "", 10)
    assert [orphan.key for orphan in first] == ["another", "stray"]
    await catalog.write(orphans.note, "disk", {"stray": 7}, AS_IT_IS.key_of)
    [again] = [
        one for one in await catalog.read(orphans.of_store, "disk", "", 10) if one.size_bytes == 7
    ]
    assert again.first_seen_at == first[1].first_seen_at
    moment = await catalog.read(Tx.now)
    gone = await catalog.read(orphans.not_seen_since, "disk", moment, 10)
    assert set(gone) == {"another", "stray"}
    await catalog.write(copies.abandon, BLOBS[0].digest)
    assert await catalog.read(orphans.unknown, "disk", [held, "stray"], str) == {"stray"}
    present = await catalog.read(orphans.present_between, "disk", "", None, moment + 60, 9)
    assert {copy.state for copy in present} == {CopyState.PRESENT}
    assert len(present) == 3


async def test_what_came_to_a_store_while_it_was_forgotten_is_forgotten_too(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process whose settings still have it: no row of a store that nobody knows may stay."""
    last_page, came = forgetting._forget_page, [False]

    def page(tx: Tx, name: str, *rest: Any) -> str | None:
        after = last_page(tx, name, *rest)
        if after is None and not came[0]:
            came[0] = True
            ledgers.add_present(tx, BLOBS[0], name)
        return after

    monkeypatch.setattr(forgetting, "_forget_page", page)
    await Forgetter(catalog, LAW, LAW.stores).forget("old")
    assert came[0]
    assert await catalog.read(copies.by_key, "old", "", 9) == []
    assert "old" not in await catalog.read(store_rows.known)


async def test_the_inbox_of_a_host_that_was_just_heard_of_is_not_forgotten(
    catalog: Catalog,
) -> None:
    inbox, forgetter = "inbox@there", Forgetter(catalog, LAW, LAW.stores)
    await catalog.write(store_rows.ensure, inbox, "inbox")
    await catalog.write(in_use.note, inbox, HOLDER)
    for needed_too in (False, True):
        with pytest.raises(StoreNeeded, match="of that host was at work"):
            await forgetter.forget(inbox, needed_too=needed_too)
    with pytest.raises(StoreNeeded):
        await forgetter.look(inbox)
    a_while_ago = facts.update().values(at=now() - forgetting.ALIVE_SECONDS)
    await catalog.write(lambda tx: tx.run(a_while_ago))
    await forgetter.forget(inbox)
    assert inbox not in await catalog.read(store_rows.known)
    assert await catalog.read(in_use.seconds_since, inbox) is None


async def test_the_inbox_of_a_host_that_stopped_is_forgotten_at_once(catalog: Catalog) -> None:
    await catalog.write(store_rows.ensure, "inbox@there", "inbox")
    await catalog.write(in_use.note, "inbox@there", HOLDER)
    await catalog.write(in_use.note_end, "inbox@there", HOLDER)
    await Forgetter(catalog, LAW, LAW.stores).forget("inbox@there")


async def test_one_process_of_a_host_that_ends_does_not_speak_for_the_others(
    catalog: Catalog,
) -> None:
    inbox = "inbox@there"
    await catalog.write(store_rows.ensure, inbox, "inbox")
    for holder in (HOLDER, "there/1/another"):
        await catalog.write(in_use.note, inbox, holder)
    await catalog.write(in_use.note_end, inbox, HOLDER)
    with pytest.raises(StoreNeeded, match="of that host was at work"):
        await Forgetter(catalog, LAW, LAW.stores).forget(inbox)
    await catalog.write(in_use.begin, inbox, HOLDER)  # the other one is no process of this machine
    assert await catalog.read(in_use.seconds_since, inbox) is not None
    await catalog.write(in_use.note_end, inbox, HOLDER)
    await Forgetter(catalog, LAW, LAW.stores).forget(inbox)


async def test_a_host_is_not_taken_for_another_whose_name_begins_alike(catalog: Catalog) -> None:
    await catalog.write(store_rows.ensure, "inbox@there", "inbox")
    await catalog.write(in_use.note, "inbox@there2", "there2/1/2")
    await Forgetter(catalog, LAW, LAW.stores).forget("inbox@there")
    assert await catalog.read(in_use.seconds_since, "inbox@there2") is not None


async def test_a_host_that_comes_back_while_its_inbox_is_forgotten_keeps_it(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, forget_page = "inbox@there", forgetting._forget_page
    await catalog.write(store_rows.ensure, inbox, "inbox")
    await catalog.write(ledgers.add_present, BLOBS[0], inbox)

    def while_it_comes_back(tx: Tx, *rest: Any) -> str | None:
        in_use.note(tx, inbox, HOLDER)
        return forget_page(tx, *rest)

    monkeypatch.setattr(forgetting, "_forget_page", while_it_comes_back)
    with pytest.raises(StoreNeeded, match="of that host was at work"):
        await Forgetter(catalog, LAW, LAW.stores).forget(inbox, needed_too=True)
    [held] = await catalog.read(copies.by_key, inbox, "", 9)
    assert held.digest == BLOBS[0].digest
