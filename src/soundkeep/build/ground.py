"""What a house stands on: the catalog, the stores in their wrappers, and this host's inbox.

What settings ask of a store that it cannot do is refused here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

import structlog

from soundkeep.catalog import claims
from soundkeep.catalog import stores as store_rows
from soundkeep.catalog.database import Catalog
from soundkeep.catalog.migrating import migrate
from soundkeep.catalog.schema import copies as copies_table
from soundkeep.catalog.schema import errands as errands_table
from soundkeep.catalog.schema import plan_items as plan_items_table
from soundkeep.catalog.schema import renditions as renditions_table
from soundkeep.catalog.schema import sidecars as sidecars_table
from soundkeep.copies.placement import Rules
from soundkeep.errors import Misconfigured, SettingsError
from soundkeep.intake import inbox as inboxes
from soundkeep.intake import spool
from soundkeep.settings import Settings
from soundkeep.stores.guarded import ExpectedId, Guarded
from soundkeep.stores.interface import Store
from soundkeep.stores.kinds import check_apart, make_store
from soundkeep.stores.local import LocalStore
from soundkeep.stores.wrappers import Bounded, Limited

INBOX_KIND = "inbox"
CLAIMED = (copies_table, sidecars_table, renditions_table, plan_items_table, errands_table)
CALLS_AT_ONCE = 32  # of one store, readers included

log = structlog.get_logger()


async def opened_catalog(settings: Settings, closing: AsyncExitStack) -> Catalog:
    """The catalog, up to date, and free of what dead processes of this host still held."""
    try:
        settings.data_directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"data: {settings.data_directory}: {error.strerror}") from None
    catalog = Catalog(settings.catalog_url)
    closing.push_async_callback(catalog.close)
    await catalog.upgrade(migrate)
    freed = 0
    for table in CLAIMED:
        freed += await catalog.write(claims.release_dead_holders, table, settings.host_name)
    if freed:
        log.info("took up the work of a process that died", rows=freed)
    return catalog


def make_stores(settings: Settings, catalog: Catalog) -> Mapping[str, Store]:
    """Every configured store in its wrappers, and this host's inbox. Raises `SettingsError`."""
    check_apart(settings.stores)
    stores: dict[str, Store] = {
        settings.inbox_name: LocalStore(settings.inbox_name, settings.inbox_directory)
    }
    for name in settings.stores:
        guarded = Guarded(bounded_store(settings, name), _expected_id(catalog, name))
        stores[name] = Limited(guarded, CALLS_AT_ONCE)
    return stores


def bounded_store(settings: Settings, name: str) -> Store:
    """A store by itself, whoever's it is, that answers in time or not at all."""
    table = settings.stores[name]
    store = make_store(name, table, data=settings.data_directory, catalog_url=settings.catalog_url)
    return Bounded(store, table.timeout_seconds)


def _expected_id(catalog: Catalog, name: str) -> ExpectedId:
    """What the store's marker must say, by the catalog. Once it is known it never changes."""
    found: list[str] = []

    async def expected() -> str | None:
        if not found:
            state = (await catalog.read(store_rows.known)).get(name)
            found.extend([state.store_id] if state and state.marked else [])
        return found[0] if found else None

    return expected


def rules_of(settings: Settings, stores: Mapping[str, Store]) -> Rules:
    """Placement, as far as these stores can follow it. Raises `SettingsError`."""
    return Rules.of(settings).within({name: store.caps for name, store in stores.items()})


def check_redirects(settings: Settings, stores: Mapping[str, Store]) -> None:
    """Raises `SettingsError` for a store that listeners cannot be sent to."""
    for name, table in settings.stores.items():
        reachable = table.public_url is not None or stores[name].caps.signs
        if table.delivery == "redirect" and not reachable:
            raise SettingsError(
                f"stores.{name}.delivery: redirect needs a public_url, or a store that can sign"
            )


async def open_inbox(settings: Settings, catalog: Catalog, inbox: Store) -> None:
    """Prepares the inbox and says what it has lost. A new disk in its place is taken as it is:
    what lay on the old one is named, and nothing is gained by refusing uploads."""
    try:
        await asyncio.to_thread(spool.prepare, settings.inbox_directory)
    except OSError as error:
        raise SettingsError(f"inbox.path: {settings.inbox_directory}: {error.strerror}") from None
    known = await catalog.write(store_rows.ensure, inbox.name, INBOX_KIND)
    found = await inbox.read_marker()
    if found not in (None, known.store_id):
        raise Misconfigured(f"{settings.inbox_directory} is the inbox of another catalog or host")
    if found is None:
        await inbox.write_marker(known.store_id)
        await catalog.write(store_rows.note_marked, inbox.name)
    await inboxes.name_losses(catalog, inbox)
