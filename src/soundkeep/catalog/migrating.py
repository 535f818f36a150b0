"""Brings the catalog's tables up to date, once, however many processes start at the same moment.

Two Alembic upgrades at once break each other (one of them failed 6 times of 6), so each holds a
lock: an advisory lock on PostgreSQL, a lock on a file beside the database on SQLite.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect

from soundkeep.catalog.database import begun
from soundkeep.errors import CatalogUnavailable

HEAD = "0011"  # the newest revision
ADVISORY_LOCK = 0x50554E44  # any number of our own


def migrate(engine: Engine) -> None:
    """Upgrades to the newest revision; nothing to do is the common case and cheap.

    Raises `CatalogUnavailable` when the catalog was made by a newer Soundkeep.
    """
    with _locked(engine) as connection:
        revision = _revision(connection)
        if revision != HEAD:
            _upgrade(connection, revision)


def require_newest(engine: Engine) -> None:
    """Changes nothing. Raises `CatalogUnavailable` unless it is as this Soundkeep has it."""
    with engine.connect() as connection:
        revision = _revision(connection)
    if revision != HEAD:
        raise CatalogUnavailable(
            f"the catalog is at revision {revision or 'none'}, not {HEAD}: start `soundkeep serve`"
        )


def _revision(connection: Connection) -> str | None:
    """What Alembic wrote down last; asked without it, since loading it takes a quarter second."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return str(row[0]) if row else None


def _upgrade(connection: Connection, revision: str | None) -> None:
    from alembic import command  # noqa: PLC0415 - see `_revision`
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "soundkeep.catalog:migrations")
    config.attributes["connection"] = connection
    known = {each.revision for each in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise CatalogUnavailable("the catalog was made by a newer Soundkeep: upgrade this one")
    command.upgrade(config, HEAD)


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    if engine.dialect.name == "postgresql":
        with begun(engine) as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
            yield connection
    else:
        with _file_lock(engine), begun(engine) as connection:
            yield connection


@contextmanager
def _file_lock(engine: Engine) -> Iterator[None]:
    path = Path(f"{engine.url.database}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
