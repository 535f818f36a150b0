"""The contract of an engine: who turns the text of one segment into sound.

This page is the whole of what the rest of Soundkeep knows about any engine, and what
`soundkeep.testing.EngineContract` proves of each. `espeak.py` is the one that needs no account.

**Exactly what was asked.** An engine sends text, voice, model, language, speed, format and every
field of `settings` as they stand in `Asked`, and adds nothing that changes the sound: the key of a
segment is made of `Asked` alone. It never splits a text, and never puts another voice, model or
format in place of the one that was asked for.

**Nothing unknown is paid for.** A voice, model or format that the provider does not list is
`UnknownVoice`, `UnknownModel` or `UnknownFormat`, and a text beyond the model's limit is
`TextTooLong`, all before the provider is asked to speak. What the provider lists is remembered for
a bounded time; a name that is not in the list makes the engine look once more.

**Pieces, then the bill.** `speak` yields `Spoken` pieces in order as they come: audio, marks, or
both. The bill stands on the last one and on no other; a body without a bill did not
end well. Marks are words and, where the engine knows them, sentences: offsets are indexes into
`asked.text`, starts never go backwards, and no mark is longer than the sound.

**Whether money was spent is said.** Every `EngineError` has `charged`: False when the provider
surely took nothing, True when it surely did, None when nobody can know. An engine tries again only
by itself what surely cost nothing, within a small budget of tries and seconds; all else is the
caller's choice, because each try may be paid for.

**What came is checked as far as the transport goes**: the status, the media type, that there is
audio, that the body was not cut off. Whether the take sounds right is the judge's to say.

**Slower when told.** `Retry-After` and the provider's own limits are obeyed for all callers of an
engine together; a pause that is longer than the engine's patience is `EngineThrottled` at once.
Waiting for a free place costs nothing and is not bounded here: the caller's own time limit is.

**Secrets** appear in no message, no log line and no `repr`.

**Who closes.** An engine is closed by whoever built it, once. The generator that `speak` returns is
closed by its consumer (`aclosing`); leaving it early ends the request to the provider, which may
charge for it all the same.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol, runtime_checkable

from soundkeep.speech.asked import Asked

MarkKind = Literal["word", "sentence"]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """A sound as an engine can deliver it. `coding` is its name in `audio.formats`, or `pcm`:
    signed 16-bit little-endian samples without a header."""

    name: str  # the engine's own, as in `Asked.format`
    coding: str
    media_type: str
    extension: str
    sample_rate_hz: int | None = None  # None: the model decides
    bit_rate: int | None = None
    channels: int = 1


@dataclass(frozen=True, slots=True)
class Price:
    """What a thousand characters cost."""

    per_thousand: Decimal
    currency: str  # ISO 4217

    def of(self, characters: int) -> Decimal:
        return self.per_thousand * characters / 1000


@dataclass(frozen=True, slots=True)
class EngineCaps:
    """What an engine can do. The rest of the system asks these, never the kind."""

    master: AudioFormat  # the one in which segments are kept
    formats: tuple[AudioFormat, ...]  # all that `Asked.format` may name; the master among them
    streams: bool = True  # the first piece comes before the last is made
    timestamps: bool = False  # marks come with the sound
    fields: frozenset[str] = frozenset()  # known names in `Asked.settings`
    free_form: bool = False  # other names are sent on too, else they are `EngineRefused`
    price: Price | None = None

    def format(self, name: str) -> AudioFormat | None:
        """The format of that name, if there is one."""
        return next((each for each in self.formats if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks. `id` is what `Asked.voice` holds."""

    id: str
    name: str
    languages: tuple[str, ...] = ()
    gender: str | None = None
    preview_url: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """What a voice speaks with. `max_chars` is the longest text of one call."""

    id: str
    name: str
    max_chars: int
    languages: tuple[str, ...] = ()
    characters_per_character: float = 1.0  # what the provider counts for each one sent


@dataclass(frozen=True, slots=True)
class Mark:
    """When a stretch of the text is heard. `start` and `end` are indexes into `asked.text`."""

    start_seconds: float
    end_seconds: float
    start: int
    end: int
    kind: MarkKind


@dataclass(frozen=True, slots=True)
class Bill:
    """What the provider counted, and what that costs where a price is known."""

    characters: int
    cost: Decimal | None = None
    currency: str | None = None
    request_id: str | None = None  # the provider's own, for asking it

    @classmethod
    def of(cls, price: Price | None, characters: int, request_id: str | None = None) -> Bill:
        """So many characters at that price, if there is one."""
        if price is None:
            return cls(characters, request_id=request_id)
        return cls(characters, price.of(characters), price.currency, request_id)


@dataclass(frozen=True, slots=True)
class Spoken:
    """A piece of an answer."""

    audio: bytes = b""
    marks: tuple[Mark, ...] = ()
    bill: Bill | None = None


Speaking = AsyncGenerator[Spoken, None]


@runtime_checkable
class Engine(Protocol):
    """Who turns text into sound. The module's docstring is the contract."""

    @property
    def name(self) -> str: ...
    @property
    def caps(self) -> EngineCaps: ...

    async def voices(self) -> list[Voice]:
        """Every voice that may be asked for, in the provider's order."""
        ...

    async def models(self) -> list[Model]:
        """Every model that may be asked for. The first is the default."""
        ...

    def estimate(self, asked: Asked) -> Bill:
        """What the call will cost at most, as far as can be known before it. Asks nobody."""
        ...

    async def check(self, asked: Asked) -> None:
        """Raises what `speak` would raise before the provider is asked to speak."""
        ...

    def speak(self, asked: Asked) -> Speaking:
        """Says it. Close the generator with `aclosing`. Raises every `EngineError`."""
        ...

    async def close(self) -> None:
        """Gives back connections and processes. Calling it twice is fine."""
        ...
