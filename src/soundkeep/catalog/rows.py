"""Turns rows into records, in one place for all the nouns."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Row, Select, select

from soundkeep.catalog.schema import blobs, copies, sidecars, tracks
from soundkeep.digest import ChunkHashes, Digest
from soundkeep.model import (
    Asked,
    Blob,
    Chore,
    Copy,
    CopyState,
    Sidecar,
    Sound,
    Subject,
    SubjectKind,
    Track,
    Visibility,
    Wish,
)

AnyRow = Row[*tuple[Any, ...]]


def select_tracks() -> Select[*tuple[Any, ...]]:
    """Tracks with their blobs, as `track_of` reads them."""
    return select(
        tracks,
        *(column.label(f"blob_{column.name}") for column in blobs.c),
    ).join(blobs, blobs.c.digest == tracks.c.digest)


def select_copies() -> Select[*tuple[Any, ...]]:
    """Copies, as `copy_of` reads them."""
    return select(copies)


def select_sidecars() -> Select[*tuple[Any, ...]]:
    """Sidecars, as `sidecar_of` reads them."""
    return select(sidecars)


def track_of(row: AnyRow) -> Track:
    """A row of `select_tracks`."""
    return Track(
        id=row.id,
        owner=row.owner,
        path=row.path,
        title=row.title,
        visibility=Visibility(row.visibility),
        metadata=json.loads(row.metadata),
        blob=_blob(row._mapping, "blob_"),
        created_at=row.created_at,
        revision=row.revision,
        asked={store: Asked(what) for store, what in json.loads(row.asked).items()},
        own_keys=json.loads(row.own_keys),
    )


def blob_of(row: AnyRow, prefix: str = "") -> Blob:
    """A row of `blobs`, or one that has its columns under labels that begin with `prefix`."""
    return _blob(row._mapping, prefix)


def copy_of(row: AnyRow) -> Copy:
    """A row of `copies`."""
    return Copy(
        id=row.id,
        digest=Digest(bytes(row.digest)),
        store=row.store,
        key=row.key,
        locator=row.locator,
        state=CopyState(row.state),
        wish=Wish(row.wish),
        since=row.since,
        verified=row.verified,
        verified_at=row.verified_at,
        attempts=row.attempts,
        due_at=row.due_at if row.chore else None,
        last_error=row.last_error,
    )


def sidecar_of(row: AnyRow) -> Sidecar:
    """A row of `select_sidecars`."""
    return Sidecar(
        id=row.id,
        digest=Digest(bytes(row.digest)),
        subject=Subject(SubjectKind(row.kind), row.name),
        store=row.store,
        key=row.key,
        audio_key=row.audio_key,
        public=row.public,
        locator=row.locator,
        wish=Wish(row.wish),
        wanted=row.wanted,
        revision=row.revision,
        chore=Chore(row.chore) if row.chore else None,
        attempts=row.attempts,
        due_at=row.due_at if row.chore else None,
        last_error=row.last_error,
    )


def _blob(row: Any, prefix: str) -> Blob:
    def field(name: str) -> Any:
        return row[prefix + name]

    sound = Sound(
        media_type=field("media_type"),
        extension=field("extension"),
        codec=field("codec"),
        duration_seconds=field("duration_seconds"),
        bit_rate=field("bit_rate"),
        channels=field("channels"),
        sample_rate_hz=field("sample_rate_hz"),
        tags=json.loads(field("tags")),
    )
    digest = Digest(bytes(field("digest")))
    return Blob(digest, field("size_bytes"), ChunkHashes(bytes(field("chunk_hashes"))), sound)
