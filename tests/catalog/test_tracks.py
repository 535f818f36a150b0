"""Tracks: found by id, path and word, and listed page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ledgers import add_track, make_blob, make_track, opened
from soundkeep.answers import Removal
from soundkeep.catalog import tracks
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.tracks import Query
from soundkeep.errors import BadCursor
from soundkeep.model import Asked, Visibility


@pytest.fixture
async def catalog(database_url: str) -> AsyncIterator[Catalog]:
    async with opened(database_url) as found:
        yield found


async def add(catalog: Catalog, *names: str, **options: object) -> None:
    def write(tx: Tx) -> None:
        for name in names:
            add_track(tx, make_track(name, make_blob(name.encode()), **options))  # type: ignore[arg-type]

    await catalog.write(write)


async def names(catalog: Catalog, query: Query) -> list[str]:
    return [track.id for track in (await catalog.read(tracks.page, query)).items]


async def test_pages_follow_each_other_without_gap_or_repetition(catalog: Catalog) -> None:
    every = [f"t{number:03}" for number in range(25)]
    await add(catalog, *reversed(every))
    seen: list[str] = []
    cursor = None
    for _ in range(20):
        page = await catalog.read(tracks.page, Query(limit=4, cursor=cursor))
        seen += [track.id for track in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == every


async def test_a_prefix_compares_bytes_and_not_letters(catalog: Catalog) -> None:
    await add(catalog, "book", "booK", "book_1", "booké", "boot", "zoo")
    assert await names(catalog, Query(prefix="book")) == ["book", "book_1", "booké"]
    assert await names(catalog, Query(prefix="book_")) == ["book_1"]
    assert await names(catalog, Query(prefix="%")) == []


async def test_each_word_of_a_search_begins_a_word_of_the_track(catalog: Catalog) -> None:
    await add(catalog, "one", title="The Café at Night")
    await add(catalog, "two", title="Night train")
    assert await names(catalog, Query(search="night")) == ["one", "two"]
    assert await names(catalog, Query(search="CAFE nig")) == ["one"]
    assert await names(catalog, Query(search="ight")) == []
    assert await names(catalog, Query(search='"; DROP TABLE tracks; -- ')) == []
    assert await names(catalog, Query(search="two mp3")) == ["two"]


async def test_a_search_goes_on_with_its_cursor(catalog: Catalog) -> None:
    await add(catalog, "a1", "a2", "a3", title="same words")
    page = await catalog.read(tracks.page, Query(search="same", limit=2))
    assert page.next_cursor is not None
    rest = await catalog.read(tracks.page, Query(search="same", limit=2, cursor=page.next_cursor))
    assert [track.id for track in page.items + rest.items] == ["a1", "a2", "a3"]
    assert rest.next_cursor is None


async def test_a_changed_or_deleted_track_is_no_longer_found_by_its_old_words(
    catalog: Catalog,
) -> None:
    await add(catalog, "one", title="morning")

    def rename(tx: Tx) -> None:
        track = tracks.find(tx, "one")
        assert track is not None
        tracks.change(tx, track, title="evening", visibility=Visibility.PUBLIC, metadata={"a": 1})

    await catalog.write(rename)
    assert await names(catalog, Query(search="morning")) == []
    assert await names(catalog, Query(search="evening", visibility=Visibility.PUBLIC)) == ["one"]

    def bury(tx: Tx) -> None:
        track = tracks.find(tx, "one")
        assert track is not None
        assert (track.revision, track.metadata) == (2, {"a": 1})
        tracks.bury(tx, track)

    await catalog.write(bury)
    assert await names(catalog, Query(search="evening")) == []


@pytest.mark.parametrize("cursor", ["zz", "00", "5b5d", "5b312c325d", "7b7d"])
async def test_a_cursor_of_somebody_else_is_refused(catalog: Catalog, cursor: str) -> None:
    with pytest.raises(BadCursor):
        await catalog.read(tracks.page, Query(cursor=cursor))


async def test_owners_and_visibility_narrow_a_list(catalog: Catalog) -> None:
    await add(catalog, "mine", owner="ann")
    await add(catalog, "theirs", owner="bob", public=True)
    assert await names(catalog, Query(owner="ann")) == ["mine"]
    assert await names(catalog, Query(visibility=Visibility.PUBLIC)) == ["theirs"]


async def test_what_no_database_would_look_for_is_a_bad_cursor_or_is_not_there(
    catalog: Catalog,
) -> None:
    await add(catalog, "one")
    for content in (b'["a",9223372036854775808]', b'["a",-9223372036854775809]', b'["\\u0000",1]'):
        with pytest.raises(BadCursor):
            await catalog.read(tracks.page, Query(cursor=content.hex()))
    assert await names(catalog, Query(prefix="o\0")) == []
    assert await names(catalog, Query(owner="admin\0")) == []
    assert await catalog.read(tracks.find, "one\0") is None


async def test_what_was_asked_is_remembered_for_each_store_and_raises_the_revision(
    catalog: Catalog,
) -> None:
    await add(catalog, "one", "two")

    def ask(tx: Tx, store: str, what: Asked) -> None:
        track = tracks.find(tx, "one")
        assert track is not None
        tracks.ask(tx, track, store, what)

    for store, what in (
        ("cdn", Asked.PUSHED),
        ("r2'; --", Asked.WITHDRAWN),
        ("cdn", Asked.WITHDRAWN),
    ):
        await catalog.write(ask, store, what)
    found = await catalog.read(tracks.of_ids, ["one", "two", "three", "o\0"])
    assert found.keys() == {"one", "two"}
    assert found["one"].asked == {"cdn": Asked.WITHDRAWN, "r2'; --": Asked.WITHDRAWN}
    assert (found["one"].revision, found["two"].revision) == (4, 1)
    assert found["two"].asked == {}

    def rename(tx: Tx) -> None:
        tracks.change(tx, found["one"], title="x", visibility=Visibility.PUBLIC, metadata={})

    await catalog.write(rename)
    track = await catalog.read(tracks.find, "one")
    assert track is not None
    assert track.asked == found["one"].asked


async def test_a_receipt_keeps_what_was_confirmed_and_forgets_what_is_void(
    catalog: Catalog,
) -> None:
    await add(catalog, "one", "two")
    lines = [
        ("cdn", "k", 7, Removal.PENDING),
        ("mirror", "k", 8, Removal.PENDING),
        ("disk", "k", None, Removal.KEPT),
    ]
    await catalog.write(tracks.note_removals, "one", lines, [])
    await catalog.write(tracks.note_removals, "two", lines[:1], [])
    assert await catalog.read(tracks.removed_at, ["one", "two"]) == {}
    await catalog.write(tracks.confirm_removal, 8)
    confirmed = await catalog.read(tracks.removed_at, ["one", "o\0"])
    assert confirmed.keys() == {("one", "mirror")}

    await catalog.write(lambda tx: tracks.forget_removals(tx, "one", pending=True))
    receipt = await catalog.read(tracks.receipt, "one")
    assert receipt is not None
    assert (receipt.deleted_at, receipt.complete) == (None, True)
    assert {line.store: line.outcome for line in receipt.lines} == {
        "mirror": Removal.REMOVED,
        "disk": Removal.KEPT,
    }
    await catalog.write(tracks.note_removals, "one", lines[:1], [])
    assert await catalog.read(tracks.removed_at, ["one"]) == confirmed, "a time is never rewritten"

    stores = ("cdn", "mirror", "disk")
    await catalog.write(lambda tx: tracks.forget_removals(tx, "one", stores=stores))
    assert await catalog.read(tracks.receipt, "one") is None
    other = await catalog.read(tracks.receipt, "two")
    assert other is not None
    assert not other.complete
