"""A house: everything that one process needs, and what is done for all of it at once.

That is the keep, the chores and what stands around them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from soundkeep.catalog.listening import listen
from soundkeep.chores import Frame, Kind
from soundkeep.copies.forgetting import Forgetter
from soundkeep.copies.migrating import Migrator
from soundkeep.copies.orphans import Comparer
from soundkeep.copies.outages import Outages
from soundkeep.copies.passes import replan_all, replan_drained, replan_if_asked
from soundkeep.copies.retrying import Retrier
from soundkeep.copies.scrubbing import Scrubber
from soundkeep.errors import StoreError
from soundkeep.intake import inbox as inboxes
from soundkeep.intake.adopting import Adopter
from soundkeep.keep import Keep
from soundkeep.rendering import Renderer
from soundkeep.settings import Settings
from soundkeep.speech.aside import Aside
from soundkeep.speech.generation import Generation
from soundkeep.speech.plans import Plans
from soundkeep.speech.records import Records
from soundkeep.speech.revoking import Revoker
from soundkeep.speech.speeches import Speeches
from soundkeep.speech.table_import import TableImport
from soundkeep.writing import clear_desks

ASSEMBLING = "assembling"  # a folder of the data directory, of sounds that are being made
LEFTOVERS_AFTER = timedelta(days=1)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class House:
    """What one process works with."""

    keep: Keep
    kinds: tuple[Kind, ...]
    frame: Frame
    outages: Outages
    generation: Generation
    speeches: Speeches
    records: Records
    plans: Plans
    tables: TableImport
    aside: Aside
    revoker: Revoker
    renderer: Renderer
    forgetter: Forgetter
    migrator: Migrator
    scrubber: Scrubber
    comparer: Comparer
    adopter: Adopter
    retrier: Retrier

    def concurrency(self, store: str) -> int:
        """How many actions of one chore may run in a store at once."""
        return concurrency_in(self.keep.settings, store)

    async def tidy(self) -> None:
        """Removes what interrupted uploads, puts and assemblies left behind, and old refused
        takes."""
        keep = self.keep
        desks = keep.settings.data_directory / ASSEMBLING
        await asyncio.to_thread(clear_desks, desks, LEFTOVERS_AFTER)
        await self.aside.sweep()
        await inboxes.remove_abandoned(keep.catalog, keep.stores[keep.settings.inbox_name])
        for name in keep.settings.stores:
            try:
                await keep.stores[name].reap(LEFTOVERS_AFTER)
            except StoreError as error:
                log.info("store not tidied", store=name, error=str(error))

    async def replan(self) -> None:
        """Runs placement over everything if the settings have changed since the last time."""
        await replan_all(self.keep.catalog, self.keep.rules)

    async def replan_moved(self) -> None:
        """Runs placement over what draining a store, or using it again, has changed."""
        await replan_drained(self.keep.catalog, self.keep.rules)
        await replan_if_asked(self.keep.catalog, self.keep.rules)

    async def listen(self, woken: Callable[[], None]) -> None:
        """Calls `woken` whenever another process makes work due (PostgreSQL only)."""
        await listen(self.keep.catalog, woken)


def concurrency_in(settings: Settings, store: str) -> int:
    """How many actions of one chore these settings allow in a store at once."""
    table = settings.stores.get(store)
    return (table and table.concurrency) or settings.worker.concurrency
