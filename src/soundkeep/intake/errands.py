"""Runs what other programs asked for: the chores `adopt` and `sync`.

What is wrong with the errand itself is written down on it, once; everything else goes on the retry
curve like any chore.
"""

from __future__ import annotations

from collections.abc import Mapping

from soundkeep.catalog import errands
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.errands import Claimed
from soundkeep.copies import syncing
from soundkeep.copies.placement import Layout, Rules
from soundkeep.copies.syncing import Order
from soundkeep.errors import BadInput, Conflict, NotFound
from soundkeep.intake.adopting import Adopter, Adoption
from soundkeep.model import Operation
from soundkeep.stores.interface import Store


class Errands:
    """Carries out errands on one store each."""

    def __init__(
        self, catalog: Catalog, adopter: Adopter, rules: Rules, sidecars: Mapping[str, Layout]
    ) -> None:
        """`sidecars` by store: where the JSON of a track lies that is adopted there."""
        self._catalog = catalog
        self._adopter = adopter
        self._rules = rules
        self._sidecars = sidecars

    async def adopt(self, store: Store, claimed: Claimed) -> None:
        """Makes an object a track. One that is not there yet is looked for again."""
        try:
            if claimed.errand.key is None:
                raise BadInput("an errand to adopt names a key")
            found = await store.stat(claimed.errand.key)
            if found is None:
                raise NotFound(f"there is no object {claimed.errand.key} yet")
            what = Adoption(store.name, sidecars=self._sidecars.get(store.name))
            await self._adopter.take(what, found)
        except (BadInput, Conflict) as error:
            await self._catalog.write(errands.refuse, claimed, f"{error.code}: {error}")
        else:
            await self._catalog.write(errands.done, claimed)

    async def sync(self, store: Store, claimed: Claimed) -> None:
        """Asks for a track in the store, or withdraws it; the ledger does the rest."""
        errand = claimed.errand
        try:
            if errand.track_id is None or errand.operation not in set(Operation):
                raise BadInput("an errand to sync names a track_id, and upload or delete")
            order = Order(
                Operation(errand.operation), syncing.stores_named(self._rules, store.name)
            )
            await self._catalog.write(syncing.demand, errand.track_id, order, self._rules)
        except (BadInput, Conflict) as error:
            await self._catalog.write(errands.refuse, claimed, f"{error.code}: {error}")
        else:
            await self._catalog.write(errands.done, claimed)
