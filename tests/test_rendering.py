"""Renditions: the same sound in another format, as public as the original, and gone with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from soundkeep import build
from soundkeep.build.house import House
from soundkeep.catalog import renditions
from soundkeep.errors import (
    Conflict,
    DiskFull,
    NoSuchTrack,
    SettingsError,
    UnknownFormat,
    Unplayable,
)
from soundkeep.intake.recording import NewTrack
from soundkeep.model import Lane, Track, Visibility
from soundkeep.settings import Settings
from soundkeep.settings.house import PolicySettings
from soundkeep.settings.stores import LocalStoreSettings
from soundkeep.worker import Worker
from sounds import wav

SOUND = wav(300_000, seed=21)
OPUS = "opus_48000_64"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    async with build.opened(settings) as house:
        yield house


async def add(house: House, path: str = "book/ch1.wav", sound: bytes = SOUND) -> Track:
    async def body() -> AsyncIterator[bytes]:
        yield sound

    return (await house.keep.add(body(), NewTrack(path=path, title="One"))).track


async def test_a_track_is_had_in_another_format_beside_the_original(house: House) -> None:
    original = await add(house)
    made = await house.renderer.render(original.id, OPUS)
    assert made.path == "book/ch1.opus_48000_64.opus"
    assert (made.title, made.owner, made.visibility) == ("One", original.owner, Visibility.PRIVATE)
    assert made.metadata == {"rendition_of": original.id, "format": OPUS}
    sound = made.blob.sound
    assert (sound.codec, sound.media_type, sound.channels) == ("opus", "audio/ogg", 1)
    assert sound.duration_seconds == pytest.approx(original.blob.sound.duration_seconds, abs=0.1)
    assert made.blob.size_bytes < original.blob.size_bytes / 2
    untouched = b"".join([piece async for piece in house.keep.open(original.blob)])
    assert untouched == SOUND


async def test_asked_for_again_and_at_once_it_is_the_same_track(house: House) -> None:
    original = await add(house)
    made = await asyncio.gather(*(house.renderer.render(original.id, "mp3") for _ in range(3)))
    assert {track.id for track in made} == {made[0].id}
    assert made[0].path == "book/ch1.mp3"
    assert (await house.renderer.render(original.id, "mp3")).id == made[0].id


async def test_another_bit_rate_of_the_originals_own_coding_has_a_path_of_its_own(
    house: House,
) -> None:
    original = await add(house)
    assert (await house.renderer.render(original.id, "wav")).path == "book/ch1.wav.wav"


async def test_it_becomes_public_and_private_with_its_original(house: House) -> None:
    original = await add(house)
    made = await house.renderer.render(original.id, OPUS)
    for visibility in (Visibility.PUBLIC, Visibility.PRIVATE):
        await house.keep.change(original.id, visibility=visibility)
        assert (await house.keep.track(made.id)).track.visibility is visibility


async def test_an_original_made_public_while_it_is_rendered_has_a_public_rendition(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = await add(house)
    add_file = house.keep.add_file

    async def changed_just_before(file: Path, new: NewTrack) -> object:
        await house.keep.change(original.id, visibility=Visibility.PUBLIC)
        return await add_file(file, new)

    monkeypatch.setattr(house.keep, "add_file", changed_just_before)
    made = await house.renderer.render(original.id, OPUS)
    assert made.visibility is Visibility.PUBLIC


async def test_it_goes_with_its_original(house: House) -> None:
    original = await add(house)
    made = await house.renderer.render(original.id, OPUS)
    await house.keep.remove(original.id)
    with pytest.raises(NoSuchTrack):
        await house.keep.track(made.id)
    assert await house.keep.catalog.read(renditions.of_track, original.id) == []


async def test_an_original_deleted_while_it_is_rendered_leaves_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = await add(house)
    add_file = house.keep.add_file

    async def deleted_just_before(file: Path, new: NewTrack) -> object:
        await house.keep.remove(original.id)
        return await add_file(file, new)

    monkeypatch.setattr(house.keep, "add_file", deleted_just_before)
    with pytest.raises(NoSuchTrack):
        await house.renderer.render(original.id, OPUS)
    assert not list(house.keep.settings.inbox_directory.rglob("*.tmp"))


async def test_one_that_was_deleted_is_made_anew_when_it_is_asked_for(house: House) -> None:
    original = await add(house)
    first = await house.renderer.render(original.id, OPUS)
    await house.keep.remove(first.id)
    again = await house.renderer.render(original.id, OPUS)
    assert again.id != first.id
    assert again.blob.digest == first.blob.digest


async def test_a_path_that_holds_other_audio_is_left_alone_and_said(house: House) -> None:
    original = await add(house)
    other = await add(house, "book/ch1.mp3", wav(50_000, seed=22))
    with pytest.raises(Conflict, match="path_taken"):
        await house.renderer.render(original.id, "mp3")
    assert (await house.keep.track(other.id)).track.blob.digest == other.blob.digest


@pytest.mark.parametrize(
    "name", ["vorbis", "pcm", "opus_44100", "mp3_44100_9999", "wav_8000_64", ""]
)
async def test_a_format_that_nobody_can_make_is_refused(house: House, name: str) -> None:
    original = await add(house)
    with pytest.raises(UnknownFormat):
        await house.renderer.render(original.id, name)


async def test_of_a_track_that_is_not_there_nothing_is_made(house: House) -> None:
    with pytest.raises(NoSuchTrack):
        await house.renderer.render("nobody", OPUS)
    with pytest.raises(NoSuchTrack):
        await house.renderer.of("nobody")


async def test_who_waits_for_one_does_not_wait_for_all_the_others(house: House) -> None:
    heap = [await add(house, f"heap/{n}.wav", wav(30_000, seed=n)) for n in range(3)]
    for track in heap:
        await house.keep.catalog.write(renditions.want, track.id, [OPUS], Lane.BULK)
    await house.renderer.render(heap[2].id, OPUS)
    made = [(await house.renderer.of(track.id))[0].rendition_id for track in heap]
    assert [each is not None for each in made] == [False, False, True]


async def test_what_cannot_be_made_now_is_said_and_tried_again_when_somebody_asks(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = await add(house)
    add_file = house.keep.add_file

    async def no_room(file: Path, new: NewTrack) -> object:
        raise DiskFull

    monkeypatch.setattr(house.keep, "add_file", no_room)
    with pytest.raises(Unplayable, match="cannot be had as opus_48000_64 now"):
        async with asyncio.timeout(20):
            await house.renderer.render(original.id, OPUS)
    monkeypatch.setattr(house.keep, "add_file", add_file)
    assert (await house.renderer.render(original.id, OPUS)).blob.sound.codec == "opus"


async def test_a_fault_of_ours_does_not_end_the_work(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await add(house), await add(house, "book/ch2.wav", wav(50_000, seed=23))
    add_file = house.keep.add_file

    async def falls_once(file: Path, new: NewTrack) -> object:
        monkeypatch.setattr(house.keep, "add_file", add_file)
        raise ValueError("ours")

    monkeypatch.setattr(house.keep, "add_file", falls_once)
    working = asyncio.create_task(house.renderer.work())
    for track in (first, second):
        await house.keep.catalog.write(renditions.want, track.id, [OPUS], Lane.BULK)
    await until_made(house, second.id)
    await until_made(house, first.id)
    working.cancel()


# --- by themselves --------------------------------------------------------------------------


def with_a_light_store(data: Path) -> Settings:
    light = LocalStoreSettings(kind="local", path=Path("light"), public=True, renditions=(OPUS,))
    heavy = LocalStoreSettings(kind="local", path=Path("heavy"))
    return Settings(
        data=data,
        stores={"heavy": heavy, "light": light},
        policy=PolicySettings(keep=("heavy",)),
    )


async def test_a_store_has_the_renditions_of_all_that_is_placed_there(tmp_path: Path) -> None:
    async with build.opened(with_a_light_store(tmp_path)) as house:
        worker = Worker(house)
        worker.start()
        original = await add(house)
        assert await house.renderer.of(original.id) == []  # it is private, so not placed there
        await house.keep.change(original.id, visibility=Visibility.PUBLIC)
        made = await until_made(house, original.id)
        await until_in(house, made, "light")
        await worker.stop(5)
        assert await house.renderer.of(made) == []  # a rendition has none itself


async def test_tracks_that_were_there_before_the_setting_get_theirs(tmp_path: Path) -> None:
    plain = with_a_light_store(tmp_path)
    plain.stores["light"] = plain.stores["light"].model_copy(update={"renditions": ()})
    async with build.opened(plain) as house:
        original = await add(house)
        await house.keep.change(original.id, visibility=Visibility.PUBLIC)
        await house.replan()
    async with build.opened(with_a_light_store(tmp_path)) as house:
        assert await house.renderer.of(original.id) == []
        await house.replan()
        await house.renderer.work_off()
        [rendition] = await house.renderer.of(original.id)
        assert rendition.rendition_id is not None


async def test_a_format_in_the_settings_that_nobody_can_make_is_refused_at_start(
    tmp_path: Path,
) -> None:
    store = LocalStoreSettings(kind="local", path=Path("audio"), renditions=("opus_1",))
    settings = Settings(
        data=tmp_path, stores={"disk": store}, policy=PolicySettings(keep=("disk",))
    )
    with pytest.raises(SettingsError, match=r"stores\.disk\.renditions"):
        async with build.opened(settings):
            pass


async def until_made(house: House, track_id: str) -> str:
    async with asyncio.timeout(30):
        while True:
            for each in await house.renderer.of(track_id):
                if each.rendition_id is not None:
                    return each.rendition_id
            await asyncio.sleep(0.05)


async def until_in(house: House, track_id: str, store: str) -> None:
    async with asyncio.timeout(30):
        while store not in {
            copy.store for copy in (await house.keep.track(track_id)).copies if copy.verified
        }:
            await asyncio.sleep(0.05)
