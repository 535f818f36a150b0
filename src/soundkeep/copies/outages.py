"""Tells an outage of a store from a fault of one row, and notices when the store is back.

When an action fails in a way that may be the store's, the store itself is probed, by writing its
marker anew: if that fails too its circuit opens, and no row pays for it. One process at a time
probes a store that is out; one that could only be read is back when it can be written to.
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
    NotWritable,
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

    async def admit(self, name: str, *, after_failure: bool = False) -> bool:
        """Looks at a store now; answers whether it is the right one and works.

        Writing is tried only where it failed: a store that is only read may well refuse it.
        """
        known = (await self._catalog.read(store_rows.known)).get(name)
        refused = known is not None and known.error_code == NotWritable.code
        try:
            store_id = await admit(self._catalog, self._stores[name], self._kinds[name])
            if after_failure or refused:
                await _try_writing(self._stores[name], store_id)
        except StoreError as error:
            await self._open(name, error)
            return False
        if await self._catalog.write(_close, name):
            log.info("store is back", store=name)
        return True

    async def is_out(self, name: str, error: SoundkeepError) -> bool:
        """Whether this error of an action is an outage of its store."""
        return isinstance(error, MAY_BE_THE_STORES) and not await self.admit(
            name, after_failure=True
        )

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


async def _try_writing(store: Store, store_id: str) -> None:
    """Writes the marker that was just read there. Raises `NotWritable`."""
    if not store.caps.marks:
        return
    try:
        await store.write_marker(store_id)
    except StoreError as error:
        raise NotWritable(f"{store.name} can be read and not written to: {error}") from error


def _close(tx: Tx, name: str) -> bool:
    """The circuit closes, and everything that waited for the store is due at once."""
    if not store_rows.close_circuit(tx, name):
        return False
    copies.due_now(tx, store=name)
    sidecars.due_now(tx, store=name)
    copies.due_now_unplayable(tx)
    return True
