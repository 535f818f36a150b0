"""What the front door asks of the ledger about tracks, each in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from soundkeep.catalog import copies, sidecars, tracks
from soundkeep.catalog.database import Tx
from soundkeep.catalog.tracks import Query
from soundkeep.copies.fronts import Fronts
from soundkeep.copies.placement import Rules
from soundkeep.digest import Digest
from soundkeep.errors import NoSuchTrack, RevisionChanged
from soundkeep.intake import recording
from soundkeep.model import Copy, Sidecar, Subject, Track, Visibility
from soundkeep.shown import TrackView


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of tracks. `next_cursor` is None on the last."""

    views: list[TrackView]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Views:
    """Makes views of tracks, by the settings."""

    ack_copies: int
    fronts: Fronts

    def of(self, track: Track, held: Sequence[Copy], beside: Sequence[Sidecar]) -> TrackView:
        published = self.fronts.published(track, held, beside)
        return TrackView(track, tuple(held), self.ack_copies, published)


def view(tx: Tx, track_id: str, views: Views) -> TrackView:
    """A track as callers see it. Raises `NoSuchTrack`."""
    track = _track(tx, track_id)
    digest = track.blob.digest
    return views.of(track, copies.of_blob(tx, digest), sidecars.of_track(tx, digest, track.id))


def page(tx: Tx, query: Query, views: Views) -> Listed:
    """A page of tracks as callers see them. Raises `BadCursor`."""
    found = tracks.page(tx, query)
    digests = [track.blob.digest for track in found.items]
    held, beside = copies.of_blobs(tx, digests), defaultdict[Subject, list[Sidecar]](list)
    for sidecar in sidecars.of_blobs(tx, digests):
        beside[sidecar.subject].append(sidecar)
    shown = [views.of(t, held.get(t.blob.digest, ()), beside[t.subject]) for t in found.items]
    return Listed(shown, found.next_cursor)


def sidecars_of(tx: Tx, track_id: str) -> list[Sidecar]:
    """A track's sidecars in all stores. Raises `NoSuchTrack`."""
    track = _track(tx, track_id)
    return sidecars.of_track(tx, track.blob.digest, track.id)


def change(
    tx: Tx,
    track_id: str,
    rules: Rules,
    title: str | None,
    visibility: Visibility | None,
    metadata: dict[str, Any] | None,
    revision: int | None,
) -> None:
    """Changes what is given. Raises `NoSuchTrack`, `RevisionChanged`."""
    track = _track(tx, track_id)
    if revision not in (None, track.revision):
        raise RevisionChanged(f"the track is at revision {track.revision}, not {revision}")
    recording.change(
        tx,
        track,
        rules,
        title=track.title if title is None else title,
        visibility=visibility or track.visibility,
        metadata=track.metadata if metadata is None else metadata,
    )


def due_now(tx: Tx, store: str | None, digest: Digest | None) -> int:
    """Makes waiting copies and sidecars due: of a store, of a blob, or all. Answers how many."""
    of_copies = copies.due_now(tx, store=store, digest=digest)
    return of_copies + sidecars.due_now(tx, store=store, digest=digest)


def _track(tx: Tx, track_id: str) -> Track:
    track = tracks.find(tx, track_id)
    if track is None:
        raise NoSuchTrack(f"there is no track {track_id}")
    return track
