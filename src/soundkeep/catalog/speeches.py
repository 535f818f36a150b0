"""Speeches: segments in their order as one sound, and the tracks that owners have of it.

`hits` counts how often one was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, delete, select, update

from soundkeep.catalog import segments as segment_rows
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.rows import AnyRow
from soundkeep.catalog.schema import now, speech_keys, speech_tracks, speeches
from soundkeep.digest import Digest


@dataclass(frozen=True, slots=True)
class Speech:
    """A list of segments in an output format."""

    key: str
    format: str
    segments: tuple[str, ...]  # their keys
    digest: Digest | None  # of its sound, once there is one
    script: Mapping[str, Any] | None  # as `speech.script` writes it
    hits: int


_BY_KEY = select(speeches).where(speeches.c.key == bindparam("of_key"))
_BY_OTHER_KEY = (
    select(speeches)
    .join(speech_keys, speech_keys.c.speech_key == speeches.c.key)
    .where(speech_keys.c.other_key == bindparam("of_key"))
)


def find(tx: Tx, key: str) -> Speech | None:
    """The speech of this key, or of one that it is also known by, if it was ever asked for."""
    row = tx.run(_BY_KEY, {"of_key": key}).first()
    if row is None:
        row = tx.run(_BY_OTHER_KEY, {"of_key": key}).first()
    return speech_of(row) if row is not None else None


def record(tx: Tx, speech: Speech) -> None:
    """Records a speech, or what is known of it by now; its hits are counted by `flush`."""
    known = {
        "digest": speech.digest.raw if speech.digest else None,
        "script": json.dumps(speech.script) if speech.script is not None else None,
    }
    row = conflict_insert(speeches, on_postgresql=tx.on_postgresql).values(
        key=speech.key,
        format=speech.format,
        segments=json.dumps(speech.segments),
        hits=0,
        created_at=now(),
        **known,
    )
    tx.run(row.on_conflict_do_update(index_elements=[speeches.c.key], set_=known))


def withdraw(tx: Tx, key: str) -> None:
    """The speech has no sound until it is asked for again."""
    tx.run(update(speeches).where(speeches.c.key == key).values(digest=None))


def segments_of(tx: Tx, key: str) -> list[str]:
    """The keys of the segments that a key stands for: of a speech, or of one segment itself."""
    whole, one = find(tx, key), segment_rows.find(tx, key)
    return [*dict.fromkeys((*(whole.segments if whole else ()), *([one.key] if one else ())))]


def made_of(tx: Tx, keys: Collection[str]) -> list[str]:
    """The keys of all speeches in which one of these is heard. It looks at every speech."""
    wanted, found = set(keys), []
    for row in tx.run(select(speeches.c.key, speeches.c.segments).order_by(speeches.c.key)):
        if not wanted.isdisjoint(json.loads(row.segments)):
            found.append(row.key)
    return found


def track_of(tx: Tx, speech_key: str, owner: str, collection: str) -> str | None:
    """The track that an owner has of a speech in a collection, by its id."""
    mine = and_(
        speech_tracks.c.speech_key == speech_key,
        speech_tracks.c.owner == owner,
        speech_tracks.c.collection == collection,
    )
    return tx.run(select(speech_tracks.c.track_id).where(mine)).scalar_one_or_none()


def note_track(tx: Tx, speech_key: str, owner: str, collection: str, track_id: str) -> None:
    """The owner's track of that speech in that collection is this one now."""
    row = conflict_insert(speech_tracks, on_postgresql=tx.on_postgresql).values(
        speech_key=speech_key, owner=owner, collection=collection, track_id=track_id
    )
    place = [speech_tracks.c.speech_key, speech_tracks.c.owner, speech_tracks.c.collection]
    tx.run(row.on_conflict_do_update(index_elements=place, set_={"track_id": track_id}))


def tracks_of(tx: Tx, speech_key: str) -> list[str]:
    """The ids of all tracks that owners have of a speech."""
    ids = select(speech_tracks.c.track_id).where(speech_tracks.c.speech_key == speech_key)
    return list(tx.run(ids.order_by(speech_tracks.c.track_id)).scalars())


def forget_tracks(tx: Tx, speech_key: str) -> None:
    """No owner has a track of it any more."""
    tx.run(delete(speech_tracks).where(speech_tracks.c.speech_key == speech_key))


def speech_of(row: AnyRow) -> Speech:
    """A row of `speeches`."""
    return Speech(
        key=row.key,
        format=row.format,
        segments=tuple(json.loads(row.segments)),
        digest=Digest(bytes(row.digest)) if row.digest is not None else None,
        script=json.loads(row.script) if row.script is not None else None,
        hits=row.hits,
    )
