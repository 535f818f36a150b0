"""A request for speech, parsed at the edge: code inside never checks its fields again.

What only an engine can know is found later, and before any money is spent: whether it has the
voice and the model, delivers the format and takes the settings. Fields that are not given are
None, and the defaults of the installation stand for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar, get_args

from soundkeep.errors import BadSpeech, BadText
from soundkeep.names import DEFAULT_OWNER, metadata_object, owner_name, track_path
from soundkeep.speech.asked import JSON, Asked, quantised, quantised_number
from soundkeep.speech.segments import By, Segment, split
from soundkeep.speech.text import Normalised, normalise

FIELDS = (
    "text",
    "voice",
    "engine",
    "model",
    "language",
    "speed",
    "format",
    "settings",
    "collection",
    "owner",
    "metadata",
    "segment_by",
    "timings",
    "substitutes",
)
CODINGS = ("mp3", "opus", "aac", "flac", "wav", "pcm", "ulaw", "alaw")
DEFAULT_FORMAT = "mp3"
MAX_SPEED = 10
MAX_NAME_CHARS = 200
MAX_SHOWN_CHARS = 40
MAX_SUBSTITUTES = 8

# A coding, and at most a sampling rate and a bit rate: `opus`, `wav_22050`, `mp3_44100_128`.
_FORMAT = re.compile(rf"(?:{'|'.join(CODINGS)})(?:_[1-9][0-9]{{0,6}}){{0,2}}\Z")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8}){0,4}\Z")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Substitute:
    """Who may speak if the engine that was asked for cannot: with the engine's own model, and its
    usual voice if none is named."""

    engine: str
    voice: str | None


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """What somebody wants to hear. `shown` is the text as it was sent, which timings mark."""

    shown: str
    normalised: Normalised
    voice: str | None
    engine: str | None
    model: str | None
    language: str | None
    speed: float
    format: str
    settings: Mapping[str, JSON]
    collection: str | None
    owner: str
    metadata: Mapping[str, Any]
    segment_by: By
    timings: bool
    substitutes: tuple[Substitute, ...] = ()

    def instead(self, other: Substitute) -> SpeechRequest:
        """The same words by another engine, which knows nothing of this one's settings."""
        return replace(self, engine=other.engine, voice=other.voice, model=None, settings={})

    def segments(self, max_chars: int) -> list[Segment]:
        """The text in segments that an engine takes which takes so many characters at once."""
        return split(self.normalised, self.segment_by, max_chars, self.language or "en")

    def asked(
        self, segment: Segment, *, engine: str, model: str, voice: str, master: str, shared: bool
    ) -> Asked:
        """What the engine is asked for one segment; its owner is named unless owners share."""
        return Asked(
            engine=engine,
            model=model,
            voice=voice,
            text=segment.text,
            language=self.language,
            speed=self.speed,
            settings=self.settings,
            format=master,
            owner=None if shared else self.owner,
        )


def speech_request(fields: Mapping[str, object]) -> SpeechRequest:
    """The request in a JSON object; a field of None is as good as none.

    Raises `BadText` for the text, `BadPath` for the collection, `BadMetadata`, and `BadSpeech` or
    `BadInput` for everything else.
    """
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise BadSpeech(f"there is no field {_short(unknown[0])}; there are {', '.join(FIELDS)}")
    given = {name: value for name, value in fields.items() if value is not None}

    def field(name: str, parse: Callable[[str, object], _T], default: _T) -> _T:
        return parse(name, given[name]) if name in given else default

    shown = _text(given.get("text"))
    return SpeechRequest(
        shown=shown,
        normalised=normalise(shown),
        voice=field("voice", _name, None),
        engine=field("engine", _name, None),
        model=field("model", _name, None),
        language=field("language", _language, None),
        speed=field("speed", _speed, 1.0),
        format=field("format", _format, DEFAULT_FORMAT),
        settings=field("settings", _settings, {}),
        collection=field("collection", _collection, None),
        owner=field("owner", _owner, DEFAULT_OWNER),
        metadata=metadata_object(given.get("metadata", {})),
        segment_by=field("segment_by", _segment_by, "paragraph"),
        timings=field("timings", _truth, True),
        substitutes=field("substitutes", _substitutes, ()),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadText("the field 'text' is needed: the words that shall be spoken")
    return value


def _name(field: str, value: object) -> str:
    """The name of a voice, an engine or a model: the engine knows whether there is such a one."""
    name = _words(field, value)
    if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable() or name != name.strip():
        raise BadSpeech(
            f"{field} has 1 to {MAX_NAME_CHARS} printable characters, not edged with spaces"
        )
    return name


def _language(field: str, value: object) -> str:
    language = _words(field, value)
    if not _LANGUAGE.match(language):
        raise BadSpeech(f"{field} is a code such as 'en' or 'pt-BR', not {_short(language)}")
    return language


def _speed(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadSpeech(f"{field} is a number, not {_short(value)}")
    speed = quantised_number(value)
    if not 0 < speed <= MAX_SPEED:
        raise BadSpeech(f"{field} is above 0 and at most {MAX_SPEED}, not {_short(value)}")
    return speed


def _format(field: str, value: object) -> str:
    name = _words(field, value)
    if not _FORMAT.match(name):
        raise BadSpeech(f"there is no {field} {_short(name)}; there are {', '.join(CODINGS)}")
    return name


def _settings(field: str, value: object) -> Mapping[str, JSON]:
    if not isinstance(value, dict):
        raise BadSpeech(f"{field} is a JSON object")
    settings = quantised(value)
    assert isinstance(settings, Mapping)
    return settings


def _collection(field: str, value: object) -> str:
    return track_path(_words(field, value))


def _owner(field: str, value: object) -> str:
    return owner_name(_words(field, value))


def _segment_by(field: str, value: object) -> By:
    for by in get_args(By):
        if value == by:
            chosen: By = by
            return chosen
    raise BadSpeech(f"{field} is 'paragraph', 'sentence' or 'limit', not {_short(value)}")


def _truth(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadSpeech(f"{field} is true or false, not {_short(value)}")
    return value


def _substitutes(field: str, value: object) -> tuple[Substitute, ...]:
    if not isinstance(value, list) or len(value) > MAX_SUBSTITUTES:
        raise BadSpeech(
            f"{field} is a list of at most {MAX_SUBSTITUTES}: 'ENGINE' or 'ENGINE/VOICE'"
        )
    return tuple(_substitute(field, each) for each in value)


def _substitute(field: str, value: object) -> Substitute:
    engine, slash, voice = _words(field, value).partition("/")
    return Substitute(_name(field, engine), _name(field, voice) if slash else None)


def _words(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadSpeech(f"{field} is a text, not {_short(value)}")
    return value


def _short(value: object) -> str:
    """A value as it may be shown in a message: in ASCII, and not all of it."""
    shown = ascii(value)
    return shown if len(shown) <= MAX_SHOWN_CHARS else f"{shown[:MAX_SHOWN_CHARS]}\u2026"
