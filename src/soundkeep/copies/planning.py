"""Writes into the ledger what placement decided: the difference between what is and what should be.

Each function runs inside a transaction that has taken the blob's row. Names that go make copies
leave, by the copy law, and so does draining a store; a change of settings makes them rest, and
deletes nothing. Sidecars follow the same plan: see `sidecar_planning`. Passes over all blobs are
in `passes`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from soundkeep.catalog import blobs, copies, renditions, segments, tracks
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Tx
from soundkeep.copies import sidecar_planning
from soundkeep.copies.placement import Rules, allowed, may_lie, place, renditions_of
from soundkeep.digest import Digest
from soundkeep.model import Blob, Copy, CopyState, Lane, Name, Track, Wish


@dataclass(frozen=True, slots=True)
class Difference:
    """What placement changes about the copies of one blob."""

    want: frozenset[Place]
    keep: tuple[Copy, ...]
    leave: tuple[Copy, ...]
    rest: tuple[Copy, ...]


def difference(
    current: list[Copy],
    after: frozenset[Place],
    before: frozenset[Place],
    drained: Collection[str] = (),
) -> Difference:
    """Compares copies with where the blob belongs after and before its names changed (pure).

    What belonged there before and no longer does leaves, and so does what lies in a store that is
    `drained`; what belonged nowhere even before was unplaced by settings and rests. An inbox is
    never placed, and never changed here.
    """
    placed = {Place(copy.store, copy.key): copy for copy in current}
    outside = [copy for place, copy in placed.items() if place not in after and _placeable(copy)]
    going = {c.id for c in outside if Place(c.store, c.key) in before or c.store in drained}
    return Difference(
        want=after - placed.keys(),
        keep=tuple(copy for place, copy in placed.items() if place in after and _astray(copy)),
        leave=tuple(c for c in outside if c.id in going and _staying(c)),
        rest=tuple(c for c in outside if c.id not in going and _kept(c)),
    )


def as_of(tx: Tx, rules: Rules) -> Rules:
    """The rules as they are now: with the stores that are being drained."""
    return rules.draining(store_rows.draining(tx))


def replan(
    tx: Tx, blob: Blob, rules: Rules, *, lane: Lane, names_before: Sequence[Name] | None = None
) -> None:
    """Makes the ledger of one blob say what placement says. Its row is taken by the caller.

    `names_before` are its names before this transaction changed them; None if it did not.
    """
    replan_names(
        tx,
        blob,
        names_of(tx, blob.digest),
        as_of(tx, rules),
        lane=lane,
        names_before=names_before,
    )


def replan_names(
    tx: Tx,
    blob: Blob,
    names: Sequence[Name],
    rules: Rules,
    *,
    lane: Lane,
    names_before: Sequence[Name] | None,
) -> None:
    """As `replan`, of a blob whose names are known, by the rules as they are now."""
    if not names:
        copies.abandon(tx, blob.digest)
        sidecar_planning.abandon(tx, blob)
        return
    after = place(blob, names, rules)
    before = after if names_before is None else place(blob, names_before, rules)
    current = copies.of_blob(tx, blob.digest)
    if names_before is not None:
        before |= _allowed_no_more(blob, current, names_before, names, rules)
    apply(tx, blob, difference(current, after, before, rules.drained), lane)
    sidecar_planning.replan(tx, blob, rules, names, names_before, current)
    for name in names:
        if isinstance(name, Track):
            want_renditions(tx, name, rules, lane)


def names_of(tx: Tx, digest: Digest) -> list[Name]:
    """Everything that names a blob: tracks, and speech."""
    return [*tracks.naming(tx, digest), *segments.naming(tx, digest)]


def want_renditions(tx: Tx, track: Track, rules: Rules, lane: Lane) -> None:
    """Asks for what the stores of a track want it in besides. Renditions have none themselves."""
    formats = renditions_of(track, rules)
    if formats and not renditions.is_one(tx, track.id):
        renditions.want(tx, track.id, formats, lane)


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


def _allowed_no_more(
    blob: Blob, current: list[Copy], before: Sequence[Name], after: Sequence[Name], rules: Rules
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


def _placeable(copy: Copy) -> bool:
    return not copies.is_inbox(copy.store)


def _astray(copy: Copy) -> bool:
    """Placed again, though it was resting or leaving. What is unwanted first has to go."""
    return copy.wish is not Wish.KEEP and copy.state is not CopyState.UNWANTED


def _kept(copy: Copy) -> bool:
    return copy.wish is Wish.KEEP and copy.state is not CopyState.UNWANTED


def _staying(copy: Copy) -> bool:
    return copy.wish is not Wish.LEAVE and copy.state is not CopyState.UNWANTED
