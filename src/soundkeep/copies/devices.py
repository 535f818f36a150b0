"""Tells whether all copies lie on one device of this machine, so that its loss would lose all."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

from soundkeep.settings import Settings
from soundkeep.settings.addresses import database_url
from soundkeep.settings.secrets import reveal
from soundkeep.settings.stores import DatabaseStoreSettings, LocalStoreSettings, StoreSettings


def share_one_device(settings: Settings) -> bool:
    """Whether every store of `policy.keep` is known to lie on the same local device."""
    paths = [path_of(name, settings) for name in settings.policy.keep]
    devices = {device_of(path) if path else None for path in paths}
    return len(devices) == 1 and None not in devices


def path_of(name: str, settings: Settings) -> Path | None:
    """The directory or SQLite file of a store; None if it lies elsewhere or is only memory."""
    table: StoreSettings = settings.stores[name]
    data = settings.data_directory
    if isinstance(table, LocalStoreSettings):
        return data / table.path.expanduser()
    if not isinstance(table, DatabaseStoreSettings):
        return None
    if table.url is not None:
        return _sqlite_file(database_url(reveal(table.url)))
    if table.path is None and not settings.catalog_url.startswith("sqlite"):
        return None
    return data / (table.path or Path(f"{name}.db")).expanduser()


def device_of(path: Path) -> int | None:
    """The device of a path, or of the nearest directory above it that exists."""
    for place in (path, *path.parents):
        try:
            return place.stat().st_dev
        except OSError:
            continue
    return None


def _sqlite_file(url: str) -> Path | None:
    parsed = make_url(url)
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database
    return Path(parsed.database) if is_file and parsed.database else None
