"""Writes into the ledger which sidecars placement wants, as `planning` does for copies.

Each function runs inside a transaction that has taken the blob's row. A name that goes, or leaves
a store, takes its sidecars along; a change of settings makes them rest, and deletes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from soundkeep.catalog import copies, sidecars
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Tx
from soundkeep.catalog.sidecars import SidecarPlace
from soundkeep.copies.placement import Rules, may_lie, place_sidecars
from soundkeep.model import Blob, Copy, Name, Sidecar, Subject, Wish


@dataclass(frozen=True, slots=True)
class SidecarDifference:
    """What placement changes about the sidecars of one blob."""

    want: frozenset[SidecarPlace]
    leave: tuple[Sidecar, ...]
    rest: tuple[Sidecar, ...]


def difference(
    current: list[Sidecar],
    after: frozenset[SidecarPlace],
    names: Collection[Subject],
    leaves: Collection[Place],
) -> SidecarDifference:
    """Compares sidecars with where they belong now (pure).

    One whose subject is no name of the blob any more leaves, and so does one that a change of its
    subject unplaced (`leaves`); one that only settings unplaced rests.
    """
    belong = {Place(place.store, place.key) for place in after}
    outside = [sidecar for sidecar in current if _place_of(sidecar) not in belong]
    leave = tuple(
        sidecar
        for sidecar in _staying(outside)
        if sidecar.subject not in names or _place_of(sidecar) in leaves
    )
    rest = tuple(each for each in outside if each.wish is Wish.KEEP and each not in leave)
    as_they_are = {_as_placed(each) for each in current if each.wish is Wish.KEEP}
    return SidecarDifference(after - as_they_are, leave, rest)


def replan(
    tx: Tx,
    blob: Blob,
    rules: Rules,
    names: Sequence[Name],
    names_before: Sequence[Name] | None,
    held: Collection[Copy],
) -> None:
    """Makes the rows of one blob's sidecars say what placement says. `held` are its copies;
    `names_before` are its names before this transaction changed them, None if it did not."""
    current = sidecars.of_blob(tx, blob.digest)
    leaves = frozenset[Place]()
    if names_before is not None:
        before = place_sidecars(blob, names_before, rules)
        leaves = frozenset(Place(place.store, place.key) for place in before)
        leaves |= _allowed_no_more(current, names_before, names, rules)
    after = place_sidecars(blob, names, rules)
    change = difference(current, after, _subjects(names), leaves)
    _want(tx, blob, change.want, held)
    sidecars.leave(tx, change.leave)
    sidecars.rest(tx, change.rest)


def want(tx: Tx, blob: Blob, names: Collection[Name], rules: Rules, held: Collection[Copy]) -> None:
    """Wants the sidecars of names that the blob did not have before: one statement."""
    _want(tx, blob, place_sidecars(blob, names, rules), held)


def abandon(tx: Tx, blob: Blob) -> None:
    """Sends every sidecar of a blob that nothing names away."""
    sidecars.leave(tx, _staying(sidecars.of_blob(tx, blob.digest)))


def _want(tx: Tx, blob: Blob, places: Collection[SidecarPlace], held: Collection[Copy]) -> None:
    # Not as `held` has it: a sound may have come since that was read.
    sounds = copies.been_present(tx, blob.digest) if held and places else ()
    writable = {place for place in places if Place(place.store, place.audio_key) in sounds}
    sidecars.want(tx, blob.digest, places, writable)


def _allowed_no_more(
    current: list[Sidecar], before: Sequence[Name], after: Sequence[Name], rules: Rules
) -> frozenset[Place]:
    """The sidecars of names that may not lie there any more: made private, or withdrawn.

    Also those that rest there since a change of settings: the world can still read them.
    """
    closed = {
        (rule.name, name.subject)
        for rule in rules.stores
        for name in before
        if may_lie(name, rule)
        and not any(may_lie(now, rule) for now in after if now.subject == name.subject)
    }
    return frozenset(_place_of(each) for each in current if (each.store, each.subject) in closed)


def _subjects(names: Collection[Name]) -> set[Subject]:
    return {name.subject for name in names if name.subject is not None}


def _staying(current: list[Sidecar]) -> list[Sidecar]:
    return [sidecar for sidecar in current if sidecar.wish is not Wish.LEAVE]


def _place_of(sidecar: Sidecar) -> Place:
    return Place(sidecar.store, sidecar.key)


def _as_placed(sidecar: Sidecar) -> SidecarPlace:
    return SidecarPlace(
        store=sidecar.store,
        key=sidecar.key,
        subject=sidecar.subject,
        audio_key=sidecar.audio_key,
        public=sidecar.public,
        revision=sidecar.wanted,
    )
