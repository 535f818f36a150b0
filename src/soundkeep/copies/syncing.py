"""Sync as an operation: a person pushes tracks to a store, or withdraws them from it.

`ask` remembers what was asked for and runs placement, so that nothing undoes it later; the ledger
does the rest, withdrawal by the copy law like any other. `look` says how far that has come, and
before it was asked how far it would have to go. Neither calls a store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from soundkeep.answers import Standing, Synced
from soundkeep.catalog import blobs, copies, sidecars, tracks
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copies import Place
from soundkeep.catalog.database import Tx
from soundkeep.copies import planning, receipts
from soundkeep.copies.fronts import Fronts
from soundkeep.copies.placement import Rules, StoreRule, place
from soundkeep.digest import Digest
from soundkeep.errors import (
    Conflict,
    NoSuchStore,
    NoSuchTrack,
    NotTaken,
    StoreDrains,
    TrackIsPrivate,
)
from soundkeep.model import (
    Chore,
    Copy,
    CopyState,
    Operation,
    Sidecar,
    SidecarState,
    StoreState,
    Subject,
    Track,
)


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asks for: one operation on tracks in some stores."""

    operation: Operation
    stores: tuple[StoreRule, ...]


def stores_named(rules: Rules, name: str | None) -> tuple[StoreRule, ...]:
    """The store of this name, or every public one. Raises `NoSuchStore`."""
    found = tuple(r for r in rules.stores if (r.public if name is None else r.name == name))
    if not found:
        raise NoSuchStore(
            f"there is no store {name}" if name else "there is no public store: name a store"
        )
    return found


def ask(tx: Tx, track_id: str, order: Order, rules: Rules) -> None:
    """Remembers what was asked for of one track, makes the ledger follow, and makes what waits
    there due now. What cannot be is passed over: `look` says why."""
    known = tracks.find(tx, track_id)
    taken = take(tx, known) if known is not None else None
    if taken is not None:
        ask_taken(tx, taken, order, planning.as_of(tx, rules))


@dataclass(frozen=True, slots=True)
class Taken:
    """A track whose blob's row is taken: nobody else changes or deletes it now."""

    track: Track
    names: tuple[Track, ...]  # every track that names its blob, itself among them


def take(tx: Tx, track: Track) -> Taken | None:
    """Takes the track's blob. None if somebody has deleted the track before."""
    if blobs.take(tx, track.blob.digest) is None:
        return None
    return _taken(track, tracks.naming(tx, track.blob.digest))


def take_all(tx: Tx, some: Collection[Track]) -> dict[str, Taken]:
    """As `take`, of some tracks, by their ids."""
    digests = {track.blob.digest for track in some}
    blobs.take_all(tx, digests)
    names = tracks.naming_any(tx, digests)
    found = {track.id: _taken(track, names.get(track.blob.digest, ())) for track in some}
    return {track_id: taken for track_id, taken in found.items() if taken is not None}


def _taken(track: Track, names: Collection[Track]) -> Taken | None:
    return next((Taken(name, tuple(names)) for name in names if name.id == track.id), None)


def ask_taken(tx: Tx, taken: Taken, order: Order, rules: Rules) -> None:
    """As `ask`, of a track that is taken, by the rules as they are now."""
    track, names = taken.track, taken.names
    for rule in order.stores:
        if _refusal(track, rule, order.operation, rules.drained) is not None:
            continue
        if track.asked.get(rule.name) is not order.operation.asked:
            track = tracks.ask(tx, track, rule.name, order.operation.asked)
            sidecars.follow(tx, track.blob.digest, track.subject, track.revision)
            receipts.replan_noting(tx, track, rules, names)
            names = tuple(track if name.id == track.id else name for name in names)
        copies.due_now(tx, store=rule.name, digest=track.blob.digest)


def demand(tx: Tx, track_id: str, order: Order, rules: Rules) -> None:
    """As `ask`. Raises `NoSuchTrack`, and the `Conflict` that says what cannot be."""
    track = tracks.find(tx, track_id)
    if track is None:
        raise NoSuchTrack(f"there is no track {track_id}")
    drained = store_rows.draining(tx)
    for rule in order.stores:
        refusal = _refusal(track, rule, order.operation, drained)
        if refusal is not None:
            raise refusal
    ask(tx, track_id, order, rules)


def look(tx: Tx, ids: Collection[str], order: Order, rules: Rules, fronts: Fronts) -> list[Synced]:
    """How each track stands in each store, in the order of `ids`."""
    view = _View.of(tx, ids, rules, fronts)
    return [line for track_id in ids for line in view.lines(track_id, order)]


@dataclass(frozen=True, slots=True)
class _View:
    """What the catalog knows of many tracks, read at once."""

    found: dict[str, Track]
    copies: dict[Digest, list[Copy]]
    sidecars: dict[tuple[Subject, str], Sidecar]  # by whose they are and store
    names: dict[Digest, list[Track]]
    removed_at: dict[tuple[str, str], float]
    stores: dict[str, StoreState]
    rules: Rules
    fronts: Fronts

    @classmethod
    def of(cls, tx: Tx, ids: Collection[str], rules: Rules, fronts: Fronts) -> _View:
        found = tracks.of_ids(tx, ids)
        digests = {track.blob.digest for track in found.values()}
        return cls(
            found,
            copies.of_blobs(tx, digests),
            {(each.subject, each.store): each for each in sidecars.of_blobs(tx, digests)},
            tracks.naming_any(tx, digests),
            tracks.removed_at(tx, ids),
            store_rows.known(tx),
            planning.as_of(tx, rules),
            fronts,
        )

    def lines(self, track_id: str, order: Order) -> Iterator[Synced]:
        track = self.found.get(track_id)
        if track is None:
            refusal = NoSuchTrack(f"there is no track {track_id}")
            named = order.stores[0].name if len(order.stores) == 1 else None
            yield Synced(track_id, order.operation, named, Standing.REFUSED, refusal=refusal)
            return
        for rule in order.stores:
            yield self._line(track, rule, order.operation)

    def _line(self, track: Track, rule: StoreRule, operation: Operation) -> Synced:
        refusal = _refusal(track, rule, operation, self.rules.drained)
        if refusal is not None:
            refused = Standing.REFUSED
            return Synced(track.id, operation, rule.name, refused, refusal=refusal)
        if operation is Operation.UPLOAD:
            return self._uploaded(track, rule)
        return self._withdrawn(track, rule)

    def _uploaded(self, track: Track, rule: StoreRule) -> Synced:
        copy = next((c for c in self._of(track, rule) if c.key == _key(track, rule)), None)
        due = _due_to_have(copy) + self._sidecar_due_to_have(track, rule)
        held = self.copies.get(track.blob.digest, ())
        beside = [each for (of, _), each in self.sidecars.items() if of == track.subject]
        published = self.fronts.published(track, held, beside)
        return Synced(
            track.id,
            Operation.UPLOAD,
            rule.name,
            copy.state if copy else CopyState.WANTED,
            due,
            since=max(copy.since, track.created_at) if copy else None,
            shown=next((one for one in published if one.store == rule.name), None),
            why=self._why([copy] if copy else [], rule) if due else None,
        )

    def _withdrawn(self, track: Track, rule: StoreRule) -> Synced:
        """What another name keeps there is not this track's any more."""
        here = self._of(track, rule)
        kept = self._kept_for_others(track, rule)
        going = [copy for copy in here if copy.key not in kept]
        operation = Operation.DELETE
        sidecar = self.sidecars.get((track.subject, rule.name))
        if going or sidecar:
            due = _due_to_be_rid_of(going, sidecar)
            why = self._why([*going, *filter(None, [sidecar])], rule)
            state, since = (going[0].state, going[0].since) if going else (CopyState.UNWANTED, None)
            return Synced(track.id, operation, rule.name, state, due, since=since, why=why)
        if here:
            return Synced(track.id, operation, rule.name, Standing.KEPT)
        at = self.removed_at.get((track.id, rule.name))
        seconds = self.fronts.cache_seconds.get(rule.name)
        until = at + seconds if at is not None and seconds is not None else None
        return Synced(track.id, operation, rule.name, Standing.GONE, since=at, cached_until=until)

    def _sidecar_due_to_have(self, track: Track, rule: StoreRule) -> tuple[Chore, ...]:
        sidecar = self.sidecars.get((track.subject, rule.name))
        if rule.sidecars is None or (sidecar and sidecar.state is SidecarState.WRITTEN):
            return ()
        return (Chore.WRITE_SIDECAR,)

    def _of(self, track: Track, rule: StoreRule) -> list[Copy]:
        """The copies in the store that are the track's, also those under keys of a former layout;
        but none that only another name has there."""
        others = {_key(name, rule) for name in self._others(track)} - {_key(track, rule)}
        held = self.copies.get(track.blob.digest, [])
        return [copy for copy in held if copy.store == rule.name and copy.key not in others]

    def _kept_for_others(self, track: Track, rule: StoreRule) -> set[str]:
        placed = place(track.blob, self._others(track), self.rules)
        return {key for key in (_key(track, rule),) if Place(rule.name, key) in placed}

    def _others(self, track: Track) -> list[Track]:
        return [name for name in self.names.get(track.blob.digest, ()) if name.id != track.id]

    def _why(self, waiting: Iterable[Copy | Sidecar], rule: StoreRule) -> str | None:
        """What keeps it: the store's own outage first, else what the last attempt said."""
        said = (row.last_error for row in waiting if row.last_error)
        return store_rows.outage(self.stores.get(rule.name)) or next(said, None)


def _refusal(
    track: Track, rule: StoreRule, operation: Operation, drained: Collection[str]
) -> Conflict | None:
    """Why this cannot be. Withdrawing always can."""
    if operation is Operation.DELETE:
        return None
    return refusal_to_push(track, rule, drained)


def refusal_to_push(track: Track, rule: StoreRule, drained: Collection[str]) -> Conflict | None:
    """Why the store cannot have the track; None if it can."""
    if rule.name in drained:
        return StoreDrains(f"{rule.name} is being drained: nothing is placed there")
    if rule.public and not track.public:
        return TrackIsPrivate(f"{track.id} is private, and {rule.name} is a public store")
    if not rule.takes(track.blob):
        size, kind = track.blob.size_bytes, track.blob.sound.media_type
        return NotTaken(f"{rule.name} does not take {kind} of {size} bytes: see its settings")
    return None


def _due_to_have(copy: Copy | None) -> tuple[Chore, ...]:
    if copy is None or copy.state is CopyState.WANTED:
        return (Chore.COPY,)
    if copy.state is CopyState.UNWANTED:
        return (Chore.DROP, Chore.COPY)
    return (Chore.VERIFY,) if copy.state is CopyState.DOUBTED else ()


def _due_to_be_rid_of(going: Collection[Copy], sidecar: Sidecar | None) -> tuple[Chore, ...]:
    """The sidecar goes before the sound that it describes."""
    leaves = any(copy.state is not CopyState.UNWANTED for copy in going)
    chores = {Chore.LEAVE: leaves, Chore.REMOVE_SIDECAR: sidecar, Chore.DROP: going}
    return tuple(chore for chore, is_due in chores.items() if is_due)


def _key(track: Track, rule: StoreRule) -> str:
    return str(rule.key(track.blob, track))
