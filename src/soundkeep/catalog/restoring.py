"""Rows as they were: what a rebuild writes of tracks, segments and speeches that a store tells of.

Nothing that is there is changed but what lacks its sound; with what speaks against that is there
already it is refused. Each function may be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from sqlalchemy import Table, insert, select, update

from soundkeep.catalog import speeches as speech_rows
from soundkeep.catalog import tracks
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.schema import now, renditions, segment_keys, segments, speech_keys, speeches
from soundkeep.catalog.schema import tracks as tracks_table
from soundkeep.catalog.search import words_of
from soundkeep.catalog.subjects import RenditionOf, SegmentRecord, SpeechRecord
from soundkeep.errors import Conflict, IdTaken, PathTaken
from soundkeep.model import Lane, SegmentState, Track


def add_track(tx: Tx, track: Track) -> bool:
    """Records a track with its own times; answers whether it is new. Raises `IdTaken`, `PathTaken`
    and, of one that was deleted here, `Conflict`."""
    there = tracks.find(tx, track.id)
    if there is not None:
        if not agree(there, track):
            raise IdTaken(f"the catalog has another track {track.id}")
        return False
    if tracks.tombstone(tx, track.id) is not None:
        raise Conflict(f"the track {track.id} was deleted here")
    holder = tracks.at_path(tx, track.owner, track.path)
    if holder is not None:
        raise PathTaken(f"{track.path!r} is the track {holder.id} in the catalog")
    tx.run(
        insert(tracks_table).values(
            id=track.id,
            owner=track.owner,
            path=track.path,
            title=track.title,
            visibility=track.visibility,
            metadata=json.dumps(track.metadata),
            words=words_of(track.title, track.path, track.id),
            asked=json.dumps(track.asked),
            own_keys=json.dumps(track.own_keys),
            digest=track.blob.digest.raw,
            created_at=track.created_at,
            revision=track.revision,
        )
    )
    return True


def agree(one: Track, other: Track) -> bool:
    """Whether they are one track, as far as that never changes."""
    names = (one.id, one.owner, one.path, one.blob.digest)
    return names == (other.id, other.owner, other.path, other.blob.digest)


def add_rendition(tx: Tx, of: RenditionOf, track_id: str) -> None:
    """That track is a rendition, which need not be made again."""
    made = {"rendition_id": track_id, "chore": None}
    row = conflict_insert(renditions, on_postgresql=tx.on_postgresql).values(
        track_id=of.track_id,
        format=of.format,
        created_at=now(),
        lane=Lane.BULK.value,
        due_at=now(),
        attempts=0,
        **made,
    )
    unmade = renditions.c.rendition_id.is_(None)
    place = [renditions.c.track_id, renditions.c.format]
    tx.run(row.on_conflict_do_update(index_elements=place, set_=made, where=unmade))


def add_speech(tx: Tx, record: SpeechRecord, track: Track) -> None:
    """Records a speech with the sound of its track, and in which collections it is that."""
    new = record.speech
    known = {
        "digest": track.blob.digest.raw,
        "script": json.dumps(new.script) if new.script is not None else None,
    }
    row = conflict_insert(speeches, on_postgresql=tx.on_postgresql).values(
        key=new.key,
        format=new.format,
        segments=json.dumps(new.segments),
        hits=new.hits,
        created_at=record.created_at,
        last_heard_at=record.last_heard_at,
        **known,
    )
    soundless = speeches.c.digest.is_(None)
    tx.run(row.on_conflict_do_update(index_elements=[speeches.c.key], set_=known, where=soundless))
    _also_known_as(tx, speech_keys, "speech_key", new.key, record.other_keys)
    for collection in record.collections:
        speech_rows.note_track(tx, new.key, track.owner, collection, track.id)


def add_segment(tx: Tx, record: SegmentRecord) -> bool:
    """Records a segment as it was spoken and paid for; answers whether it had no sound before.

    Raises `Conflict` if it has another one, or is just being spoken."""
    said = record.segment
    row = tx.run(select(segments).where(segments.c.key == said.key).with_for_update()).first()
    if row is not None and row.digest is not None:
        if bytes(row.digest) != said.digest.raw:
            raise Conflict(f"the catalog has the segment {said.key} with another sound")
        return False
    if row is not None and row.lease_token is not None:
        raise Conflict(f"the segment {said.key} is just being spoken")
    values = {
        "state": SegmentState.PRESENT.value,
        "digest": said.digest.raw,
        "timing": json.dumps(said.timing) if said.timing is not None else None,
        "characters": said.characters,
        "cost_billionths": said.cost.billionths,
        "currency": said.cost.currency,
        "hits": record.hits,
        "refusals": 0,
        "created_at": record.created_at,
        "revision": record.revision,
        "chore": None,
        "last_error": None,
    }
    if row is not None:
        tx.run(update(segments).where(segments.c.id == row.id).values(**values))
    else:
        tx.run(
            insert(segments).values(
                key=said.key,
                request=record.request,
                engine=said.engine,
                model=said.model,
                voice=said.voice,
                owner=said.owner,
                text=said.text,
                lane=Lane.BULK.value,
                due_at=now(),
                attempts=0,
                **values,
            )
        )
    _also_known_as(tx, segment_keys, "segment_key", said.key, record.other_keys)
    return True


def _also_known_as(tx: Tx, table: Table, column: str, key: str, others: Iterable[str]) -> None:
    rows = [{"other_key": other, column: key} for other in sorted(others)]
    if rows:
        naming = conflict_insert(table, on_postgresql=tx.on_postgresql)
        tx.run(naming.on_conflict_do_nothing(), rows)
