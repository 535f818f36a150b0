"""Blobs: immutable bytes by digest, and the lock that orders everything that happens to one.

Whoever decides about the copies of a blob (an upload of the same bytes, the copy law, a
confirmed removal) first takes the blob's row. On SQLite the write lock already does that.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cache

from sqlalchemy import Executable, bindparam, delete, exists, or_, select

from soundkeep.catalog.database import Tx, conflict_insert
from soundkeep.catalog.rows import blob_of
from soundkeep.catalog.schema import SPEECH, blobs, copies, now, tracks
from soundkeep.digest import Digest
from soundkeep.model import Blob


def ensure(tx: Tx, blob: Blob) -> bool:
    """Records the blob unless it is known, and takes its row; answers whether it is new."""
    sound = blob.sound
    row = {
        "digest": blob.digest.raw,
        "size_bytes": blob.size_bytes,
        "chunk_hashes": blob.chunk_hashes.raw,
        "media_type": sound.media_type,
        "extension": sound.extension,
        "codec": sound.codec,
        "duration_seconds": sound.duration_seconds,
        "bit_rate": sound.bit_rate,
        "channels": sound.channels,
        "sample_rate_hz": sound.sample_rate_hz,
        "tags": json.dumps(sound.tags),
    }
    if tx.run(_recording(tx.on_postgresql), row).first() is not None:
        return True  # and ours, until the transaction ends
    take(tx, blob.digest)
    return False


@cache
def _recording(on_postgresql: bool) -> Executable:
    """Made once: building a statement costs more than running it."""
    insert = conflict_insert(blobs, on_postgresql=on_postgresql).values(created_at=now())
    recording: Executable = insert.on_conflict_do_nothing().returning(blobs.c.digest)
    return recording


_OF_DIGEST = select(blobs).where(blobs.c.digest == bindparam("raw"))
_TAKE = _OF_DIGEST.with_for_update()
_TAKE_ALL = (
    select(blobs.c.digest)
    .where(blobs.c.digest.in_(bindparam("all_raw", expanding=True)))
    .order_by(blobs.c.digest)
    .with_for_update()
)


def take(tx: Tx, digest: Digest) -> Blob | None:
    """Takes the blob's row until the transaction ends, and answers it."""
    row = tx.run(_TAKE, {"raw": digest.raw}).first()
    return blob_of(row) if row else None


def take_all(tx: Tx, digests: Collection[Digest]) -> None:
    """Takes the rows of these blobs, all in one order: else two could wait for each other."""
    tx.run(_TAKE_ALL, {"all_raw": sorted(digest.raw for digest in digests)}).all()


def find(tx: Tx, digest: Digest) -> Blob | None:
    """The blob of this digest, if it is known."""
    row = tx.run(_OF_DIGEST, {"raw": digest.raw}).first()
    return blob_of(row) if row else None


def sizes(tx: Tx, digests: Collection[Digest]) -> dict[Digest, int]:
    """How large these blobs are."""
    raw = {digest.raw for digest in digests}
    rows = tx.run(select(blobs.c.digest, blobs.c.size_bytes).where(blobs.c.digest.in_(raw)))
    return {Digest(bytes(row.digest)): row.size_bytes for row in rows}


def forget_if_gone(tx: Tx, digest: Digest) -> None:
    """Forgets a blob that nothing names and no store holds. Its row is taken by the caller."""
    held = exists().where(copies.c.digest == digest.raw)
    named = (exists().where(table.c.digest == digest.raw) for table in (tracks, *SPEECH))
    tx.run(delete(blobs).where(blobs.c.digest == digest.raw, ~held, ~or_(*named)))


def page(tx: Tx, after: bytes, limit: int) -> list[Digest]:
    """The next digests in order, for passes over all blobs; begin with b""."""
    digests = (
        select(blobs.c.digest).where(blobs.c.digest > after).order_by(blobs.c.digest).limit(limit)
    )
    return [Digest(bytes(raw)) for raw in tx.run(digests).scalars()]
