"""Text as it is said: one form for all spellings of the same words, and the way back.

A text is brought to one form before it is keyed or sent: Unicode NFC, LF, no control or format
characters but the two joiners that shape words, single spaces, at most one blank line between
paragraphs. It is never NFKC, which would turn `2⁵` into `25`. Every index of that form maps back
to the text that a person sees, so that a timing can mark it.

The tables are written out here and not asked of Python's: a newer Unicode must not change keys.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from soundkeep.errors import BadText

MAX_TEXT_CHARS = 5_000_000  # War and Peace has 3.2 million
MAX_MARKS = 30  # on one letter: the stream-safe limit of UAX #15; beyond, NFC takes quadratic time

_LINE_ENDS = "\n\r\x85\u2028\u2029"
_SPACES = " \t\x0b\x0c\x1c-\x1f\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
_LONE_SPACES = "\xa0\u202f"  # no break: some engines read "10 000" as one number only with these
_DROPPED = (  # the categories Cc and Cf, but what is a space or a joiner (U+200C, U+200D)
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2"
    "\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0001\U000e0020-\U000e007f"
)
_LOOSE = f"{_LINE_ENDS}{_SPACES}{_DROPPED}"

# A run that may not stay as it is: anything loose but one lone space or line feed inside.
_RUN = re.compile(rf"[{_LOOSE}]{{2,}}|(?![ \n])[{_LOOSE}]|\A[ \n]|[ \n]\Z")
_LINE_END = re.compile(rf"\r\n|[{_LINE_ENDS}]")
_SPACE = re.compile(rf"[{_SPACES}]")
_DROP = re.compile(rf"[{_DROPPED}]+")
_STRETCH = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]+")  # an ASCII letter may carry the first mark
_MARKUP = re.compile(r"<[^<>]*>|&#?\w{1,32};")
_SPEAKABLE = re.compile(r"[^\W_]")
_WORD = re.compile(r"[^\s\u2013\u2014\u2015\u2026]+")


@dataclass(frozen=True, slots=True)
class Normalised:
    """A text in its one form; `offsets[i]` is where index `i` of it lies in the shown text.

    There is an offset for each index and one for the end, and none is smaller than the one
    before it, so `shown[offsets[start]:offsets[end]]` is what `text[start:end]` came from.
    """

    text: str
    offsets: Sequence[int]


def normalise(shown: str) -> Normalised:
    """The text in its one form. Raises `BadText` for what nobody can speak, or nobody should.

    Takes time in proportion to the length of the text, whatever it holds.
    """
    _check(shown)
    tidy = _tidied(shown)
    composed = _composed(tidy.text)
    if not speakable(composed.text):
        raise BadText("there is nothing in the text that can be spoken: no letter and no digit")
    return Normalised(composed.text, array("I", (tidy.offsets[at] for at in composed.offsets)))


def speakable(text: str) -> bool:
    """Whether there is a letter or a digit in it, beside markup."""
    return bool(_SPEAKABLE.search(_MARKUP.sub(" ", text)))


def words(text: str) -> Iterator[tuple[int, int]]:
    """Where each word starts and ends: what stands between spaces, without its punctuation.

    A script that puts no spaces between words has one "word" for each run of letters.
    """
    for match in _WORD.finditer(text):
        start, end = match.span()
        while start < end and not _of_a_word(text[start]):
            start += 1
        while start < end and not _of_a_word(text[end - 1]):
            end -= 1
        if start < end:
            yield start, end


def _of_a_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M"


def _check(shown: str) -> None:
    if len(shown) > MAX_TEXT_CHARS:
        raise BadText(f"a text has at most {MAX_TEXT_CHARS:,} characters, not {len(shown):,}")
    if "\x00" in shown:
        raise BadText("the text holds a NUL character: it is not text, or it was damaged")
    try:
        shown.encode()
    except UnicodeEncodeError:
        raise BadText("the text must be valid Unicode") from None


def _tidied(shown: str) -> Normalised:
    """Loose runs in order: nothing at the edges, a space or up to two line feeds elsewhere."""
    return _mapped(
        shown,
        (
            (*run.span(), "" if run.start() == 0 or run.end() == len(shown) else _tidy(run[0]))
            for run in _RUN.finditer(shown)
        ),
    )


def _tidy(run: str) -> str:
    lines = len(_LINE_END.findall(run))
    if lines:
        return "\n" * min(lines, 2)
    spaces = _DROP.sub("", run)
    if len(spaces) == 1 and spaces in _LONE_SPACES:
        return spaces
    return " " if spaces else ""


def _composed(text: str) -> Normalised:
    """The text in NFC."""
    return _mapped(text, _compositions(text))


def _compositions(text: str) -> Iterator[tuple[int, int, str]]:
    """The spans that NFC changes, and into what; a cluster at a time, to keep the offsets fine."""
    for stretch in _STRETCH.finditer(text):
        _check_marks(stretch[0])
        if unicodedata.is_normalized("NFC", stretch[0]):
            continue
        for start, end in _clusters(text, *stretch.span()):
            composed = unicodedata.normalize("NFC", text[start:end])
            if composed != text[start:end]:
                yield start, end, composed


def _check_marks(stretch: str) -> None:
    marks = 0
    for char in stretch:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks > MAX_MARKS:
            raise BadText(f"more than {MAX_MARKS} combining marks stand on one letter")


def _clusters(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Spans that NFC never joins with one another: a character and all that may compose with it."""
    for at in range(start + 1, stop):
        if not _may_compose(text[at]):
            yield start, at
            start = at
    yield start, stop


def _may_compose(char: str) -> bool:
    """Whether NFC may join the character to what stands before it."""
    return (
        unicodedata.category(char)[0] == "M"
        or "\u1160" <= char <= "\u11ff"  # Hangul vowels and finals
        or "\U00016d63" <= char <= "\U00016d6a"  # Kirat Rai vowels
    )


def _mapped(text: str, changes: Iterable[tuple[int, int, str]]) -> Normalised:
    """The text with each span changed, and the offsets of what came out in what went in."""
    out: list[str] = []
    offsets = array("I")
    at, stop = 0, len(text)
    for start, end, new in changes:
        if new == text[start:end]:
            continue
        out += (text[at:start], new)
        offsets.extend(range(at, start))
        offsets.extend([start] * len(new))
        at = end
        if end == len(text) and not new:
            stop = start  # the last word ends before what was taken off the end
    out.append(text[at:])
    offsets.extend(range(at, len(text)))
    offsets.append(stop)
    return Normalised("".join(out), offsets)
