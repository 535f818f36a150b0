"""The form of a sidecar: the JSON beside the audio, from which the catalog can be rebuilt.

A track's own `metadata` stands at top level, untouched and in the application's order; after it
comes one field of ours, `soundkeep`, versioned, with everything else that the catalog knows of the
track, and of the speech that it is. A segment's sidecar has that one field alone, with all for
which it would otherwise be paid again. What is the same gives the same bytes, and `parse` reads
what was written. docs/sidecars.md explains every field.

Chunk hashes are not in it: they are computed again from the sound, whose digest is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import msgspec

from soundkeep.catalog.subjects import Record, RenditionOf, SegmentRecord, SpeechRecord, TrackRecord
from soundkeep.errors import BadInput
from soundkeep.model import Asked, Blob, Visibility
from soundkeep.names import check_json
from soundkeep.shown import when

FIELD = "soundkeep"
VERSION = 1
MEDIA_TYPE = "application/json"
PRIVATE = ("owner", "own_keys", "speeches")  # fields that public stores do not get

# What the columns of any catalog can hold.
Small = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Large = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Length = Annotated[float, msgspec.Meta(ge=0)]
Price = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
MediaType = Annotated[str, msgspec.Meta(pattern=r"\Aaudio/[A-Za-z0-9.+-]{1,99}\Z")]
Extension = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9]{1,16}\Z")]


class SoundForm(msgspec.Struct, kw_only=True):
    """What every sidecar says of the sound beside it."""

    version: int
    digest: str
    size_bytes: Large
    media_type: MediaType
    extension: Extension
    codec: str
    duration_seconds: Length
    bit_rate: Small | None
    channels: Small | None
    sample_rate_hz: Small | None
    tags: dict[str, str]
    key: str


class SpeechForm(msgspec.Struct, kw_only=True):
    """A speech that a track is."""

    key: str
    other_keys: list[str]
    format: str
    segments: list[str]
    script: dict[str, Any] | None
    collections: list[str]
    hits: Large
    created_at: str
    last_heard_at: str | None


class RenditionForm(msgspec.Struct, kw_only=True):
    """What a track was made of."""

    track_id: str
    format: str


class TrackForm(SoundForm, kw_only=True):
    """What the sidecar of a track says besides its `metadata`. (Of a public one nobody knows whose
    it is.)"""

    id: str
    owner: str | None = None
    path: str
    title: str
    visibility: Visibility
    created_at: str
    revision: Small
    asked: dict[str, Asked]
    own_keys: dict[str, str] | msgspec.UnsetType = msgspec.UNSET  # absent where there are none
    rendition_of: RenditionForm | None = None
    speeches: list[SpeechForm] = []


class SegmentForm(SoundForm, kw_only=True):
    """What the sidecar of a segment says."""

    segment_key: str
    other_keys: list[str]
    request: str
    engine: str
    model: str
    voice: str
    owner: str | None
    timing: dict[str, Any] | None
    timing_source: str | None
    characters: Large
    cost: Price
    currency: str | None
    hits: Large
    created_at: str
    revision: Small


Form: TypeAlias = TrackForm | SegmentForm


@dataclass(frozen=True, slots=True)
class Parsed:
    """A sidecar that was read: what it says, and the `metadata` of a track."""

    form: Form
    metadata: dict[str, Any]


def sidecar_bytes(record: Record, key: str, *, public: bool) -> bytes:
    """The sidecar of what has its audio under `key`; if it is `public` without what is nobody
    else's business."""
    if isinstance(record, TrackRecord):
        return _written(record.track.metadata, _track_form(record, key), public=public)
    ours = msgspec.to_builtins(_segment_form(record, key))
    return _line({FIELD: _sorted(ours)})


def parse(data: bytes) -> Parsed:
    """Reads a sidecar, whoever wrote it. Raises `BadInput` for what is none, is of a form that is
    newer, or holds what no catalog could."""
    try:
        document = json.loads(data)
        ours = document.pop(FIELD)
        newer = ours["version"] > VERSION
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
        raise BadInput(f"it is no JSON object with a field {FIELD!r}") from None
    if newer:
        raise BadInput(f"its form is version {ours['version']}: a newer Soundkeep wrote it")
    check_json(ours, f"its field {FIELD!r}")
    kind: type[Form] = SegmentForm if "segment_key" in ours else TrackForm
    try:
        form = msgspec.convert(ours, kind)
    except msgspec.ValidationError as error:
        raise BadInput(f"its field {FIELD!r} is not as it should be: {error}") from None
    return Parsed(form, document)


def _written(metadata: Mapping[str, Any], form: Form, *, public: bool) -> bytes:
    ours = msgspec.to_builtins(form)
    for name in PRIVATE if public else ():
        ours.pop(name, None)
    document = {**metadata, FIELD: _sorted(ours)}
    return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()


def _line(document: Mapping[str, Any]) -> bytes:
    """In one line: a book has hundreds, and what is indented takes Python three times as long."""
    return (json.dumps(document, ensure_ascii=False) + "\n").encode()


def _track_form(record: TrackRecord, key: str) -> TrackForm:
    track = record.track
    return TrackForm(
        **_of_sound(track.blob, key),
        id=track.id,
        owner=track.owner,
        path=track.path,
        title=track.title,
        visibility=track.visibility,
        created_at=_when(track.created_at),
        revision=track.revision,
        asked=dict(track.asked),
        own_keys=dict(track.own_keys) or msgspec.UNSET,
        rendition_of=_rendition_form(record.rendition_of),
        speeches=[_speech_form(each) for each in record.speeches],
    )


def _rendition_form(of: RenditionOf | None) -> RenditionForm | None:
    return RenditionForm(track_id=of.track_id, format=of.format) if of else None


def _speech_form(record: SpeechRecord) -> SpeechForm:
    speech = record.speech
    return SpeechForm(
        key=speech.key,
        other_keys=list(record.other_keys),
        format=speech.format,
        segments=list(speech.segments),
        script=dict(speech.script) if speech.script is not None else None,
        collections=list(record.collections),
        hits=speech.hits,
        created_at=_when(record.created_at),
        last_heard_at=when(record.last_heard_at),
    )


def _segment_form(record: SegmentRecord, key: str) -> SegmentForm:
    segment = record.segment
    timing = dict(segment.timing) if segment.timing is not None else None
    return SegmentForm(
        **_of_sound(record.blob, key),
        segment_key=segment.key,
        other_keys=list(record.other_keys),
        request=record.request,
        engine=segment.engine,
        model=segment.model,
        voice=segment.voice,
        owner=segment.owner,
        timing=timing,
        timing_source=timing["timing_source"] if timing else None,
        characters=segment.characters,
        cost=float(segment.cost.amount),
        currency=segment.cost.currency or None,
        hits=record.hits,
        created_at=_when(record.created_at),
        revision=record.revision,
    )


def _of_sound(blob: Blob, key: str) -> dict[str, Any]:
    sound = blob.sound
    return {
        "version": VERSION,
        "digest": blob.digest.hex,
        "size_bytes": blob.size_bytes,
        "media_type": sound.media_type,
        "extension": sound.extension,
        "codec": sound.codec,
        "duration_seconds": sound.duration_seconds,
        "bit_rate": sound.bit_rate,
        "channels": sound.channels,
        "sample_rate_hz": sound.sample_rate_hz,
        "tags": sound.tags,
        "key": key,
    }


def _when(seconds: float) -> str:
    moment = when(seconds)
    assert moment is not None
    return moment


def _sorted(value: Any) -> Any:
    """Objects by the names of their fields. (Only ours: the application's order is its own.)"""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return value
