"""Moves tracks from one store to another, while everything goes on playing.

Each track is asked to be in the new store, as `sync` would (`syncing.ask`), so placement never
undoes it; in the same transaction its copy is leased to us, so that our limits hold for it. What
shall leave the old store is withdrawn there once its new copy is proven, and goes by the copy law
like any other. All of it is rows: whoever dies in the middle runs it again, and two that move the
same tracks in opposite directions leave each in one of the two stores.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from soundkeep.catalog import copies, moving
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copy_work import Claimed
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.moving import Selection
from soundkeep.copies import routes
from soundkeep.copies.copying import read_back
from soundkeep.copies.placement import Rules
from soundkeep.copies.routes import Line, Outcome, Route
from soundkeep.errors import Conflict, NoSuchStore, StoreDrains, StoreError
from soundkeep.model import Track
from soundkeep.stores.interface import Store
from soundkeep.stores.wrappers import Limited, Pace, Paced

PAGE_TRACKS = 200
MOST_REFUSALS = 100  # named one by one
SAMPLES = 4  # copies read for an estimate
SAMPLE_SECONDS = 2.0
MOST_LATER = 10_000  # tracks that are tried again in the same run
TASKS_EACH = 4  # tracks under way for each put: the others are in the ledger meanwhile
MOST_TOGETHER = 8  # tracks that are asked for in one transaction
OTHERS_SECONDS = 30.0  # how long what others copy is waited for
LOOK_SECONDS = 0.2

CarryOut = Callable[[Store, Claimed], Awaitable[bool]]
Heard = Callable[[int], object]  # is told how many bytes are done with


@dataclass(frozen=True, slots=True)
class Move:
    """What shall be moved, and how."""

    source: str
    target: str
    which: Selection = Selection()  # noqa: RUF009 - a frozen value
    delete_after: bool = False
    batch: int = 1000  # tracks between two pauses
    pause_seconds: float = 0.0
    bytes_per_second: float | None = None


@dataclass(slots=True)
class Moved:
    """What a migration has done, or would do."""

    tracks: int = 0
    bytes: int = 0
    there: int = 0
    due: int = 0
    due_bytes: int = 0
    copied: int = 0
    copied_bytes: int = 0
    waiting: int = 0
    withdrawn: int = 0
    refused: int = 0
    refusals: list[tuple[str, Conflict]] = field(default_factory=list)
    nameless: int = 0  # copies of the source that are speech, which lies where `keep` says
    estimate_seconds: float | None = None
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        return not self.waiting and not self.refused


class Migrator:
    """Moves tracks between stores. `carry_out` does one leased copy, and answers whether it was
    done; `concurrency` says how many at once in a store."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        rules: Rules,
        *,
        carry_out: CarryOut,
        concurrency: Callable[[str], int],
        holder: str,
        lease_seconds: float,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._rules = rules
        self._carry_out = carry_out
        self._concurrency = concurrency
        self._holder = holder
        self._lease_seconds = lease_seconds

    async def look(self, move: Move) -> Moved:
        """What would be done, and about how long it would take. Raises `NoSuchStore`, `Conflict`
        for what cannot be at all."""
        route = await self._route(move)
        looked = Moved(nameless=await self._catalog.read(moving.nameless_in, move.source))
        samples: list[Track] = []
        async for page in self._pages(move, route):
            for track, outcome, refusal in page:
                _count(looked, track, outcome, refusal)
                if outcome is Outcome.DUE and len(samples) < SAMPLES:
                    samples.append(track)
        looked.estimate_seconds = await self._estimate(move, looked, samples)
        return looked

    async def run(self, move: Move, heard: Heard = lambda _: None) -> Moved:
        """Copies what is due, and withdraws from the old store what the new one has if that is
        asked for. Raises as `look` does."""
        route = await self._route(move)
        began = time.monotonic()
        running = _Running(self, move, route, heard)
        try:
            async for page in self._pages(move, route):
                await running.take(page)
            await running.finish()
        except BaseException:
            await running.abandon()
            raise
        running.moved.nameless = await self._catalog.read(moving.nameless_in, move.source)
        running.moved.seconds = time.monotonic() - began
        return running.moved

    async def _route(self, move: Move) -> Route:
        known = {rule.name: rule for rule in self._rules.stores}
        for name in (move.source, move.target):
            if name not in known:
                raise NoSuchStore(f"there is no store {name} in the settings")
        if move.source == move.target:
            raise Conflict(f"{move.source} is both where from and where to")
        if move.target in await self._catalog.read(store_rows.draining):
            raise StoreDrains(f"{move.target} is being drained: nothing is placed there")
        return Route(known[move.source], known[move.target], self._rules)

    async def _pages(self, move: Move, route: Route) -> AsyncIterator[list[Line]]:
        after: int | None = 0
        while after is not None:
            page, after = await self._catalog.read(
                routes.look, route, move.which, after, PAGE_TRACKS
            )
            yield page

    async def _estimate(self, move: Move, looked: Moved, samples: list[Track]) -> float | None:
        """By reading a few copies of the source, and by the limits that were set."""
        if not looked.due:
            return 0.0
        rate = await self._sampled_rate(move.source, samples)
        if move.bytes_per_second is not None:
            rate = min(rate or move.bytes_per_second, move.bytes_per_second)
        if not rate:
            return None
        return looked.due_bytes / rate + (looked.due - 1) // move.batch * move.pause_seconds

    async def _sampled_rate(self, source: str, samples: list[Track]) -> float | None:
        """Bytes per second, as many at once as there will be; None if nothing could be read."""
        began, read = time.monotonic(), 0
        for track in samples:
            held = await self._catalog.read(copies.of_blob, track.blob.digest)
            here = next((c for c in held if c.store == source and c.locator), None)
            try:
                async with asyncio.timeout(SAMPLE_SECONDS):
                    if here is not None and here.locator is not None:
                        await read_back(self._stores[source], here.locator, track.blob)
                        read += track.blob.size_bytes
            except (StoreError, TimeoutError):
                continue
            if time.monotonic() - began > SAMPLE_SECONDS:
                break
        return read / (time.monotonic() - began) * self._concurrency(source) if read else None

    async def _ask(self, tracks: Collection[Track], route: Route) -> list[Claimed | Outcome]:
        return await self._catalog.write(
            routes.ask, tracks, route, holder=self._holder, lease_seconds=self._lease_seconds
        )


class _Running:
    """One migration under way: so many tracks at once, with a pause after each batch."""

    def __init__(self, migrator: Migrator, move: Move, route: Route, heard: Heard) -> None:
        self.moved = Moved()
        self._migrator = migrator
        self._move = move
        self._route = route
        self._heard = heard
        at_once = migrator._concurrency(move.target)
        self._target = Limited(_paced(migrator._stores[move.target], move), at_once)
        self._free = asyncio.Semaphore(at_once * TASKS_EACH)
        self._together = min(at_once, MOST_TOGETHER)
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun = 0
        self._failed: asyncio.Task[None] | None = None
        self._later: list[Track] = []  # others are at it, or it failed
        self._much_later = 0  # too many to be remembered: they are for the next run

    async def take(self, page: list[Line]) -> None:
        """Begins what is not refused of a page, as places become free."""
        for track, outcome, refusal in page:
            _count(self.moved, track, outcome, refusal)
            if outcome is Outcome.REFUSED:
                self._heard(track.blob.size_bytes)
        await self._begin(track for track, outcome, _ in page if outcome is not Outcome.REFUSED)

    async def finish(self) -> None:
        """Waits for what runs, and for a while for what others do."""
        await self._ended()
        deadline = time.monotonic() + OTHERS_SECONDS
        while self._later and time.monotonic() < deadline:
            again, self._later = self._later, []
            await self._begin(again)
            await self._ended()
            if self._later:
                await asyncio.sleep(LOOK_SECONDS)
        self.moved.waiting = len(self._later) + self._much_later

    async def abandon(self) -> None:
        """Ends what runs. What was leased is due again by itself."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _begin(self, tracks: Iterable[Track]) -> None:
        """Asks for some at a time, and leaves them to tasks of their own."""
        left = iter(tracks)
        while some := list(islice(left, self._at_a_time())):
            if self._begun and self._begun % self._move.batch == 0 and self._move.pause_seconds:
                await self._ended()
                await asyncio.sleep(self._move.pause_seconds)
            self._begun += len(some)
            for _ in some:
                await self._free.acquire()
            if self._failed is not None:
                self._failed.result()
            asked = await self._migrator._ask(some, self._route)
            for track, found in zip(some, asked, strict=True):
                task = asyncio.create_task(self._move_one(track, found))
                self._tasks.add(task)
                task.add_done_callback(self._done)
            await asyncio.sleep(0)  # each has begun, so each gives back its lease if it is ended

    def _at_a_time(self) -> int:
        """Up to the next pause."""
        return min(self._together, self._move.batch - self._begun % self._move.batch)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._free.release()
        if task.cancelled() or task.exception() is None:
            self._tasks.discard(task)
        else:
            self._failed = task

    async def _ended(self) -> None:
        """Raises what one of them raised, such as a catalog that is out."""
        while self._tasks:
            for task in (await asyncio.wait(self._tasks))[0]:
                self._tasks.discard(task)
                task.result()

    async def _move_one(self, track: Track, asked: Claimed | Outcome) -> None:
        """Copies one track, unless that is done, and withdraws it from where it was."""
        if isinstance(asked, Claimed):
            if await self._migrator._carry_out(self._target, asked):
                self.moved.copied += 1
                self.moved.copied_bytes += track.blob.size_bytes
                asked = Outcome.THERE
            else:
                asked = Outcome.WAITING
        if asked is Outcome.WAITING:
            if len(self._later) < MOST_LATER:
                self._later.append(track)
            else:
                self._much_later += 1
            return
        if asked is Outcome.THERE and self._move.delete_after:
            withdrawn = await self._migrator._catalog.write(routes.withdraw, track, self._route)
            self.moved.withdrawn += withdrawn
        self._heard(track.blob.size_bytes)


def _paced(store: Store, move: Move) -> Store:
    return Paced(store, Pace(move.bytes_per_second)) if move.bytes_per_second else store


def _count(moved: Moved, track: Track, outcome: Outcome, refusal: Conflict | None) -> None:
    moved.tracks += 1
    moved.bytes += track.blob.size_bytes
    if refusal is not None:
        moved.refused += 1
        moved.refusals += [(track.id, refusal)] if moved.refused <= MOST_REFUSALS else []
    elif outcome is Outcome.THERE:
        moved.there += 1
    else:
        moved.due += 1
        moved.due_bytes += track.blob.size_bytes
