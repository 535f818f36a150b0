"""What sidecars describe, with all that the catalog knows of it: tracks and segments, by the batch.

A track comes with the speeches whose sound it has, a segment with the keys that find it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import select

from soundkeep.catalog import tracks
from soundkeep.catalog.database import Tx
from soundkeep.catalog.rows import AnyRow, blob_of
from soundkeep.catalog.schema import (
    blobs,
    renditions,
    segment_keys,
    segments,
    speech_keys,
    speech_tracks,
    speeches,
)
from soundkeep.catalog.schema import tracks as tracks_table
from soundkeep.catalog.segments import segment_of
from soundkeep.catalog.speeches import Speech, speech_of
from soundkeep.digest import Digest
from soundkeep.model import Blob, Segment, Subject, SubjectKind, Track


@dataclass(frozen=True, slots=True)
class SpeechRecord:
    """A speech as one of its tracks has it."""

    speech: Speech
    other_keys: tuple[str, ...]
    collections: tuple[str, ...]  # in which the track is its owner's track of it
    created_at: float
    last_heard_at: float | None


@dataclass(frozen=True, slots=True)
class RenditionOf:
    """What a track was made of."""

    track_id: str
    format: str


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """A track, the speeches that have its sound, and what it is a rendition of."""

    track: Track
    speeches: tuple[SpeechRecord, ...] = ()
    rendition_of: RenditionOf | None = None

    @property
    def subject(self) -> Subject:
        return self.track.subject

    @property
    def blob(self) -> Blob:
        return self.track.blob

    @property
    def revision(self) -> int:
        return self.track.revision

    @property
    def public(self) -> bool:
        return self.track.public


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """A segment, and what its row says besides."""

    segment: Segment
    blob: Blob
    request: str  # the canonical JSON of which the key was made
    other_keys: tuple[str, ...]
    hits: int
    created_at: float
    revision: int
    public: bool = False  # speech is private

    @property
    def subject(self) -> Subject:
        return Subject(SubjectKind.SEGMENT, self.segment.key)


Record: TypeAlias = TrackRecord | SegmentRecord

_HAS_SOUND = segments.c.digest.is_not(None)
_WITH_BLOBS = select(segments, *(each.label(f"blob_{each.name}") for each in blobs.c)).join(
    blobs, blobs.c.digest == segments.c.digest
)


def find_all(tx: Tx, subjects: Collection[Subject]) -> dict[Subject, Record]:
    """Those of these that there are, in a few statements however many there are."""
    ids = {each.name for each in subjects if each.kind is SubjectKind.TRACK}
    keys = {each.name for each in subjects if each.kind is SubjectKind.SEGMENT}
    return {record.subject: record for record in (*_tracks(tx, ids), *_segments(tx, keys))}


def page(tx: Tx, kind: SubjectKind, after: str, limit: int) -> list[Subject]:
    """The next of a kind in the order of their names, for passes over all; begin with ""."""
    track, key = tracks_table.c.id, segments.c.key
    named = select(track) if kind is SubjectKind.TRACK else select(key).where(_HAS_SOUND)
    name = track if kind is SubjectKind.TRACK else key
    rows = tx.run(named.where(name > after).order_by(name).limit(limit))
    return [Subject(kind, found) for found in rows.scalars()]


def speech_keys_after(tx: Tx, after: str, limit: int) -> list[str]:
    """The same of speeches that have their sound."""
    key = speeches.c.key
    spoken = select(key).where(speeches.c.digest.is_not(None), key > after)
    return list(tx.run(spoken.order_by(key).limit(limit)).scalars())


def _tracks(tx: Tx, ids: Collection[str]) -> Iterable[Record]:
    if not ids:
        return
    found = tracks.find_all(tx, ids)
    spoken = _speeches(tx, found.values())
    made = {
        row.rendition_id: RenditionOf(row.track_id, row.format)
        for row in tx.run(select(renditions).where(renditions.c.rendition_id.in_(found)))
    }
    for track in found.values():
        yield TrackRecord(track, tuple(spoken[track.id]), made.get(track.id))


def _speeches(tx: Tx, of: Collection[Track]) -> dict[str, list[SpeechRecord]]:
    """By track. (One without sound has no track either: it was withdrawn.)"""
    rows: dict[Digest, list[AnyRow]] = defaultdict(list)
    digests = {track.blob.digest.raw for track in of}
    with_sound = select(speeches).where(speeches.c.digest.in_(digests))
    for row in tx.run(with_sound.order_by(speeches.c.key)):
        rows[Digest(bytes(row.digest))].append(row)
    records: dict[str, list[SpeechRecord]] = defaultdict(list)
    if not rows:
        return records
    keys = {row.key for same in rows.values() for row in same}
    others = _other_keys(tx, keys)
    collections = _collections(tx, {track.id for track in of if track.blob.digest in rows})
    for track in of:
        for row in rows.get(track.blob.digest, ()):
            records[track.id].append(
                SpeechRecord(
                    speech_of(row),
                    tuple(others[row.key]),
                    tuple(collections[track.id, row.key]),
                    row.created_at,
                    row.last_heard_at,
                )
            )
    return records


def _other_keys(tx: Tx, keys: Collection[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    others = select(speech_keys).where(speech_keys.c.speech_key.in_(keys))
    for row in tx.run(others.order_by(speech_keys.c.other_key)):
        found[row.speech_key].append(row.other_key)
    return found


def _collections(tx: Tx, ids: Collection[str]) -> dict[tuple[str, str], list[str]]:
    """By track and speech."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    theirs = select(speech_tracks).where(speech_tracks.c.track_id.in_(ids))
    for row in tx.run(theirs.order_by(speech_tracks.c.collection)):
        found[row.track_id, row.speech_key].append(row.collection)
    return found


def _segments(tx: Tx, keys: Collection[str]) -> Iterable[Record]:
    if not keys:
        return
    others: dict[str, list[str]] = defaultdict(list)
    known = select(segment_keys).where(segment_keys.c.segment_key.in_(keys))
    for row in tx.run(known.order_by(segment_keys.c.other_key)):
        others[row.segment_key].append(row.other_key)
    for row in tx.run(_WITH_BLOBS.where(segments.c.key.in_(keys))):
        yield SegmentRecord(
            segment_of(row),
            blob_of(row, "blob_"),
            row.request,
            tuple(others[row.key]),
            row.hits,
            row.created_at,
            row.revision,
        )
