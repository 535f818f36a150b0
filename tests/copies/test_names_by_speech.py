"""What was said is a name of its blob: private, at a key of its own, and as good as a track."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert, update

from ledgers import make_blob, make_track, opened
from soundkeep.catalog import blobs, copies, copy_law
from soundkeep.catalog import segments as segment_rows
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.schema import copies as copies_table
from soundkeep.catalog.schema import segments
from soundkeep.copies import passes
from soundkeep.copies.placement import DEFAULT_LAYOUT, Layout, Rules, StoreRule, place
from soundkeep.intake import recording
from soundkeep.intake.recording import Inbox, NewTrack
from soundkeep.model import Lane, SegmentName, Visibility, Wish

BLOB = make_blob(b"what was said")
HERE = f"blobs/{BLOB.digest}"
RULES = Rules(
    ("disk", "folder"),
    (
        StoreRule("disk", Layout(DEFAULT_LAYOUT)),
        StoreRule("folder", Layout("{owner}/{path}")),
        StoreRule("cdn", Layout(DEFAULT_LAYOUT), public=True),
    ),
)
INBOX = Inbox("inbox@host", "uploads/a", 3600.0)


@pytest.fixture
async def catalog(database_url: str) -> AsyncIterator[Catalog]:
    async with opened(database_url) as found:
        yield found


def say(tx: Tx) -> bool:
    """A segment whose take has just landed."""

    def name_it() -> None:
        tx.run(
            insert(segments).values(
                key="key", engine="e", model="m", voice="v", request="{}", text="t",
                state="present", digest=BLOB.digest.raw, hits=0, refusals=0, created_at=0,
                lane="interactive", due_at=0, attempts=0,
            )
        )  # fmt: skip

    return recording.record_speech(
        tx, BLOB, name_it, inbox=INBOX, rules=RULES, lane=Lane.INTERACTIVE
    )


def upload(tx: Tx, visibility: Visibility = Visibility.PRIVATE) -> None:
    new = NewTrack(id="t", path="a.mp3", visibility=visibility)
    inbox = Inbox("inbox@host", "uploads/b", 3600.0)
    recording.record(
        tx, new, BLOB, inbox=inbox, rules=RULES, lane=Lane.BULK, holder="h/1/1", lease_seconds=60
    )


def all_are_there(tx: Tx) -> None:
    values = {"state": "present", "chore": None, "verified_at": tx.now(), "lease_token": None}
    tx.run(update(copies_table).where(copies_table.c.wish == Wish.KEEP.value).values(**values))


async def wishes(catalog: Catalog) -> dict[Place, Wish]:
    found = await catalog.read(copies.of_blob, BLOB.digest)
    return {Place(c.store, c.key): c.wish for c in found if not copies.is_inbox(c.store)}


SAID = {Place("disk", HERE): Wish.KEEP, Place("folder", HERE): Wish.KEEP}


def test_speech_lies_in_every_store_to_keep_by_its_digest_and_in_no_public_one() -> None:
    assert place(BLOB, [SegmentName()], RULES) == SAID.keys()
    both = place(BLOB, [SegmentName(), make_track("t", BLOB, public=True)], RULES)
    assert both - SAID.keys() == {Place("folder", "admin/t.mp3"), Place("cdn", HERE)}


async def test_what_landed_is_wanted_wherever_it_belongs(catalog: Catalog) -> None:
    assert await catalog.write(say), "the inbox has the only copy"
    assert await wishes(catalog) == SAID
    assert await catalog.read(segment_rows.naming, BLOB.digest) == [SegmentName("key", 1)]
    assert await catalog.read(copy_law.is_named, BLOB.digest)
    await passes.replan_all(catalog, RULES)
    assert await wishes(catalog) == SAID


async def test_what_is_there_already_is_not_kept_twice(catalog: Catalog) -> None:
    await catalog.write(upload)
    await catalog.write(all_are_there)
    assert await catalog.write(say), "its own key in the folder is new"
    assert (await wishes(catalog)).keys() == SAID.keys() | {Place("folder", "admin/a.mp3")}
    await catalog.write(all_are_there)
    await catalog.write(lambda tx: tx.run(segments.delete()))
    assert not await catalog.write(say)


async def test_an_upload_of_the_same_bytes_leaves_speech_where_it_is(catalog: Catalog) -> None:
    await catalog.write(say)
    await catalog.write(all_are_there)
    await catalog.write(upload)
    assert await wishes(catalog) == SAID | {Place("folder", "admin/a.mp3"): Wish.KEEP}


@pytest.mark.parametrize("visibility", Visibility)
async def test_deleting_the_track_leaves_what_was_said(
    catalog: Catalog, visibility: Visibility
) -> None:
    await catalog.write(say)
    await catalog.write(upload, visibility)
    await catalog.write(all_are_there)
    receipt = await catalog.write(recording.remove, "t", RULES)
    assert receipt is not None
    left = await wishes(catalog)
    assert {here for here, wish in left.items() if wish is Wish.KEEP} == SAID.keys()
    await catalog.write(blobs.forget_if_gone, BLOB.digest)
    assert await catalog.read(blobs.find, BLOB.digest) == BLOB
