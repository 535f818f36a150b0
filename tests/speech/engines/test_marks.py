"""Words of ours, timed by what engines say of theirs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundkeep.speech.engines.marks import (
    CharacterFollower,
    Follower,
    Onset,
    WordFollower,
    by_onsets,
)
from soundkeep.speech.text import words
from soundkeep.speech.timing import Mark

TIMES = st.floats(-5, 50, allow_nan=False)


def said(text: str, marks: tuple[Mark, ...]) -> list[tuple[str, float, float]]:
    return [(text[mark.start : mark.end], mark.start_seconds, mark.end_seconds) for mark in marks]


def test_a_word_begins_where_the_first_of_its_parts_is_heard() -> None:
    text = "It is 3.5 km"
    heard = [
        Onset(0, 0.0),
        Onset(3, 0.2),
        Onset(6, 0.5),
        Onset(7, 0.8),
        Onset(8, 1.0),
        Onset(10, 2),
    ]
    assert said(text, by_onsets(list(words(text)), heard, 0.0, 3.0)) == [
        ("It", 0.0, 0.2),
        ("is", 0.2, 0.5),
        ("3.5", 0.5, 2.0),
        ("km", 2.0, 3.0),
    ]


def test_a_word_in_which_nothing_was_heard_lies_between_its_neighbours() -> None:
    text = "aa bb cc"
    heard = [Onset(0, 1.0), Onset(6, 2.0)]
    marks = by_onsets(list(words(text)), heard, 1.0, 3.0)
    assert said(text, marks) == [("aa", 1.0, 1.5), ("bb", 1.5, 2.0), ("cc", 2.0, 3.0)]


def test_a_text_without_words_has_no_marks() -> None:
    assert by_onsets([], [Onset(0, 0.1)], 0.0, 1.0) == ()


@given(
    st.text("ab .,'", max_size=40),
    st.lists(st.builds(Onset, st.integers(-5, 60), TIMES), max_size=20),
    st.floats(0, 10),
)
def test_whatever_was_heard_marks_go_forward_within_their_time(
    text: str, heard: list[Onset], begin: float
) -> None:
    end = begin + 5
    marks = by_onsets(list(words(text)), heard, begin, end)
    assert [(mark.start, mark.end) for mark in marks] == list(words(text))
    edges = [edge for mark in marks for edge in (mark.start_seconds, mark.end_seconds)]
    assert edges == sorted(edges)
    assert all(begin <= edge <= end for edge in edges)


def spelled(text: str, at: float = 0.0) -> list[tuple[str, float, float]]:
    """A tenth of a second for each character."""
    return [(one, at + number / 10, at + (number + 1) / 10) for number, one in enumerate(text)]


def test_words_are_told_as_soon_as_they_are_complete() -> None:
    text = "One two."
    follower = CharacterFollower(text)
    assert said(text, follower.take(spelled("One"))) == []
    assert said(text, follower.take(spelled(" tw", 0.3))) == [("One", 0.0, 0.3)]
    assert said(text, follower.take(spelled("o", 0.6))) == []
    assert [word for word, *_ in said(text, follower.rest())] == ["two"]


def test_times_that_begin_anew_with_each_piece_go_on() -> None:
    text = "One two three"
    follower = CharacterFollower(text)
    marks = [*follower.take(spelled("One two ")), *follower.take(spelled("three"))]
    marks += follower.rest()
    assert [mark.start_seconds for mark in marks] == pytest.approx([0.0, 0.4, 0.8])
    assert [mark.end_seconds for mark in marks] == pytest.approx([0.3, 0.7, 1.3])


def told_and_rest(text: str, told: str) -> list[tuple[str, float, float]]:
    follower = CharacterFollower(text)
    return said(text, (*follower.take(spelled(told)), *follower.rest()))


def test_characters_that_the_provider_added_or_left_out_move_no_other_word() -> None:
    marks = told_and_rest("A \u201cquiet\u201d day.", "A  quiet# day")
    assert [word for word, *_ in marks] == ["A", "quiet", "day"]
    assert [round(start, 3) for _, start, _ in marks] == [0.0, 0.3, 1.0]


def test_one_character_too_many_loses_no_word() -> None:
    marks = told_and_rest("One two three.", "One  two three.")
    assert [word for word, *_ in marks] == ["One", "two", "three"]


def test_a_number_that_is_spelled_out_lasts_as_long_as_its_words() -> None:
    marks = told_and_rest("At 7 we ate.", "At seven we ate.")
    assert [word for word, *_ in marks] == ["At", "7", "we", "ate"]
    assert (round(marks[1][1], 3), round(marks[1][2], 3)) == (0.3, 0.8)
    assert (round(marks[2][1], 3), round(marks[2][2], 3)) == (0.9, 1.1)


def test_what_is_spelled_otherwise_is_passed_over_and_found_again() -> None:
    text = "Pay $5 now, this is it"
    follower = WordFollower(text)
    given = ["Pay", "five", "dollars", "now", ",", "this", "is", "it"]
    marks = follower.take([(word, number, number + 1) for number, word in enumerate(given)])
    found = [(word, start) for word, start, _ in said(text, (*marks, *follower.rest()))]
    assert found == [("Pay", 0), ("now", 3), ("this", 5), ("is", 6), ("it", 7)]


@given(
    st.text("ab '", max_size=30),
    st.lists(st.tuples(st.text("ab '", max_size=4), TIMES, TIMES), max_size=30),
    st.sampled_from([CharacterFollower, WordFollower]),
)
def test_whatever_is_spelled_marks_go_forward(
    text: str, given: list[tuple[str, float, float]], kind: type[Follower]
) -> None:
    follower = kind(text)
    marks = [*follower.take(given[:10]), *follower.take(given[10:]), *follower.rest()]
    assert [(mark.start, mark.end) for mark in marks] == sorted(
        {(mark.start, mark.end) for mark in marks}
    )
    edges = [edge for mark in marks for edge in (mark.start_seconds, mark.end_seconds)]
    assert edges == sorted(edges)
