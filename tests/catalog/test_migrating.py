"""Migrations: once, however many start at the same moment, and into the tables of the schema."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

import migrations
from ledgers import opened
from servers.postgres import Postgres
from soundkeep.catalog import migrating
from soundkeep.catalog.database import Catalog, Tx
from soundkeep.catalog.migrating import HEAD, migrate
from soundkeep.catalog.schema import metadata
from soundkeep.errors import CatalogUnavailable


@pytest.fixture(autouse=True)
def by_alembic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "_upgrade", migrations.by_alembic)


async def test_many_may_migrate_at_the_same_moment(database_url: str) -> None:
    catalogs = [Catalog(database_url) for _ in range(4)]
    try:
        await asyncio.gather(*(catalog.upgrade(migrate) for catalog in catalogs))
        counts = [await catalog.read(count_tracks) for catalog in catalogs]
        assert counts == [0, 0, 0, 0]
    finally:
        await asyncio.gather(*(catalog.close() for catalog in catalogs))


async def test_what_other_tests_say_again_makes_the_same_catalog(
    database_url: str, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "_upgrade", migrations.again({}))
    async with opened(database_url) as catalog:
        first = await catalog.read(described)
    monkeypatch.setattr(migrations, "by_alembic", None)
    with postgres.fresh_database() as url:
        second = url if database_url.startswith("postgresql") else f"sqlite:///{tmp_path / 'b'}"
        async with opened(second) as catalog:
            assert await catalog.read(described) == first
            assert await catalog.read(lambda tx: differences(tx.connection)) == []


def described(tx: Tx) -> str:
    """All that the database itself tells of its tables."""
    inspector = inspect(tx.connection)
    asked = ("columns", "pk_constraint", "foreign_keys", "unique_constraints", "check_constraints")
    tables = {
        (what, name): getattr(inspector, f"get_{what}")(name)
        for name in inspector.get_table_names()
        for what in (*asked, "indexes")
    }
    revision = tx.connection.exec_driver_sql("SELECT * FROM alembic_version").all()
    return json.dumps([list(tables.items()), [list(row) for row in revision]], default=str)


async def test_who_starts_waits_for_one_who_writes_already(sqlite_url: str) -> None:
    """The first of several processes has migrated, and writes while the next looks."""
    async with opened(sqlite_url) as first:
        begun, free = threading.Event(), threading.Event()

        def write(tx: Tx) -> None:
            begun.set()
            free.wait(10)

        writing = asyncio.create_task(first.write(write))
        await asyncio.to_thread(begun.wait, 10)
        second = Catalog(sqlite_url)
        starting = asyncio.create_task(second.upgrade(migrate))
        done, _ = await asyncio.wait({starting}, timeout=0.5)
        assert not done, "it gave up"
        free.set()
        await asyncio.gather(writing, starting)
        await second.close()


def count_tracks(tx: Tx) -> int:
    return int(tx.connection.exec_driver_sql("SELECT count(*) FROM tracks").scalar_one())


async def test_the_migrations_make_the_tables_that_the_schema_names(database_url: str) -> None:
    async with opened(database_url) as catalog:
        assert await catalog.read(lambda tx: differences(tx.connection)) == []


def differences(connection: Connection) -> list[object]:
    """What Alembic would change, but for the search tables, which only revisions make."""
    found = compare_metadata(MigrationContext.configure(connection), metadata)
    return [change for change in found if "track_words" not in repr(change)]


def test_the_newest_revision_is_the_one_we_upgrade_to() -> None:
    config = Config()
    config.set_main_option("script_location", "soundkeep.catalog:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


async def test_a_catalog_of_a_newer_soundkeep_is_refused_in_words(database_url: str) -> None:
    async with opened(database_url) as catalog:
        await catalog.write(
            lambda tx: tx.connection.exec_driver_sql("UPDATE alembic_version SET version_num='9'")
        )
        with pytest.raises(CatalogUnavailable, match="newer Soundkeep"):
            await catalog.upgrade(migrate)
