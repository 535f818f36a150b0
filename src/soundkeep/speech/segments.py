"""A text cut into segments: what is asked for, judged, cached and paid for as one.

A segment is `text[start:end]` of the normalised text. Segments come in order, none longer than
the engine takes, and between two of them lies only white space or what nobody can speak, such as
a row of asterisks. A paragraph's segments depend on that paragraph alone (unless segments are cut
by the limit), so an edit elsewhere costs nothing here.

Where text is cut shapes keys: sentencex is pinned to one version for that.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal, TypeAlias

import sentencex

from soundkeep.speech.text import Normalised, speakable

By: TypeAlias = Literal["paragraph", "sentence", "limit"]
Span: TypeAlias = tuple[int, int]

# sentencex takes quadratic time over unclosed quotes: 294 s for 300,000 of them at once.
_MAX_PASSAGE_CHARS = 10_000

_BLANK_LINE = re.compile(r"\n\n")
_CLAUSE_END = re.compile(r"[,;:)\]](?=\s)|[\u2013\u2014\u3001\uff0c\uff1a\uff1b]")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the normalised text, `text[start:end]`, and the spans of its sentences there."""

    text: str
    start: int
    end: int
    sentences: tuple[Span, ...]


def split(normalised: Normalised, by: By, max_chars: int, language: str = "en") -> list[Segment]:
    """The segments of a text, each of at most `max_chars` characters.

    By `paragraph` or by `sentence`; what is longer than the limit is cut at the ends of sentences,
    else of clauses, else of words. By `limit`, each segment is as long as the engine takes: a text
    that fits is one segment, as it stands.
    """
    text = normalised.text
    paragraphs = [_sentences(text, span, language) for span in _paragraphs(text)]
    sentences = list(chain.from_iterable(paragraphs))
    if by == "limit" and len(text) <= max_chars:
        return [Segment(text, 0, len(text), tuple(sentences))]
    fitting = [_fitting(text, paragraph, max_chars) for paragraph in paragraphs]
    return _segments(text, _joined(fitting, by, max_chars), sentences)


def _joined(paragraphs: list[list[Span]], by: By, max_chars: int) -> Iterable[Span]:
    if by == "sentence":
        return chain.from_iterable(paragraphs)
    packed = chain.from_iterable(_packed(paragraph, max_chars) for paragraph in paragraphs)
    return packed if by == "paragraph" else _packed(packed, max_chars)


def _packed(spans: Iterable[Span], max_chars: int) -> Iterator[Span]:
    """Neighbours joined for as long as they fit together."""
    joined: Span | None = None
    for start, end in spans:
        if joined is not None and end - joined[0] <= max_chars:
            joined = joined[0], end
            continue
        if joined is not None:
            yield joined
        joined = start, end
    if joined is not None:
        yield joined


def _segments(text: str, spans: Iterable[Span], sentences: list[Span]) -> list[Segment]:
    starts = [start for start, _ in sentences]
    ends = [end for _, end in sentences]
    return [
        Segment(
            text[start:end],
            start,
            end,
            tuple(
                (max(first, start), min(last, end))
                for first, last in sentences[bisect_right(ends, start) : bisect_left(starts, end)]
            ),
        )
        for start, end in spans
    ]


def _paragraphs(text: str) -> Iterator[Span]:
    start = 0
    for blank in _BLANK_LINE.finditer(text):
        yield start, blank.start()
        start = blank.end()
    yield start, len(text)


def _sentences(text: str, paragraph: Span, language: str) -> list[Span]:
    """The sentences that can be spoken; what cannot goes with its neighbour in the paragraph."""
    found: list[Span] = []
    waiting: int | None = None  # where a beginning lies that cannot be spoken by itself
    for start, end in _boundaries(text, paragraph, language):
        if not speakable(text[start:end]):
            if found:
                found[-1] = found[-1][0], end
            elif waiting is None:
                waiting = start
        else:
            found.append((start if waiting is None else waiting, end))
            waiting = None
    return found


def _boundaries(text: str, paragraph: Span, language: str) -> Iterator[Span]:
    for start, end in _pieces(text, paragraph, _MAX_PASSAGE_CHARS):
        for sentence in sentencex.get_sentence_boundaries(_primary(language), text[start:end]):
            first, last = start + sentence["start_index"], start + sentence["end_index"]
            yield from _trimmed(text, first, last)


def _primary(language: str) -> str:
    """`de` of `de-AT`: sentencex takes a language that it does not know for English."""
    return re.split("[-_]", language)[0].lower()


def _fitting(text: str, sentences: list[Span], max_chars: int) -> list[Span]:
    """The same sentences, those that are too long in pieces that can be spoken."""
    return [
        piece
        for sentence in sentences
        for piece in _pieces(text, sentence, max_chars)
        if piece == sentence or speakable(text[slice(*piece)])
    ]


def _pieces(text: str, span: Span, max_chars: int) -> Iterator[Span]:
    start, end = span
    while end - start > max_chars:
        cut = _cut(text, start, start + max_chars)
        yield from _trimmed(text, start, cut)
        start = cut
    yield from _trimmed(text, start, end)


def _cut(text: str, start: int, stop: int) -> int:
    """Where to end a piece: after a clause in its second half, at a space, or where it must."""
    clauses = list(_CLAUSE_END.finditer(text, (start + stop) // 2, stop))
    if clauses:
        return clauses[-1].end()
    space = max(text.rfind(" ", start + 1, stop + 1), text.rfind("\n", start + 1, stop + 1))
    return space if space > 0 else _between_characters(text, start, stop)


def _between_characters(text: str, start: int, stop: int) -> int:
    """The last place that does not part a letter from its marks or joiners, if there is one."""
    for cut in range(stop, start, -1):
        if not (_joins(text[cut]) or text[cut - 1] == "\u200d"):
            return cut
    return stop


def _joins(char: str) -> bool:
    return char in "\u200c\u200d" or unicodedata.category(char)[0] == "M"


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    """The span without white space at its edges; nothing if there is nothing else."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end
