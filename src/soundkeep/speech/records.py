"""What is known of speech that is kept: found by any key, timed, and written as JSON.

`speech_json` is the one form of a speech: over HTTP and on the command line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, get_args

from soundkeep.catalog import hits, spoken
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.hits import Figures
from soundkeep.catalog.spoken import Spoken, Times
from soundkeep.errors import NoSuchSpeech, NoTiming
from soundkeep.model import Money, Segment
from soundkeep.shown import audio_url, is_kept
from soundkeep.speech.engines.interface import Voice
from soundkeep.speech.kept import Kept
from soundkeep.speech.script import Script
from soundkeep.speech.segments import split
from soundkeep.speech.speeches import Answer, Speeches
from soundkeep.speech.text import normalise, words
from soundkeep.speech.timekeeping import Timekeeper
from soundkeep.speech.timing import Source, Timing
from soundkeep.stores.ipfs_cid import first_cid


class Records:
    """Looks up what was said."""

    def __init__(self, catalog: Catalog, speeches: Speeches, timekeeper: Timekeeper) -> None:
        self._catalog = catalog
        self._speeches = speeches
        self._timekeeper = timekeeper

    async def find(self, key: str, track_id: str | None = None) -> Spoken:
        """The speech or segment of any key. Raises `NoSuchSpeech`, `CatalogUnavailable`."""
        found = await self._catalog.read(spoken.find, key, track_id)
        if found is None:
            raise NoSuchSpeech(f"there is no speech {key[:80]}")
        return found

    async def made(self, answer: Answer, base_url: str) -> dict[str, Any]:
        """A speech as JSON, once it is kept and has its track. Raises what `Speeches.say` names."""
        kept, track = await asyncio.shield(self._speeches.file(answer))
        found = await self.find(kept.chosen.key, track.id)
        untimed = found.segments and timing_source(found.segments) is None
        if kept.chosen.request.timings and untimed:
            await self.timing(found.key, kept.chosen.request.language)
            found = await self.find(kept.chosen.key, track.id)
        return speech_json(
            found, base_url, cached=answer.hit, substitute=answer.substitute, kept=kept
        )

    async def public(self, key: str, base_url: str) -> tuple[dict[str, Any], str | None]:
        """The speech of any key as JSON, and where everybody may play it. Raises `NoSuchSpeech`."""
        found = await self.find(key)
        track = await self._catalog.read(spoken.public_track, found.blob.digest)
        return speech_json(found, base_url), audio_url(track, base_url) if track else None

    async def timing(self, key: str, language: str | None = None) -> tuple[str, Timing]:
        """The text that was shown, and when it is heard; what nobody told is found out now.

        Raises `NoSuchSpeech`, `NoTiming`, `Unplayable`, `JailFailed`, `CatalogUnavailable`."""
        found = await self.find(key)
        if not found.segments or (found.script is None and found.segment_count > 1):
            raise NoTiming(f"nobody knows the text of the speech {key[:80]}")
        script = Script.from_json(found.script) if found.script else _script(found.segments[0])
        timing = await self._timekeeper.of_speech(script, found.segments, language)
        return script.shown, timing

    async def timing_of_track(self, track_id: str) -> tuple[str, Timing]:
        """The same of a track. Raises `NoTiming` also for a track that nobody had spoken."""
        key = await self._catalog.read(spoken.key_of_track, track_id)
        if key is None:
            raise NoTiming(f"the track {track_id} is no speech")
        return await self.timing(key)

    async def voices(self, engine: str | None = None) -> list[dict[str, Any]]:
        """The voices of an engine, or of all, as JSON. Raises `BadSpeech`, `EngineError`."""
        engines = self._speeches.chooser.engines_of(engine)
        return [voice_json(each.name, voice) for each in engines for voice in await each.voices()]

    async def stats(self, owner: str | None = None) -> dict[str, Any]:
        """How the cache pays, as JSON."""
        figures, times = await self._catalog.read(_stats, owner)
        return stats_json(figures, times)


def speech_json(
    found: Spoken,
    base_url: str,
    *,
    cached: bool = True,
    substitute: bool = False,
    kept: Kept | None = None,
) -> dict[str, Any]:
    """A speech. Found by a key it cost nothing; `kept` says what it cost whoever had it said."""
    first = found.segments[0] if found.segments else None
    cost = kept.cost if kept else Money()
    return {
        "key": found.key,
        "track_id": found.track.id if found.track else None,
        "url": audio_url(found.track, base_url) if found.track else None,
        "cached": cached,
        "temporary": not any(map(is_kept, found.copies)),
        "cid": first_cid(copy.locator for copy in found.copies if is_kept(copy)),
        "engine": first.engine if first else None,
        "voice": first.voice if first else None,
        "substitute": substitute,
        "model": first.model if first else None,
        "format": found.format,
        "media_type": found.blob.sound.media_type,
        "size_bytes": found.blob.size_bytes,
        "words": _word_count(found),
        "duration_seconds": found.blob.sound.duration_seconds,
        "segments": found.segment_count,
        "segments_generated": kept.generated if kept else 0,
        "characters_paid": kept.characters_paid if kept else 0,
        "cost": amount(cost),
        "currency": cost.currency or (first.cost.currency if first else "") or None,
        "timing_source": timing_source(found.segments),
    }


def timing_source(segments: Collection[Segment]) -> Source | None:
    """How the times of the worst segment were found; None as long as one has not been timed."""
    sources: list[Source] = []
    for segment in segments:
        if segment.timing is None:
            return None
        sources.append(segment.timing["timing_source"])
    return max(sources, key=get_args(Source).index, default=None)


def stats_json(figures: Figures, times: Times) -> dict[str, Any]:
    """Statistics. `spent` and `saved` are in the currency that most was spent in; `amounts` has
    each."""
    amounts = _amounts(figures.spent, figures.saved)
    most = max(amounts, key=lambda each: each["spent"] + each["saved"], default=None)
    return {
        "hits": figures.hits,
        "misses": figures.misses,
        "hit_rate": figures.hit_rate,
        "spent": most["spent"] if most else 0,
        "saved": most["saved"] if most else 0,
        "currency": most["currency"] if most else None,
        "amounts": amounts,
        "unknown": figures.unknown,
        "calls": {state.value: number for state, number in figures.calls.items()},
        "voices": [
            {
                "engine": voice.engine,
                "model": voice.model,
                "voice": voice.voice,
                "hits": voice.hits,
                "misses": voice.misses,
                "spent": amount(voice.spent),
                "saved": amount(voice.saved),
                "currency": voice.spent.currency or None,
                "first_byte_seconds": voice.first_byte_seconds,
            }
            for voice in figures.voices
        ],
        "engine_seconds": dict(times.engines),
        "store_seconds": dict(times.stores),
    }


def voice_json(engine: str, voice: Voice) -> dict[str, Any]:
    """A voice and the engine that has it."""
    return {
        "engine": engine,
        "id": voice.id,
        "name": voice.name,
        "languages": list(voice.languages),
        "gender": voice.gender,
        "preview_url": voice.preview_url,
    }


def amount(money: Money) -> float:
    """As JSON has numbers: to a billionth, which a double holds up to nine million."""
    return float(money.amount)


def _stats(tx: Tx, owner: str | None) -> tuple[Figures, Times]:
    return hits.figures(tx, owner), spoken.times(tx)


def _amounts(spent: Sequence[Money], saved: Sequence[Money]) -> list[dict[str, Any]]:
    by_currency: dict[str, dict[str, float]] = {}
    for name, sums in (("spent", spent), ("saved", saved)):
        for money in sums:
            of_currency = by_currency.setdefault(money.currency, {"spent": 0.0, "saved": 0.0})
            of_currency[name] = amount(money)
    return [{"currency": each, **sums} for each, sums in sorted(by_currency.items())]


def _word_count(found: Spoken) -> int | None:
    if not found.segments:
        return None
    return sum(1 for segment in found.segments for _ in words(segment.text))


def _script(segment: Segment) -> Script:
    """Of a segment by itself: its text as it was sent to the engine."""
    normalised = normalise(segment.text)
    pieces = split(normalised, "limit", len(normalised.text))
    return Script(segment.text, normalised, tuple(pieces))
