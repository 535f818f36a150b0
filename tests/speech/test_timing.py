"""Timings: each word where a person sees it and when a person hears it."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from soundkeep.speech.segments import split
from soundkeep.speech.text import normalise, words
from soundkeep.speech.timing import (
    Mark,
    Piece,
    Source,
    Timing,
    estimated,
    from_marks,
    joined,
)


def said(text: str, marks: tuple[Mark, ...]) -> list[tuple[str, float, float]]:
    return [
        (text[mark.start : mark.end], round(mark.start_seconds, 6), round(mark.end_seconds, 6))
        for mark in marks
    ]


def test_an_engines_words_are_laid_onto_our_own() -> None:
    """espeak says `well-known` as two words, and times the quote as part of its word."""
    text = "A well-known \u201cfact\u201d."
    marks = (
        Mark(0.0, 0.1, 0, 1, "word"),
        Mark(0.0, 1.5, 0, 19, "sentence"),
        Mark(0.1, 0.4, 2, 6, "word"),
        Mark(0.4, 0.8, 7, 12, "word"),
        Mark(0.9, 1.5, 14, 18, "word"),
    )
    assert said(text, from_marks(text, marks)) == [
        ("A", 0.0, 0.1),
        ("well-known", 0.1, 0.8),
        ("fact", 0.9, 1.5),
    ]


def test_an_estimate_goes_by_characters() -> None:
    assert said("ab cdef", estimated("ab cdef", 7.0)) == [("ab", 0.0, 2.0), ("cdef", 3.0, 7.0)]


SHOWN = "  One\u200b  &  two.  \u201cThree\u201d <caf\u0065\u0301>!\r\n\r\n\r\nFour\xad five.\n"


def speech(shown: str, source: Source = "provider", seconds: float = 2.0) -> Timing:
    normalised = normalise(shown)
    return joined(
        normalised,
        [
            Piece(segment, seconds, Timing(source, estimated(segment.text, seconds)))
            for segment in split(normalised, "paragraph", 4096)
        ],
    )


def test_marks_of_a_speech_stand_in_the_shown_text() -> None:
    timing = speech(SHOWN)
    assert [SHOWN[mark.start : mark.end] for mark in timing.of_kind("word")] == [
        "One",
        "two",
        "Three",
        "caf\u0065\u0301",
        "Four",
        "five",
    ]
    assert [SHOWN[mark.start : mark.end] for mark in timing.of_kind("sentence")] == [
        "One\u200b  &  two.",
        "\u201cThree\u201d <caf\u0065\u0301>!",
        "Four\xad five.",
    ]


def test_a_segment_begins_when_those_before_it_have_ended() -> None:
    timing = speech(SHOWN, seconds=2.5)
    last = timing.of_kind("sentence")[-1]
    assert last.start_seconds == 2.5
    assert last.end_seconds <= 5.0


def test_a_sentence_lasts_from_its_first_word_to_its_last() -> None:
    timing = speech(SHOWN)
    first, second = timing.of_kind("word")[:2]
    sentence = timing.of_kind("sentence")[0]
    assert (sentence.start_seconds, sentence.end_seconds) == (
        first.start_seconds,
        second.end_seconds,
    )


def test_a_speech_is_timed_as_well_as_its_worst_segment() -> None:
    normalised = normalise("One.\n\nTwo.\n\nThree.")
    sources: tuple[Source, ...] = ("provider", "estimated", "aligned")
    pieces = [
        Piece(segment, 1.0, Timing(source, estimated(segment.text, 1.0)))
        for segment, source in zip(split(normalised, "paragraph", 99), sources, strict=True)
    ]
    assert joined(normalised, pieces).source == "estimated"
    assert joined(normalised, pieces[:1]).source == "provider"
    assert joined(normalised, pieces[2:]).source == "aligned"


def test_a_mark_beyond_the_sound_ends_with_the_sound() -> None:
    normalised = normalise("One. Two.")
    (segment,) = split(normalised, "paragraph", 99)
    late = Timing("provider", estimated(segment.text, 9.0))
    timing = joined(normalised, [Piece(segment, 1.5, late)])
    assert max(mark.end_seconds for mark in timing.marks) == 1.5


def test_a_timing_reads_back_from_json() -> None:
    timing = speech(SHOWN)
    again = Timing.from_json(json.loads(json.dumps(timing.to_json())))
    assert again.source == timing.source
    assert again.of_kind("word") == rounded(timing.of_kind("word"))
    assert again.of_kind("sentence") == rounded(timing.of_kind("sentence"))


def rounded(marks: list[Mark]) -> list[Mark]:
    return [
        Mark(
            round(mark.start_seconds, 3),
            round(mark.end_seconds, 3),
            mark.start,
            mark.end,
            mark.kind,
        )
        for mark in marks
    ]


def test_webvtt_has_a_cue_for_each_sentence_and_a_time_for_each_word() -> None:
    shown = 'Tom & <Jerry> run\n--> here. "Yes!"'
    text = normalise(shown).text
    (segment,) = split(normalise(shown), "paragraph", 99)
    marks = tuple(
        Mark(3600.0 + index, 3600.5 + index, start, end, "word")
        for index, (start, end) in enumerate(words(text))
    )
    timing = joined(normalise(shown), [Piece(segment, 7200.0, Timing("aligned", marks))])
    assert timing.to_webvtt(shown) == (
        "WEBVTT\n\nNOTE timing_source: aligned\n\n"
        "1\n01:00:00.000 --> 01:00:03.500\n"
        "Tom &amp; &lt;<01:00:01.000>Jerry&gt; <01:00:02.000>run --&gt; <01:00:03.000>here.\n\n"
        '2\n01:00:04.000 --> 01:00:04.500\n"Yes!"\n'
    )


def test_webvtt_marks_no_words_that_are_only_estimated() -> None:
    assert "<0" not in speech(SHOWN, "estimated").to_webvtt(SHOWN)
    assert "<0" in speech(SHOWN, "aligned").to_webvtt(SHOWN)


def test_a_cue_lasts_at_least_a_millisecond() -> None:
    vtt = Timing("aligned", (Mark(1.0, 1.0, 0, 2, "sentence"),)).to_webvtt("Hi")
    assert "00:00:01.000 --> 00:00:01.001\nHi\n" in vtt


seconds = st.floats(-1, 100)
