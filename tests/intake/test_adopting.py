"""What lies in a store already becomes tracks where it is, and nothing there is touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from copies.spelling import SpellingStore
from soundkeep import build
from soundkeep.build.house import House
from soundkeep.catalog import copies, tracks
from soundkeep.catalog.database import Catalog
from soundkeep.copies.placement import Layout
from soundkeep.intake.adopting import Adopted, Adoption
from soundkeep.intake.recording import NewTrack
from soundkeep.keep.syncs import Wanted
from soundkeep.model import CopyState, Operation, Track, Visibility
from soundkeep.rebuilding import rebuilding
from soundkeep.settings import Settings
from soundkeep.stores.interface import Key, Store
from soundkeep.testing.sources import BytesSource
from soundkeep.worker import settled
from sounds import wav

OURS = ".soundkeep"
BESIDE = Layout.parse_sidecars("metadata/{track_id}.json", public=False)


def noise(seed: int) -> bytes:
    """A sound of more than one chunk."""
    return wav(300_000, seed)


class Old:
    """A directory full of sounds that Soundkeep never saw, in a house that keeps in `base`."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.folder = data / "old"

    def put(self, key: str, content: bytes) -> bytes:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return content

    def tell(self, key: str, document: object) -> bytes:
        return self.put(key, json.dumps(document).encode())

    def lies(self) -> dict[str, bytes]:
        """Everything but what is ours: the marker."""
        files = (file for file in self.folder.rglob("*") if file.is_file())
        names = {file.relative_to(self.folder).as_posix(): file.read_bytes() for file in files}
        return {name: data for name, data in names.items() if not name.startswith(OURS)}

    @asynccontextmanager
    async def opened(
        self, *, keep: tuple[str, ...] = ("base",), **old: Any
    ) -> AsyncIterator[House]:
        stores = {
            "base": {"kind": "local", "path": "base"},
            "old": {"kind": "local", "path": "old", "sidecars": False, **old},
        }
        given: dict[str, Any] = {"stores": stores, "policy": {"keep": keep, "ack_copies": 1}}
        given["inbox"] = {"linger_seconds": 0}
        async with build.opened(Settings(data=self.data, **given)) as house:
            yield house


@pytest.fixture
def old(tmp_path: Path) -> Old:
    return Old(tmp_path / "data")


async def adopted(house: House, prefix: str = "", **how: Any) -> Adopted:
    return await house.adopter.run(Adoption("old", prefix, **how))


def figures(of: Adopted) -> tuple[int, int, int]:
    return of.adopted, of.there, of.left_count


async def track(house: House, name: str) -> Track:
    found = await house.keep.catalog.read(tracks.find, name)
    assert found is not None
    return found


async def at(house: House, path: str, owner: str = "admin") -> Track:
    found = await house.keep.catalog.read(tracks.at_path, owner, path)
    assert found is not None
    return found


async def heard(house: House, of: Track) -> bytes:
    return b"".join([piece async for piece in house.keep.open(of.blob)])


async def keys(house: House, of: Track) -> set[tuple[str, str, CopyState]]:
    held = await house.keep.catalog.read(copies.of_blob, of.blob.digest)
    return {(copy.store, copy.key, copy.state) for copy in held}


async def test_objects_become_tracks_under_their_keys_and_play_from_there(old: Old) -> None:
    sounds = {
        f"book/part {n}/ch{n}.wav": old.put(f"book/part {n}/ch{n}.wav", noise(n)) for n in (1, 2)
    }
    before = old.lies()
    async with old.opened() as house:
        assert figures(await adopted(house)) == (2, 0, 0)
        assert old.lies() == before
        for key, sound in sounds.items():
            found = await at(house, key)
            assert (found.visibility, found.title) == (Visibility.PRIVATE, key[-7:-4])
            assert ("old", key, CopyState.PRESENT) in await keys(house, found)
            assert await heard(house, found) == sound
        assert await settled(house, 60)
        assert (await house.keep.check()).passed
        shutil.rmtree(old.folder / "book")
        for key, sound in sounds.items():
            assert await heard(house, await at(house, key)) == sound, "base has it too"


async def test_run_again_it_goes_on_and_reads_nothing_twice(old: Old) -> None:
    old.put("a.wav", noise(1))
    async with old.opened() as house:
        assert figures(await adopted(house)) == (1, 0, 0)
        old.put("a.wav", b"whoever read this would refuse it")
        old.put("b.wav", noise(2))
        again = await adopted(house)
        assert (figures(again), again.bytes) == ((1, 1, 0), len(noise(2)))
        first = await at(house, "a.wav")
        assert first.revision == 2, "nobody touched it"


async def test_a_change_of_settings_leaves_an_adopted_copy_where_it_is(old: Old) -> None:
    old.put("a.wav", noise(1))
    async with old.opened() as house:
        await adopted(house)
    async with old.opened(keep=("base", "old"), key="other/{track_id}.{ext}") as house:
        await house.replan()
        assert await settled(house, 60)
        assert set(old.lies()) == {"a.wav"}
        assert (await house.keep.check()).passed


async def test_where_a_store_spells_keys_a_track_is_called_as_people_read_it(old: Old) -> None:
    old.put("Gr=C3=BC=C3=9Fe.wav", noise(1))
    old.tell("Gr=C3=BC=C3=9Fe.json", {"title": "Grüße"})
    old.put("by=hand.wav", noise(2))  # no key is spelled so
    async with old.opened() as house:
        stores = cast(dict[str, Store], house.keep.stores)
        stores["old"] = SpellingStore(stores["old"])
        assert figures(await adopted(house)) == (2, 0, 0)
        assert figures(await adopted(house)) == (0, 2, 0)
        assert (await at(house, "Grüße.wav")).title == "Grüße"
        track = await at(house, "by=hand.wav")
        held = await house.keep.catalog.read(copies.of_blob, track.blob.digest)
        assert {copy.locator for copy in held if copy.store == "old"} == {"by=hand.wav"}


async def test_the_layout_tells_ids_owners_and_paths(old: Old) -> None:
    old.put("audio/song-7.wav", noise(1))
    async with old.opened(key="audio/{track_id}.{ext}") as house:
        assert figures(await adopted(house, "audio/")) == (1, 0, 0)
        assert (await track(house, "song-7")).path == "audio/song-7.wav"
    old.put("ann/project/1/take.wav", noise(2))
    async with old.opened(key="{owner}/{path}") as house:
        assert figures(await adopted(house, "ann/")) == (1, 0, 0)
        found = await at(house, "project/1/take.wav", "ann")
        assert (found.owner, found.own_keys) == ("ann", {"old": "ann/project/1/take.wav"})


async def test_json_beside_a_sound_is_its_metadata_field_by_field(old: Old) -> None:
    own = {"z": [1, {"ü": None}], "title": "The song", "a": 0.5}
    old.put("audio/one.wav", noise(1))
    old.tell("metadata/one.json", own)
    old.put("audio/two.wav", noise(2))
    old.tell("audio/two.json", {"beside": True})
    before = old.lies()
    async with old.opened(key="audio/{track_id}.{ext}") as house:
        assert figures(await adopted(house, sidecars=BESIDE)) == (2, 0, 0)
        one, two = await track(house, "one"), await track(house, "two")
        assert list(one.metadata.items()) == list(own.items())
        assert (one.title, two.metadata) == ("The song", {"beside": True})
        assert await settled(house, 60)
        assert old.lies() == before


@pytest.mark.parametrize("text", ['["a list"]', "{", "null", '{"x": NaN}', "[" * 100_000])
async def test_a_sound_with_unusable_json_beside_it_is_refused_and_both_stay(
    old: Old, text: str
) -> None:
    old.put("audio/one.wav", noise(1))
    old.put("metadata/one.json", text.encode())
    before = old.lies()
    layouts = {"key": "audio/{track_id}.{ext}", "sidecar_key": "metadata/{track_id}.json"}
    async with old.opened(**layouts, sidecars=True) as house:
        refused = await adopted(house, sidecars=BESIDE)
        assert figures(refused) == (0, 0, 1)
        assert refused.left[0].why.startswith("the JSON beside it, metadata/one.json: ")
        assert await settled(house, 60)
        assert old.lies() == before


async def test_where_sidecars_are_written_theirs_keeps_every_field(old: Old) -> None:
    own = {"z": 1, "a": {"b": [2]}}
    sound = old.put("audio/one.wav", noise(1))
    old.tell("metadata/one.json", own)
    layouts = {"key": "audio/{track_id}.{ext}", "sidecar_key": "metadata/{track_id}.json"}
    async with old.opened(**layouts, sidecars=True) as house:
        await adopted(house, sidecars=BESIDE)
        assert await settled(house, 60)
    written = json.loads(old.lies()["metadata/one.json"])
    ours = written.pop("soundkeep")
    assert list(written.items()) == list(own.items())
    assert ours["own_keys"] == {"old": "audio/one.wav"}
    assert old.lies()["audio/one.wav"] == sound


async def test_one_of_our_sidecars_says_everything_and_is_held_to_it(old: Old) -> None:
    async with old.opened(key="audio/{track_id}.{ext}", sidecars=True) as house:
        old.put("audio/one.wav", noise(1))
        old.tell("audio/one.json", {"mood": "calm"})
        await adopted(house)
        await house.keep.change("one", title="First", visibility=Visibility.PUBLIC)
        assert await settled(house, 60)
    moved = Old(old.data.parent / "elsewhere")
    moved.put("x/song.wav", noise(1))
    moved.put("x/song.json", old.lies()["tracks/one.json"])
    moved.put("x/other.wav", noise(2))
    moved.put("x/other.json", old.lies()["tracks/one.json"])
    async with moved.opened() as house:
        found = await adopted(house)
        assert figures(found) == (1, 0, 1)
        assert [(left.key, left.code) for left in found.left] == [
            ("x/other.wav", "digest_mismatch")
        ]
        one = await track(house, "one")
        assert (one.title, one.visibility, one.metadata) == (
            "First",
            Visibility.PUBLIC,
            {"mood": "calm"},
        )
        assert ("old", "x/song.wav", CopyState.PRESENT) in await keys(house, one)


async def test_the_same_bytes_under_two_keys_are_two_tracks_of_one_blob(old: Old) -> None:
    for key in ("a.wav", "b.wav"):
        old.put(key, noise(1))
    async with old.opened() as house:
        assert figures(await adopted(house)) == (2, 0, 0)
        a, b = await at(house, "a.wav"), await at(house, "b.wav")
        assert (a.blob, a.id == b.id) == (b.blob, False)
        assert await settled(house, 60)
        await house.keep.remove(a.id)
        assert await settled(house, 60)
        assert set(old.lies()) == {"b.wav"}
        assert await heard(house, b) == noise(1)


async def test_an_object_that_is_the_sound_of_a_track_becomes_a_copy_of_it(old: Old) -> None:
    async with old.opened(key="audio/{track_id}.{ext}") as house:
        await house.keep.add(_body(noise(1)), NewTrack(id="one", path="mine.wav"))
        old.put("audio/one.wav", noise(1))
        old.tell("metadata/one.json", {"from": "there"})
        assert figures(await adopted(house, sidecars=BESIDE)) == (1, 0, 0)
        one = await track(house, "one")
        assert (one.path, one.metadata) == ("mine.wav", {"from": "there"})
        assert ("old", "audio/one.wav", CopyState.PRESENT) in await keys(house, one)


async def test_each_object_that_cannot_be_is_named_with_its_reason(old: Old) -> None:
    async with old.opened(key="audio/{track_id}.{ext}") as house:
        await house.keep.add(_body(noise(1)), NewTrack(id="one"))
        old.put("audio/one.wav", noise(2))
        old.put("audio/.hidden.wav", noise(3))
        old.put("audio/text.wav", b"no sound at all")
        old.put("audio/empty.wav", b"")
        old.put("audio/good.wav", noise(4))
        before = old.lies()
        found = await adopted(house)
        assert figures(found) == (1, 0, 4)
        assert {left.key: left.code for left in found.left} == {
            "audio/one.wav": "id_taken",
            "audio/.hidden.wav": "bad_id",
            "audio/text.wav": "not_audio",
            "audio/empty.wav": "empty_upload",
        }
        assert old.lies() == before
        left = [file.read_bytes() for file in (old.data / "inbox" / "uploads").glob("*")]
        assert left == [noise(1)], "the upload's own"


async def test_a_dry_run_changes_nothing_and_reads_no_sound(old: Old) -> None:
    old.put("a.wav", noise(1))
    async with old.opened() as house:
        looked = await adopted(house, dry_run=True)
        assert (figures(looked), looked.bytes) == ((1, 0, 0), len(noise(1)))
        assert await house.keep.catalog.read(tracks.at_path, "admin", "a.wav") is None


async def test_from_a_public_store_tracks_are_public_and_a_private_one_is_refused(old: Old) -> None:
    old.put("audio/one.wav", noise(1))
    old.put("audio/two.wav", noise(2))
    public = {"key": "audio/{track_id}.{ext}", "public": True, "public_url": "https://cdn.test"}
    async with old.opened(**public) as house:
        await house.keep.add(_body(noise(2)), NewTrack(id="two"))
        found = await adopted(house)
        assert figures(found) == (1, 0, 1)
        assert [left.code for left in found.left] == ["track_is_private"]
        view = await house.keep.track("one")
        assert view.track.public
        assert [one.url for one in view.published] == ["https://cdn.test/audio/one.wav"]


async def test_withdrawn_it_goes_and_is_refused_until_it_is_pushed_again(old: Old) -> None:
    old.put("audio/one.wav", noise(1))
    async with old.opened(key="audio/{track_id}.{ext}") as house:
        await adopted(house)
        assert await settled(house, 60)
        wanted = Wanted(Operation.DELETE, "old", ("one",))
        await house.keep.sync(wanted)
        assert await settled(house, 60)
        assert old.lies() == {}
        old.put("audio/one.wav", noise(1))
        found = await adopted(house)
        assert [left.why for left in found.left] == ["the track one was withdrawn from old"]


async def test_a_store_that_is_drained_adopts_nothing(old: Old) -> None:
    old.put("a.wav", noise(1))
    async with old.opened() as house:
        await house.keep.drain("old")
        assert [left.code for left in (await adopted(house)).left] == ["store_drains"]


async def test_a_rebuild_brings_adopted_tracks_back_under_their_keys(old: Old) -> None:
    old.put("x/song.wav", noise(1))
    async with old.opened() as house:
        await adopted(house)
        before = await at(house, "x/song.wav")
        assert await settled(house, 60)
        settings = house.keep.settings
    for file in old.data.glob("catalog.db*"):
        file.unlink()
    async with rebuilding(settings, "base") as rebuild:
        assert (await rebuild.run(lambda: None)).left_count == 0
    catalog = Catalog(settings.catalog_url)
    found = await catalog.read(tracks.find, before.id)
    await catalog.close()
    assert found is not None
    assert found.own_keys == {"old": "x/song.wav"}


async def test_objects_in_a_database_store_are_adopted_too(old: Old) -> None:
    database = {"kind": "database", "path": None, "url": f"sqlite:///{old.data.parent}/old.db"}
    async with old.opened(**database) as house:
        await house.keep.stores["old"].put(Key("a/b.wav"), BytesSource(noise(1)))
        assert figures(await adopted(house, "a/")) == (1, 0, 0)
        found = await at(house, "a/b.wav")
        assert ("old", "a/b.wav", CopyState.PRESENT) in await keys(house, found)


async def _body(content: bytes) -> AsyncIterator[bytes]:
    yield content
