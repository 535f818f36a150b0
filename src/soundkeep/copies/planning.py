"""Writes into the ledger what placement decided: the difference between what is and what should be.

Each function runs inside a transaction that has taken the blob's row. Names that go make copies
leave, by the copy law; a change of settings makes them rest, and deletes nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from soundkeep.catalog import blobs, copies, facts, sidecars, tracks
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.sidecars import SidecarPlace
from soundkeep.copies.placement import Rules, allowed, may_lie, place, place_sidecars
from soundkeep.digest import Digest
from soundkeep.model import Blob, Copy, CopyState, Lane, Sidecar, Track, Wish

FACT = "placement"
PAGE_BLOBS = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """What placement changes about the copies of one blob."""

    want: frozenset[Place]
    keep: tuple[Copy, ...]
    leave: tuple[Copy, ...]
    rest: tuple[Copy, ...]


def difference(
    current: list[Copy], after: frozenset[Place], before: frozenset[Place]
) -> Difference:
    """Compares copies with where the blob belongs after and before its names changed (pure).

    What belonged there before and no longer does leaves; what belonged nowhere even before was
    unplaced by settings and rests. An inbox is never placed, and never changed here.
    """
    placed = {Place(copy.store, copy.key): copy for copy in current}
    outside = [copy for place, copy in placed.items() if place not in after and _placeable(copy)]
    return Difference(
        want=after - placed.keys(),
        keep=tuple(copy for place, copy in placed.items() if place in after and _astray(copy)),
        leave=tuple(c for c in outside if Place(c.store, c.key) in before and _staying(c)),
        rest=tuple(c for c in outside if Place(c.store, c.key) not in before and _kept(c)),
    )


def replan(
    tx: Tx, blob: Blob, rules: Rules, *, lane: Lane, names_before: list[Track] | None = None
) -> None:
    """Makes the ledger of one blob say what placement says. Its row is taken by the caller.

    `names_before` are its names before this transaction changed them; None if it did not.
    """
    names = tracks.naming(tx, blob.digest)
    if not names:
        copies.abandon(tx, blob.digest)
        sidecars.leave(tx, _staying_sidecars(sidecars.of_blob(tx, blob.digest)))
        return
    after = place(blob, names, rules)
    before = after if names_before is None else place(blob, names_before, rules)
    current = copies.of_blob(tx, blob.digest)
    if names_before is not None:
        before |= _allowed_no_more(blob, current, names_before, names, rules)
    apply(tx, blob, difference(current, after, before), lane)
    _replan_sidecars(tx, blob, names, names_before, rules, current)


def apply(tx: Tx, blob: Blob, change: Difference, lane: Lane) -> None:
    """Writes a difference into the ledger."""
    copies.want(tx, blob.digest, change.want, lane)
    for wish, which in (
        (Wish.KEEP, change.keep),
        (Wish.LEAVE, change.leave),
        (Wish.REST, change.rest),
    ):
        for copy in which:
            copies.wish(tx, copy, wish, lane)
    for copy in change.keep:
        tracks.note_kept(tx, copy.id)


@dataclass(frozen=True, slots=True)
class SidecarDifference:
    """What placement changes about the sidecars of one blob."""

    want: frozenset[SidecarPlace]
    leave: tuple[Sidecar, ...]
    rest: tuple[Sidecar, ...]


def sidecar_difference(
    current: list[Sidecar],
    after: frozenset[SidecarPlace],
    names: Collection[str],
    leaves: Collection[Place],
) -> SidecarDifference:
    """Compares sidecars with where they belong now (pure).

    One whose track is no name of the blob any more leaves, and so does one that a change of its
    track unplaced (`leaves`); one that only settings unplaced rests.
    """
    belong = {Place(place.store, place.key) for place in after}
    outside = [sidecar for sidecar in current if _place_of(sidecar) not in belong]
    leave = tuple(
        sidecar
        for sidecar in _staying_sidecars(outside)
        if sidecar.track_id not in names or _place_of(sidecar) in leaves
    )
    rest = tuple(each for each in outside if each.wish is Wish.KEEP and each not in leave)
    as_they_are = {_as_placed(each) for each in current if each.wish is Wish.KEEP}
    return SidecarDifference(after - as_they_are, leave, rest)


def want_sidecars(
    tx: Tx, blob: Blob, names: Collection[Track], rules: Rules, held: Collection[Copy]
) -> None:
    """Wants the sidecars of names that the blob did not have before."""
    _want_sidecars(tx, blob, place_sidecars(blob, names, rules), held)


def _replan_sidecars(
    tx: Tx,
    blob: Blob,
    names: list[Track],
    names_before: list[Track] | None,
    rules: Rules,
    held: list[Copy],
) -> None:
    """As `replan`, for the sidecars. Those of a track that may not lie there any more leave, also
    if they rest there."""
    after = place_sidecars(blob, names, rules)
    current = sidecars.of_blob(tx, blob.digest)
    closed = {(r.name, t.id) for r in rules.stores for t in names if not may_lie(t, r)}
    leaves = {_place_of(each) for each in current if (each.store, each.track_id) in closed}
    if names_before is not None:
        before = place_sidecars(blob, names_before, rules)
        leaves |= {Place(place.store, place.key) for place in before}
    change = sidecar_difference(current, after, {track.id for track in names}, leaves)
    _want_sidecars(tx, blob, change.want, held)
    sidecars.leave(tx, change.leave)
    sidecars.rest(tx, change.rest)


def _want_sidecars(
    tx: Tx, blob: Blob, places: Collection[SidecarPlace], held: Collection[Copy]
) -> None:
    sounds = {(copy.store, copy.key) for copy in held if _has_been_present(copy)}
    writable = {place for place in places if (place.store, place.audio_key) in sounds}
    sidecars.want(tx, blob.digest, places, writable)


def _allowed_no_more(
    blob: Blob, current: list[Copy], before: list[Track], after: list[Track], rules: Rules
) -> frozenset[Place]:
    """Where the blob may not lie any more: it was made private, withdrawn, or lost a name.

    Also what settings had unplaced, and under keys of a former layout: what rests in a public
    store the world can still read.
    """
    closed = {
        store.name
        for store in rules.stores
        if any(may_lie(track, store) for track in before)
        and not any(may_lie(track, store) for track in after)
    }
    everything = frozenset(Place(copy.store, copy.key) for copy in current if copy.store in closed)
    return everything | allowed(blob, before, rules) - allowed(blob, after, rules)


def replan_one(tx: Tx, digest: Digest, rules: Rules) -> None:
    """Takes a blob's row, if there is one, and makes the ledger say what placement says."""
    blob = blobs.take(tx, digest)
    if blob is not None:
        replan(tx, blob, rules, lane=Lane.BULK)


async def replan_all(catalog: Catalog, rules: Rules) -> int:
    """Runs placement over every blob after a change of settings; answers how many it looked at.

    Goes on where an interrupted pass stopped. With unchanged settings it is one look-up.
    """
    fingerprint = rules.fingerprint()
    seen = 0
    while (cursor := await catalog.read(_cursor, fingerprint)) is not None:
        seen += await catalog.write(_replan_page, rules, fingerprint, cursor)
    return seen


def _cursor(tx: Tx, fingerprint: str) -> bytes | None:
    """Where the pass for these rules stands; None when it is done."""
    fact = facts.read(tx, FACT)
    if fact is None or fact["rules"] != fingerprint:
        return b""
    return None if fact["done"] else bytes.fromhex(fact["after"])


def _replan_page(tx: Tx, rules: Rules, fingerprint: str, after: bytes) -> int:
    digests = blobs.page(tx, after, PAGE_BLOBS)
    for digest in digests:
        replan_one(tx, digest, rules)
    last = digests[-1].hex if digests else ""
    facts.write(tx, FACT, {"rules": fingerprint, "after": last, "done": not digests})
    return len(digests)


def _placeable(copy: Copy) -> bool:
    return not copies.is_inbox(copy.store)


def _astray(copy: Copy) -> bool:
    """Placed again, though it was resting or leaving. What is unwanted first has to go."""
    return copy.wish is not Wish.KEEP and copy.state is not CopyState.UNWANTED


def _kept(copy: Copy) -> bool:
    return copy.wish is Wish.KEEP and copy.state is not CopyState.UNWANTED


def _staying(copy: Copy) -> bool:
    return copy.wish is not Wish.LEAVE and copy.state is not CopyState.UNWANTED


def _has_been_present(copy: Copy) -> bool:
    return copy.state in (CopyState.PRESENT, CopyState.DOUBTED)


def _staying_sidecars(current: list[Sidecar]) -> list[Sidecar]:
    return [sidecar for sidecar in current if sidecar.wish is not Wish.LEAVE]


def _place_of(sidecar: Sidecar) -> Place:
    return Place(sidecar.store, sidecar.key)


def _as_placed(sidecar: Sidecar) -> SidecarPlace:
    return SidecarPlace(
        sidecar.store, sidecar.key, sidecar.track_id, sidecar.audio_key, sidecar.wanted
    )
