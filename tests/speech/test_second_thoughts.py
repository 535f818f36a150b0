"""What an operator may still do: accept a take that was refused, and revoke one that was kept."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from soundkeep import build, errors
from soundkeep.build.house import House
from soundkeep.build.speech import REFUSED_TAKES
from soundkeep.catalog import copies, money, refusals, segments
from soundkeep.catalog.schema import now, refused_takes
from soundkeep.digest import Digest
from soundkeep.intake.recording import NewTrack
from soundkeep.model import Money
from soundkeep.settings import Settings
from soundkeep.settings.house import WorkerSettings
from soundkeep.speech.calls import Take
from soundkeep.speech.keys import segment_key
from soundkeep.speech.leading import Verdict
from soundkeep.speech.request import speech_request
from soundkeep.worker import Worker
from sounds import wav
from speech.scripted import ScriptedEngine, accept, asked

SOUND = wav(200_000, seed=21)
OTHER = wav(200_000, seed=22)
KEY = segment_key(asked())
COST = len(asked().text)


async def refuse(take: Take) -> Verdict:
    return Verdict(accepted=False, reason="it is a duck")


@pytest.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    settings = Settings(
        data=tmp_path,
        catalog=database_url,
        worker=WorkerSettings(lease_seconds=1, poll_seconds=0.2),
    )
    async with build.opened(settings) as house:
        scripted = ScriptedEngine(SOUND)
        house.generation.engines = {**house.generation.engines, "scripted": scripted}
        house.generation.leader.judge = refuse
        yield house


@pytest.fixture
def engine(house: House) -> ScriptedEngine:
    engine = house.generation.engines["scripted"]
    assert isinstance(engine, ScriptedEngine)
    return engine


async def hear(house: House, text: str = "Hello.") -> bytes:
    said = await house.generation.ask(asked(text), "anna")
    return b"".join([piece async for piece in said.pieces()])


@asynccontextmanager
async def working(house: House) -> AsyncIterator[None]:
    worker = Worker(house)
    worker.start()
    try:
        yield
    finally:
        await worker.stop(5)


async def until_so(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await is_so():
            await asyncio.sleep(0.01)


async def is_everywhere(house: House, digest: Digest) -> bool:
    held = await house.keep.catalog.read(copies.of_blob, digest)
    return {copy.store for copy in held if copy.state == "present"} >= {"disk", "backup"}


async def is_nowhere(house: House, digest: Digest) -> bool:
    return not await house.keep.catalog.read(copies.of_blob, digest)


async def refused_take(house: House) -> refusals.Refusal:
    with pytest.raises(errors.TakeRefused):
        await hear(house)
    return (await house.aside.refused())[-1]


# --- accepting ------------------------------------------------------------------------------


async def test_a_refused_take_that_is_accepted_is_the_segment_and_is_not_paid_for_again(
    house: House, engine: ScriptedEngine
) -> None:
    await refused_take(house)
    take = await refused_take(house)  # and now the key rests
    assert (await house.aside.file(take.id)).read_bytes() == SOUND
    segment = await house.aside.accept(take.id)
    assert (segment.key, segment.characters, segment.cost) == (
        KEY,
        COST,
        Money(COST * 10**9, "USD"),
    )
    assert await hear(house) == SOUND
    assert engine.calls == 2
    assert [left.reason for left in await house.aside.refused()] == ["it is a duck"], "one is left"
    assert len(list((house.keep.settings.data_directory / REFUSED_TAKES).iterdir())) == 1


async def test_an_accepted_take_gets_into_every_store(house: House) -> None:
    segment = await house.aside.accept((await refused_take(house)).id)
    async with working(house):
        await until_so(lambda: is_everywhere(house, segment.digest))


async def test_what_is_there_by_now_is_not_replaced_by_an_accepted_take(
    house: House, engine: ScriptedEngine
) -> None:
    take = await refused_take(house)
    house.generation.leader.judge = accept
    engine.audio = OTHER
    assert await hear(house) == OTHER
    with pytest.raises(errors.Conflict, match="there by now"):
        await house.aside.accept(take.id)
    assert await hear(house) == OTHER
    assert (await house.aside.file(take.id)).exists(), "nothing was lost by asking"
    assert not list((house.keep.settings.inbox_directory / "uploads").glob("*"))[1:]


async def test_what_nobody_could_play_is_not_accepted(house: House, engine: ScriptedEngine) -> None:
    engine.audio = b"<html>a proxy speaks</html>" * 40
    take = await refused_take(house)
    with pytest.raises(errors.NotAudio):
        await house.aside.accept(take.id)
    assert await house.keep.catalog.read(segments.find, KEY) is None


async def test_a_take_is_accepted_once_and_only_where_it_is_kept(house: House) -> None:
    take = await refused_take(house)
    await house.aside.accept(take.id)
    with pytest.raises(errors.NoSuchTake):
        await house.aside.accept(take.id)
    elsewhere = update(refused_takes).values(host="another")
    house.generation.leader.judge = refuse
    with pytest.raises(errors.TakeRefused):
        await hear(house, "Other words.")
    await house.keep.catalog.write(lambda tx: tx.run(elsewhere))
    [far] = await house.aside.refused()
    with pytest.raises(errors.NoSuchTake, match="another"):
        await house.aside.accept(far.id)


async def test_refused_takes_are_swept_when_their_days_are_over(house: House) -> None:
    take = await refused_take(house)
    file = await house.aside.file(take.id)
    await house.tidy()
    assert file.exists()
    days = house.keep.settings.speech.keep_refused_days
    old = update(refused_takes).values(made_at=now() - days * 86_400 - 1)
    await house.keep.catalog.write(lambda tx: tx.run(old))
    await house.tidy()
    assert not file.exists()
    assert await house.aside.refused() == []


async def test_a_file_whose_row_was_never_written_is_swept_when_it_is_old(house: House) -> None:
    folder = (await house.aside.file((await refused_take(house)).id)).parent
    young, old = folder / "young", folder / "old"
    for file in (young, old):
        file.write_bytes(SOUND)
    days = house.keep.settings.speech.keep_refused_days
    long_ago = time.time() - (days + 2) * 86_400
    os.utime(old, (long_ago, long_ago))
    await house.tidy()
    assert (young.exists(), old.exists()) == (True, False)
    assert len(await house.aside.refused()) == 1


# --- revoking -------------------------------------------------------------------------------


async def test_a_revoked_segment_leaves_every_store_and_is_spoken_anew(
    house: House, engine: ScriptedEngine
) -> None:
    house.generation.leader.judge = accept
    segment = await house.generation.segment(asked(), "anna")
    async with working(house):
        await until_so(lambda: is_everywhere(house, segment.digest))
        revoked = await house.revoker.revoke(KEY)
        assert (revoked.segments, revoked.speeches, revoked.tracks) == ((KEY,), (), ())
        await until_so(lambda: is_nowhere(house, segment.digest))
    disk = house.keep.settings.data_directory / "audio"
    assert not [file for file in disk.rglob(str(segment.digest)) if file.is_file()]
    engine.audio = OTHER
    assert await hear(house) == OTHER
    assert engine.calls == 2
    assert len(await house.keep.catalog.read(money.of_segment, KEY)) == 2
    again = await house.revoker.revoke("no such key")
    assert (again.segments, again.speeches, again.tracks) == ((), (), ())


async def test_an_upload_of_the_same_bytes_keeps_its_copies(house: House, tmp_path: Path) -> None:
    house.generation.leader.judge = accept
    segment = await house.generation.segment(asked(), "anna")
    file = tmp_path / "mine.wav"
    file.write_bytes(SOUND)
    added = await house.keep.add_file(file, NewTrack(path="mine.wav"))
    await house.revoker.revoke(KEY)
    assert added.track.blob.digest == segment.digest
    held = await house.keep.catalog.read(copies.of_blob, segment.digest)
    assert {copy.store for copy in held if copy.wish == "keep"} == {"disk", "backup"}


async def test_a_revoked_speech_takes_its_segments_and_its_tracks_along(
    house: House,
) -> None:
    house.generation.leader.judge = accept
    one, two = (
        speech_request({"text": text, "format": "flac"})
        for text in ("First.\n\nShared.", "Shared.\n\nLast.")
    )
    first, second = [await (await house.speeches.say(each)).kept() for each in (one, two)]
    tracks = [await house.speeches.track(kept) for kept in (first, second)]
    revoked = await house.revoker.revoke(first.chosen.key)
    assert set(revoked.segments) == set(first.chosen.segment_keys)
    assert set(revoked.speeches) == {first.chosen.key, second.chosen.key}, "they share a paragraph"
    assert set(revoked.tracks) == {track.id for track in tracks}
    for track in tracks:
        with pytest.raises(errors.NoSuchTrack):
            await house.keep.track(track.id)
    again = await house.speeches.say(two)
    assert not again.hit
    assert (await again.kept()).generated == 1, "the last paragraph was not revoked"
    assert (await house.speeches.track(await again.kept())).id not in revoked.tracks


async def test_a_segment_that_is_revoked_while_it_is_assembled_gets_into_no_speech(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.generation.leader.judge = accept
    request = speech_request({"text": "First.\n\nLast.", "format": "flac"})
    encode = house.keep.jail.encode

    async def slowly(*given: Any, **options: Any) -> None:
        await encode(*given, **options)
        answer = await house.speeches.say(request)
        await house.revoker.revoke(answer.chosen.segment_keys[0])

    monkeypatch.setattr(house.keep.jail, "encode", slowly)
    with pytest.raises(errors.Unplayable):
        await (await house.speeches.say(request)).kept()
    monkeypatch.undo()
    assert (await (await house.speeches.say(request)).kept()).generated == 1
