"""Tracks: what people name, how they are found, and what is remembered of those that are gone."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, tuple_, update
from sqlalchemy.sql import ColumnElement

from soundkeep.answers import Receipt, Removal, RemovalLine
from soundkeep.catalog.database import Tx
from soundkeep.catalog.rows import select_tracks, track_of
from soundkeep.catalog.schema import blobs, now, removals, tombstones, tracks
from soundkeep.catalog.search import matches, words_of
from soundkeep.digest import Digest
from soundkeep.errors import BadCursor
from soundkeep.model import Asked, Sidecar, Track, Visibility

MAX_PAGE = 1000
MAX_SEQ = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Query:
    """Which tracks to list. With `search` they come in the order they were made, else by path."""

    prefix: str = ""
    search: str = ""
    owner: str | None = None
    visibility: Visibility | None = None
    limit: int = 100
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. `next_cursor` is None on the last."""

    items: list[Track]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is remembered of a deleted track, for ever."""

    track_id: str
    owner: str
    path: str
    digest: Digest
    visibility: Visibility
    deleted_at: float


# Made once: building a statement costs more than running it.
_OF_ID = select_tracks().where(tracks.c.id == bindparam("track_id"))
_OF_IDS = select_tracks().where(tracks.c.id.in_(bindparam("track_ids", expanding=True)))
_AT_PATH = select_tracks().where(
    tracks.c.owner == bindparam("of_owner"), tracks.c.path == bindparam("at_path")
)
_NAMING = select_tracks().where(tracks.c.digest == bindparam("raw"))
_NAMING_ANY = (
    select_tracks()
    .where(tracks.c.digest.in_(bindparam("all_raw", expanding=True)))
    .order_by(tracks.c.seq)
)
_HELD_AT = (
    select(blobs.c.digest, blobs.c.size_bytes)
    .join(tracks, tracks.c.digest == blobs.c.digest)
    .where(tracks.c.owner == bindparam("of_owner"), tracks.c.path == bindparam("at_path"))
)
_ASK = (
    update(tracks)
    .where(tracks.c.id == bindparam("track_id"))
    .values(asked=bindparam("all_asked"), revision=tracks.c.revision + 1)
    .returning(tracks.c.revision)
)
_RECEIPT = removals.c.track_id == bindparam("of_track")
_FORGET_IN = delete(removals).where(
    _RECEIPT, removals.c.store.in_(bindparam("stores", expanding=True))
)
_FORGET_PENDING = delete(removals).where(_RECEIPT, removals.c.outcome == Removal.PENDING.value)
_CONFIRM_SETTLED = (
    update(removals)
    .where(_RECEIPT, removals.c.confirmed_at.is_(None), removals.c.outcome != Removal.PENDING.value)
    .values(confirmed_at=now())
)
_ADD = insert(tracks).values(created_at=now()).returning(tracks.c.created_at)


def find(tx: Tx, track_id: str) -> Track | None:
    """The track of this id."""
    if "\x00" in track_id:
        return None  # no id holds it, and PostgreSQL refuses to look
    row = tx.run(_OF_ID, {"track_id": track_id}).first()
    return track_of(row) if row else None


def find_all(tx: Tx, track_ids: Collection[str]) -> dict[str, Track]:
    """Those of these tracks that there are, by id."""
    return {row.id: track_of(row) for row in tx.run(_OF_IDS, {"track_ids": list(track_ids)})}


def at_path(tx: Tx, owner: str, path: str) -> Track | None:
    """The track that holds this path."""
    row = tx.run(_AT_PATH, {"of_owner": owner, "at_path": path}).first()
    return track_of(row) if row else None


def held_at(tx: Tx, owner: str, path: str) -> tuple[Digest, int] | None:
    """Digest and size of what this path holds."""
    row = tx.run(_HELD_AT, {"of_owner": owner, "at_path": path}).first()
    return (Digest(bytes(row.digest)), row.size_bytes) if row else None


def naming(tx: Tx, digest: Digest) -> list[Track]:
    """Every track that names this blob."""
    return [track_of(row) for row in tx.run(_NAMING, {"raw": digest.raw})]


def naming_any(tx: Tx, digests: Collection[Digest]) -> dict[Digest, list[Track]]:
    """Every track that names one of these blobs."""
    found: dict[Digest, list[Track]] = {}
    for row in tx.run(_NAMING_ANY, {"all_raw": [digest.raw for digest in digests]}):
        track = track_of(row)
        found.setdefault(track.blob.digest, []).append(track)
    return found


def of_ids(tx: Tx, ids: Collection[str]) -> dict[str, Track]:
    """The tracks of these ids; those that do not exist are left out."""
    possible = {track_id for track_id in ids if "\x00" not in track_id}
    rows = tx.run(select_tracks().where(tracks.c.id.in_(possible)))
    return {row.id: track_of(row) for row in rows}


def add(tx: Tx, track: Track, *, reborn: bool = True) -> Track:
    """Records a new track at the database's time. If it may be `reborn`, its id may have died
    before, with this audio; one that we have just made has not."""
    row = {
        "id": track.id,
        "owner": track.owner,
        "path": track.path,
        "title": track.title,
        "visibility": track.visibility,
        "metadata": json.dumps(track.metadata),
        "words": words_of(track.title, track.path, track.id),
        "digest": track.blob.digest.raw,
        "revision": track.revision,
    }
    if reborn:
        tx.run(delete(tombstones).where(tombstones.c.track_id == track.id))
        tx.run(delete(removals).where(removals.c.track_id == track.id))
    return replace(track, created_at=tx.run(_ADD, row).scalar_one())


def change(
    tx: Tx, track: Track, *, title: str, visibility: Visibility, metadata: dict[str, Any]
) -> Track:
    """Writes what may change of a track, at its next revision."""
    values = {
        "title": title,
        "visibility": visibility,
        "metadata": json.dumps(metadata),
        "words": words_of(title, track.path, track.id),
        "revision": track.revision + 1,
    }
    tx.run(update(tracks).where(tracks.c.id == track.id).values(**values))
    return _found(tx, track.id)


def ask(tx: Tx, track: Track, store: str, what: Asked) -> Track:
    """Remembers what a person asked for of the track in a store, at its next revision."""
    return _asked(tx, track, {**track.asked, store: what})


def lies_at(tx: Tx, track: Track, store: str, key: str) -> Track:
    """Remembers under which key of its own the track was found in a store, at its next revision."""
    return _lying(tx, track, {**track.own_keys, store: key})


def lies_no_more(tx: Tx, track: Track, store: str) -> Track:
    """Forgets that key: what lies there is not the track. At its next revision."""
    return _lying(tx, track, {name: key for name, key in track.own_keys.items() if name != store})


def lying_at(tx: Tx, digest: Digest, store: str, key: str) -> list[Track]:
    """The tracks of this blob that have that key of their own in the store."""
    return [track for track in naming(tx, digest) if track.own_keys.get(store) == key]


def _lying(tx: Tx, track: Track, own_keys: Mapping[str, str]) -> Track:
    values = {"own_keys": json.dumps(own_keys), "revision": tracks.c.revision + 1}
    tx.run(update(tracks).where(tracks.c.id == track.id).values(**values))
    return _found(tx, track.id)


def unask(tx: Tx, track: Track, stores: Collection[str]) -> Track:
    """Forgets what was asked for of the track in these stores, at its next revision."""
    asked = {store: what for store, what in track.asked.items() if store not in stores}
    return _asked(tx, track, asked)


def _asked(tx: Tx, track: Track, asked: Mapping[str, Asked]) -> Track:
    row = tx.run(_ASK, {"track_id": track.id, "all_asked": json.dumps(asked)}).one()
    return replace(track, asked=asked, revision=row.revision)


def rise(tx: Tx, track: Track) -> Track:
    """The track at its next revision: something else that its sidecars tell has changed."""
    tx.run(update(tracks).where(tracks.c.id == track.id).values(revision=tracks.c.revision + 1))
    return _found(tx, track.id)


def bury(tx: Tx, track: Track) -> None:
    """Removes the name and leaves a tombstone."""
    tx.run(delete(tracks).where(tracks.c.id == track.id))
    tx.run(
        insert(tombstones).values(
            track_id=track.id,
            owner=track.owner,
            path=track.path,
            digest=track.blob.digest.raw,
            visibility=track.visibility,
            deleted_at=now(),
        )
    )


def tombstone(tx: Tx, track_id: str) -> Tombstone | None:
    """What is remembered under an id that is no track's any more."""
    row = tx.run(select(tombstones).where(tombstones.c.track_id == track_id)).first()
    if row is None:
        return None
    digest = Digest(bytes(row.digest))
    visibility = Visibility(row.visibility)
    return Tombstone(row.track_id, row.owner, row.path, digest, visibility, row.deleted_at)


def note_removals(
    tx: Tx,
    track_id: str,
    lines: list[tuple[str, str, int | None, Removal]],
    sidecars: Sequence[Sidecar],
) -> None:
    """Adds to a track's receipt: (store, key, copy or None, outcome) for each copy, and a line for
    each of these sidecars."""
    of_copies = [(*line, None) for line in lines]
    of_sidecars = [(each.store, each.key, None, Removal.PENDING, each.id) for each in sidecars]
    rows = [
        {
            "track_id": track_id,
            "store": store,
            "key": key,
            "copy_id": copy_id,
            "sidecar_id": sidecar_id,
            "outcome": outcome,
        }
        for store, key, copy_id, outcome, sidecar_id in (*of_copies, *of_sidecars)
    ]
    if rows:
        tx.run(insert(removals).values(confirmed_at=None), rows)
    tx.run(_CONFIRM_SETTLED, {"of_track": track_id})


def forget_removals_in(tx: Tx, track_id: str, stores: Collection[str]) -> None:
    """Takes the lines of some stores out of a track's receipt."""
    tx.run(_FORGET_IN, {"of_track": track_id, "stores": sorted(stores)})


def forget_pending(tx: Tx, track_id: str) -> None:
    """Takes the lines that are still pending out of a track's receipt."""
    tx.run(_FORGET_PENDING, {"of_track": track_id})


def removed_at(tx: Tx, ids: Collection[str]) -> dict[tuple[str, str], float]:
    """By track and store, when the last copy that went from there was confirmed to be gone."""
    possible = {track_id for track_id in ids if "\x00" not in track_id}
    rows = tx.run(
        select(removals.c.track_id, removals.c.store, func.max(removals.c.confirmed_at).label("at"))
        .where(removals.c.track_id.in_(possible), removals.c.outcome == Removal.REMOVED.value)
        .group_by(removals.c.track_id, removals.c.store)
    )
    return {(row.track_id, row.store): row.at for row in rows}


def confirm_removal(tx: Tx, copy_id: int) -> None:
    """Writes into every receipt that waits for this copy that it is gone."""
    gone = update(removals).where(removals.c.copy_id == copy_id)
    tx.run(gone.values(outcome=Removal.REMOVED, confirmed_at=now(), copy_id=None))


def confirm_sidecar_removal(tx: Tx, sidecar_id: int) -> None:
    """Writes into the receipt that waits for this sidecar that it is gone."""
    gone = update(removals).where(removals.c.sidecar_id == sidecar_id)
    tx.run(gone.values(outcome=Removal.REMOVED, confirmed_at=now(), sidecar_id=None))


def note_kept(tx: Tx, copy_id: int) -> None:
    """Writes into every receipt that waits for this copy that another track wants it again."""
    kept = update(removals).where(removals.c.copy_id == copy_id)
    tx.run(kept.values(outcome=Removal.KEPT, confirmed_at=now(), copy_id=None))


def note_forgotten(tx: Tx, copy_id: int) -> None:
    """Writes into every receipt that waits for this copy that its store was forgotten."""
    lost = update(removals).where(removals.c.copy_id == copy_id)
    tx.run(lost.values(outcome=Removal.FORGOTTEN, confirmed_at=now(), copy_id=None))


def note_sidecars_forgotten(tx: Tx, sidecar_ids: Collection[int]) -> None:
    """The same of sidecars."""
    lost = update(removals).where(removals.c.sidecar_id.in_(sidecar_ids))
    tx.run(lost.values(outcome=Removal.FORGOTTEN, confirmed_at=now(), sidecar_id=None))


def receipt(tx: Tx, track_id: str) -> Receipt | None:
    """The receipt of a deletion, or of what was withdrawn of a track that lives; None if neither
    ever was."""
    stone = tombstone(tx, track_id)
    track = None if stone else find(tx, track_id)
    lines = _removal_lines(tx, track_id) if stone or track else ()
    if stone is not None:
        public = stone.visibility is Visibility.PUBLIC
        return Receipt(track_id, stone.deleted_at, public, lines)
    return Receipt(track_id, None, track.public, lines) if track and lines else None


def _removal_lines(tx: Tx, track_id: str) -> tuple[RemovalLine, ...]:
    mine = select(removals).where(removals.c.track_id == track_id).order_by(removals.c.id)
    return tuple(
        RemovalLine(row.store, row.key, Removal(row.outcome), row.confirmed_at)
        for row in tx.run(mine)
    )


def page(tx: Tx, query: Query) -> Page:
    """A page of tracks. Raises `BadCursor`.

    By path it is a range scan of an index that ends with the page; a search is answered by the
    full-text index in the order tracks were made. Both stay fast at a million tracks.
    """
    if "\x00" in query.prefix or "\x00" in (query.owner or ""):
        return Page([], None)  # no name holds it, and PostgreSQL refuses to look
    searched = matches(query.search, on_postgresql=tx.on_postgresql) if query.search else None
    order = (tracks.c.seq,) if searched is not None else (tracks.c.path, tracks.c.seq)
    wanted = select_tracks().where(*conditions(query)).order_by(*order)
    if searched is not None:
        wanted = wanted.where(searched)
    if query.cursor:
        wanted = wanted.where(tuple_(*order) > tuple_(*_read_cursor(query.cursor, len(order))))
    limit = max(1, min(query.limit, MAX_PAGE))
    rows = list(tx.run(wanted.limit(limit + 1)))
    more = len(rows) > limit
    last = rows[limit - 1] if more else None
    cursor = _write_cursor([getattr(last, column.name) for column in order]) if last else None
    return Page([track_of(row) for row in rows[:limit]], cursor)


def conditions(query: Query) -> list[ColumnElement[bool]]:
    """What a query asks of a track, but for its search."""
    found: list[ColumnElement[bool]] = []
    if query.owner is not None:
        found.append(tracks.c.owner == query.owner)
    if query.visibility is not None:
        found.append(tracks.c.visibility == query.visibility.value)
    if query.prefix:
        found += [tracks.c.path >= query.prefix, tracks.c.path < _after_prefix(query.prefix)]
    return found


def _after_prefix(prefix: str) -> str:
    """The least text that sorts after everything that begins with `prefix`."""
    return prefix + "\U0010ffff"


def _write_cursor(values: list[Any]) -> str:
    return msgspec.json.encode(values).hex()


def _read_cursor(cursor: str, length: int) -> list[Any]:
    try:
        values = msgspec.json.decode(bytes.fromhex(cursor))
    except (ValueError, msgspec.DecodeError):
        raise BadCursor from None
    kinds = [str, int][2 - length :]
    if not isinstance(values, list) or [type(value) for value in values] != kinds:
        raise BadCursor
    if "\x00" in str(values[0]) or abs(values[-1]) > MAX_SEQ:  # a database would not even look
        raise BadCursor
    return values


def _found(tx: Tx, track_id: str) -> Track:
    track = find(tx, track_id)
    assert track is not None, "just written in this transaction"
    return track
