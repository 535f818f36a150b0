"""Tells an outage of a store from a fault of one row, and notices when the store is back.

When an action fails in a way that may be the store's, the store itself is probed: if that fails
too its circuit opens, and no row pays for it. One process at a time probes a store that is out.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from sqlalchemy import Table

from soundkeep.catalog import claims, copies, sidecars
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.claims import Lease
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.copies.marking import admit
from soundkeep.errors import (
    Misconfigured,
    PermissionDenied,
    Retryable,
    SoundkeepError,
    StoreError,
    Throttled,
)
from soundkeep.stores.interface import Store

log = structlog.get_logger()

MAY_BE_THE_STORES = (Retryable, Misconfigured, PermissionDenied)


class Outages:
    """Opens and closes the circuits of all stores."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        kinds: Mapping[str, str],
        probe_seconds: float,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._kinds = kinds
        self._probe_seconds = probe_seconds

    async def admit(self, name: str) -> bool:
        """Looks at a store now; answers whether it is the right one and works."""
        try:
            await admit(self._catalog, self._stores[name], self._kinds[name])
        except StoreError as error:
            await self._open(name, error)
            return False
        if await self._catalog.write(_close, name):
            log.info("store is back", store=name)
        return True

    async def is_out(self, name: str, error: SoundkeepError) -> bool:
        """Whether this error of an action is an outage of its store."""
        return isinstance(error, MAY_BE_THE_STORES) and not await self.admit(name)

    async def write_down(
        self, table: Table, lease: Lease, store: str, error: SoundkeepError
    ) -> None:
        """Notes how an action on a leased row failed: the row rests on the retry curve, but an
        outage of its store costs it nothing. Raises `LeaseLost`."""
        if await self.is_out(store, error):
            await self._catalog.write(claims.release, table, lease)
            return
        retry_after = error.retry_after if isinstance(error, Throttled) else None
        why = f"{error.code}: {error}"
        await self._catalog.write(claims.fail, table, lease, why, retry_after)

    async def probe_due(self) -> None:
        """Probes every store that is out, if it is this process's turn."""
        for name in self._stores:
            if await self._catalog.write(store_rows.claim_probe, name, self._probe_seconds):
                await self.admit(name)

    async def _open(self, name: str, error: StoreError) -> None:
        opened = await self._catalog.write(
            store_rows.open_circuit, name, error, self._probe_seconds
        )
        if opened:
            log.warning("store is out", store=name, code=error.code, error=str(error))


def _close(tx: Tx, name: str) -> bool:
    """The circuit closes, and everything that waited for the store is due at once."""
    if not store_rows.close_circuit(tx, name):
        return False
    copies.due_now(tx, store=name)
    sidecars.due_now(tx, store=name)
    copies.due_now_unplayable(tx)
    return True
