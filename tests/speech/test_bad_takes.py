"""Bad takes, every kind we know: refused, put aside, heard by nobody to a clean end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from soundkeep import build, errors
from soundkeep.build.house import House
from soundkeep.build.speech import REFUSED_TAKES
from soundkeep.catalog import money, refusals, segments
from soundkeep.catalog.money import IntentState
from soundkeep.settings import Settings
from soundkeep.speech.asked import Asked
from soundkeep.speech.engines.espeak import EspeakEngine
from soundkeep.speech.engines.interface import AudioFormat, EngineCaps
from soundkeep.speech.keys import segment_key
from speech.scripted import PRICE, ScriptedEngine, asked
from speech.takes import BAD, coded

TEXT = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age "
    "of foolishness, and nobody who was there could say which of them it had been."
)
FOLLOWERS = 5
WAV_HEADER_BYTES = 44
CODINGS = ("wav", "mp3", "opus", "flac", "aac")
FORMATS = tuple(AudioFormat(name, name, f"audio/{name}", name) for name in CODINGS)


@pytest.fixture(scope="module")
def good() -> bytes:
    """The samples of the text, well spoken."""

    async def spoken() -> bytes:
        engine = EspeakEngine("espeak")
        try:
            what = Asked("espeak", "espeak-ng", "en-us", TEXT, None, 1, {}, "wav_22050")
            return b"".join([piece.audio async for piece in engine.speak(what)])
        finally:
            await engine.close()

    return asyncio.run(spoken())[WAV_HEADER_BYTES:]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with build.opened(Settings(data=tmp_path)) as house:
        yield house


@pytest.fixture
def engine(house: House) -> ScriptedEngine:
    engine = ScriptedEngine(b"")
    engine.caps = EngineCaps(FORMATS[0], FORMATS, timestamps=True, price=PRICE)
    house.generation.engines = {"scripted": engine}
    return engine


def wanted(coding: str) -> Asked:
    return replace(asked(TEXT), format=coding)


async def hear(house: House, what: Asked) -> bytes | errors.SoundkeepError:
    """All of it, or what broke it off."""
    said = await house.generation.ask(what, "anna")
    try:
        return b"".join([piece async for piece in said.pieces()])
    except errors.SoundkeepError as error:
        return error


@pytest.mark.parametrize("coding", CODINGS)
async def test_the_same_take_is_kept_when_nothing_is_wrong_with_it(
    house: House, engine: ScriptedEngine, good: bytes, coding: str
) -> None:
    engine.audio = coded(good, coding)
    assert await hear(house, wanted(coding)) == engine.audio


async def test_files_that_a_server_joined_as_they_were_are_kept(
    house: House, engine: ScriptedEngine, good: bytes
) -> None:
    half = len(good) // 4 * 2
    engine.audio = coded(good[:half], "mp3") + coded(good[half:], "mp3")
    assert await hear(house, wanted("mp3")) == engine.audio


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFFFFF])
async def test_a_wav_that_was_sent_before_its_length_was_known_is_kept(
    house: House, engine: ScriptedEngine, good: bytes, length: int
) -> None:
    told = length.to_bytes(4, "little")
    whole = coded(good, "wav")
    data = whole.index(b"data") + 4
    engine.audio = whole[:4] + told + whole[8:data] + told + whole[data + 4 :]
    assert await hear(house, wanted("wav")) == engine.audio


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_take_is_refused_and_put_aside_and_the_key_rests_after_two(
    house: House, engine: ScriptedEngine, good: bytes, kind: str
) -> None:
    coding, spoil, reason = BAD[kind]
    engine.audio = spoil(good)
    what = wanted(coding)
    key = segment_key(what)
    for attempt in (1, 2):
        answers = await asyncio.gather(*(hear(house, what) for _ in range(FOLLOWERS)))
        for answer in answers:
            assert isinstance(answer, errors.TakeRefused)
            assert re.search(reason, str(answer))
        assert engine.calls == attempt
    assert await house.keep.catalog.read(segments.find, key) is None
    refused = await house.keep.catalog.read(refusals.of_segment, key)
    aside = house.keep.settings.data_directory / REFUSED_TAKES
    assert [(aside / row.file).read_bytes() for row in refused] == [engine.audio] * 2
    assert all(re.search(reason, row.reason) for row in refused)
    rests = await hear(house, what)
    assert isinstance(rests, errors.TakeRefused)
    assert rests.retry_after is not None
    assert rests.retry_after > 86_000
    assert engine.calls == 2, "a key that rests was asked for again"
    calls = await house.keep.catalog.read(money.of_segment, key)
    assert [call.state for call in calls] == [IntentState.DONE] * 2, "both were paid for"


async def test_an_answer_without_a_byte_is_no_take_at_all(
    house: House, engine: ScriptedEngine
) -> None:
    what = wanted("mp3")
    answers = await asyncio.gather(*(hear(house, what) for _ in range(FOLLOWERS)))
    assert all(isinstance(answer, errors.EngineAnsweredBadly) for answer in answers)
    assert await house.keep.catalog.read(segments.find, segment_key(what)) is None
