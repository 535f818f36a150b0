"""Speech that is kept: what the ledger knows of it, and the transactions that find and name it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from soundkeep.catalog import blobs, copies, segments, speeches, tracks
from soundkeep.catalog.database import Tx
from soundkeep.catalog.segments import Worth
from soundkeep.copies.placement import Rules
from soundkeep.errors import Unplayable
from soundkeep.intake import recording
from soundkeep.intake.recording import NewTrack
from soundkeep.model import Blob, Copy, Lane, Money, Segment, Track
from soundkeep.speech.choosing import Chosen

TITLE_CHARS = 80


@dataclass(frozen=True, slots=True)
class Kept:
    """A speech as it lies in the stores, and what it cost this caller."""

    chosen: Chosen
    blob: Blob
    generated: int = 0  # segments for which the engine was called on behalf of this caller
    characters_paid: int = 0
    cost: Money = Money()  # noqa: RUF009 - a frozen value


@dataclass(frozen=True, slots=True)
class There:
    """A speech that lies in the stores, and where, as the catalog had it when it was asked."""

    chosen: Chosen
    blob: Blob
    copies: tuple[Copy, ...]
    segment: Segment | None  # if that is all of it
    worth: Sequence[Worth]  # else


@dataclass(frozen=True, slots=True)
class Found:
    blob: Blob
    worth: Sequence[Worth]


def find(tx: Tx, key: str) -> Found | None:
    """A speech whose sound is there, and what it was made of."""
    found = speeches.find(tx, key)
    blob = blobs.find(tx, found.digest) if found is not None and found.digest else None
    if found is None or blob is None:
        return None
    return Found(blob, segments.worth_of(tx, found.segments))


def look(tx: Tx, chosen: Chosen) -> There | None:
    """As `_find`. One take is what its segment is by now, which may have been spoken anew."""
    found = find(tx, chosen.key)
    if found is None:
        return None
    where = tuple(copies.of_blob(tx, found.blob.digest))
    if not chosen.is_one_take:
        return There(chosen, found.blob, where, None, found.worth)
    segment = segments.find(tx, chosen.segment_keys[0])
    if segment is None or segment.digest != found.blob.digest:
        return None
    return There(chosen, found.blob, where, segment, ())


def track_as(tx: Tx, key: str, collection: str, new: NewTrack, blob: Blob, rules: Rules) -> Track:
    """The track that is there, unless its audio is another by now, or a new one."""
    known = speeches.track_of(tx, key, new.owner, collection)
    there = tracks.find(tx, known) if known else None
    if there is not None and there.blob.digest == blob.digest:
        return there
    track = recording.name_kept(
        tx, replace(new, replace=True), blob, rules=rules, lane=Lane.INTERACTIVE
    )
    speeches.note_track(tx, key, new.owner, collection, track.id)
    return track


def title_of(shown: str) -> str:
    """The first words, on one line."""
    line = "".join(char if char.isprintable() else " " for char in shown[: 4 * TITLE_CHARS])
    return textwrap.shorten(line, TITLE_CHARS, placeholder=" \u2026") or line.strip()[:TITLE_CHARS]


def write_one_take(tx: Tx, row: speeches.Speech) -> Blob:
    """Names the segment's sound as the speech, unless it was withdrawn in the meantime. Raises
    `Unplayable`."""
    assert row.digest is not None
    blob = blobs.take(tx, row.digest)
    [segment] = segments.find_all(tx, row.segments, hold=True)
    if blob is None or segment.digest != row.digest:
        raise Unplayable(f"the segment {segment.key} was withdrawn")
    speeches.record(tx, row)
    return blob
