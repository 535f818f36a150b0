"""Makes sure that a store is the one we mean, before anything it says is believed.

Each store holds its own id in a marker object; the catalog remembers which. An unmounted
directory, an empty bucket of the right name or the store of another catalog is `Misconfigured`,
never empty.
"""

from __future__ import annotations

from soundkeep.catalog import copies
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.database import Catalog
from soundkeep.errors import Misconfigured
from soundkeep.stores.interface import Store

PAGE_COPIES = 500


async def admit(catalog: Catalog, store: Store, kind: str) -> str:
    """Checks the store's marker, writing it if the store was never seen; answers its id.

    Raises `Misconfigured`, or whatever keeps the store from answering. A process that died between
    telling the catalog and writing the marker is made good by the next.
    """
    known = await catalog.write(store_rows.ensure, store.name, kind)
    if not store.caps.marks:
        await store.probe()
        return known.store_id
    found = await _marker(store, first_time=not known.marked)
    if found is None and not known.marked:
        await store.write_marker(known.store_id)
        found = await store.read_marker()
    _compare(store.name, found, known.store_id)
    await store.probe()
    if not known.marked:
        await catalog.write(store_rows.note_marked, store.name)
    return known.store_id


async def take_over(catalog: Catalog, store: Store, kind: str) -> str:
    """Makes a store this catalog's own, whoever's it was; answers its id, which whoever had it
    before does not know. What the catalog believed of copies there is doubted, so that each is
    looked at. Raises what keeps the store from answering. It may be repeated.
    """
    await store.probe()
    known = await catalog.write(store_rows.ensure, store.name, kind)
    if store.caps.marks and await store.read_marker() != known.store_id:
        await _doubt_all(catalog, store.name)
        await store.write_marker(known.store_id)
        _compare(store.name, await store.read_marker(), known.store_id)
    if store.caps.marks:
        await catalog.write(store_rows.note_marked, store.name)
    return known.store_id


async def _doubt_all(catalog: Catalog, store: str) -> None:
    after = 0
    while page := await catalog.read(copies.in_store, store, after, PAGE_COPIES):
        after = page[-1].id
        for copy in page:
            await catalog.write(copies.doubt, copy.id, "the store was taken over")


async def _marker(store: Store, *, first_time: bool) -> str | None:
    """The marker; a place that does not exist yet has none, as long as it was never seen."""
    try:
        return await store.read_marker()
    except Misconfigured:
        if first_time:
            return None
        raise


def _compare(name: str, found: str | None, expected: str) -> None:
    if found is None:
        raise Misconfigured(f"store {name}: its marker is missing. Is the right place mounted?")
    if found != expected:
        raise Misconfigured(
            f"store {name}: it holds the marker of another catalog. Point the setting at the right "
            f"place, or at an empty one. `soundkeep stores init {name} --take-over` makes it this "
            "catalog's, and the other cannot use it any more"
        )
