"""Lets copies go, by the copy law, and confirms that their bytes are gone.

`leave` asks the law, proving other copies first where their proof is old; `drop` removes what the
law released. An inbox copy may ask only when every placed copy has been present for a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from soundkeep.catalog import blobs, claims, copies, copy_law, copy_work, sidecars, tracks
from soundkeep.catalog.copies import Place
from soundkeep.catalog.copy_law import Law
from soundkeep.catalog.copy_work import Claimed
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.schema import copies as copies_table
from soundkeep.copies import planning
from soundkeep.copies.copying import Copier
from soundkeep.copies.placement import Rules
from soundkeep.errors import NotEnoughCopies, StoreError, Unavailable
from soundkeep.model import Copy, CopyState, Lane, Wish
from soundkeep.stores.interface import Store, lies_at

SIDECARS_FIRST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class InboxManners:
    """How long an inbox copy stays after it became unnecessary, and how often it asks."""

    linger_seconds: float
    sweep_seconds: float


class Dropper:
    """Carries out the chores `leave` and `drop`."""

    def __init__(
        self,
        catalog: Catalog,
        copier: Copier,
        stores: Mapping[str, Store],
        rules: Rules,
        law: Law,
        manners: InboxManners,
    ) -> None:
        self._catalog = catalog
        self._copier = copier
        self._stores = stores
        self._rules = rules
        self._law = law
        self._manners = manners

    async def leave(self, store: Store, claimed: Claimed) -> None:
        """Asks the law to let the copy go. Raises `NotEnoughCopies`, `LeaseLost`."""
        if copies.is_inbox(store.name) and not await self._catalog.write(
            _may_leave_inbox, claimed, self._manners
        ):
            return
        verdict = await self._catalog.write(copy_law.let_go, claimed, self._law)
        if not verdict.let_go:
            await self._prove_some(verdict.unproven, self._law.min_copies - verdict.proven)
            verdict = await self._catalog.write(copy_law.let_go, claimed, self._law)
        if not verdict.let_go:
            raise NotEnoughCopies(
                f"{verdict.proven} of {self._law.min_copies} other copies are proven"
            )

    async def drop(self, store: Store, claimed: Claimed) -> None:
        """Removes an unwanted copy's bytes and confirms it. Raises `StoreError`, `LeaseLost`.

        A sidecar goes first: nobody shall find one that describes what is gone. Where a table
        claimed that our sound lies and another does, that one stays: it is none of our copies.
        """
        copy = claimed.copy
        if await self._catalog.write(_waits_for_sidecars, claimed):
            return
        is_anothers = await self._copier.is_anothers(store, copy)
        try:
            if not is_anothers:
                await _delete(store, copy)
            await self._catalog.write(_confirm, claimed, self._rules, is_anothers)
        except BaseException:
            # Our lease may have run out under the delete, which then may have hit what somebody
            # else put there. (Who finds that out cancels us.) While the row is ours this changes
            # nothing: the key is held by what is unwanted.
            await self._catalog.write(copies.doubt_at, copy.store, copy.key, "deleted too late")
            raise

    async def _prove_some(self, unproven: tuple[Copy, ...], needed: int) -> None:
        """Proves copies anew until enough are. A store that cannot be asked proves nothing."""
        for copy in unproven:
            if needed <= 0:
                return
            if copy.store in self._stores:
                needed -= await self._prove(copy)

    async def _prove(self, copy: Copy) -> bool:
        try:
            return await self._copier.prove(self._stores[copy.store], copy)
        except StoreError:
            return False


async def _delete(store: Store, copy: Copy) -> None:
    """Removes a copy's bytes and makes sure of it."""
    locator = lies_at(store, copy)
    await store.delete(locator)
    if await store.stat(locator) is not None:
        raise Unavailable(f"{store.name} still shows {copy.key} after deleting it")


def _waits_for_sidecars(tx: Tx, claimed: Claimed) -> bool:
    """Whether a sidecar beside this copy is still to be removed; then the row waits. (Whoever
    confirms that makes it due; the time is for one who does so at this very moment.) One that
    rested beside it, as in a store being drained, goes with it, and not before."""
    copy = claimed.copy
    sidecars.leave_with(tx, copy.digest, copy.store, copy.key)
    if not sidecars.leaves_beside(tx, copy.digest, copy.store, copy.key):
        return False
    claims.postpone(tx, copies_table, claimed.lease, tx.now() + SIDECARS_FIRST_SECONDS)
    return True


def _may_leave_inbox(tx: Tx, claimed: Claimed, manners: InboxManners) -> bool:
    """Whether every placed copy has been present long enough; if not, the row waits for that."""
    placed = [c for c in copies.of_blob(tx, claimed.copy.digest) if _is_placed(c)]
    if not copy_law.is_named(tx, claimed.copy.digest):
        return True
    settled = bool(placed) and all(copy.state is CopyState.PRESENT for copy in placed)
    clock = tx.now()
    leaves_at = max((copy.since for copy in placed), default=clock) + manners.linger_seconds
    if settled and leaves_at <= clock:
        return True
    due_at = leaves_at if settled else clock + manners.sweep_seconds
    claims.postpone(tx, copies_table, claimed.lease, due_at)
    return False


def _is_placed(copy: Copy) -> bool:
    return copy.wish is Wish.KEEP and not copies.is_inbox(copy.store)


def _confirm(tx: Tx, claimed: Claimed, rules: Rules, is_anothers: bool = False) -> None:
    """The removal is a fact: tell the receipts, and let whoever wants the key have it. What is
    another's was left there: no track of ours lies under its key from now on."""
    blob = blobs.take(tx, claimed.copy.digest)
    copy_work.confirm_gone(tx, claimed)
    if is_anothers:
        tracks.note_kept(tx, claimed.copy.id)
        _claim_no_more(tx, claimed.copy)
    else:
        tracks.confirm_removal(tx, claimed.copy.id)
    if blob is not None:
        planning.replan(tx, blob, rules, lane=Lane.BULK)
        blobs.forget_if_gone(tx, blob.digest)
    waiting = copies.take_waiting(tx, Place(claimed.copy.store, claimed.copy.key))
    if waiting is not None:
        planning.replan_one(tx, waiting, rules)


def _claim_no_more(tx: Tx, copy: Copy) -> None:
    """Else the track, pushed there once more, would be written over what was left alone."""
    for track in tracks.lying_at(tx, copy.digest, copy.store, copy.key):
        left = tracks.lies_no_more(tx, track, copy.store)
        sidecars.follow(tx, copy.digest, left.subject, left.revision)
