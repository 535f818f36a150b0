"""Makes a landed upload a track: one transaction for blob, track and copies.

The same bytes again under the same path are the same track. Other bytes there are refused, or
with `replace` the path goes to a new track and the old one is deleted in this transaction. An id
is remembered with its digest for ever, also when its track is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from soundkeep.answers import Receipt
from soundkeep.catalog import blobs, copies, copy_work, renditions, segments, sidecars, tracks
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copies import Place
from soundkeep.catalog.copy_work import Claimed
from soundkeep.catalog.database import Tx
from soundkeep.catalog.renditions import ClaimedRendition
from soundkeep.copies import planning, receipts, sidecar_planning
from soundkeep.copies.placement import Rules, place
from soundkeep.copies.planning import Difference, difference
from soundkeep.digest import Digest
from soundkeep.errors import IdTaken, LeaseLost, NoSuchTrack, PathTaken, RevisionChanged
from soundkeep.model import Asked, Blob, Copy, CopyState, Lane, Track, Visibility, Wish
from soundkeep.names import DEFAULT_OWNER, new_track_id
from soundkeep.shown import is_kept

SPOOLED = "hashed as written"

Entering = Callable[[Tx, Track, Rules], Track]  # answers the track as it is then


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
    rendition: ClaimedRendition | None = None  # which it is, if it is one
    entering: Entering | None = None  # what is recorded with it


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
    inbox_copy: Copy | None  # None if the bytes that landed are not needed
    claimed: list[Claimed]  # none in a store whose circuit is open
    holders: int  # stores that have the blob already


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
    """Raises `IdTaken` or `PathTaken`, and `LeaseLost` for a rendition that is not wanted any
    more; then nothing was recorded."""
    if new.rendition is not None:
        new = _as_public_as_its_track(tx, new, new.rendition)
    rules = planning.as_of(tx, rules)
    is_new = blobs.ensure(tx, blob)
    held = [] if is_new else copies.of_blob(tx, blob.digest)
    track, change = _name(tx, new, blob, rules, held)
    if new.rendition is not None:
        renditions.made(tx, new.rendition, track.id)
    if change is not None:
        planning.apply(tx, blob, change, lane)
        sidecar_planning.want(tx, blob, [track], rules, held)
        planning.want_renditions(tx, track, rules, lane)
    if new.entering is not None:
        track = new.entering(tx, track, rules)
    needed = bool(change and (change.want or change.keep)) or not _is_settled(held)
    inbox_copy = _landed(tx, blob, inbox) if needed else None
    working = set(rules.keep) - store_rows.out(tx)
    claimed = copy_work.claim_for_upload(
        tx, blob.digest, working, holder=holder, lease_seconds=lease_seconds
    )
    holders = len({copy.store for copy in held if is_kept(copy)})
    created = change is not None
    return Recorded(track, created, inbox_copy, claimed, holders)


def record_speech(
    tx: Tx, blob: Blob, name_it: Callable[[], None], *, inbox: Inbox, rules: Rules, lane: Lane
) -> bool:
    """Keeps what was spoken; answers whether the bytes that landed are needed.

    `name_it` writes the row that names the blob, in this transaction; if it raises, nothing was
    recorded. The copies are the ledger's to make: until then the inbox has the only one.
    """
    rules = planning.as_of(tx, rules)
    is_new = blobs.ensure(tx, blob)
    held = [] if is_new else copies.of_blob(tx, blob.digest)
    names = planning.names_of(tx, blob.digest) if held else []
    name_it()
    said = segments.naming(tx, blob.digest)
    after = place(blob, [*names, *said], rules)
    change = difference(held, after, place(blob, names, rules), rules.drained)
    planning.apply(tx, blob, change, lane)
    sidecar_planning.want(tx, blob, [each for each in said if each not in names], rules, held)
    needed = bool(change.want or change.keep) or not _is_settled(held)
    if needed:
        _landed(tx, blob, inbox)
    return needed


def withdraw_speech(tx: Tx, digest: Digest, unname_it: Callable[[], None], *, rules: Rules) -> None:
    """Takes the name that speech gives a blob away; `unname_it` writes that down.

    Copies that no other name has a place for go, as after a deletion."""
    blob = blobs.take(tx, digest)
    names_before = planning.names_of(tx, digest)
    unname_it()
    if blob is not None:
        planning.replan(tx, blob, rules, lane=Lane.INTERACTIVE, names_before=names_before)
        blobs.forget_if_gone(tx, digest)


def name_kept(tx: Tx, new: NewTrack, blob: Blob, *, rules: Rules, lane: Lane) -> Track:
    """Makes a track of a sound that is kept already, in all its stores or on the way there.

    Raises `IdTaken` or `PathTaken`, and then nothing was recorded.
    """
    rules = planning.as_of(tx, rules)
    blobs.take(tx, blob.digest)
    held = copies.of_blob(tx, blob.digest)
    track, change = _name(tx, new, blob, rules, held)
    if change is not None:
        planning.apply(tx, blob, change, lane)
        sidecar_planning.want(tx, blob, [track], rules, held)
    return track if new.entering is None else new.entering(tx, track, rules)


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
    if track.public and not changed.public:
        changed = _with_a_home(tx, changed, rules)
    sidecars.follow(tx, track.blob.digest, track.subject, changed.revision)
    if visibility is not track.visibility:
        receipts.replan_noting(tx, changed, planning.as_of(tx, rules), names_before)
        _change_renditions(tx, changed, rules)
    return changed


def _with_a_home(tx: Tx, track: Track, rules: Rules) -> Track:
    """A private track that was withdrawn from so many stores that the law could not let it leave a
    public one belongs in those of `keep` again."""
    rules = planning.as_of(tx, rules)
    if len({found.store for found in place(track.blob, [track], rules)}) >= rules.min_copies:
        return track
    homes = {rule.name for rule in rules.stores if rule.name in rules.keep and not rule.public}
    withdrawn = {name for name in homes if track.asked.get(name) is Asked.WITHDRAWN}
    return tracks.unask(tx, track, withdrawn) if withdrawn else track


def _change_renditions(tx: Tx, original: Track, rules: Rules) -> None:
    """Renditions are as public as what they were made of."""
    for rendition in renditions.take_of_track(tx, original.id):
        made = tracks.find(tx, rendition.rendition_id) if rendition.rendition_id else None
        if made is not None and made.visibility is not original.visibility:
            change(
                tx,
                made,
                rules,
                title=made.title,
                visibility=original.visibility,
                metadata=made.metadata,
            )


def _as_public_as_its_track(tx: Tx, new: NewTrack, rendition: ClaimedRendition) -> NewTrack:
    """Takes the rendition's row, so that its track can become neither more nor less public."""
    renditions.take(tx, rendition)
    original = tracks.find(tx, rendition.rendition.track_id)
    if original is None:
        raise LeaseLost
    return replace(new, visibility=original.visibility)


def _name(
    tx: Tx, new: NewTrack, blob: Blob, rules: Rules, held: list[Copy]
) -> tuple[Track, Difference | None]:
    """The track, and what its new name changes about the blob's copies; None if it is the track
    that this upload repeats."""
    existing = of_id(tx, new.id, blob) if new.id else None
    wish = wished(new, blob, existing)
    if existing is not None and (wish.path, wish.owner) != (existing.path, existing.owner):
        raise IdTaken(f"the id {new.id} already names {existing.path!r}")
    there = existing or tracks.at_path(tx, wish.owner, wish.path)
    if there is not None and there.blob.digest == blob.digest:
        if new.id not in (None, there.id):
            raise IdTaken(f"{there.path!r} with this audio is already the track {there.id}")
        return there, None
    if there is not None:
        _clear_path(tx, there, rules, replace=new.replace)
    names = planning.names_of(tx, blob.digest) if held else []  # a blob with a name has copies
    track = tracks.add(tx, wish, reborn=new.id is not None)
    after = place(blob, [*names, track], rules)
    return track, difference(held, after, place(blob, names, rules), rules.drained)


def of_id(tx: Tx, track_id: str, blob: Blob) -> Track | None:
    """The track of a chosen id, which is remembered with its audio for ever."""
    track, stone = tracks.find(tx, track_id), tracks.tombstone(tx, track_id)
    digest = track.blob.digest if track else stone.digest if stone else None
    if digest not in (None, blob.digest):
        raise IdTaken(f"the id {track_id} was used before for other audio")
    return track


def wished(new: NewTrack, blob: Blob, existing: Track | None = None) -> Track:
    """The track that the uploader means."""
    track_id = new.id or new_track_id()
    path = new.path or (existing.path if existing else f"{track_id}.{blob.sound.extension}")
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


def _clear_path(tx: Tx, held: Track, rules: Rules, *, replace: bool) -> None:
    """Deletes the track with other audio that holds the path, if that was asked for."""
    if not replace:
        raise PathTaken(f"{held.path!r} holds other audio ({held.id}); replace=true replaces it")
    _delete(tx, held, rules)


def _landed(tx: Tx, blob: Blob, inbox: Inbox) -> Copy:
    """Records the inbox's copy, which asks to leave as soon as it has lingered."""
    where, wish = Place(inbox.store, inbox.key), Wish.LEAVE
    copy_id = copies.record_present(
        tx, blob.digest, where, locator=inbox.key, verified=SPOOLED, wish=wish,
        due_in=inbox.linger_seconds,
    )  # fmt: skip
    state = CopyState.PRESENT
    return Copy(copy_id, blob.digest, inbox.store, inbox.key, inbox.key, state, wish, since=0.0)


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
    """Renditions go with what they were made of."""
    blobs.take(tx, track.blob.digest)
    for rendition in renditions.take_of_track(tx, track.id):
        made = tracks.find(tx, rendition.rendition_id) if rendition.rendition_id else None
        if made is not None:
            _delete(tx, made, rules)
    renditions.forget(tx, track.id)
    digest = track.blob.digest
    names_before = tracks.naming(tx, digest)
    tracks.bury(tx, track)
    planning.replan(tx, track.blob, rules, lane=Lane.INTERACTIVE, names_before=names_before)
    receipts.note_deleted(tx, track)
    blobs.forget_if_gone(tx, digest)
