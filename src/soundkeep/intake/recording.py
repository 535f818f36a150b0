"""Makes a landed upload a track: one transaction for blob, track and copies.

The same bytes again under the same path are the same track. Other bytes there are refused, or
with `replace` the path goes to a new track and the old one is deleted in this transaction. An id
is remembered with its digest for ever, also when its track is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from soundkeep.catalog import blobs, copies, tracks
from soundkeep.catalog.copies import Claimed, Place
from soundkeep.catalog.database import Tx
from soundkeep.copies import planning
from soundkeep.copies.placement import Rules
from soundkeep.errors import IdTaken, NoSuchTrack, PathTaken, RevisionChanged
from soundkeep.model import (
    DEFAULT_OWNER,
    Blob,
    Copy,
    CopyState,
    Lane,
    Receipt,
    Removal,
    Track,
    Visibility,
    Wish,
    new_track_id,
)

SPOOLED = "hashed as written"


@dataclass(frozen=True, slots=True)
class NewTrack:
    """What the uploader says of a track, already parsed."""

    id: str | None = None
    owner: str = DEFAULT_OWNER
    path: str | None = None  # by default the id with the sound's extension
    title: str | None = None  # by default the sound's own title, or the path's last segment
    visibility: Visibility = Visibility.PRIVATE
    metadata: dict[str, Any] = field(default_factory=dict)
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Inbox:
    """Where the bytes landed, and when that copy may first ask to leave."""

    store: str
    key: str
    linger_seconds: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """The track, and the copies leased to the upload so that it can make them itself."""

    track: Track
    created: bool
    uses_inbox: bool
    claimed: list[Claimed]


def record(
    tx: Tx,
    new: NewTrack,
    blob: Blob,
    *,
    inbox: Inbox,
    rules: Rules,
    lane: Lane,
    holder: str,
    lease_seconds: float,
) -> Recorded:
    """Raises `IdTaken` or `PathTaken`, and then nothing was recorded."""
    blobs.ensure(tx, blob)
    track = _same(tx, new, blob)
    created = track is None
    if track is None:
        named = _named(new, blob)
        _clear_path(tx, named, rules, replace=new.replace)
        names_before = tracks.naming(tx, blob.digest)
        track = tracks.add(tx, named)
        planning.replan(tx, blob, rules, lane=lane, names_before=names_before)
    uses_inbox = not _is_settled(copies.of_blob(tx, blob.digest))
    if uses_inbox:
        copies.record_present(
            tx,
            blob.digest,
            Place(inbox.store, inbox.key),
            locator=inbox.key,
            verified=SPOOLED,
            wish=Wish.LEAVE,
            due_in=inbox.linger_seconds,
        )
    claimed = copies.claim_for_upload(
        tx, blob.digest, rules.keep, holder=holder, lease_seconds=lease_seconds
    )
    return Recorded(track, created, uses_inbox, claimed)


def remove(tx: Tx, track_id: str, rules: Rules) -> Receipt | None:
    """Deletes a track and opens its receipt; None if there is no such track, nor ever was."""
    track = tracks.find(tx, track_id)
    if track is not None and _is_still_there(tx, track):
        _delete(tx, track, rules)
    return tracks.receipt(tx, track_id)


def change(
    tx: Tx,
    track: Track,
    rules: Rules,
    *,
    title: str,
    visibility: Visibility,
    metadata: dict[str, Any],
) -> Track:
    """Changes what may change. A new visibility runs placement again. Raises `NoSuchTrack` if it
    was deleted meanwhile, and `RevisionChanged` if it was changed since `track` was read."""
    blobs.take(tx, track.blob.digest)
    now = tracks.find(tx, track.id)
    if now is None:
        raise NoSuchTrack(f"there is no track {track.id}")
    if now.revision != track.revision:
        raise RevisionChanged(f"the track is at revision {now.revision}, not {track.revision}")
    names_before = tracks.naming(tx, track.blob.digest)
    changed = tracks.change(tx, track, title=title, visibility=visibility, metadata=metadata)
    if visibility is not track.visibility:
        planning.replan(tx, track.blob, rules, lane=Lane.INTERACTIVE, names_before=names_before)
    return changed


def _same(tx: Tx, new: NewTrack, blob: Blob) -> Track | None:
    """The track that this upload repeats; None if it makes a new one."""
    if new.id is not None:
        _refuse_used_id(tx, new.id, blob)
    named = tracks.find(tx, new.id) if new.id else None
    path = new.path or (named.path if named else None)
    if named is not None and (path, new.owner) != (named.path, named.owner):
        raise IdTaken(f"the id {new.id} already names {named.path!r}")
    held = tracks.at_path(tx, new.owner, path) if path else None
    if held is None or held.blob.digest != blob.digest:
        return None
    if new.id not in (None, held.id):
        raise IdTaken(f"{held.path!r} with this audio is already the track {held.id}")
    return held


def _clear_path(tx: Tx, track: Track, rules: Rules, *, replace: bool) -> None:
    """Deletes the track with other audio that holds the path, if that was asked for."""
    held = tracks.at_path(tx, track.owner, track.path)
    if held is None:
        return
    if not replace:
        raise PathTaken(f"{held.path!r} holds other audio ({held.id}); replace=true replaces it")
    _delete(tx, held, rules)


def _refuse_used_id(tx: Tx, track_id: str, blob: Blob) -> None:
    track, stone = tracks.find(tx, track_id), tracks.tombstone(tx, track_id)
    digest = track.blob.digest if track else stone.digest if stone else None
    if digest not in (None, blob.digest):
        raise IdTaken(f"the id {track_id} was used before for other audio")


def _named(new: NewTrack, blob: Blob) -> Track:
    track_id = new.id or new_track_id()
    path = new.path or f"{track_id}.{blob.sound.extension}"
    title = new.title or blob.sound.tags.get("title") or PurePosixPath(path).stem
    return Track(
        id=track_id,
        owner=new.owner,
        path=path,
        title=title,
        visibility=new.visibility,
        metadata=new.metadata,
        blob=blob,
        created_at=0.0,  # the database's clock decides
        revision=1,
    )


def _is_settled(held: list[Copy]) -> bool:
    """Whether every placed copy is present already, so that the inbox's is not needed.

    If one is missing or doubted the new bytes stay until it is made good: uploading a damaged
    track again repairs it.
    """
    placed = [c for c in held if c.wish is Wish.KEEP and not copies.is_inbox(c.store)]
    return bool(placed) and all(copy.state is CopyState.PRESENT for copy in placed)


def _is_still_there(tx: Tx, track: Track) -> bool:
    """Whether nobody deleted the track until we had its blob's row, without which nobody can."""
    blobs.take(tx, track.blob.digest)
    return tracks.find(tx, track.id) is not None


def _delete(tx: Tx, track: Track, rules: Rules) -> None:
    digest = track.blob.digest
    blobs.take(tx, digest)
    names_before = tracks.naming(tx, digest)
    tracks.bury(tx, track)
    planning.replan(tx, track.blob, rules, lane=Lane.INTERACTIVE, names_before=names_before)
    lines = [_removal(copy) for copy in copies.of_blob(tx, digest)]
    tracks.note_removals(tx, track.id, lines)
    blobs.forget_if_gone(tx, digest)


def _removal(copy: Copy) -> tuple[str, str, int | None, Removal]:
    going = copy.state is CopyState.UNWANTED or copy.wish is Wish.LEAVE
    return (
        copy.store,
        copy.key,
        copy.id if going else None,
        Removal.PENDING if going else Removal.KEPT,
    )
