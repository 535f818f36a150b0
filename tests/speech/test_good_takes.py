"""Good takes: every voice of espeak-ng, every rate it has, texts of every kind. None is refused.

The thresholds were frozen before these were made (`docs/decisions/0010-the-judge.md`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from soundkeep.audio.jail import Jail
from soundkeep.intake.examine import Examiner
from soundkeep.settings.house import AUDIO_TYPES
from soundkeep.speech.asked import Asked
from soundkeep.speech.calls import Take
from soundkeep.speech.engines.espeak import EspeakEngine
from soundkeep.speech.engines.interface import AudioFormat, Bill
from soundkeep.speech.judging import judging
from speech.takes import coded

TAKES, TAKES_IN_BRIEF = 200, 40
STRIDE = 7  # in brief: every voice of some families, not the first forty of the alphabet
AT_ONCE = 4
SPEEDS = (0.5, 0.75, 1, 1.3, 1.7, 2, 2.5)
CODINGS = ("wav", "mp3", "opus", "flac", "aac")
WAV_HEADER_BYTES = 44

TEXTS = (
    "No.",
    "Stop!",
    "I",
    "Hm?",
    "Good morning, dear listener.",
    "7",
    "12.50",
    "In 1969, 3 men flew 384,400 km.",
    "www.example.org",
    "A B C D E F G",
    "SOS: NASA, UNESCO & the BBC",
    "It is 5 % more (or 3/4 less) than $20.",
    "Rhythms, strengths and sixths; twelfths' schmaltz.",
    "She sells sea shells on the sea shore, she says, and so she surely does.",
    "Wait... what? — No! Never, never, never; not in a hundred years: not I.",
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut "
    "labore et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco "
    "laboris nisi ut aliquip ex ea commodo consequat.",
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in "
    "my purse, and nothing particular to interest me on shore, I thought I would sail about a "
    "little and see the watery part of the world. It is a way I have of driving off the spleen "
    "and regulating the circulation. Whenever I find myself growing grim about the mouth; whenever "
    "it is a damp, drizzly November in my soul, then I account it high time to get to sea as soon "
    "as I can.",
)
OWN = {
    "cmn": ("你好。", "人之初。性本善。性相近。习相远。", "二零二六年"),
    "yue": ("早晨", "今日天氣好好。我哋去行山。"),
    "hak": ("你好",),
    "ja": ("はい", "きょうはとてもいいてんきですね。", "コンピューター"),
    "ko": ("안녕", "오늘은 날씨가 매우 좋습니다.", "대한민국"),
    "ru": ("Да", "Друг мой, хорошая сегодня погода."),
    "el": ("Όχι", "Καλημέρα σας, πώς είστε;"),
    "ar": ("نعم", "كان يا ما كان في قديم الزمان"),
    "fa": ("بله", "روزی روزگاری پادشاهی بود"),
    "he": ("כן", "שלום עולם"),
    "hi": ("हाँ", "एक समय की बात है, एक राजा था।"),
    "th": ("ใช่", "สวัสดีครับ"),
    "ta": ("ஆம்", "வணக்கம் உலகம்"),
    "bn": ("হ্যাঁ", "আমার সোনার বাংলা"),
    "ka": ("კი", "გამარჯობა მსოფლიო"),
    "am": ("አዎ", "ሰላም ለዓለም"),
    "vi": ("Vâng", "Xin chào thế giới, hôm nay trời đẹp quá."),
    "fi": ("Kyllä", "Lentokonesuihkuturbiinimoottoriapumekaanikkoaliupseerioppilas"),
    "de": ("Ja", "Donaudampfschifffahrtsgesellschaftskapitänsmützenknopf"),
}


def spoken(voices: list[str]) -> list[tuple[str, str, float, str]]:
    """Voice, text, speed and coding of each take: every voice, in its own words where we know
    some, and in turn with every text, speed and coding."""
    texts, speeds, codings = map(itertools.cycle, (TEXTS, SPEEDS, CODINGS))
    native = [(voice, text) for voice in voices for text in OWN.get(voice.partition("-")[0], ())]
    foreign = zip(itertools.cycle(voices), texts, strict=False)
    pairs = [*native, *itertools.islice(foreign, TAKES - len(native))]
    return [(voice, text, next(speeds), next(codings)) for voice, text in pairs]


@pytest.fixture
async def engine() -> AsyncIterator[EspeakEngine]:
    engine = EspeakEngine("espeak")
    yield engine
    await engine.close()


@pytest.fixture
async def jail() -> AsyncIterator[Jail]:
    jail = Jail(seconds=60, memory_bytes=1 << 30)
    yield jail
    await jail.close()


class Booth:
    """Has takes spoken and asks the judge."""

    def __init__(self, engine: EspeakEngine, jail: Jail, folder: Path) -> None:
        self._engine = engine
        self._judge = judging(jail)
        self._examiner = Examiner(jail, AUDIO_TYPES)
        self._folder = folder
        self._places = asyncio.Semaphore(AT_ONCE)
        self._numbers = itertools.count()

    async def refusal(self, voice: str, text: str, speed: float, coding: str) -> str:
        """Why it was refused, which it should not be."""
        async with self._places:
            path = self._folder / str(next(self._numbers))
            asked = Asked("espeak", "espeak-ng", voice, text, None, speed, {}, "wav_22050")
            whole = b"".join([piece.audio async for piece in self._engine.speak(asked)])
            samples = whole[WAV_HEADER_BYTES:]
            path.write_bytes(await asyncio.to_thread(coded, samples, coding))
            format_ = AudioFormat(coding, coding, "", "")
            sound = await self._examiner.examine(path)
            verdict = await self._judge(Take(path, sound, asked, format_, Bill(len(text))))
            return f"{voice} {speed} {text!r} {coding}: {verdict.reason}" * (not verdict.accepted)


async def refused(booth: Booth, takes: list[tuple[str, str, float, str]]) -> list[str]:
    return [why for why in await asyncio.gather(*(booth.refusal(*take) for take in takes)) if why]


async def voices_of(engine: EspeakEngine) -> list[str]:
    return sorted(voice.id for voice in await engine.voices())


async def test_good_takes_are_not_refused(engine: EspeakEngine, jail: Jail, tmp_path: Path) -> None:
    takes = spoken(await voices_of(engine))
    brief = [takes[number * STRIDE % TAKES] for number in range(TAKES_IN_BRIEF)]
    assert await refused(Booth(engine, jail, tmp_path), brief) == []


async def test_what_stands_in_brackets_may_be_read_out(
    engine: EspeakEngine, jail: Jail, tmp_path: Path
) -> None:
    """A tag such as `[laughs]` takes a moment, but a whole paragraph may stand in brackets."""
    text = f"[{TEXTS[-1]}]"
    assert await refused(Booth(engine, jail, tmp_path), [("en-us", text, 1, "wav")]) == []


@pytest.mark.drill
async def test_200_good_takes_over_all_voices_and_rates_are_not_refused(
    engine: EspeakEngine, jail: Jail, tmp_path: Path
) -> None:
    voices = await voices_of(engine)
    takes = spoken(voices)
    assert len(set(takes)) == TAKES
    assert {take[0] for take in takes} == set(voices)
    assert {take[2] for take in takes} == set(SPEEDS)
    assert await refused(Booth(engine, jail, tmp_path), takes) == []
