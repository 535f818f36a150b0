"""The kinds of store, as one visible table, and how each is made from its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from soundkeep.errors import SettingsError
from soundkeep.settings.addresses import database_url
from soundkeep.settings.buckets import CloudStoreSettings, S3StoreSettings, SupabaseStoreSettings
from soundkeep.settings.ipfs import IpfsStoreSettings
from soundkeep.settings.secrets import reveal
from soundkeep.settings.stores import (
    DatabaseStoreSettings,
    LocalStoreSettings,
    MemoryStoreSettings,
    StoreSettings,
    TursoStoreSettings,
)
from soundkeep.stores.database import DatabaseStore
from soundkeep.stores.interface import Store
from soundkeep.stores.local import LocalStore
from soundkeep.stores.memory import MemoryStore
from soundkeep.stores.s3_signing import Credentials


@dataclass(frozen=True, slots=True)
class Place:
    """What settings leave open: where relative paths lie, and the catalog's own database."""

    data: Path
    catalog_url: str


def make_store(name: str, settings: StoreSettings, *, data: Path, catalog_url: str) -> Store:
    """The store as set, without anything around it. It touches nothing until it is used."""
    return KINDS[settings.kind](name, settings, Place(data, catalog_url))


def check_apart(tables: Mapping[str, StoreSettings]) -> None:
    """Raises `SettingsError` for two stores that would remove what the other needs: IPFS has no
    folders, so that two in one account have the same pins."""
    several = [(name, table) for name, table in tables.items() if table.kind == "ipfs"]
    for (name, table), (other, its_table) in combinations(several, 2):
        from soundkeep.stores.ipfs_making import accounts  # noqa: PLC0415 - as below

        if accounts(table) & accounts(its_table):
            raise SettingsError(
                f"stores.{name} and stores.{other} pin in the same account of IPFS: what one lets "
                "go the other would lose. Make one store of them, or give each an account or node "
                "of its own"
            )


def memory(name: str, settings: MemoryStoreSettings, place: Place) -> Store:
    return MemoryStore(name, **_common(settings))


def local(name: str, settings: LocalStoreSettings, place: Place) -> Store:
    path = place.data / settings.path.expanduser()
    return LocalStore(name, path, **_common(settings))


def database(name: str, settings: DatabaseStoreSettings, place: Place) -> Store:
    url = _database_url(name, settings, place)
    return DatabaseStore(name, url, schema=settings.schema_name, **_common(settings))


def s3(name: str, settings: S3StoreSettings, place: Place) -> Store:
    from soundkeep.stores.http_service import Phases  # noqa: PLC0415
    from soundkeep.stores.s3 import S3Store  # noqa: PLC0415 - 400 ms that others do without

    endpoint = settings.endpoint or f"https://s3.{settings.region}.amazonaws.com"
    token = settings.session_token
    credentials = Credentials(
        reveal(settings.access_key), reveal(settings.secret_key), reveal(token) if token else None
    )
    return S3Store(
        name,
        settings.bucket,
        endpoint,
        credentials,
        region=settings.region,
        prefix=settings.prefix,
        style=settings.style,
        storage_class=settings.storage_class,
        single_put_bytes=settings.single_put_bytes,
        part_bytes=settings.part_bytes,
        phases=Phases.within(settings.timeout_seconds),
        **_common(settings),
    )


def turso(name: str, settings: TursoStoreSettings, place: Place) -> Store:
    from soundkeep.stores.http_service import Phases  # noqa: PLC0415 - aiohttp, as above
    from soundkeep.stores.turso import TursoStore  # noqa: PLC0415

    return TursoStore(
        name,
        settings.url.replace("libsql://", "https://", 1),
        reveal(settings.token) if settings.token else None,
        phases=Phases.within(settings.timeout_seconds),
        **_common(settings),
    )


def supabase(name: str, settings: SupabaseStoreSettings, place: Place) -> Store:
    from soundkeep.stores.http_service import Phases  # noqa: PLC0415 - aiohttp, as above
    from soundkeep.stores.supabase import SupabaseStore  # noqa: PLC0415

    return SupabaseStore(
        name,
        settings.url,
        settings.bucket,
        reveal(settings.service_key),
        single_put_bytes=settings.single_put_bytes,
        phases=Phases.within(settings.timeout_seconds),
        **_common(settings),
    )


def ipfs(name: str, settings: IpfsStoreSettings, place: Place) -> Store:
    from soundkeep.stores.ipfs_making import ipfs_store  # noqa: PLC0415 - as above

    return ipfs_store(name, settings, **_common(settings))


def cloud(name: str, settings: CloudStoreSettings, place: Place) -> Store:
    from soundkeep.stores.cloud_making import cloud_store  # noqa: PLC0415 - as above

    return cloud_store(name, settings, **_common(settings))


KINDS: dict[str, Callable[[str, Any, Place], Store]] = {
    "memory": memory,
    "local": local,
    "database": database,
    "s3": s3,
    "turso": turso,
    "ipfs": ipfs,
    "supabase": supabase,
    "cloud": cloud,
}


def _database_url(name: str, settings: DatabaseStoreSettings, place: Place) -> str:
    """As set; else the catalog's own kind, in a schema or a file of the store's own."""
    if settings.url is not None:
        return database_url(reveal(settings.url))
    if settings.path is None and place.catalog_url.startswith("postgresql"):
        return place.catalog_url
    path = settings.path or Path(f"{name}.db")
    return f"sqlite:///{place.data / path.expanduser()}"


def _common(settings: StoreSettings) -> dict[str, Any]:
    types = None if settings.types is None else frozenset(settings.types)
    return {"public": settings.public, "max_bytes": settings.max_bytes, "types": types}
