"""What is kept of speech, found by any key: a speech's, a segment's, or another that names one.

Also how long things take by the ledger's own clock: engines for their calls, stores until they
have what was spoken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, select

from soundkeep.catalog import blobs as blob_rows
from soundkeep.catalog import copies as copy_rows
from soundkeep.catalog import segments as segment_rows
from soundkeep.catalog import speeches
from soundkeep.catalog import tracks as track_rows
from soundkeep.catalog.database import Tx
from soundkeep.catalog.money import IntentState
from soundkeep.catalog.schema import blobs, copies, intents, segments, speech_tracks, tracks
from soundkeep.digest import Digest
from soundkeep.errors import Unplayable
from soundkeep.model import Blob, Copy, CopyState, Segment, Track, Visibility
from soundkeep.settings import INBOX_PREFIX

LATEST = 1000  # calls and segments that the times are the mean of


@dataclass(frozen=True, slots=True)
class Spoken:
    """A speech, or one segment by itself, with what is known of its sound."""

    key: str
    format: str
    segment_count: int
    segments: tuple[Segment, ...]  # none of an import, where nobody knows what it is made of
    script: Mapping[str, Any] | None  # of a speech, as `speech.script` writes it
    blob: Blob
    copies: tuple[Copy, ...]
    track: Track | None


@dataclass(frozen=True, slots=True)
class Times:
    """Means, in seconds, of the latest calls and segments."""

    engines: Mapping[str, float]  # from the call to its outcome
    stores: Mapping[str, float]  # from the kept take to its verified copy


def find(tx: Tx, key: str, track_id: str | None = None) -> Spoken | None:
    """The speech or the segment of this key, if its sound is there, with that track of it or, if
    none is named, the first there is."""
    if "\x00" in key:
        return None  # no key holds it, and PostgreSQL refuses to look
    found = speeches.find(tx, key)
    if found is None or found.digest is None:
        return _one_segment(tx, key)
    blob = blob_rows.find(tx, found.digest)
    if blob is None:
        return None
    return Spoken(
        key=found.key,
        format=found.format,
        segment_count=max(1, len(found.segments)),
        segments=_segments(tx, found.segments),
        script=found.script,
        blob=blob,
        copies=tuple(copy_rows.of_blob(tx, found.digest)),
        track=track_rows.find(tx, track_id or _first_track(tx, found.key)),
    )


def _one_segment(tx: Tx, key: str) -> Spoken | None:
    segment = segment_rows.find(tx, key)
    blob = blob_rows.find(tx, segment.digest) if segment is not None else None
    if segment is None or blob is None:
        return None
    held = tuple(copy_rows.of_blob(tx, segment.digest))
    return Spoken(segment.key, blob.sound.extension, 1, (segment,), None, blob, held, None)


def _segments(tx: Tx, keys: Sequence[str]) -> tuple[Segment, ...]:
    """All of them, or none."""
    try:
        return tuple(segment_rows.find_all(tx, keys))
    except Unplayable:
        return ()


def _first_track(tx: Tx, key: str) -> str:
    """Ids sort by time."""
    first = func.min(speech_tracks.c.track_id)
    of_speech = select(first).where(speech_tracks.c.speech_key == key)
    return tx.run(of_speech).scalar_one() or ""


def public_track(tx: Tx, digest: Digest) -> Track | None:
    """The first track through which everybody may hear a sound."""
    public = and_(tracks.c.digest == digest.raw, tracks.c.visibility == Visibility.PUBLIC.value)
    first = tx.run(select(tracks.c.id).where(public).order_by(tracks.c.seq).limit(1)).scalar()
    return track_rows.find(tx, first) if first else None


def key_of_track(tx: Tx, track_id: str) -> str | None:
    """The speech that a track is of."""
    mine = speech_tracks.c.track_id == track_id
    return tx.run(select(speech_tracks.c.speech_key).where(mine)).scalars().first()


def times(tx: Tx) -> Times:
    """How long engines and stores took lately."""
    return Times(_engine_seconds(tx), _store_seconds(tx))


def _engine_seconds(tx: Tx) -> dict[str, float]:
    calls = (
        select(intents.c.engine, intents.c.made_at, intents.c.ended_at)
        .where(intents.c.state == IntentState.DONE.value)
        .order_by(intents.c.id.desc())
        .limit(LATEST)
        .subquery()
    )
    mean = func.avg(calls.c.ended_at - calls.c.made_at)
    rows = tx.run(select(calls.c.engine, mean.label("seconds")).group_by(calls.c.engine))
    return {row.engine: float(row.seconds) for row in rows}


def _store_seconds(tx: Tx) -> dict[str, float]:
    """A copy that was there before, of the same sound said again, took no time."""
    said = (
        select(segments.c.digest)
        .where(segments.c.digest.is_not(None))
        .order_by(segments.c.id.desc())
        .limit(LATEST)
        .subquery()
    )
    took = copies.c.since - blobs.c.created_at
    held = (
        select(copies.c.store, func.avg(took).label("seconds"))
        .join(said, said.c.digest == copies.c.digest)
        .join(blobs, blobs.c.digest == copies.c.digest)
        .where(
            copies.c.state == CopyState.PRESENT.value,
            copies.c.verified.is_not(None),
            took >= 0,
            ~copies.c.store.startswith(INBOX_PREFIX),
        )
        .group_by(copies.c.store)
    )
    return {row.store: float(row.seconds) for row in tx.run(held)}
