"""Compares what a store holds with what the ledger says: objects no row knows, and rows no object
backs.

Nothing is changed by looking, but that the age of an orphan is remembered. Only on request are
orphans removed that were seen long enough ago, and rows doubted whose objects are missing, so that
the ledger writes them anew. What a row holds in whatever state, what lies under `.soundkeep/`, and
what is young is never touched; and nothing is while a sidecar lies there that nobody has read
(`unread`). However much is found, no more is held in memory than is named.

Who removes an orphan may hit what somebody has just put there under the same key. So whatever is
recorded there afterwards is looked at again; if the process dies in between, the next look does it.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from soundkeep.catalog import copies, sidecar_work, sidecars
from soundkeep.catalog import orphans as orphan_rows
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.orphans import Orphan
from soundkeep.copies.placement import Rules
from soundkeep.copies.unread import unread_among
from soundkeep.errors import Unsupported
from soundkeep.model import Copy
from soundkeep.stores.interface import RESERVED_PREFIX, Stat, Store, lies_at

PAGE_OBJECTS = 500
NAMED = 1000  # of each kind of finding; all are counted
YOUNGEST_SECONDS = 3600.0  # nothing younger is ever removed, whoever asks
GONE = "an orphan at this key was removed, or went"
MISSING = "no object is there"

Item = TypeVar("Item")


@dataclass(slots=True)
class Found(Generic[Item]):
    """How many there are, and the first of them."""

    count: int = 0
    named: list[Item] = field(default_factory=list)

    def add(self, item: Item) -> None:
        self.count += 1
        if len(self.named) < NAMED:
            self.named.append(item)


@dataclass(slots=True)
class Compared:
    """What one store has too much and too little."""

    store: str
    objects: int = 0
    orphans: Found[Orphan] = field(default_factory=Found[Orphan])
    orphan_bytes: int = 0
    missing: Found[Copy] = field(default_factory=Found[Copy])
    missing_ids: array[int] = field(default_factory=lambda: array("q"), repr=False)
    unread: Found[str] = field(default_factory=Found[str])  # sidecars
    removed: Found[Orphan] = field(default_factory=Found[Orphan])
    removed_bytes: int = 0
    doubted: int = 0
    now: float = 0.0  # the catalog's clock, for ages


class Comparer:
    """Looks for orphans, and removes them when told to."""

    def __init__(self, catalog: Catalog, stores: Mapping[str, Store], rules: Rules) -> None:
        self._catalog = catalog
        self._stores = stores
        self._rules = {rule.name: rule for rule in rules.stores}

    async def compare(self, name: str) -> Compared:
        """Lists the store. Raises `StoreError`, and `Unsupported` if it cannot be listed."""
        store = self._stores[name]
        if not store.caps.lists:
            raise Unsupported(f"{name} cannot list what it holds")
        compared = Compared(name)
        began = await self._catalog.read(Tx.now)
        after = ""
        async for page in _pages(store):
            compared.objects += len(page)
            sizes = {stat.locator: stat.size_bytes for stat in page}
            key_of = store.caps.spelling.key_of
            strange = await self._catalog.write(orphan_rows.note, name, sizes, key_of)
            for locator in await unread_among(self._catalog, store, self._rules[name], strange):
                compared.unread.add(locator)
            upto = page[-1].locator
            await self._note_missing(compared, sizes, after, upto, began)
            after = upto
        await self._note_missing(compared, {}, after, None, began)
        while gone := await self._catalog.read(
            orphan_rows.not_seen_since, name, began, PAGE_OBJECTS
        ):
            for key in gone:
                await self._look_again(name, key)
        async for orphan in self._orphans(name):
            compared.orphans.add(orphan)
            compared.orphan_bytes += orphan.size_bytes
        compared.now = await self._catalog.read(Tx.now)
        return compared

    async def mend(self, compared: Compared, older_than_seconds: float) -> None:
        """Removes the orphans of this age, unless a sidecar is unread, and doubts what is missing.
        Raises `StoreError`."""
        if not compared.unread.count:
            await self._remove_all(compared, max(older_than_seconds, YOUNGEST_SECONDS))
        for copy_id in compared.missing_ids:
            compared.doubted += await self._catalog.write(copies.doubt, copy_id, MISSING)

    async def _remove_all(self, compared: Compared, older_than_seconds: float) -> None:
        bound = compared.now - older_than_seconds
        async for orphan in self._orphans(compared.store):
            if orphan.first_seen_at <= bound and await self._remove(orphan, bound):
                compared.removed.add(orphan)
                compared.removed_bytes += orphan.size_bytes

    async def _remove(self, orphan: Orphan, bound: float) -> bool:
        """Unless it became known, or was written anew, since it was listed."""
        store = self._stores[orphan.store]
        stat = await store.stat(orphan.key)
        is_young = stat is not None and stat.modified_at is not None and stat.modified_at > bound
        if stat is None or is_young or orphan.key.startswith(RESERVED_PREFIX):
            return False
        key_of = store.caps.spelling.key_of
        if not await self._catalog.read(orphan_rows.unknown, orphan.store, [orphan.key], key_of):
            return False
        await store.delete(orphan.key)
        await self._look_again(orphan.store, orphan.key)
        return True

    async def _look_again(self, name: str, locator: str) -> None:
        key = self._stores[name].caps.spelling.key_of(locator)
        await self._catalog.write(_look_again, name, locator, key)

    async def _note_missing(
        self,
        compared: Compared,
        listed: Mapping[str, int],
        after: str,
        upto: str | None,
        began: float,
    ) -> None:
        """A list may be behind: the store is asked about each one that is not on it."""
        name, store = compared.store, self._stores[compared.store]
        while page := await self._catalog.read(
            orphan_rows.present_between, name, after, upto, began, PAGE_OBJECTS
        ):
            for copy in page:
                locator = lies_at(store, copy)
                if locator not in listed and await store.stat(locator) is None:
                    compared.missing.add(copy)
                    compared.missing_ids.append(copy.id)
            after = page[-1].key

    async def _orphans(self, name: str) -> AsyncIterator[Orphan]:
        after = ""
        while page := await self._catalog.read(orphan_rows.of_store, name, after, PAGE_OBJECTS):
            for orphan in page:
                yield orphan
            after = page[-1].key


async def _pages(store: Store) -> AsyncIterator[list[Stat]]:
    """What a store lists, in pages that are never empty."""
    page: list[Stat] = []
    async for stat in store.list():
        page.append(stat)
        if len(page) == PAGE_OBJECTS:
            yield page
            page = []
    if page:
        yield page


def _look_again(tx: Tx, store: str, locator: str, key: str | None) -> None:
    """There is no orphan of this name any more; what is recorded there is made sure of."""
    orphan_rows.forget(tx, store, locator)
    for known in copies.keys_at(tx, store, locator, key):
        copies.doubt_at(tx, store, known, GONE)
    for known in sidecars.keys_at(tx, store, locator, key):
        sidecar_work.write_again_at(tx, store, known)
