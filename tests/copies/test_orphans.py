"""What lies in a store and what the ledger says are compared, and put right only on request."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from soundkeep import build
from soundkeep.build.house import House
from soundkeep.catalog import copies
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Tx
from soundkeep.catalog.schema import copies as copies_table
from soundkeep.catalog.schema import now, orphans
from soundkeep.catalog.schema import sidecars as sidecars_table
from soundkeep.copies import orphans as orphans_module
from soundkeep.copies.orphans import Comparer
from soundkeep.digest import Digest
from soundkeep.errors import Misconfigured, StoreError
from soundkeep.intake.recording import NewTrack
from soundkeep.model import CopyState, Lane, Track, Wish
from soundkeep.settings import Settings
from soundkeep.stores.interface import Store
from soundkeep.stores.wrappers import Wrapped
from soundkeep.worker import settled
from sounds import wav

DAY = 86_400.0
SOUND = wav(60_000, seed=1)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    inbox: Any = {"linger_seconds": 0}
    policy: Any = {"ack_copies": 2}
    async with build.opened(Settings(data=tmp_path, inbox=inbox, policy=policy)) as house:
        yield house


async def add(house: House) -> Track:
    async def body() -> AsyncIterator[bytes]:
        yield SOUND

    new = NewTrack(id="song", path="song.wav")
    return (await house.keep.add(body(), new, lane=Lane.BULK)).track


@pytest.fixture
async def track(house: House) -> Track:
    track = await add(house)
    assert await settled(house, 60)
    return track


def leave(house: House, key: str, *, days_old: float = 30) -> Path:
    """An object that nobody recorded."""
    file = house.keep.settings.data_directory / "audio" / key
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"of nobody")
    then = time.time() - days_old * DAY
    os.utime(file, (then, then))
    return file


async def age(house: House, days: float) -> None:
    """Every orphan was first seen so long ago."""
    seen = orphans.update().values(first_seen_at=now() - days * DAY)
    await house.keep.catalog.write(lambda tx: tx.run(seen))


async def mend(house: House, *, days: float = 7) -> list[str]:
    """Compares, puts right, and answers the keys that were removed."""
    compared = await house.comparer.compare("disk")
    await house.comparer.mend(compared, days * DAY)
    assert await settled(house, 60)
    return [orphan.key for orphan in compared.removed.named]


async def test_what_no_row_knows_is_listed_and_what_one_knows_is_not(
    house: House, track: Track
) -> None:
    leave(house, "blobs/stray")
    leave(house, "a/b/c.mp3")
    compared = await house.comparer.compare("disk")
    assert [orphan.key for orphan in compared.orphans.named] == ["a/b/c.mp3", "blobs/stray"]
    assert {orphan.size_bytes for orphan in compared.orphans.named} == {len(b"of nobody")}
    assert (compared.objects, compared.missing.named) == (4, []), (
        "the sound and its sidecar are known"
    )
    assert (await house.comparer.compare("backup")).orphans.count == 0


async def test_an_orphan_goes_only_when_it_was_seen_long_ago(house: House, track: Track) -> None:
    file = leave(house, "blobs/stray")
    assert await mend(house) == []
    await age(house, 6.9)
    assert await mend(house) == []
    await age(house, 7.1)
    assert file.exists()
    assert await mend(house) == ["blobs/stray"]
    assert not file.exists()
    assert (await house.comparer.compare("disk")).orphans.count == 0
    assert (await house.keep.check()).passed


async def test_what_is_younger_than_an_hour_never_goes_whoever_asks(
    house: House, track: Track
) -> None:
    file = leave(house, "blobs/stray")
    await house.comparer.compare("disk")
    assert await mend(house, days=0) == []
    await age(house, 30)
    leave(house, "blobs/stray", days_old=0)
    assert await mend(house, days=0) == [], "it was written anew"
    assert file.exists()


async def test_what_is_ours_alone_is_never_an_orphan(house: House, track: Track) -> None:
    marker = leave(house, ".soundkeep/something")
    await house.comparer.compare("disk")
    await age(house, 30)
    assert await mend(house) == []
    assert marker.exists()


@pytest.mark.parametrize("state", ["wanted", "outgoing"])
async def test_a_key_that_a_row_holds_is_never_an_orphans(
    house: House, track: Track, state: str
) -> None:
    file = leave(house, "blobs/held")
    await house.comparer.compare("disk")
    await age(house, 30)
    place, digest = Place("disk", "blobs/held"), track.blob.digest
    catalog = house.keep.catalog
    compared = await house.comparer.compare("disk")
    await catalog.write(copies.want, digest, [place], Lane.BULK)
    if state == "outgoing":
        await catalog.write(copies.abandon, digest)
    await house.comparer.mend(compared, 7 * DAY)
    assert compared.removed.count == 0
    assert file.exists()
    assert (await house.comparer.compare("disk")).orphans.count == 0


class Slow(Wrapped):
    """A store in which an upload comes to a key just before it is deleted."""

    def __init__(self, inner: Store, upload: Callable[[], Awaitable[object]]) -> None:
        super().__init__(inner)
        self._upload = upload

    async def delete(self, locator: str) -> None:
        await self._upload()
        await self.inner.delete(locator)


async def test_what_came_to_the_key_while_the_orphan_went_is_written_again(house: House) -> None:
    keep = house.keep
    file = leave(house, f"blobs/{Digest.of(SOUND).hex}")
    await house.comparer.compare("disk")
    await age(house, 30)
    slow = Slow(keep.stores["disk"], lambda: add(house))
    comparer = Comparer(keep.catalog, {"disk": slow}, keep.rules)
    compared = await comparer.compare("disk")
    await comparer.mend(compared, 7 * DAY)
    assert compared.removed.count == 1
    assert not file.exists(), "the delete has hit the upload's own bytes"
    assert await settled(house, 60)
    assert file.read_bytes() == SOUND


async def test_a_row_whose_object_is_gone_is_listed_and_mended_on_request(
    house: House, track: Track
) -> None:
    file = house.keep.settings.data_directory / "audio/blobs" / track.blob.digest.hex
    file.unlink()
    compared = await house.comparer.compare("disk")
    assert [copy.digest for copy in compared.missing.named] == [track.blob.digest]
    held = await house.keep.catalog.read(copies.of_blob, track.blob.digest)
    assert {copy.state for copy in held} == {CopyState.PRESENT}, "looking changes nothing"
    await mend(house)
    assert file.read_bytes() == SOUND


async def test_rows_without_an_object_are_looked_through_page_by_page(
    house: House, track: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"blobs/gone-{number}" for number in range(5)]
    for key in keys:
        place = Place("disk", key)
        await house.keep.catalog.write(
            lambda tx, place=place: copies.record_present(
                tx,
                track.blob.digest,
                place,
                locator=place.key,
                verified="t",
                wish=Wish.KEEP,
                due_in=0,
            )
        )
    # Those recorded in the very moment of the look may have come after it: they are left out.
    before = update(copies_table).values(since=copies_table.c.since - 1)
    await house.keep.catalog.write(lambda tx: tx.run(before))
    monkeypatch.setattr(orphans_module, "PAGE_OBJECTS", 2)
    compared = await house.comparer.compare("disk")
    assert sorted(copy.key for copy in compared.missing.named) == keys


async def test_a_store_that_is_out_has_no_orphans_and_lacks_nothing(
    house: House, track: Track
) -> None:
    data = house.keep.settings.data_directory
    (data / "audio").rename(data / "away")
    with pytest.raises(StoreError):
        await house.comparer.compare("disk")


async def test_a_store_of_another_catalog_has_no_orphans_of_ours(
    house: House, track: Track
) -> None:
    """All that lies there is unknown to us, and somebody else's."""
    file = leave(house, "blobs/of-theirs")
    await house.comparer.compare("disk")
    await age(house, 30)
    compared = await house.comparer.compare("disk")
    await house.keep.stores["disk"].write_marker("of another catalog")
    with pytest.raises(Misconfigured, match="another one"):
        await house.comparer.mend(compared, 7 * DAY)
    with pytest.raises(Misconfigured, match="another one"):
        await house.comparer.compare("disk")
    assert file.exists()


class Spelling(Wrapped):
    """A store that names its objects in its own way, so that a locator is not its key; `upload`
    comes just before the first delete."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.upload: Callable[[], Awaitable[object]] | None = None

    async def delete(self, locator: str) -> None:
        if self.upload is not None:
            upload, self.upload = self.upload, None
            await upload()
        await self.inner.delete(locator)


async def test_what_came_under_another_name_than_its_key_is_written_again_too(
    house: House, track: Track
) -> None:
    """As at Supabase, where few letters are taken as they are."""
    file = leave(house, "blobs/spelled=C3=A4")
    await house.comparer.compare("disk")
    await age(house, 30)
    keep = house.keep
    spelling = Spelling(keep.stores["disk"])

    async def upload() -> None:
        here = copies_table.c.store == "disk"
        named = copies_table.update().where(here).values(locator="blobs/spelled=C3=A4")
        await keep.catalog.write(lambda tx: tx.run(named))

    spelling.upload = upload
    comparer = Comparer(keep.catalog, {"disk": spelling}, keep.rules)
    compared = await comparer.compare("disk")
    await comparer.mend(compared, 7 * DAY)
    assert not file.exists()
    held = await keep.catalog.read(copies.of_blob, track.blob.digest)
    assert {copy.store: copy.state for copy in held if copy.store == "disk"} == {
        "disk": CopyState.DOUBTED
    }


# --- however much there is ------------------------------------------------------------------------


async def test_no_more_is_held_than_is_named_and_all_of_it_is_put_right(
    house: House, track: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    strays = [leave(house, f"blobs/stray-{number}") for number in range(7)]
    for number in range(5):
        place = Place("disk", f"blobs/gone-{number}")
        await house.keep.catalog.write(
            lambda tx, place=place: copies.record_present(
                tx, track.blob.digest, place, locator=place.key, verified="t", wish=Wish.KEEP,
                due_in=0,
            )
        )  # fmt: skip
    recorded_by = await house.keep.catalog.read(Tx.now)
    while await house.keep.catalog.read(Tx.now) <= recorded_by:
        pass  # what came in the millisecond in which a comparison begins is not missed
    monkeypatch.setattr(orphans_module, "PAGE_OBJECTS", 2)
    monkeypatch.setattr(orphans_module, "NAMED", 3)
    compared = await house.comparer.compare("disk")
    assert (compared.orphans.count, len(compared.orphans.named)) == (7, 3)
    assert (compared.missing.count, len(compared.missing.named)) == (5, 3)
    assert compared.orphan_bytes == 7 * len(b"of nobody")
    await age(house, 30)
    await house.comparer.mend(compared, 7 * DAY)
    assert (compared.removed.count, len(compared.removed.named)) == (7, 3)
    assert compared.doubted == 5
    assert not any(file.exists() for file in strays)


# --- sidecars that nobody has read ----------------------------------------------------------------


def tell(house: House, key: str, document: object) -> Path:
    """A sidecar that no row knows, as one that a rebuild had to leave."""
    file = leave(house, key)
    file.write_text(json.dumps(document))
    return file


async def test_while_a_sidecar_is_unread_no_orphan_of_its_store_goes(
    house: House, track: Track
) -> None:
    sound, sidecar = leave(house, "blobs/stray"), tell(house, "tracks/lost.json", {"soundkeep": {}})
    compared = await house.comparer.compare("disk")
    assert compared.unread.named == ["tracks/lost.json"]
    await age(house, 30)
    assert await mend(house) == []
    assert sound.exists()
    sidecar.unlink()
    assert await mend(house) == ["blobs/stray"]


async def test_so_it_is_with_the_sidecar_of_a_segment(house: House, track: Track) -> None:
    tell(house, f"segments/{'a' * 64}.json", {"soundkeep": {}})
    assert (await house.comparer.compare("disk")).unread.count == 1


async def test_a_sidecar_of_who_was_deleted_here_keeps_nothing(house: House, track: Track) -> None:
    await house.keep.remove(track.id)
    assert await settled(house, 60)
    tell(house, "tracks/song.json", {"soundkeep": {"digest": track.blob.digest.hex}})
    leave(house, "blobs/stray")
    await house.comparer.compare("disk")
    await age(house, 30)
    assert sorted(await mend(house)) == ["blobs/stray"]


async def test_of_who_is_known_a_sidecar_must_tell_of_the_same_sound(
    house: House, track: Track
) -> None:
    """Under a former layout; or a rebuild left it, because the id is another sound's by now."""
    forgotten = sidecars_table.delete().where(sidecars_table.c.store == "disk")
    await house.keep.catalog.write(lambda tx: tx.run(forgotten))
    assert (await house.comparer.compare("disk")).unread.count == 0
    for document in ({"soundkeep": {"digest": "0" * 64}}, ["no sidecar"]):
        tell(house, "tracks/song.json", document)
        assert (await house.comparer.compare("disk")).unread.named == ["tracks/song.json"]
