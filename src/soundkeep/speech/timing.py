"""When each word and sentence is heard, and where it stands in the text that a person sees.

Word marks come from the provider, or from the aligner (`align.py`), or are estimated; `source`
says which, because an estimate is good enough to mark sentences by and not words. A segment's
marks count in its own text and sound, so that they can be kept with it and used in every speech
that has it; `joined` moves them to the place of the segment and makes the sentences of them.

Offsets count characters (Unicode code points), not UTF-16 units or bytes.
"""

from __future__ import annotations

import html
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from soundkeep.speech.segments import Segment
from soundkeep.speech.text import Normalised, words

Times: TypeAlias = tuple[float, float]  # a start and an end in seconds
Kind: TypeAlias = Literal["word", "sentence"]
Source: TypeAlias = Literal["provider", "aligned", "estimated"]  # from the best to the worst


@dataclass(frozen=True, slots=True)
class Mark:
    """When a stretch of text is heard: `text[start:end]` from `start_seconds` to `end_seconds`."""

    start_seconds: float
    end_seconds: float
    start: int
    end: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Timing:
    """Marks in order, and how they were found."""

    source: Source
    marks: tuple[Mark, ...]

    def of_kind(self, kind: Kind) -> list[Mark]:
        return [mark for mark in self.marks if mark.kind == kind]

    def to_json(self) -> dict[str, Any]:
        """Words and sentences apart, each in order, to the millisecond."""
        return {
            "timing_source": self.source,
            "sentences": [_mark_json(mark) for mark in self.of_kind("sentence")],
            "words": [_mark_json(mark) for mark in self.of_kind("word")],
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Timing:
        """What `to_json` wrote."""
        return cls(
            kept["timing_source"],
            (
                *(Mark(**mark, kind="sentence") for mark in kept["sentences"]),
                *(Mark(**mark, kind="word") for mark in kept["words"]),
            ),
        )

    def to_webvtt(self, shown: str) -> str:
        """A cue for each sentence, with a time before each word unless that is only estimated."""
        inner = [] if self.source == "estimated" else self.of_kind("word")
        starts = [word.start for word in inner]
        cues = (
            _cue(shown, sentence, inner[slice(*_span(starts, sentence.start, sentence.end))])
            for sentence in self.of_kind("sentence")
        )
        note = f"WEBVTT\n\nNOTE timing_source: {self.source}\n"
        return "\n".join((note, *(f"{number}\n{cue}" for number, cue in enumerate(cues, 1))))


@dataclass(frozen=True, slots=True)
class Piece:
    """One segment of a speech: how long its sound is, and its own timing."""

    segment: Segment
    duration_seconds: float
    timing: Timing


# --- the words of one segment ---------------------------------------------------------------


def from_marks(text: str, marks: Iterable[Mark]) -> tuple[Mark, ...]:
    """Our own words of `text` by an engine's marks, whose words may be cut in another way."""
    anchors = [
        anchor
        for mark in sorted(marks, key=lambda mark: (mark.start, mark.start_seconds))
        if mark.kind == "word"
        for anchor in ((mark.start, mark.start_seconds), (mark.end, mark.end_seconds))
    ]
    return _word_marks(text, anchors)


def estimated(text: str, duration_seconds: float) -> tuple[Mark, ...]:
    """Words by their share of the characters: 292 ms off in the median."""
    return _word_marks(text, [(0, 0.0), (len(text), duration_seconds)])


def character_times(text: str, timing: Timing) -> list[Times]:
    """When each character of the text that a timing marks is heard: in proportion in its word, and
    what lies between two words from the end of one to the start of the next."""
    spoken = timing.of_kind("word")
    anchors = [(0, 0.0)]
    for word in spoken:
        anchors += ((word.start, word.start_seconds), (word.end, word.end_seconds))
    clock = _Clock(anchors)
    return [(clock.after(index), clock.before(index + 1)) for index in range(len(text))]


def _word_marks(text: str, anchors: Sequence[tuple[int, float]]) -> tuple[Mark, ...]:
    """Each word at the times that the anchors give for its ends; none without anchors."""
    if not anchors:
        return ()
    clock = _Clock(anchors)
    return tuple(
        Mark(clock.after(start), clock.before(end), start, end, "word")
        for start, end in words(text)
    )


class _Clock:
    """Seconds by index: known at anchors, in proportion between them, never going back."""

    def __init__(self, anchors: Sequence[tuple[int, float]]) -> None:
        self._indexes: list[int] = []
        self._seconds: list[float] = []
        for index, seconds in anchors:
            self._indexes.append(max(index, self._indexes[-1] if self._indexes else 0))
            self._seconds.append(max(seconds, self._seconds[-1] if self._seconds else 0.0))

    def after(self, index: int) -> float:
        """When what begins at `index` begins."""
        return self._at(index, bisect_right(self._indexes, index))

    def before(self, index: int) -> float:
        """When what ends at `index` ends."""
        return self._at(index, bisect_left(self._indexes, index))

    def _at(self, index: int, right: int) -> float:
        """Between the anchors `right - 1` and `right`."""
        if right == 0:
            return self._seconds[0]
        if right == len(self._indexes):
            return self._seconds[-1]
        low, high = self._indexes[right - 1], self._indexes[right]
        share = (index - low) / (high - low)
        return self._seconds[right - 1] + share * (self._seconds[right] - self._seconds[right - 1])


# --- a speech of segments -------------------------------------------------------------------


def joined(normalised: Normalised, pieces: Iterable[Piece]) -> Timing:
    """The timing of a speech in the shown text. It is as good as its worst segment's."""
    source: Source = "provider"
    marks: list[Mark] = []
    begin_seconds = 0.0
    for piece in pieces:
        source = max(source, piece.timing.source, key=get_args(Source).index)
        marks += (_moved(mark, normalised, piece, begin_seconds) for mark in _marks(piece))
        begin_seconds += piece.duration_seconds
    return Timing(source, tuple(marks))


def _marks(piece: Piece) -> Iterator[Mark]:
    """Each sentence of the segment, from its first word to its last, and then its words."""
    spoken = piece.timing.of_kind("word")
    starts = [word.start for word in spoken]
    for start, end in piece.segment.sentences:
        first, stop = _span(starts, start - piece.segment.start, end - piece.segment.start)
        if first == stop:
            continue
        start_seconds, end_seconds = spoken[first].start_seconds, spoken[stop - 1].end_seconds
        yield Mark(
            start_seconds,
            end_seconds,
            start - piece.segment.start,
            end - piece.segment.start,
            "sentence",
        )
        yield from spoken[first:stop]


def _moved(mark: Mark, normalised: Normalised, piece: Piece, begin_seconds: float) -> Mark:
    """From the segment's own text and sound to the shown text and the whole sound."""
    return replace(
        mark,
        start_seconds=begin_seconds + min(mark.start_seconds, piece.duration_seconds),
        end_seconds=begin_seconds + min(mark.end_seconds, piece.duration_seconds),
        start=normalised.offsets[piece.segment.start + mark.start],
        end=normalised.offsets[piece.segment.start + mark.end],
    )


def _span(starts: Sequence[int], start: int, end: int) -> tuple[int, int]:
    """Which of the sorted `starts` lie from `start` up to `end`."""
    return bisect_left(starts, start), bisect_left(starts, end)


# --- written down ---------------------------------------------------------------------------


def _mark_json(mark: Mark) -> dict[str, Any]:
    return {
        "start_seconds": round(mark.start_seconds, 3),
        "end_seconds": round(mark.end_seconds, 3),
        "start": mark.start,
        "end": mark.end,
    }


def _cue(shown: str, sentence: Mark, inner: Sequence[Mark]) -> str:
    first_ms = _milliseconds(sentence.start_seconds)
    last_ms = max(_milliseconds(sentence.end_seconds), first_ms + 1)  # a cue must not be empty
    return (
        f"{_timestamp(first_ms)} --> {_timestamp(last_ms)}\n"
        f"{_cue_text(shown, sentence, inner, last_ms)}\n"
    )


def _cue_text(shown: str, sentence: Mark, inner: Sequence[Mark], last_ms: int) -> str:
    """The sentence on one line. Times inside a cue must grow, and lie inside it."""
    parts: list[str] = []
    at, at_ms = sentence.start, _milliseconds(sentence.start_seconds)
    for word in inner:
        word_ms = _milliseconds(word.start_seconds)
        if at_ms < word_ms < last_ms:
            parts += (_escaped(shown[at : word.start]), f"<{_timestamp(word_ms)}>")
            at, at_ms = word.start, word_ms
    return "".join((*parts, _escaped(shown[at : sentence.end])))


def _escaped(text: str) -> str:
    """Cue text: no line ends, which would end the cue, and no markup. `>` also hides `-->`."""
    return html.escape("".join(" " if char.isspace() else char for char in text), quote=False)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _timestamp(milliseconds: int) -> str:
    seconds, ms = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}"
