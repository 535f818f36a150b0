"""When each word of a speech is heard: from the provider, else aligned, else estimated.

What the engine told is kept with its segment. Where it told nothing, the offline voice is the
clock by which the take is aligned (`align.py`), once for each segment; without that voice, or
where the two have nothing in common, words get their share of the time by their length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from soundkeep.catalog import segments as segment_rows
from soundkeep.catalog.database import Catalog
from soundkeep.errors import EngineError
from soundkeep.model import Segment
from soundkeep.speech import timing as timings
from soundkeep.speech.asked import Asked
from soundkeep.speech.engines.interface import Engine
from soundkeep.speech.script import Script
from soundkeep.speech.sounds import Samples, Sounds
from soundkeep.speech.timing import Mark, Piece, Timing
from soundkeep.writing import desk

CLOCK_FORMAT = "pcm_22050"
CLOCK_RATE_HZ = 22_050
CLOCK_LANGUAGE = "en-us"
DURATION = "duration_seconds"  # beside the marks of a kept segment

log = structlog.get_logger()


class Timekeeper:
    """Timings of segments, and of speeches made of them."""

    def __init__(
        self, catalog: Catalog, sounds: Sounds, clock: Engine | None, folder: Path
    ) -> None:
        self._catalog = catalog
        self._sounds = sounds
        self._clock = clock
        self._folder = folder

    async def of_speech(
        self, script: Script, segments: Sequence[Segment], language: str | None
    ) -> Timing:
        """The timing of a whole speech in its shown text. Raises what `Sounds.samples` names."""
        pieces: list[Piece] = []
        with desk(self._folder) as folder:
            for placed, segment in zip(script.segments, segments, strict=True):
                kept = segment.timing
                if kept is None or DURATION not in kept:
                    samples = await self._sounds.samples(segment, folder)
                    kept = await self.of_segment(segment, samples, language)
                    samples.path.unlink()
                pieces.append(Piece(placed, kept[DURATION], Timing.from_json(kept)))
        return timings.joined(script.normalised, pieces)

    async def of_segment(
        self, segment: Segment, samples: Samples, language: str | None
    ) -> Mapping[str, Any]:
        """The timing of one segment in its own text and sound, which is kept from now on."""
        if segment.timing is not None and DURATION in segment.timing:
            return segment.timing
        if segment.timing is not None:
            timing = Timing.from_json(segment.timing)
        else:
            timing = await self._found_out(segment.text, samples, language)
        kept = {**timing.to_json(), DURATION: samples.duration_seconds}
        await self._catalog.write(segment_rows.note_timing, segment, kept)
        return kept

    async def _found_out(self, text: str, samples: Samples, language: str | None) -> Timing:
        marks = await self._aligned(text, samples, language)
        if marks:
            return Timing("aligned", timings.from_marks(text, marks))
        return Timing("estimated", timings.estimated(text, samples.duration_seconds))

    async def _aligned(self, text: str, samples: Samples, language: str | None) -> tuple[Mark, ...]:
        if self._clock is None:
            return ()
        try:
            told, marks = await self._told(text, language or CLOCK_LANGUAGE)
        except EngineError as error:
            log.info("not aligned", error=str(error))
            return ()
        return await asyncio.to_thread(_align, samples, told, marks)

    async def _told(self, text: str, language: str) -> tuple[bytes, list[Mark]]:
        """The same text by the clock, as samples, and when it said each word."""
        assert self._clock is not None
        voice = await self._voice(self._clock, language)
        [model, *_] = await self._clock.models()
        asked = Asked(self._clock.name, model.id, voice, text, None, 1, {}, CLOCK_FORMAT)
        pieces: list[bytes] = []
        marks: list[Mark] = []
        async with aclosing(self._clock.speak(asked)) as speaking:
            async for spoken in speaking:
                pieces.append(spoken.audio)
                marks += (mark for mark in spoken.marks if mark.kind == "word")
        return b"".join(pieces), marks

    async def _voice(self, clock: Engine, language: str) -> str:
        """A voice of the language: the very one, else of its first part, else the usual one."""
        voices = {voice.id.lower() for voice in await clock.voices()}
        wanted = language.lower().replace("_", "-")
        for name in (wanted, wanted.partition("-")[0]):
            if name in voices:
                return name
        return CLOCK_LANGUAGE


def _align(samples: Samples, told: bytes, marks: Sequence[Mark]) -> tuple[Mark, ...]:
    # Not above: numpy takes 15 MB, which those who never align do without.
    from soundkeep.speech.align import Pcm, aligned  # noqa: PLC0415

    take = Pcm.of(samples.path.read_bytes(), samples.rate_hz)
    found = aligned(take, Pcm.of(told, CLOCK_RATE_HZ), marks)
    last = samples.duration_seconds
    return tuple(replace(mark, end_seconds=min(mark.end_seconds, last)) for mark in found)
