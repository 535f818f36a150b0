"""Blobs, tracks and copies for tests of the ledger, made without any file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from soundkeep.catalog import blobs, copies, tracks
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.migrating import migrate
from soundkeep.digest import fingerprint
from soundkeep.model import Blob, CopyState, Lane, Sound, Track, Visibility, Wish

SOUND = Sound("audio/mpeg", "mp3", "mp3", 1.5, bit_rate=64000, tags={"title": "A tune"})


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Catalog]:
    """A migrated catalog, closed at the end."""
    catalog = Catalog(url)
    try:
        await catalog.upgrade(migrate)
        yield catalog
    finally:
        await catalog.close()


def make_blob(content: bytes) -> Blob:
    mark = fingerprint(content)
    return Blob(mark.digest, mark.size_bytes, mark.chunk_hashes, SOUND)


def make_track(
    name: str, blob: Blob, *, public: bool = False, owner: str = "admin", title: str | None = None
) -> Track:
    visibility = Visibility.PUBLIC if public else Visibility.PRIVATE
    path = f"{name}.mp3"
    return Track(name, owner, path, title or name, visibility, {}, blob, 0.0, 1)


def add_track(tx: Tx, track: Track) -> None:
    blobs.ensure(tx, track.blob)
    tracks.add(tx, track)


def add_present(tx: Tx, blob: Blob, *stores: str) -> list[int]:
    """Records proven copies; answers their ids."""
    return [
        copies.record_present(
            tx,
            blob.digest,
            Place(store, f"blobs/{blob.digest}"),
            locator=f"blobs/{blob.digest}",
            verified="read back",
            wish=Wish.KEEP,
            due_in=0,
        )
        for store in stores
    ]


def want(tx: Tx, blob: Blob, *stores: str) -> None:
    places = [Place(store, f"blobs/{blob.digest}") for store in stores]
    copies.want(tx, blob.digest, places, Lane.INTERACTIVE)


async def states(catalog: Catalog, blob: Blob) -> dict[str, CopyState]:
    return {copy.store: copy.state for copy in await catalog.read(copies.of_blob, blob.digest)}


def somebody_waits(tx: Tx) -> bool:
    """Whether a transaction of this PostgreSQL waits for what another holds."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    return bool(tx.connection.exec_driver_sql(waiting).scalar_one())
