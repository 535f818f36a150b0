"""Makes records of what sidecars say, for a rebuild: everything is checked as if a client sent it.

What a sidecar says of its sound is believed only as far as the sound itself proves it, so a record
needs the blob that was read. `sidecar_form` has the form.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from decimal import Decimal

import msgspec

from soundkeep.catalog.speeches import Speech
from soundkeep.catalog.subjects import Record, RenditionOf, SegmentRecord, SpeechRecord, TrackRecord
from soundkeep.copies.sidecar_form import Parsed, SegmentForm, SoundForm, SpeechForm, TrackForm
from soundkeep.digest import Digest, Fingerprint
from soundkeep.errors import BadInput, Corrupt
from soundkeep.model import Blob, Money, Segment, Sound, Track
from soundkeep.names import (
    check_json,
    metadata_object,
    owner_name,
    title_text,
    track_id,
    track_path,
)
from soundkeep.stores.interface import Key

YEAR_9999_SECONDS = 253_370_764_800.0


class _Asked(msgspec.Struct):
    """Of a canonical request, what a segment's row has in columns."""

    engine: str
    model: str
    voice: str
    text: str
    owner: str | None = None


def blob_of(form: SoundForm, found: Fingerprint) -> Blob:
    """The blob, whose sound was read. Raises `BadInput`, and `Corrupt` for another sound."""
    if found.digest != Digest.parse(form.digest):
        raise Corrupt(f"the sound at {form.key} is not the one that it tells of")
    if found.size_bytes != form.size_bytes:
        raise BadInput(f"its sound has {found.size_bytes} bytes, not {form.size_bytes}")
    sound = Sound(
        media_type=form.media_type,
        extension=form.extension,
        codec=form.codec,
        duration_seconds=form.duration_seconds,
        bit_rate=form.bit_rate,
        channels=form.channels,
        sample_rate_hz=form.sample_rate_hz,
        tags=form.tags,
    )
    return Blob(found.digest, found.size_bytes, found.chunk_hashes, sound)


def record_of(parsed: Parsed, blob: Blob) -> Record:
    """What a sidecar tells of. Raises `BadInput`."""
    if isinstance(parsed.form, SegmentForm):
        return _segment_record(parsed.form, blob)
    return _track_record(parsed.form, parsed, blob)


def _track_record(form: TrackForm, parsed: Parsed, blob: Blob) -> TrackRecord:
    if form.owner is None:
        raise BadInput("it names no owner, as in a public store")
    track = Track(
        id=track_id(form.id),
        owner=owner_name(form.owner),
        path=track_path(form.path),
        title=title_text(form.title),
        visibility=form.visibility,
        metadata=metadata_object(parsed.metadata),
        blob=blob,
        created_at=_seconds(form.created_at),
        revision=form.revision,
        asked=form.asked,
        own_keys={store: str(Key(key)) for store, key in (form.own_keys or {}).items()},
    )
    made = form.rendition_of
    return TrackRecord(
        track,
        tuple(_speech_record(each, blob) for each in form.speeches),
        RenditionOf(made.track_id, made.format) if made else None,
    )


def _speech_record(form: SpeechForm, blob: Blob) -> SpeechRecord:
    speech = Speech(
        form.key, form.format, tuple(form.segments), blob.digest, form.script, form.hits
    )
    last = form.last_heard_at
    return SpeechRecord(
        speech,
        tuple(form.other_keys),
        tuple(form.collections),
        _seconds(form.created_at),
        _seconds(last) if last is not None else None,
    )


def _segment_record(form: SegmentForm, blob: Blob) -> SegmentRecord:
    """What it was made of decides, since the key is made of that too."""
    if hashlib.sha256(form.request.encode()).hexdigest() != form.segment_key:
        raise BadInput("its segment_key is not that of its request")
    try:
        asked = msgspec.json.decode(form.request, type=_Asked)
    except msgspec.DecodeError as error:
        raise BadInput(f"its request is not as it should be: {error}") from None
    check_json(msgspec.to_builtins(asked), "its request")
    if form.timing is not None and not isinstance(form.timing.get("timing_source"), str):
        raise BadInput("its timing names no timing_source")
    segment = Segment(
        key=form.segment_key,
        engine=asked.engine,
        model=asked.model,
        voice=asked.voice,
        owner=asked.owner,
        text=asked.text,
        digest=blob.digest,
        timing=form.timing,
        characters=form.characters,
        cost=Money.of(Decimal(str(form.cost)), form.currency),
    )
    return SegmentRecord(
        segment,
        blob,
        form.request,
        tuple(form.other_keys),
        form.hits,
        _seconds(form.created_at),
        form.revision,
    )


def _seconds(moment: str) -> float:
    """Of a time that can be written again."""
    try:
        seconds = datetime.fromisoformat(moment).timestamp()
    except (ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds < YEAR_9999_SECONDS:
        raise BadInput(f"{moment[:40]!r} is no time")
    return seconds
