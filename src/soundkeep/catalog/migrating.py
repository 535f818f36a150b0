"""Brings the catalog's tables up to date, once, however many processes start at the same moment.

Two Alembic upgrades at once break each other (one of them failed 6 times of 6), so each holds a
lock: an advisory lock on PostgreSQL, a lock on a file beside the database on SQLite.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from soundkeep.errors import CatalogUnavailable

ADVISORY_LOCK = 0x50554E44  # any number of our own


def migrate(engine: Engine) -> None:
    """Upgrades to the newest revision; nothing to do is the common case and cheap.

    Raises `CatalogUnavailable` when the catalog was made by a newer Soundkeep.
    """
    config = _config()
    with _locked(engine) as connection:
        if _revision(connection) not in _known(config):
            raise CatalogUnavailable("the catalog was made by a newer Soundkeep: upgrade this one")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "soundkeep.catalog:migrations")
    return config


def _known(config: Config) -> set[str | None]:
    script = ScriptDirectory.from_config(config)
    return {None, *(revision.revision for revision in script.walk_revisions())}


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
            yield connection
    else:
        with _file_lock(engine), engine.begin() as connection:
            yield connection


@contextmanager
def _file_lock(engine: Engine) -> Iterator[None]:
    path = Path(f"{engine.url.database}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
