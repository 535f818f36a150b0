"""The loop over the ledger: claims what is due, carries it out, and keeps house now and then.

Any number of workers may run, in one process or on many hosts; the ledger keeps them apart. A
worker is woken by what its own process commits, by NOTIFY on PostgreSQL, and by a poll as the
floor under both.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from soundkeep.build.house import House
from soundkeep.catalog import claims, copies, coverage
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.claims import Target
from soundkeep.catalog.database import Tx
from soundkeep.catalog.schema import copies as copies_table
from soundkeep.chores import Kind, Leased
from soundkeep.errors import SoundkeepError
from soundkeep.model import Chore

log = structlog.get_logger()

Pair = tuple[Chore, str]

STOP_SECONDS = 5.0  # given to what runs when `settled` ends
SETTLE_LOOK_SECONDS = 0.02  # between looks whether anything is left to do
REPLAN_SECONDS = 5.0  # between looks at what is being drained
GATHER_SECONDS = 0.01  # after a wake-up: what comes in a burst is looked for once


class Worker:
    """Works off the ledger of one house until it is stopped. One that is `resident` also speaks
    plans and scrubs, which never ends."""

    def __init__(self, house: House, *, resident: bool = True) -> None:
        self._house = house
        self._resident = resident
        self._catalog = house.keep.catalog
        self._settings = house.keep.settings.worker
        self._woken = asyncio.Event()
        self._running: dict[Pair, set[asyncio.Task[None]]] = defaultdict(set)
        self._is_claiming = False
        self._begun = 0  # rows that were ever claimed
        self._allowance: dict[str, int] = {}  # a store that was out begins again with one action
        self._kinds = {kind.chore: kind for kind in house.kinds}
        self._pairs = [
            (kind.chore, store)
            for kind in house.kinds
            for store in house.keep.stores
            if kind.table is copies_table or not copies.is_inbox(store)
        ]
        self._placed = False  # whether settings and drained stores were looked at once
        self._out: frozenset[str] = frozenset()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        """Begins; the tasks are ended by `stop`."""
        self._catalog.on_commit.append(self._woken.set)
        keep = self._house.keep
        self._claiming = asyncio.create_task(self._claim_for_ever())
        self._tasks = [
            asyncio.create_task(self._every(self._settings.probe_seconds / 2, self._probe)),
            asyncio.create_task(self._count_for_ever()),
            asyncio.create_task(self._every(keep.settings.inbox.sweep_seconds, self._house.tidy)),
            asyncio.create_task(self._replan_for_ever()),
            asyncio.create_task(self._house.renderer.work()),
            asyncio.create_task(self._house.listen(self._woken.set)),
        ]
        if self._resident:
            self._tasks.append(asyncio.create_task(self._house.plans.work()))
            self._tasks.append(asyncio.create_task(self._once(self._house.scrubber.work)))

    def pause(self) -> None:
        """Claims nothing more."""
        self._stopping = True
        self._woken.set()

    async def stop(self, within_seconds: float) -> None:
        """Claims nothing more, lets what runs finish, and gives back the leases of the rest."""
        self.pause()
        await self._claiming  # never cancelled: it would forget what it has just claimed
        await _ended(self._tasks)
        running = [task for tasks in self._running.values() for task in tasks]
        if running:
            _, unfinished = await asyncio.wait(running, timeout=within_seconds)
            await _ended(list(unfinished))

    async def settle(self, within_seconds: float) -> bool:
        """Waits until nothing is due or running; answers whether that came about in time."""
        deadline = time.monotonic() + within_seconds
        while time.monotonic() < deadline:
            if not await self._is_busy():
                return True
            await asyncio.sleep(SETTLE_LOOK_SECONDS)
        return False

    async def _is_busy(self) -> bool:
        begun = self._begun
        if self._is_at_it():
            return True
        waits, _ = await self._catalog.read(_waits, self._targets(self._pairs))
        if self._begun != begun or self._is_at_it():
            return True  # what was claimed while we read does not look due
        return any(
            seconds == 0 for (chore, store), seconds in waits.items() if store not in self._out
        )

    def _is_at_it(self) -> bool:
        if not self._placed or self._is_claiming:
            return True
        return any(self._running.values()) or self._house.plans.busy

    async def _claim_for_ever(self) -> None:
        while not self._stopping:
            self._woken.clear()
            try:
                wait = await self._claim_due()
            except SoundkeepError as error:
                log.warning("the ledger cannot be read", error=str(error))
                wait = self._settings.poll_seconds
            except Exception:  # a fault of ours must be seen, and must not end the work
                log.exception("claiming failed")
                wait = self._settings.poll_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait, self._settings.poll_seconds)):
                    await self._woken.wait()
                    await asyncio.sleep(GATHER_SECONDS)

    async def _claim_due(self) -> float:
        """Starts what is due and has a free place; answers how long nothing more will be."""
        free = {pair: self._free(pair) for pair in self._pairs}
        open_pairs = [pair for pair, places in free.items() if places > 0]
        waits, self._out = await self._catalog.read(_waits, self._targets(open_pairs))
        for name in self._out:
            self._allowance[name] = 1
        for pair, seconds in waits.items():
            if seconds == 0 and pair[1] not in self._out:
                await self._claim(pair, free[pair])
        later = [seconds for seconds in waits.values() if seconds > 0]
        return min(later, default=self._settings.poll_seconds)

    def _targets(self, pairs: list[Pair]) -> list[Target]:
        return [(self._kinds[chore].table, chore, store) for chore, store in pairs]

    def _free(self, pair: Pair) -> int:
        chore, store = pair
        limit = self._house.concurrency(store) * self._kinds[chore].share
        return min(limit, self._allowance.get(store, limit)) - len(self._running[pair])

    async def _claim(self, pair: Pair, limit: int) -> None:
        chore, store = pair
        self._is_claiming = True
        try:
            claimed = await self._catalog.write(
                self._kinds[chore].claim,
                chore,
                store,
                holder=self._house.keep.holder,
                limit=limit,
                lease_seconds=self._settings.lease_seconds,
            )
        finally:
            self._is_claiming = False
        self._begun += len(claimed)
        for one in claimed:
            task = asyncio.create_task(self._carry_out(self._kinds[chore], store, one))
            self._running[pair].add(task)
            task.add_done_callback(lambda done: self._ended(pair, done))

    async def _carry_out(self, kind: Kind, store: str, claimed: Leased) -> None:
        done = await self._house.frame.carry_out(kind, self._house.keep.stores[store], claimed)
        if done and store in self._allowance:
            self._allowance[store] += 1
            if self._allowance[store] >= self._house.concurrency(store):
                del self._allowance[store]

    def _ended(self, pair: Pair, task: asyncio.Task[None]) -> None:
        self._running[pair].discard(task)
        self._woken.set()
        if not task.cancelled() and (error := task.exception()):
            log.error("a chore's frame failed", chore=pair[0], store=pair[1], error=str(error))

    async def _probe(self) -> None:
        if await self._catalog.read(store_rows.out):
            await self._house.outages.probe_due()

    async def _count_for_ever(self) -> None:
        """Counts every few seconds, but never spends more than a twentieth of the time on it."""
        while True:
            began = time.monotonic()
            await self._once(self._count)
            spent = time.monotonic() - began
            await asyncio.sleep(max(self._settings.coverage_seconds, 20 * spent))

    async def _count(self) -> None:
        counted = await self._catalog.read(coverage.count)
        await self._catalog.write(coverage.keep, counted)

    async def _replan_for_ever(self) -> None:
        await self._once(self._house.replan)
        await self._once(self._house.replan_moved)
        self._placed = True
        while True:
            await asyncio.sleep(REPLAN_SECONDS)
            await self._once(self._house.replan_moved)

    async def _every(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._once(action)
            await asyncio.sleep(seconds)

    async def _once(self, action: Callable[[], Awaitable[object]]) -> None:
        """Housekeeping that fails is said and tried again next time."""
        try:
            await action()
        except SoundkeepError as error:
            log.warning("housekeeping failed", error=str(error))
        except Exception:  # a fault of ours must be seen, and must not end the housekeeping
            log.exception("housekeeping failed")


async def settled(house: House, within_seconds: float) -> bool:
    """Does what is due in a house without a worker; answers whether nothing is left.

    A worker runs only now: before, every commit would have woken it for nothing. Plans are spoken
    by `serve` and `work`: no other verb spends money by the way.
    """
    await house.keep.copying()
    worker = Worker(house, resident=False)
    worker.start()
    try:
        return await worker.settle(within_seconds)
    finally:
        await worker.stop(STOP_SECONDS)


def _waits(tx: Tx, targets: list[Target]) -> tuple[dict[Pair, float], frozenset[str]]:
    waits = claims.waits(tx, targets)
    pairs = {(Chore(chore), store): wait for (_, chore, store), wait in waits.items()}
    return pairs, store_rows.out(tx)


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
