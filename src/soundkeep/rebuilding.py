"""Puts together what makes a catalog anew from one store, in earnest or as a drill.

    async with rebuilding(settings, "disk") as rebuild:
        tally = await rebuild.run(...)

A rebuild takes the store over, so that whoever had it before cannot use it any more; a drill
changes nothing but a catalog of its own, which it compares with the one in use. `build` makes
houses, `copies/rebuild.py` does the work.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import structlog

from soundkeep.build.ground import INBOX_KIND, bounded_store, make_stores, opened_catalog, rules_of
from soundkeep.build.house import ASSEMBLING
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.migrating import migrate, require_newest
from soundkeep.copies.drill import Comparison, compare
from soundkeep.copies.marking import take_over
from soundkeep.copies.placement import Rules, StoreRule
from soundkeep.copies.rebuild import Rebuild
from soundkeep.errors import CatalogUnavailable, NoSuchStore, SettingsError, StoreError
from soundkeep.settings import Settings
from soundkeep.stores.interface import Store
from soundkeep.stores.local import LocalStore
from soundkeep.writing import desk

Drill: TypeAlias = Callable[[], Awaitable[Comparison]]

log = structlog.get_logger()


@asynccontextmanager
async def rebuilding(settings: Settings, name: str) -> AsyncIterator[Rebuild]:
    """A rebuild from this store into the catalog of the settings; the store is that catalog's own
    from then on, and this host's inbox is a new one.

    Raises `SettingsError`, `NoSuchStore`, `Conflict` if the catalog is not as good as empty,
    `CatalogUnavailable` and what keeps the store from answering; then nothing was changed.
    """
    rule = _rule_to_rebuild_from(settings, name)
    async with AsyncExitStack() as closing:
        store = await _store_to_read(settings, name, closing)
        catalog = await opened_catalog(settings, closing)
        rebuild = Rebuild(catalog, store, rule, await _rules(settings, catalog, closing))
        await rebuild.check()
        await _set_foreign_inbox_aside(settings, catalog)
        await take_over(catalog, store, settings.stores[name].kind)
        yield rebuild


@asynccontextmanager
async def drilling(settings: Settings, name: str) -> AsyncIterator[tuple[Rebuild, Drill]]:
    """The same into a catalog beside, which is gone at the end: store, inbox and the catalog in use
    stay as they are. `Drill` then says what a rebuild would lose. Raises likewise."""
    rule = _rule_to_rebuild_from(settings, name)
    async with AsyncExitStack() as closing:
        store = await _store_to_read(settings, name, closing)
        live = await _catalog_in_use(settings, closing)
        folder = closing.enter_context(desk(settings.data_directory / ASSEMBLING))
        beside = Catalog(f"sqlite:///{folder / 'catalog.db'}")
        closing.push_async_callback(beside.close)
        await beside.upgrade(migrate)
        rebuild = Rebuild(beside, store, rule, await _rules(settings, beside, closing))
        yield rebuild, partial(compare, live, beside)


def _rule_to_rebuild_from(settings: Settings, name: str) -> StoreRule:
    if name not in settings.stores:
        raise NoSuchStore(f"there is no store {name!r}; there are {', '.join(settings.stores)}")
    rule = next(rule for rule in Rules.of(settings).stores if rule.name == name)
    if rule.sidecars is None:
        raise SettingsError(f"the store {name} has no sidecars (stores.{name}.sidecars)")
    if rule.public:
        raise SettingsError(
            f"the store {name} is public: its sidecars name no owners. Rebuild from a private one"
        )
    return rule


async def _store_to_read(settings: Settings, name: str, closing: AsyncExitStack) -> Store:
    """Whoever's it is. Raises what keeps it from answering."""
    store = bounded_store(settings, name)
    closing.push_async_callback(store.close)
    if not (store.caps.sidecars and store.caps.lists):
        raise SettingsError(f"the store {name} is of a kind that holds no sidecars")
    await store.probe()
    return store


async def _rules(settings: Settings, catalog: Catalog, closing: AsyncExitStack) -> Rules:
    """Placement over all stores. (Making one touches nothing.)"""
    stores = make_stores(settings, catalog)
    for store in stores.values():
        closing.push_async_callback(store.close)
    return rules_of(settings, stores)


async def _catalog_in_use(settings: Settings, closing: AsyncExitStack) -> Catalog:
    """Only to be read. Raises `CatalogUnavailable` if there is none, or it is of another age."""
    catalog = Catalog(settings.catalog_url)
    closing.push_async_callback(catalog.close)
    file = catalog.url.database
    if not catalog.on_postgresql and not (file and Path(file).exists()):
        raise CatalogUnavailable("there is no catalog in use to compare with")
    await catalog.upgrade(require_newest)
    return catalog


async def _set_foreign_inbox_aside(settings: Settings, catalog: Catalog) -> None:
    """The inbox of the catalog that was lost: no row says what its files are, and as the inbox of
    this one they would be swept. They stay for a person to look at."""
    folder = settings.inbox_directory
    inbox = LocalStore(settings.inbox_name, folder)
    known = await catalog.write(store_rows.ensure, inbox.name, INBOX_KIND)
    try:
        found = await inbox.read_marker()
    except StoreError:
        return  # there is none
    finally:
        await inbox.close()
    if found in (None, known.store_id):
        return
    aside = folder.with_name(f"{folder.name}-before-rebuild-{time.time_ns()}")
    try:
        folder.rename(aside)
    except OSError as error:
        raise SettingsError(f"inbox.path: {folder} cannot be moved: {error.strerror}") from None
    log.warning("the inbox of another catalog was set aside", path=str(aside))
