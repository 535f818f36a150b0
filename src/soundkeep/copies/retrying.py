"""Tries what is still to be written to some stores, now and whatever the curve says, and tells how
each one ended. The ledger goes on with what failed, as with any other failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

from soundkeep.catalog import copies, copy_work, tracks
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copies import Place
from soundkeep.catalog.copy_work import Claimed
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.model import Copy, CopyState
from soundkeep.stores.interface import Store

AT_MOST = 100  # copies of one call
AT_ONCE = 8
IN_HAND = "it is being tried already"

CarryOut = Callable[[Store, Claimed], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Retried:
    """How one attempt ended: where the sound lies now, or why it does not."""

    name: str  # a track of that sound, or else its digest
    locator: str | None
    error: str | None


class Retrier:
    """Tries copies at once."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        *,
        carry_out: CarryOut,
        holder: str,
        lease_seconds: float,
    ) -> None:
        """`carry_out` is the frame around the chore `copy`."""
        self._catalog = catalog
        self._stores = stores
        self._carry_out = carry_out
        self._holder = holder
        self._lease_seconds = lease_seconds

    async def run(self, stores: Collection[str]) -> list[Retried]:
        """Tries up to `AT_MOST` copies that these stores are still to have."""
        taken = await self._catalog.write(_take, stores, self._holder, self._lease_seconds)
        places = asyncio.Semaphore(AT_ONCE)

        async def attempt(copy: Copy, claimed: Claimed | None) -> Retried:
            async with places:
                if claimed is not None:
                    await self._carry_out(self._stores[copy.store], claimed)
            return await self._catalog.read(_ended, copy, claimed is not None)

        return await asyncio.gather(*(attempt(copy, claimed) for copy, claimed in taken))


def _take(
    tx: Tx, stores: Collection[str], holder: str, lease_seconds: float
) -> list[tuple[Copy, Claimed | None]]:
    """Leased in the transaction that makes them due, before any worker sees them."""
    taken = []
    for copy in copies.wanted_in(tx, stores, AT_MOST):
        copies.due_now(tx, store=copy.store, digest=copy.digest)
        here = Place(copy.store, copy.key)
        claimed = copy_work.claim_at(
            tx, copy.digest, here, holder=holder, lease_seconds=lease_seconds
        )
        taken.append((copy, claimed))
    return taken


def _ended(tx: Tx, copy: Copy, tried: bool) -> Retried:
    now, names = copies.find(tx, copy.id), tracks.naming(tx, copy.digest)
    name = names[0].id if names else copy.digest.hex
    if now is None:
        return Retried(name, None, "it is not wanted any more")
    if now.state is CopyState.PRESENT:
        return Retried(name, now.locator or now.key, None)
    out = store_rows.outage(store_rows.known(tx).get(copy.store))  # which spends no attempt
    return Retried(name, None, out or (now.last_error if tried else None) or IN_HAND)
