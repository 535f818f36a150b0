"""What a migration says to the ledger: which tracks are due on a route, and to move them.

Each function runs inside a transaction. Asking takes the blobs' rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from soundkeep.catalog import copies, copy_work, moving
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copies import Place
from soundkeep.catalog.copy_work import Claimed, Known
from soundkeep.catalog.database import Tx
from soundkeep.catalog.moving import Selection
from soundkeep.copies import planning, syncing
from soundkeep.copies.copying import is_proven
from soundkeep.copies.placement import Rules, StoreRule, place
from soundkeep.copies.syncing import Order, Taken, refusal_to_push
from soundkeep.digest import Digest
from soundkeep.errors import Conflict
from soundkeep.model import Copy, Operation, Track


class Outcome(StrEnum):
    """How a track stands in the new store."""

    THERE = "there"
    DUE = "due"
    WAITING = "waiting"  # somebody else is copying it, or its last attempt failed
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Route:
    """From where to where, by which rules."""

    source: StoreRule
    target: StoreRule
    rules: Rules


Line = tuple[Track, Outcome, Conflict | None]


def look(
    tx: Tx, route: Route, which: Selection, after: int, limit: int
) -> tuple[list[Line], int | None]:
    """The next tracks of the old store and how each stands in the new one, and after which to ask
    again; None if there are no more."""
    found, next_after = moving.tracks_in(tx, route.source.name, which, after, limit)
    held = copies.of_blobs(tx, {track.blob.digest for track in found})
    lines: list[Line] = []
    for track in found:
        refusal = refusal_to_push(track, route.target, ())
        there = _is_there(_copy_there(track, route, held.get(track.blob.digest, [])))
        outcome = Outcome.THERE if there else Outcome.REFUSED if refusal else Outcome.DUE
        lines.append((track, outcome, None if there else refusal))
    return lines, next_after


def ask(
    tx: Tx, tracks: Collection[Track], route: Route, *, holder: str, lease_seconds: float
) -> list[Claimed | Outcome]:
    """Asks for tracks in the new store, and leases their copies where those are still to be made;
    with each what the catalog knows of it."""
    taken = syncing.take_all(tx, tracks)
    rules = planning.as_of(tx, route.rules)  # as of now that they are taken: who drains waits
    asked_of: set[Digest] = set()
    found: list[Claimed | Outcome] = []
    for track in tracks:
        digest = track.blob.digest
        own = syncing.take(tx, track) if digest in asked_of else taken.get(track.id)
        asked_of.add(digest)  # what was taken before of another name is out of date from now on
        found.append(
            _ask_one(tx, own, route, rules, holder=holder, lease_seconds=lease_seconds)
            if own is not None
            else Outcome.REFUSED  # deleted meanwhile
        )
    held = copies.of_blobs(tx, asked_of)
    return [
        replace(one, known=Known(track.blob, held[track.blob.digest]))
        if isinstance(one, Claimed)
        else one
        for track, one in zip(tracks, found, strict=True)
    ]


def _ask_one(
    tx: Tx, taken: Taken, route: Route, rules: Rules, *, holder: str, lease_seconds: float
) -> Claimed | Outcome:
    track, target = taken.track, route.target.name
    if _is_placed(track, route, rules):
        copies.due_now(tx, store=target, digest=track.blob.digest)
    else:
        syncing.ask_taken(tx, taken, Order(Operation.UPLOAD, (route.target,)), rules)
    here = Place(target, _key(track, route))

    def leased() -> Claimed | None:
        return copy_work.claim_at(
            tx, track.blob.digest, here, holder=holder, lease_seconds=lease_seconds
        )

    is_out = store_rows.is_out(tx, target)
    if not is_out and (claimed := leased()):
        return claimed
    copy = _copy_there(track, route, copies.of_blob(tx, track.blob.digest))
    if copy is not None:
        return Outcome.THERE if _is_there(copy) else Outcome.WAITING
    # Placed by new settings, whose pass over all blobs has not come to it.
    planning.replan_one(tx, track.blob.digest, route.rules)
    if _copy_there(track, route, copies.of_blob(tx, track.blob.digest)) is None:
        return Outcome.REFUSED  # made private meanwhile
    return Outcome.WAITING if is_out else leased() or Outcome.WAITING


def withdraw(tx: Tx, known: Track, route: Route) -> bool:
    """Withdraws a track from the old store if the new one has it, and is to have it: whoever
    moves it the other way may have changed that."""
    taken = syncing.take(tx, known)  # who moves it the other way waits, and then sees this
    rules = planning.as_of(tx, route.rules)
    if taken is None or not _is_placed(taken.track, route, rules):
        return False
    held = copies.of_blob(tx, taken.track.blob.digest)
    if not _is_there(_copy_there(taken.track, route, held)):
        return False
    syncing.ask_taken(tx, taken, Order(Operation.DELETE, (route.source,)), rules)
    return True


def _is_placed(track: Track, route: Route, rules: Rules) -> bool:
    """Whether placement wants this track in the new store, whoever asked for it."""
    return Place(route.target.name, _key(track, route)) in place(track.blob, [track], rules)


def _copy_there(track: Track, route: Route, held: list[Copy]) -> Copy | None:
    key = _key(track, route)
    return next((c for c in held if c.store == route.target.name and c.key == key), None)


def _is_there(copy: Copy | None) -> bool:
    return copy is not None and is_proven(copy)


def _key(track: Track, route: Route) -> str:
    return str(route.target.key(track.blob, track))
