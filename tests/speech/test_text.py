"""Text in its one form, and the way back to what a person sees."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundkeep.errors import BadText
from soundkeep.speech import text as text_module
from soundkeep.speech.text import MAX_TEXT_CHARS, Normalised, normalise, speakable, words

# Few characters that meet in many ways: spaces, line ends, marks, jamo, what is dropped.
AWKWARD = (
    "aA1 .\n\r\t\x0b\x1c\x85\xa0\xad\u202f\u2028\u2029\u3000\u200b\u200c\u200d\u200e\ufeff\x07"
    "e\u0301\u0316\u0327\u0344\u212b\u1100\u1161\u11a8\u0958\u09c7\u09be\U0001d15f\U0001f600"
)
texts = st.text(AWKWARD, max_size=25) | st.text(
    st.characters(exclude_characters="\0", codec="utf-8")
)


def normalised(shown: str) -> Normalised:
    """With a letter of its own at the front, so that there is always something to say."""
    return normalise("x" + shown)


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("Hello,  world", "Hello, world"),
        ("  edges \n", "edges"),
        ("one\r\ntwo\rthree\x85four", "one\ntwo\nthree\nfour"),
        ("one \n \t two", "one\ntwo"),
        ("one\n \n\n\r\n two", "one\n\ntwo"),
        ("tab\tand\x0bmore\u3000spaces", "tab and more spaces"),
        ("10\u202f000", "10\u202f000"),
        ("10 \xa0000", "10 000"),
        ("co\xadoper\u200bate\ufeff", "cooperate"),
        ("a \u200b\x07 b", "a b"),
        ("\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None),  # a joiner shapes a word
        ("cafe\u0301", "caf\xe9"),
        ("e\u200b\u0301", "\xe9"),
        ("\u1112\u1161\u11ab", "\ud55c"),
        ("2\u2075 \ufb01 \u216b \uff21", None),  # NFKC would say 25, fi, XII, A
    ],
)
def test_spellings_of_the_same_words_become_one(shown: str, said: str | None) -> None:
    assert normalise(shown).text == (shown if said is None else said)


@given(texts)
def test_to_normalise_twice_is_the_same_as_once(shown: str) -> None:
    once = normalised(shown).text
    twice = normalise(once)
    assert twice.text == once
    assert list(twice.offsets) == list(range(len(once) + 1))


@given(texts)
def test_what_comes_out_is_nfc_and_has_nothing_loose(shown: str) -> None:
    said = normalised(shown).text
    assert unicodedata.is_normalized("NFC", said)
    assert said == said.strip(" \n")
    assert not any(loose in said for loose in ("  ", " \n", "\n ", "\n\n\n"))
    assert all(
        unicodedata.category(char) not in ("Cc", "Cf") or char in "\n\u200c\u200d" for char in said
    )


@given(texts)
def test_offsets_never_go_back_and_lie_in_the_shown_text(shown: str) -> None:
    found = normalised(shown)
    offsets = list(found.offsets)
    assert len(offsets) == len(found.text) + 1
    assert offsets == sorted(offsets)
    assert offsets[0] == 0
    assert offsets[-1] <= len(shown) + 1


@given(texts, st.data())
def test_a_slice_came_from_the_shown_text_between_its_offsets(
    shown: str, data: st.DataObject
) -> None:
    """What the offsets enclose normalises to the slice, wherever no character is cut in two."""
    found = normalised(shown)
    start = data.draw(st.integers(0, len(found.text)))
    end = data.draw(st.integers(start, len(found.text)))
    slice_ = found.text[start:end]
    source = ("x" + shown)[found.offsets[start] : found.offsets[end]]
    if cuts_a_character(found, start) or cuts_a_character(found, end):
        return
    assert said_alone(source) == said_alone(slice_)


def cuts_a_character(found: Normalised, at: int) -> bool:
    return 0 < at < len(found.text) and found.offsets[at] == found.offsets[at - 1]


def said_alone(piece: str) -> str:
    """Between two letters, so that spaces at its edges count; marks stay with what they mark."""
    return normalise(f"x|{piece}|x").text


def test_a_word_ends_where_its_letters_do_in_the_shown_text() -> None:
    shown = "  caf\u0065\u0301\u200b \u200b no\xadir  \n"
    found = normalise(shown)
    assert found.text == "caf\xe9 noir"
    assert [
        shown[found.offsets[start] : found.offsets[end]] for start, end in words(found.text)
    ] == ["cafe\u0301", "no\xadir"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\u201cDon't,\u201d she said\u2014twice\u2026", ["Don't", "she", "said", "twice"]),
        ("x-ray 3.14, \u2018tis \u2013 so", ["x-ray", "3.14", "tis", "so"]),
        ("\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", None),
        ("* * *", []),
    ],
)
def test_words_are_what_a_person_would_mark(text: str, found: list[str] | None) -> None:
    assert [text[a:b] for a, b in words(text)] == (text.split() if found is None else found)


@pytest.mark.parametrize(
    "shown",
    [
        "",
        " \n\t ",
        "\u200b\ufeff",
        "...!?",
        "\U0001f600\U0001f44d\U0001f3fd",
        "<p><br/></p>",
        '<break time="1s"/>&nbsp;&#160;',
        "* * *",
        "a\x00b",
        "lone \ud800 surrogate",
        "x" * (MAX_TEXT_CHARS + 1),
        "e" + "\u0301" * 31,
    ],
    ids=lambda shown: ascii(shown[:12]),
)
def test_what_nobody_can_speak_is_a_clear_error(shown: str) -> None:
    with pytest.raises(BadText):
        normalise(shown)


@pytest.mark.parametrize("shown", ["7", "<b>so</b>", "x < y", "\u6f22", "1\ufe0f\u20e3"])
def test_a_letter_or_a_digit_is_enough(shown: str) -> None:
    assert speakable(normalise(shown).text)


@pytest.mark.parametrize(
    "piece",
    ["a", "<", "&", " \u200b", "x  ", "e\u0301", "\r\n", "\u0344a", "a" + "\u0301\u0316" * 15],
    ids=ascii,
)
def test_a_long_text_takes_time_in_proportion(piece: str) -> None:
    """No time is asserted: anything quadratic would not end within the limit of the whole run."""
    shown = "x" + piece * (1_000_000 // len(piece))
    assert len(normalise(shown).offsets) > 1


def test_the_tables_know_all_that_this_python_knows() -> None:
    """They may know more, of a newer Unicode; never less, or two spellings would be two keys."""
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if unicodedata.category(char) in ("Cc", "Cf") and char not in "\x00\u200c\u200d":
            assert normalise(f"a{char}b").text in ("ab", "a b", "a\nb"), ascii(char)
        parts = unicodedata.normalize("NFD", char)
        if len(parts) > 1 and unicodedata.is_normalized("NFC", char):
            assert all(text_module._may_compose(part) for part in parts[1:]), ascii(char)
