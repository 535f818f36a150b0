"""The aligner: a clock's marks carried over to another voice that says the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest

from soundkeep.speech.align import Pcm, aligned
from soundkeep.speech.asked import Asked
from soundkeep.speech.engines.espeak import PCM, SAMPLE_RATE_HZ, EspeakEngine
from soundkeep.speech.segments import Segment, split
from soundkeep.speech.text import normalise
from soundkeep.speech.timing import Mark, Piece, Timing, from_marks, joined

TEXT = """
Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing
to do. Once or twice she had peeped into the book her sister was reading, but it had no pictures
or conversations in it. "And what is the use of a book," thought Alice, "without pictures?"

There was nothing so very remarkable in that; nor did Alice think it so very much out of the way
to hear the Rabbit say to itself, "Oh dear! Oh dear! I shall be late!" But when the Rabbit actually
took a watch out of its waistcoat-pocket, and looked at it, and then hurried on, Alice started to
her feet. Burning with curiosity, she ran across the field after it.

Down, down, down. Would the fall never come to an end? "I wonder how many miles I have fallen by
this time?" she said aloud. "I must be getting somewhere near the centre of the earth. Let me see:
that would be four thousand miles down, I think."
"""

RATE_HZ = 16_000


# --- against the offline voice's own events -------------------------------------------------


@pytest.fixture
async def espeak() -> AsyncIterator[EspeakEngine]:
    engine = EspeakEngine("espeak")
    yield engine
    await engine.close()


@pytest.mark.parametrize(
    ("voice", "speed", "pitch"), [("en-gb-x-rp", 1.3, 75), ("en-gb-scotland", 0.8, 30)]
)
async def test_another_voice_at_another_rate_is_timed_to_the_word(
    espeak: EspeakEngine, voice: str, speed: float, pitch: int
) -> None:
    """The truth is what espeak says itself of the voice that the aligner only hears."""
    normalised = normalise(TEXT)
    truth: list[Piece] = []
    found: list[Piece] = []
    for segment in split(normalised, "paragraph", 4096):
        clock, clock_marks = await spoken(espeak, segment.text, "en-us", 1.0, 50)
        take, take_marks = await spoken(espeak, segment.text, voice, speed, pitch)
        truth.append(piece(segment, take, take_marks))
        found.append(piece(segment, take, aligned(take, clock, clock_marks)))
    told, heard = joined(normalised, truth), joined(normalised, found)
    for kind, limit_ms in (("word", 60), ("sentence", 30)):
        errors_ms = [
            1000 * abs(mine.start_seconds - theirs.start_seconds)
            for mine, theirs in zip(heard.of_kind(kind), told.of_kind(kind), strict=True)
        ]
        median, late = np.median(errors_ms), np.percentile(errors_ms, 95)
        print(f"{voice}: {len(errors_ms)} {kind}s: median {median:.0f} ms, 95th {late:.0f} ms")
        assert median < limit_ms


async def spoken(
    engine: EspeakEngine, text: str, voice: str, speed: float, pitch: int
) -> tuple[Pcm, tuple[Mark, ...]]:
    asked = Asked(
        engine="espeak",
        model="espeak-ng",
        voice=voice,
        text=text,
        language=None,
        speed=speed,
        settings={"pitch": pitch},
        format=PCM.name,
    )
    samples, marks = bytearray(), []
    async with aclosing(engine.speak(asked)) as pieces:
        async for each in pieces:
            samples += each.audio
            marks += [
                Mark(mark.start_seconds, mark.end_seconds, mark.start, mark.end, mark.kind)
                for mark in each.marks
            ]
    return Pcm(np.frombuffer(samples, np.int16), SAMPLE_RATE_HZ), from_marks(text, marks)


def piece(segment: Segment, take: Pcm, marks: tuple[Mark, ...]) -> Piece:
    return Piece(segment, take.duration_seconds, Timing("aligned", marks))


# --- sounds made to measure -----------------------------------------------------------------


def syllables(count: int, seconds: float = 0.2, rate_hz: int = RATE_HZ) -> list[np.ndarray]:
    """Tones no two of which in a row are alike, each with a second tone above it."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return [
        8000 * np.sin(2 * np.pi * (200 + 90 * (number * 7 % 11)) * time)
        + 4000 * np.sin(2 * np.pi * (1500 + 250 * (number * 5 % 9)) * time)
        for number in range(count)
    ]


def sound(parts: list[np.ndarray], rate_hz: int = RATE_HZ) -> Pcm:
    return Pcm(np.concatenate(parts).astype(np.int16), rate_hz)


def marks_of(durations: list[float]) -> tuple[Mark, ...]:
    ends = np.cumsum(durations)
    return tuple(
        Mark(float(end - seconds), float(end), 2 * number, 2 * number + 1, "word")
        for number, (seconds, end) in enumerate(zip(durations, ends, strict=True))
    )


@pytest.mark.parametrize("count", [3, 20, 300], ids=lambda count: f"{count * 0.2:g} s")
def test_the_clock_aligned_with_itself_keeps_its_marks(count: int) -> None:
    """At every length: compared frame by frame, and through coarser and coarser paths."""
    clock, marks = sound(syllables(count)), marks_of([0.2] * count)
    assert starts(aligned(clock, clock, marks)) == pytest.approx(starts(marks), abs=1e-6)


@pytest.mark.parametrize("count", [20, 300])
def test_a_slower_take_at_another_sampling_rate_stretches_the_marks(count: int) -> None:
    clock, marks = sound(syllables(count)), marks_of([0.2] * count)
    take = sound(syllables(count, 0.3, 22_050), 22_050)
    expected = starts(marks_of([0.3] * count))
    assert starts(aligned(take, clock, marks)) == pytest.approx(expected, abs=0.03)


def test_a_pause_in_the_take_moves_all_that_comes_after_it() -> None:
    spoken, silence = syllables(40), np.zeros(2 * RATE_HZ)
    take = sound([*spoken[:20], silence, *spoken[20:]])
    marks = aligned(take, sound(spoken), marks_of([0.2] * 40))
    assert starts(marks)[:20] == pytest.approx([0.2 * number for number in range(20)], abs=0.03)
    assert starts(marks)[21:] == pytest.approx([2 + 0.2 * n for n in range(21, 40)], abs=0.03)


def test_marks_keep_their_words_and_their_order() -> None:
    noise = np.random.default_rng(7).normal(0, 3000, 3 * RATE_HZ)
    marks = marks_of([0.2] * 40)
    found = aligned(sound([noise]), sound(syllables(40)), marks)
    assert [replace(mark, start_seconds=0, end_seconds=0) for mark in found] == [
        replace(mark, start_seconds=0, end_seconds=0) for mark in marks
    ]
    times = [round(t, 6) for mark in found for t in (mark.start_seconds, mark.end_seconds)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 3


@pytest.mark.parametrize("samples", [0, 1, 511], ids=str)
def test_in_a_sound_shorter_than_a_frame_nothing_is_heard(samples: int) -> None:
    short, clock = Pcm(np.zeros(samples, np.int16), RATE_HZ), sound(syllables(3))
    marks = marks_of([0.2] * 3)
    assert aligned(short, clock, marks) == ()
    assert aligned(clock, short, marks) == ()


def test_silence_is_aligned_without_complaint() -> None:
    silence = Pcm(np.zeros(RATE_HZ, np.int16), RATE_HZ)
    assert len(aligned(silence, sound(syllables(3)), marks_of([0.2] * 3))) == 3


def starts(marks: tuple[Mark, ...]) -> list[float]:
    return [mark.start_seconds for mark in marks]
