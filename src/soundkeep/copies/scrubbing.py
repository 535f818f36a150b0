"""Scrubs stores: looks at every copy again, oldest proof first, and doubts what is wrong.

In a store that is scrubbed by reading each copy is read whole, which proves it anew; where reading
costs, a look at its size and checksum has to do. What is wrong becomes `doubted`, and the ledger
writes it anew from good chunks. A store that cannot be asked says nothing about its copies.

By itself it reads one copy at a time, under a budget of bytes a day; `now` reads all.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

import structlog

from soundkeep.catalog import copies, copy_work, scrubs
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.scrubs import Due
from soundkeep.copies.copying import Copier
from soundkeep.copies.outages import Outages
from soundkeep.errors import SoundkeepError, StoreError
from soundkeep.model import Copy
from soundkeep.stores.interface import Store, lies_at

PAGE_COPIES = 1000
TURN_SECONDS = 300.0  # longer than a copy takes to be read
IDLE_SECONDS = 60.0
CHECKSUM = "checksum of the store"

log = structlog.get_logger()


class Mode(StrEnum):
    """How a store is scrubbed."""

    READ = "read"
    PRESENCE = "presence"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Manners:
    """How often each copy is looked at, and how much is read for it."""

    modes: Mapping[str, Mode]
    period_seconds: float
    bytes_per_day: float | None


@dataclass(slots=True)
class Scrubbed:
    """What a scrub of one store did."""

    store: str
    mode: Mode
    copies: int = 0
    bytes: int = 0
    found: int = 0
    unread: int = 0  # the store could not be asked about these
    out: bool = False  # the store is out; the rest was not looked at


class Scrubber:
    """Looks at copies. `concurrency` says how many at once in a store when it is to be now."""

    def __init__(
        self,
        catalog: Catalog,
        copier: Copier,
        stores: Mapping[str, Store],
        outages: Outages,
        manners: Manners,
        concurrency: Callable[[str], int],
    ) -> None:
        self._catalog = catalog
        self._copier = copier
        self._stores = stores
        self._outages = outages
        self._manners = manners
        self._concurrency = concurrency
        self._token = secrets.token_hex(8)
        self._last = dict[str, Due]()  # by store: what cannot be asked about holds up no other

    async def work(self) -> None:
        """Scrubs what is due, for ever."""
        while True:
            try:
                done = [await self._turn(name) for name in self._manners.modes]
            except SoundkeepError as error:
                log.warning("scrubbing failed", error=str(error))
                done = []
            if not any(done):
                await asyncio.sleep(IDLE_SECONDS)

    async def now(
        self, names: Collection[str] | None = None, heard: Callable[[int], object] = lambda _: None
    ) -> list[Scrubbed]:
        """Looks at every copy of these stores (all that are to be scrubbed), whatever the budget.
        `heard` is told of each one's bytes. A store that is named is read even if it is off."""
        began = await self._catalog.read(Tx.now)
        modes = self._manners.modes
        chosen = [name for name in modes if modes[name] is not Mode.OFF]
        passes = (self._pass(name, began, heard) for name in names or chosen)
        return await asyncio.gather(*passes)

    async def _turn(self, name: str) -> bool:
        """Looks at a page of what is due in a store; answers whether anything was."""
        mode = self._manners.modes[name]
        if mode is Mode.OFF or not await self._catalog.write(_begin, name, self._token):
            return False
        before = await self._catalog.read(Tx.now) - self._manners.period_seconds
        page = await self._oldest(name, mode, before, self._last.pop(name, None))
        scrubbed = Scrubbed(name, mode)
        for due in page:
            if scrubbed.out or not await self._may_go_on(name):
                break
            await self._look(due, scrubbed)
            self._last[name] = due
        await self._catalog.write(_end, name, self._token)
        if scrubbed.found:
            log.warning("copies were wrong", store=name, found=scrubbed.found)
        return bool(page) and not scrubbed.out

    async def _may_go_on(self, name: str) -> bool:
        """Waits for the budget; answers whether it is still this process's turn."""
        budget = self._manners.bytes_per_day
        while wait := await self._catalog.read(scrubs.seconds_to_wait, budget):
            await asyncio.sleep(min(wait, IDLE_SECONDS))
            await self._catalog.write(scrubs.take_turn, name, self._token, TURN_SECONDS)
        return await self._catalog.write(scrubs.take_turn, name, self._token, TURN_SECONDS)

    async def _pass(self, name: str, began: float, heard: Callable[[int], object]) -> Scrubbed:
        mode = self._manners.modes[name]
        scrubbed = Scrubbed(name, Mode.READ if mode is Mode.OFF else mode)
        await self._catalog.write(scrubs.take_turn, name, self._token, TURN_SECONDS)
        last: Due | None = None
        while page := await self._oldest(name, scrubbed.mode, began, last):
            await self._look_at_all(page, scrubbed, heard)
            last = page[-1]
            if scrubbed.out:
                break
        await self._catalog.write(_end, name, self._token)
        return scrubbed

    async def _look_at_all(
        self, page: list[Due], scrubbed: Scrubbed, heard: Callable[[int], object]
    ) -> None:
        """Several at once."""
        free = asyncio.Semaphore(self._concurrency(scrubbed.store))

        async def one(due: Due) -> None:
            async with free:
                if not scrubbed.out:
                    await self._look(due, scrubbed)
                heard(due.size_bytes)

        await asyncio.gather(*map(one, page))

    async def _oldest(self, name: str, mode: Mode, before: float, after: Due | None) -> list[Due]:
        presence = mode is Mode.PRESENCE
        return await self._catalog.read(
            scrubs.oldest, name, before, PAGE_COPIES, presence=presence, after=after
        )

    async def _look(self, due: Due, scrubbed: Scrubbed) -> None:
        """Looks at one copy and notes what it is like."""
        copy, size_bytes = due.copy, due.size_bytes
        store = self._stores[copy.store]
        reads = scrubbed.mode is Mode.READ
        try:
            if reads:
                why = await self._copier.look(store, copy)
            else:
                why = await self._stat(store, copy, size_bytes)
        except StoreError as error:
            scrubbed.unread += 1
            scrubbed.out |= await self._outages.is_out(copy.store, error)
            return
        read = size_bytes if reads else 0
        found = await self._catalog.write(_note, copy, read, why, self._manners.bytes_per_day)
        scrubbed.copies += 1
        scrubbed.bytes += read
        scrubbed.found += found

    async def _stat(self, store: Store, copy: Copy, size_bytes: int) -> str | None:
        """What a look from outside tells. A checksum that the store computed is a proof."""
        stat = await store.stat(lies_at(store, copy))
        if stat is None:
            return "it is not there"
        if stat.size_bytes != size_bytes:
            return f"it has {stat.size_bytes} bytes instead of {size_bytes}"
        if stat.sha256 is not None and stat.sha256 != copy.digest:
            return "the store computes another SHA-256"
        if stat.sha256 is not None:
            await self._catalog.write(copy_work.prove_again, copy, CHECKSUM)
        return None


def _begin(tx: Tx, name: str, token: str) -> bool:
    """Whether there is anything to be asked, and nobody else is at it."""
    return not store_rows.is_out(tx, name) and scrubs.take_turn(tx, name, token, TURN_SECONDS)


def _end(tx: Tx, name: str, token: str) -> None:
    scrubs.note_pass(tx, name)
    scrubs.end_turn(tx, name, token)


def _note(tx: Tx, copy: Copy, read: int, why: str | None, bytes_per_day: float | None) -> bool:
    """Answers whether the copy is wrong. One that was let go meanwhile only went."""
    scrubs.note_read(tx, copy.store, read)
    if bytes_per_day and read:
        scrubs.pay(tx, read, bytes_per_day)
    if why is None:
        scrubs.note_seen(tx, copy)
        return False
    if not copies.doubt(tx, copy.id, why):
        return False
    scrubs.note_find(tx, copy, why)
    return True
