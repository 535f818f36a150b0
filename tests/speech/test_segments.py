"""Segments: where a text is cut, and that nothing of it is lost."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundkeep.speech.segments import By, Segment, split
from soundkeep.speech.text import normalise, speakable

BOOK = """CHAPTER I.

Alice was tired. Mr. Smith said: \u201cWhat is the use of a book? None.\u201d

* * *

So she was considering (as well as she could), whether the pleasure would be worth it."""


def cut(text: str, by: By, max_chars: int = 4096) -> list[str]:
    return [segment.text for segment in split(normalise(text), by, max_chars)]


def test_a_segment_is_a_paragraph_unless_another_is_chosen() -> None:
    assert cut(BOOK, "paragraph") == [part for part in BOOK.split("\n\n") if part != "* * *"]


def test_a_segment_by_sentence_is_a_sentence() -> None:
    assert cut(BOOK, "sentence")[:3] == [
        "CHAPTER I.",
        "Alice was tired.",
        "Mr. Smith said: \u201cWhat is the use of a book? None.\u201d",
    ]


def test_a_text_that_the_engine_takes_is_one_segment_by_limit_as_it_stands() -> None:
    assert cut(BOOK + "\n\n...", "limit") == [BOOK + "\n\n..."]


def test_by_limit_whole_paragraphs_stay_together_while_they_fit() -> None:
    first, second, _, last = BOOK.split("\n\n")
    assert cut(BOOK, "limit", 100) == [f"{first}\n\n{second}", last]


def test_a_paragraph_longer_than_the_limit_is_cut_at_the_ends_of_sentences() -> None:
    assert cut("One is here. Two is here. Three is here.", "paragraph", 30) == [
        "One is here. Two is here.",
        "Three is here.",
    ]


def test_a_sentence_longer_than_the_limit_is_cut_after_a_clause_or_at_a_space() -> None:
    assert cut("When it rains, it pours, and nobody at all goes outside", "sentence", 26) == [
        "When it rains, it pours,",
        "and nobody at all goes",
        "outside",
    ]


def test_a_clause_that_ends_early_is_no_place_to_cut() -> None:
    assert cut("Oh, nobody at all went outside", "sentence", 25) == [
        "Oh, nobody at all went",
        "outside",
    ]


def test_a_word_longer_than_the_limit_is_cut_but_never_before_a_mark() -> None:
    assert cut("a" * 25, "paragraph", 10) == ["a" * 10, "a" * 10, "a" * 5]
    assert cut("xq\u0323\u0307" * 3, "paragraph", 6) == [
        "xq\u0323\u0307x",
        "q\u0323\u0307x",
        "q\u0323\u0307",
    ]


def test_letters_that_are_joined_stay_together() -> None:
    assert cut("abc\u200dd", "paragraph", 3) == ["ab", "c\u200dd"]
    assert cut("ab\u200dcd", "paragraph", 3) == ["a", "b\u200dc", "d"]


def test_what_nobody_can_speak_goes_with_its_neighbour_or_nowhere() -> None:
    assert cut("!!! Well. ... Yes!\n\n***", "sentence") == ["!!! Well. ...", "Yes!"]


@pytest.mark.parametrize("language", ["de", "de-AT", "DE_de"])
def test_sentences_end_as_they_do_in_the_language(language: str) -> None:
    text = "Das war am 3. Mai. Ja."
    found = split(normalise(text), "sentence", 99, language)
    assert [segment.text for segment in found] == ["Das war am 3. Mai.", "Ja."]


def test_a_shared_paragraph_is_the_same_segment_in_two_texts() -> None:
    shared = "Shared by two. Paid for once."
    one = set(cut(f"First.\n\n{shared}\n\nLast.", "paragraph", 40))
    other = set(cut(f"{shared}\n\nQuite another text follows here. It is longer.", "paragraph", 40))
    assert one & other == {shared}


def test_after_an_edit_only_the_edited_segment_is_new() -> None:
    before, after = cut(BOOK, "paragraph", 60), cut(BOOK.replace("tired", "bored"), "paragraph", 60)
    assert len(set(after) - set(before)) == 1


def test_each_segment_knows_its_sentences_also_where_one_was_cut() -> None:
    text = "One here. A second sentence, which is far too long."
    first, second, third = split(normalise(text), "paragraph", 24)
    assert [spoken(text, segment) for segment in (first, second, third)] == [
        ["One here."],
        ["A second sentence,"],
        ["which is far too long."],
    ]


def spoken(text: str, segment: Segment) -> list[str]:
    return [text[start:end] for start, end in segment.sentences]


@pytest.mark.parametrize("unit", ["\u201c", '("', "a. ", ". ", "a", "a\n\n", "<", "\U0001f600"])
def test_hostile_texts_are_cut_in_bounded_time(unit: str) -> None:
    """No time is asserted: 300,000 open quotes at once take sentencex five minutes."""
    text = "So. " + unit * 100_000
    assert all(len(segment) <= 4096 for segment in cut(text, "paragraph"))


PARTS = [
    "One. ",
    "two, ",
    "Three! ",
    "\n\n",
    "\n",
    "\u2026 ",
    "\u201cSo?\u201d ",
    "***",
    "e\u0323\u0307",
    "\u200d",
]
texts = st.lists(st.sampled_from(PARTS) | st.text(max_size=8), max_size=30).map("".join)


@given(texts, st.sampled_from(get_args(By)), st.integers(1, 60))
def test_segments_tile_the_text(shown: str, by: By, max_chars: int) -> None:
    normalised = normalise("x" + shown.replace("\0", ""))
    text, at = normalised.text, 0
    segments = split(normalised, by, max_chars)
    assert segments
    for segment in segments:
        assert segment.text == text[segment.start : segment.end] == segment.text.strip()
        assert speakable(segment.text)
        assert 0 < len(segment.text) <= max_chars
        assert not speakable(text[at : segment.start])
        assert_sentences_tile(text, segment)
        at = segment.end
    assert not speakable(text[at:])


def assert_sentences_tile(text: str, segment: Segment) -> None:
    at = segment.start
    for start, end in segment.sentences:
        assert at <= start < end <= segment.end
        assert not text[at:start].strip() or not speakable(text[at:start])
        at = end
