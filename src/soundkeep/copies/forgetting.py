"""Forgets a store that is gone from the settings, or the inbox of a host that is no more.

Its bytes are not touched: nobody reaches them. What goes is what the catalog knows of it, and only
if nothing needs it: a blob that is wanted has enough copies in other stores of the settings. Who
has seen what would be lost may forget the store all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from soundkeep.catalog import (
    blobs,
    copies,
    copy_law,
    facts,
    in_use,
    orphans,
    scrubs,
    sidecars,
    tracks,
)
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.copy_law import Law
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.errors import NoSuchStore, StoreNeeded
from soundkeep.model import Copy, CopyState, Track, Wish

PAGE_COPIES = 200
MOST_NAMED = 100
MOST_PASSES = 5  # while others go on writing there
ALIVE_SECONDS = 60.0  # since a host was last heard of; each process says something far more often


@dataclass(frozen=True, slots=True)
class Needed:
    """A copy that a wanted blob cannot well do without."""

    copy: Copy
    size_bytes: int
    others: int  # stores of the settings that have it besides
    lost: bool  # nobody else has it, no inbox either
    tracks: tuple[Track, ...]


@dataclass(slots=True)
class Held:
    """What the catalog knows of a store. `needed` has the first of those that are."""

    copies: int = 0
    bytes: int = 0
    needed_copies: int = 0
    lost_copies: int = 0
    lost_bytes: int = 0
    needed: list[Needed] = field(default_factory=list)

    def add(self, size_bytes: int, needed: Needed | None) -> None:
        """Counts one copy."""
        self.copies += 1
        self.bytes += size_bytes
        if needed is None:
            return
        self.needed_copies += 1
        if needed.lost:
            self.lost_copies += 1
            self.lost_bytes += size_bytes
        if len(self.needed) < MOST_NAMED:
            self.needed.append(needed)


@dataclass(frozen=True, slots=True)
class Forgetter:
    """Forgets stores. `in_use` are those of the settings, and this host's inbox."""

    catalog: Catalog
    law: Law
    in_use: Collection[str]

    async def look(self, name: str) -> Held:
        """What the store is said to hold, and what of it is needed.

        Raises `NoSuchStore`, and `StoreNeeded` for a store in use.
        """
        await self._check(name)
        held, after = Held(), ""
        while page := await self.catalog.read(_look_page, name, after, self.law):
            for copy, size_bytes, needed in page:
                held.add(size_bytes, needed)
                after = copy.key
        return held

    async def forget(self, name: str, *, needed_too: bool = False) -> None:
        """Forgets the store. Raises as `look` does, and `StoreNeeded` if something turns out to be
        needed, unless `needed_too`. One that was interrupted is called again."""
        await self._check(name)
        for _ in range(MOST_PASSES):
            after: str | None = ""
            while after is not None:
                after = await self.catalog.write(_forget_page, name, after, self.law, needed_too)
            if await self.catalog.write(_forget_store, name):
                return
        raise StoreNeeded(f"{name} is still in use: end the processes whose settings have it")

    async def _check(self, name: str) -> None:
        if name in self.in_use:
            raise StoreNeeded(f"{name} is in use: drain it, and take it out of the settings")
        if name not in await self.catalog.read(store_rows.known):
            raise NoSuchStore(f"the catalog knows no store {name}")
        await self.catalog.read(_refuse_if_at_work, name)


def _refuse_if_at_work(tx: Tx, name: str) -> None:
    """Asked again wherever rows go: a host may have come back meanwhile."""
    seconds = in_use.seconds_since(tx, name)
    if seconds is not None and seconds < ALIVE_SECONDS:
        raise StoreNeeded(
            f"{name} is in use: {seconds:.0f} s ago a server, worker or command of that host "
            f"was at work. Stop it; if it died, try again in {ALIVE_SECONDS:.0f} s"
        )


def _look_page(tx: Tx, name: str, after: str, law: Law) -> list[tuple[Copy, int, Needed | None]]:
    return list(_judged(tx, copies.by_key(tx, name, after, PAGE_COPIES), law))


def _judged(tx: Tx, page: Sequence[Copy], law: Law) -> Iterator[tuple[Copy, int, Needed | None]]:
    """Each copy with its size, and why it is needed if it is."""
    digests = {copy.digest for copy in page}
    everywhere = copies.of_blobs(tx, digests)
    names = tracks.naming_any(tx, digests)
    sizes = blobs.sizes(tx, digests)
    for copy in page:
        size_bytes = sizes.get(copy.digest, 0)  # 0: it went between two looks
        elsewhere = [c for c in everywhere.get(copy.digest, ()) if c.store != copy.store]
        others = len({c.store for c in elsewhere if c.store in law.stores and _counts(c)})
        if others >= law.min_copies or not _holds(copy) or not copy_law.is_named(tx, copy.digest):
            yield copy, size_bytes, None
        else:
            lost = not any(_holds(c) for c in elsewhere)
            named = tuple(names.get(copy.digest, ()))
            yield copy, size_bytes, Needed(copy, size_bytes, others, lost, named)


def _counts(copy: Copy) -> bool:
    return copy.state is CopyState.PRESENT and copy.wish is not Wish.LEAVE


def _holds(copy: Copy) -> bool:
    return copy.state in (CopyState.PRESENT, CopyState.DOUBTED)


def _forget_page(tx: Tx, name: str, after: str, law: Law, needed_too: bool) -> str | None:
    """Forgets some rows; answers where to go on, None at the end. With each blob's row taken
    nobody can let another copy of it go meanwhile."""
    _refuse_if_at_work(tx, name)
    page = copies.by_key(tx, name, after, PAGE_COPIES)
    for digest in sorted({copy.digest for copy in page}):
        blobs.take(tx, digest)
    for copy, _, needed in _judged(tx, page, law):
        if needed is not None and not needed_too:
            raise StoreNeeded(f"{name} has {copy.key}, which is needed")
    copies.forget(tx, page)
    for copy in page:
        tracks.note_forgotten(tx, copy.id)
        blobs.forget_if_gone(tx, copy.digest)
    return page[-1].key if page else None


def _forget_store(tx: Tx, name: str) -> bool:
    """What is left of the store, unless somebody whose settings still have it came in between."""
    _refuse_if_at_work(tx, name)
    if copies.by_key(tx, name, "", 1):
        return False
    tracks.note_sidecars_forgotten(tx, sidecars.forget_store(tx, name))
    scrubs.forget(tx, name)
    orphans.forget_store(tx, name)
    facts.forget_all(tx, copies.waiting_in(name))
    in_use.forget_all(tx, name)
    store_rows.forget(tx, name)
    return True
