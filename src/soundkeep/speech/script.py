"""A script: the text of a speech as a person sees it, and where its segments lie.

It is kept with the speech, so that words can be marked in the text later, when nobody sends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from soundkeep.speech.segments import Segment
from soundkeep.speech.text import Normalised, normalise, words


@dataclass(frozen=True, slots=True)
class Script:
    """`segments` are spans of the normalised text, and their sentences."""

    shown: str
    normalised: Normalised
    segments: tuple[Segment, ...]

    @property
    def word_count(self) -> int:
        """How many words are spoken."""
        return sum(1 for segment in self.segments for _ in words(segment.text))

    def to_json(self) -> dict[str, Any]:
        """The text and the spans; what follows from them is left out."""
        return {
            "shown": self.shown,
            "segments": [[each.start, each.end, each.sentences] for each in self.segments],
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Script:
        """What `to_json` wrote."""
        normalised = normalise(kept["shown"])
        return cls(
            kept["shown"],
            normalised,
            tuple(
                Segment(
                    normalised.text[start:end],
                    start,
                    end,
                    tuple((first, last) for first, last in sentences),
                )
                for start, end, sentences in kept["segments"]
            ),
        )
