"""When our words are heard, made from what engines say of their own.

Every engine cuts a text in another way ("3.5 km" has four words for one, and two for the next), so
what they tell is carried over to words of our own: runs of letters and digits with what joins them.
Marks that come from here begin in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from soundkeep.speech.engines.interface import Mark

Span = tuple[int, int]
Spelled = Sequence[tuple[str, float, float]]  # a piece of text, when it begins, when it ends

_WORD = re.compile(r"[^\W_]+(?:['\u2019.,:/&+@_-][^\W_]+)*")
AHEAD = {"characters": 32, "words": 120}
JITTER_SECONDS = 0.05  # times are rounded; what goes back by more was counted from anew


def words(text: str, start: int = 0, end: int | None = None) -> list[Span]:
    """Our own words, as half-open ranges of indexes into the text."""
    stop = len(text) if end is None else end
    return [match.span() for match in _WORD.finditer(text, start, stop)]


@dataclass(frozen=True, slots=True)
class Onset:
    """What an engine heard begin: at which index of the text, at which second."""

    index: int
    seconds: float


def by_onsets(
    spans: Sequence[Span], heard: Iterable[Onset], begin: float, end: float
) -> tuple[Mark, ...]:
    """Marks of words that fill the time from the first to `end`, each lasting until the next.

    A word in which nothing was heard to begin lies between its neighbours, by its index.
    """
    if not spans:
        return ()
    edge = Onset(spans[0][0], begin)
    onsets = [edge, *_forward(heard, edge, end), Onset(spans[-1][1], end)]
    starts = [_start_of(span, onsets) for span in spans]
    return tuple(
        Mark(start, until, *span, kind="word")
        for span, start, until in zip(spans, starts, [*starts[1:], end], strict=True)
    )


def _forward(heard: Iterable[Onset], last: Onset, end: float) -> Iterator[Onset]:
    """Those that go forward in the text and in time, up to the end."""
    for onset in heard:
        if onset.index >= last.index and last.seconds <= onset.seconds <= end:
            yield onset
            last = onset


def _start_of(span: Span, onsets: Sequence[Onset]) -> float:
    inside = (onset.seconds for onset in onsets[1:-1] if span[0] <= onset.index < span[1])
    first = next(inside, None)
    return _between(span[0], onsets) if first is None else first


def _between(index: int, onsets: Sequence[Onset]) -> float:
    before = max((each for each in onsets if each.index <= index), key=lambda each: each.seconds)
    after = min((each for each in onsets if each.index > index), key=lambda each: each.seconds)
    share = (index - before.index) / (after.index - before.index)
    return before.seconds + share * (after.seconds - before.seconds)


class Follower:
    """Marks of words from an engine that tells, piece by piece, what it spells and when.

    What is spelled may differ from the text here and there: each piece is looked for a little
    ahead, and one that is not there is passed over.
    """

    def __init__(self, text: str, pieces: Literal["characters", "words"]) -> None:
        self._text = text
        self._ahead = AHEAD[pieces]
        self._inside_words = pieces == "characters"
        self._waiting = words(text)
        self._times: dict[int, tuple[float, float]] = {}  # of indexes in words that wait
        self._next = 0
        self._latest = 0.0

    def take(self, spelled: Spelled) -> tuple[Mark, ...]:
        """The words that are complete, now that these pieces came with their times."""
        shift = self._shift(spelled)
        for piece, start, end in spelled:
            self._place(piece, start + shift, end + shift)
        return tuple(self._complete(before=self._next))

    def rest(self) -> tuple[Mark, ...]:
        """The words that waited for more."""
        return tuple(self._complete(before=len(self._text) + 1))

    def _shift(self, spelled: Spelled) -> float:
        """Some count each answer's times from its own beginning."""
        went_back = spelled and spelled[0][1] < self._latest - JITTER_SECONDS
        return self._latest if went_back else 0.0

    def _place(self, piece: str, start: float, end: float) -> None:
        start = max(start, self._latest)
        self._latest = max(start, end)
        at = self._find(piece) if piece else -1
        if at >= 0:
            self._next = at + len(piece)
            self._times |= dict.fromkeys(range(at, self._next), (start, self._latest))

    def _find(self, piece: str) -> int:
        """Where it stands next: a word not in the middle of another one. -1 if nowhere near."""
        stop = self._next + self._ahead + len(piece)
        at = self._text.find(piece, self._next, stop)
        while at > 0 and not self._inside_words and self._cuts(at, piece):
            at = self._text.find(piece, at + 1, stop)
        return at

    def _cuts(self, at: int, piece: str) -> bool:
        return at > self._next and self._text[at - 1].isalnum() and piece[0].isalnum()

    def _complete(self, before: int) -> Iterator[Mark]:
        while self._waiting and self._waiting[0][1] < before:
            span = self._waiting.pop(0)
            times = [self._times[index] for index in range(*span) if index in self._times]
            if times:
                yield Mark(times[0][0], times[-1][1], *span, kind="word")
