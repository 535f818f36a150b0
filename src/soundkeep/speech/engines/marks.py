"""When our words are heard, made from what engines say of their own.

Every engine cuts a text in another way ("3.5 km" has four words for one, and two for the next), so
what they tell is carried over to words of our own, those of `speech.text`. Marks that come from
here begin in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from soundkeep.speech.text import words
from soundkeep.speech.timing import Mark

Span = tuple[int, int]
Spelled = Sequence[tuple[str, float, float]]  # a piece of text, when it begins, when it ends

AHEAD_CHARS = 120  # a word that is told stands so far ahead at most
# What was told otherwise is this long at most, and both agree again when so many are the same.
NEAR_CHARS = 24
AGREED_CHARS = 3
JITTER_SECONDS = 0.05  # times are rounded; what goes back by more was counted from anew


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
    """Marks of words from an engine that tells, piece by piece, what it spells and when."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._waiting = list(words(text))
        self._times: dict[int, tuple[float, float]] = {}  # of indexes in words that wait
        self._next = 0  # up to here the text was told
        self._latest = 0.0

    def take(self, spelled: Spelled) -> tuple[Mark, ...]:
        """The words that are complete, now that these pieces came with their times."""
        shift = self._shift(spelled)
        for piece, start, end in spelled:
            begin = max(start + shift, self._latest)
            self._latest = max(begin, end + shift)
            if piece:
                self._place(piece, begin, self._latest)
        return tuple(self._complete(before=self._next))

    def rest(self) -> tuple[Mark, ...]:
        """The words that waited for more."""
        return tuple(self._complete(before=len(self._text) + 1))

    def _place(self, piece: str, start: float, end: float) -> None:
        """Finds the piece in the text, and notes when it is heard."""
        raise NotImplementedError

    def _shift(self, spelled: Spelled) -> float:
        """Some count each answer's times from its own beginning."""
        went_back = spelled and spelled[0][1] < self._latest - JITTER_SECONDS
        return self._latest if went_back else 0.0

    def _complete(self, before: int) -> Iterator[Mark]:
        while self._waiting and self._waiting[0][1] < before:
            span = self._waiting.pop(0)
            times = [self._times.pop(index) for index in range(*span) if index in self._times]
            if times:
                yield Mark(times[0][0], times[-1][1], *span, kind="word")


class WordFollower(Follower):
    """Follows an engine that tells words: each is looked for a little ahead, and one that is not
    there is passed over."""

    def _place(self, piece: str, start: float, end: float) -> None:
        at = self._find(piece)
        if at >= 0:
            self._next = at + len(piece)
            times = _shared(start, end, len(piece))
            self._times |= zip(range(at, self._next), times, strict=True)

    def _find(self, piece: str) -> int:
        """Where it stands next, not in the middle of another word. -1 if nowhere near."""
        stop = self._next + AHEAD_CHARS + len(piece)
        at = self._text.find(piece, self._next, stop)
        while at > 0 and self._cuts(at, piece):
            at = self._text.find(piece, at + 1, stop)
        return at

    def _cuts(self, at: int, piece: str) -> bool:
        return at > self._next and self._text[at - 1].isalnum() and piece[0].isalnum()


class CharacterFollower(Follower):
    """Follows an engine that tells characters, which should be those of the text.

    Where some are not (a number spelled out, a space too many), both are passed over until they
    agree again, and what was passed over in the text shares the time of what was told in its place.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._told: list[tuple[str, float, float]] = []  # characters not yet found

    def rest(self) -> tuple[Mark, ...]:
        self._keep_step(ended=True)
        return super().rest()

    def _place(self, piece: str, start: float, end: float) -> None:
        times = _shared(start, end, len(piece))
        self._told += ((char, *time) for char, time in zip(piece, times, strict=True))
        self._keep_step(ended=False)

    def _keep_step(self, *, ended: bool) -> None:
        while self._told and self._next < len(self._text):
            if self._told[0][0] == self._text[self._next]:
                self._pass_over(1, 1)
            elif ended or len(self._told) >= NEAR_CHARS + AGREED_CHARS:
                told = "".join(char for char, _, _ in self._told[:NEAR_CHARS])
                text = self._text[self._next : self._next + NEAR_CHARS]
                self._pass_over(*_back_in_step(told, text))
            else:
                return  # more must be told to see where they agree again

    def _pass_over(self, told: int, text: int) -> None:
        heard, self._told = self._told[:told], self._told[told:]
        stop = min(self._next + text, len(self._text))
        if heard and stop > self._next:
            times = _shared(heard[0][1], heard[-1][2], stop - self._next)
            self._times |= zip(range(self._next, stop), times, strict=True)
        self._next = stop


def _shared(start: float, end: float, count: int) -> Iterator[tuple[float, float]]:
    """The time in equal shares, one after another."""
    edges = [min(end, start + (end - start) * number / count) for number in range(count)]
    return pairwise([*edges, end])


def _back_in_step(told: str, text: str) -> tuple[int, int]:
    """How much to pass over on both sides until they agree again for a few characters."""
    for total in range(1, 2 * NEAR_CHARS):
        for skip_text in range(max(0, total - NEAR_CHARS), min(total, NEAR_CHARS) + 1):
            agreed = told[total - skip_text :][:AGREED_CHARS]
            if agreed and text[skip_text:].startswith(agreed):
                return total - skip_text, skip_text
    return NEAR_CHARS, NEAR_CHARS
