"""What comes from elsewhere: speeches and segments that were paid for before, and their old keys.

Nothing that is there is changed: an old key that is taken stays whose it is, a segment that was
spoken keeps its sound, and hits are carried over only with the row that brings them.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from soundkeep.catalog import hits as hits_of
from soundkeep.catalog import sidecars, tracks
from soundkeep.catalog import speeches as speech_rows
from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.hits import Count, Heard
from soundkeep.catalog.schema import now, segments, speech_keys, speeches
from soundkeep.catalog.speaking import Requested
from soundkeep.catalog.speeches import Speech
from soundkeep.digest import Digest
from soundkeep.model import Lane, Money, SegmentState


def is_there(tx: Tx, key: str) -> bool:
    """Whether there is a speech of this key, or known by it, that has its sound."""
    found = speech_rows.find(tx, key)
    return found is not None and found.digest is not None


def add_speech(tx: Tx, new: Speech, last_heard_at: float | None) -> bool:
    """Records a speech with its sound; answers whether it had none before."""
    assert new.digest is not None
    brought = {
        "digest": new.digest.raw,
        "script": json.dumps(new.script) if new.script is not None else None,
        "hits": new.hits,
        "last_heard_at": last_heard_at,
    }
    row = conflict_insert(speeches, on_postgresql=tx.on_postgresql).values(
        key=new.key,
        format=new.format,
        segments=json.dumps(new.segments),
        created_at=now(),
        **brought,
    )
    adding = row.on_conflict_do_update(
        index_elements=[speeches.c.key], set_=brought, where=speeches.c.digest.is_(None)
    )
    return tx.run(adding).rowcount == 1


def add_segment(tx: Tx, new: Requested, digest: Digest, worth: Money, hits: int) -> None:
    """Records a segment as it was spoken elsewhere, unless it is there or being spoken here.
    `worth` is what it would cost here."""
    brought = {
        "state": SegmentState.PRESENT.value,
        "digest": digest.raw,
        "chore": None,
        "characters": len(new.text),
        "cost_billionths": worth.billionths,
        "currency": worth.currency,
        "hits": hits,
        "last_error": None,
    }
    row = conflict_insert(segments, on_postgresql=tx.on_postgresql).values(
        key=new.key,
        request=new.request,
        engine=new.engine,
        model=new.model,
        voice=new.voice,
        owner=new.owner,
        text=new.text,
        refusals=0,
        created_at=now(),
        lane=Lane.BULK.value,
        due_at=now(),
        attempts=0,
        **brought,
    )
    free = segments.c.digest.is_(None) & segments.c.lease_token.is_(None)
    tx.run(row.on_conflict_do_update(index_elements=[segments.c.key], set_=brought, where=free))


def also_known_as(tx: Tx, speech_key: str, others: Collection[str]) -> None:
    """Other keys that find the speech from now on; one that is taken stays whose it is."""
    rows = [{"other_key": other, "speech_key": speech_key} for other in sorted(others)]
    if rows:
        naming = conflict_insert(speech_keys, on_postgresql=tx.on_postgresql)
        if tx.run(naming.on_conflict_do_nothing(), rows).rowcount > 0:
            _tell_tracks(tx, speech_key)


def _tell_tracks(tx: Tx, speech_key: str) -> None:
    """More is known of a speech: the sidecars of its tracks are to say so."""
    found = speech_rows.find(tx, speech_key)
    for track in tracks.naming(tx, found.digest) if found and found.digest else ():
        risen = tracks.rise(tx, track)
        sidecars.follow(tx, track.blob.digest, track.subject, risen.revision)


def carry_over(tx: Tx, heard: Heard, hits: int) -> None:
    """Hits that were counted elsewhere: they say which voices are popular."""
    if hits:
        hits_of.flush(tx, {heard: Count(hits=hits)}, {}, {})
