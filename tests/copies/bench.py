"""A workbench for chores: real stores that can be broken, a real catalog, and the real frame."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sqlalchemy import update

from reading.stage import PATIENT, Stage
from reading.stage import opened as opened_stage
from soundkeep.catalog import copies, copy_work
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copy_law import Law
from soundkeep.catalog.copy_work import Claimed
from soundkeep.catalog.schema import copies as table
from soundkeep.chores import Frame, kinds
from soundkeep.copies.copying import Copier
from soundkeep.copies.dropping import Dropper, InboxManners
from soundkeep.copies.outages import Outages
from soundkeep.copies.placement import DEFAULT_LAYOUT, Layout, Rules, StoreRule
from soundkeep.copies.sidecars import SidecarKeeper
from soundkeep.model import Blob, Chore, Copy
from soundkeep.reading.reader import Reader
from soundkeep.stores.interface import Store
from soundkeep.stores.memory import MemoryStore
from soundkeep.testing.faulty import FaultyStore

INBOX = "inbox@host"
DAY = 86400.0
LEASE_SECONDS = 60.0
MANNERS = InboxManners(linger_seconds=3600, sweep_seconds=300)
RULES = Rules(
    ("disk", "backup"),
    tuple(StoreRule(name, Layout(DEFAULT_LAYOUT)) for name in ("disk", "backup")),
)


@dataclass
class Bench:
    """`disk` keeps files, `backup` rows, `one` and `two` memory; so does the inbox."""

    stage: Stage
    reader: Reader
    copier: Copier
    dropper: Dropper
    keeper: SidecarKeeper
    frame: Frame

    async def claim(
        self, chore: Chore, store: str, *, lease_seconds: float = LEASE_SECONDS
    ) -> Claimed:
        """Leases the one row of that chore that is due."""
        [claimed] = await self.stage.catalog.write(
            copy_work.claim, chore, store, holder="host/1/1", limit=2, lease_seconds=lease_seconds
        )
        return claimed

    async def work(self, chore: Chore, store: str) -> bool:
        """Does what is due of one chore in one store, as the worker does; whether it went well."""
        return await self.carry_out(chore, store, await self.claim(chore, store))

    async def carry_out(self, chore: Chore, store: str, claimed: Claimed) -> bool:
        every = kinds(self.copier, self.dropper, self.keeper)
        kind = next(kind for kind in every if kind.chore is chore)
        return await self.frame.carry_out(kind, self.stage.stores[store], claimed)

    async def work_again(self, chore: Chore, store: str) -> bool:
        """As `work`, of a row that rests after a failure."""
        await self.stage.catalog.write(copies.due_now)
        return await self.work(chore, store)

    async def copy(self, blob: Blob, store: str) -> Copy:
        """The row of a blob's copy in a store."""
        found = await self.stage.catalog.read(copies.of_blob, blob.digest)
        return next(copy for copy in found if copy.store == store)

    async def change(self, blob: Blob, store: str, **values: object) -> None:
        """Writes into a copy's row what only time or a fault would."""
        row = update(table).where(table.c.digest == blob.digest.raw, table.c.store == store)
        await self.stage.catalog.write(lambda tx: tx.run(row.values(**values)))

    async def bytes_in(self, store: str, blob: Blob) -> bytes:
        """What lies in the store itself, past every fault that was set."""
        pieces = self.stage.stores[store].inner.open(str(self.stage.key(blob)))
        return b"".join([piece async for piece in pieces])


class Veiled:
    """A store of which nobody sees that it keeps files: its faults cannot be gone around."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self._store, name)


@asynccontextmanager
async def opened(folder: Path, rules: Rules = RULES) -> AsyncIterator[Bench]:
    """A bench over empty stores that the catalog knows; the law asks for one other copy."""
    async with opened_stage(folder) as stage:
        stage.stores[INBOX] = FaultyStore(MemoryStore(INBOX))
        stores = dict[str, Store](stage.stores)
        for name, store in stores.items():
            known = await stage.catalog.write(store_rows.ensure, name, "test")
            await store.write_marker(known.store_id)
            await stage.catalog.write(store_rows.note_marked, name)
        veiled = {name: cast(Store, Veiled(store)) for name, store in stores.items()}
        reader = Reader(stage.catalog, veiled, PATIENT, list(stores))
        copier = Copier(stage.catalog, reader)
        law = Law(frozenset(stores) - {INBOX}, min_copies=1, proof_age=DAY)
        dropper = Dropper(stage.catalog, copier, stores, rules, law, MANNERS)
        outages = Outages(stage.catalog, stores, dict.fromkeys(stores, "test"), probe_seconds=60)
        try:
            keeper = SidecarKeeper(stage.catalog, {})
            frame = Frame(stage.catalog, outages, LEASE_SECONDS)
            yield Bench(stage, reader, copier, dropper, keeper, frame)
        finally:
            await reader.close()
