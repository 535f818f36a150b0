"""What a database store owes beyond the contract: generations, its file, its faults, its memory."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from servers.growth import growth
from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import (
    Corrupt,
    Misconfigured,
    PermissionDenied,
    QuotaExceeded,
    Truncated,
    Unavailable,
)
from soundkeep.stores import rows, sql
from soundkeep.stores.database import DatabaseStore, remove_generation
from soundkeep.stores.interface import Key
from soundkeep.testing import BytesSource
from soundkeep.testing.contract import LARGE, StoreContract
from soundkeep.testing.expecting import fails_with, listed, read


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[DatabaseStore]:
    async with opened(database_url) as store:
        yield store


@pytest.fixture
async def on_sqlite(sqlite_url: str) -> AsyncIterator[DatabaseStore]:
    async with opened(sqlite_url) as store:
        yield store


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[DatabaseStore]:
    store = DatabaseStore("backup", url)
    await store.write_marker("id-1")
    try:
        yield store
    finally:
        await store.close()


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    """Runs SQL as somebody else would."""
    engine = create_engine(url)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SET search_path TO soundkeep_store"))
        result = connection.execute(text(statement))
        rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows


def path_of(url: str) -> Path:
    return Path(make_url(url).database or "")


async def until(url: str, count: int, table: str) -> None:
    """Waits for what is removed behind the scenes."""
    for _ in range(1000):
        if execute(url, f"SELECT count(*) FROM {table}") == [(count,)]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(execute(url, f"SELECT * FROM {table}"))


# --- generations ----------------------------------------------------------------------------


async def test_replaced_and_deleted_objects_leave_no_rows(
    store: DatabaseStore, database_url: str
) -> None:
    for size in (LARGE, 3 * CHUNK_BYTES, 0):
        await store.put(Key("x"), BytesSource(os.urandom(size)))
    await until(database_url, 0, "chunks")
    await store.put(Key("y"), BytesSource(os.urandom(40 * CHUNK_BYTES)))
    await store.delete("y")
    for table, count in (("manifests", 1), ("chunks", 0), ("drafts", 0)):
        await until(database_url, count, table)


async def test_a_cancelled_put_leaves_no_rows(store: DatabaseStore, database_url: str) -> None:
    await StoreContract().cancel_half_way(store, "x")
    await until(database_url, 0, "drafts")
    await until(database_url, 0, "chunks")


async def test_a_generation_that_a_manifest_names_cannot_be_removed(store: DatabaseStore) -> None:
    """A put whose last answer was lost tidies up after itself, though it succeeded."""
    receipt = await store.put(Key("x"), BytesSource(b"x"))
    remove_generation(store._database, store._tables, int(receipt.etag or ""))
    assert await read(store, "x") == b"x"


async def test_a_list_of_many_pages_is_complete(
    store: DatabaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "LISTED_AT_ONCE", 2)
    for number in range(5):
        await store.put(Key(f"{number}"), BytesSource(b"x"))
    assert await listed(store) == ["0", "1", "2", "3", "4"]


async def test_what_a_dead_process_left_is_reaped(store: DatabaseStore, database_url: str) -> None:
    execute(database_url, "INSERT INTO drafts (generation, since) VALUES (7, 1000)")
    execute(database_url, "INSERT INTO chunks (generation, number, data) VALUES (7, 0, '')")
    await store.put(Key("x"), BytesSource(b"x"))
    assert await store.reap(timedelta(hours=1)) == 1
    assert await store.reap(timedelta(0)) == 0
    assert execute(database_url, "SELECT generation FROM chunks WHERE generation = 7") == []
    assert await read(store, "x") == b"x"


async def test_a_put_that_was_reaped_meanwhile_fails(store: DatabaseStore) -> None:
    source, putting = await StoreContract().put_half(store, "x")
    for _ in range(1000):
        if await store.reap(timedelta(0)):
            break
        await asyncio.sleep(0.01)
    source.may_go_on.set()
    await fails_with(Unavailable, putting)
    assert await store.stat("contract/x") is None


async def test_a_chunk_that_is_missing_or_short_is_truncated(
    store: DatabaseStore, database_url: str
) -> None:
    await store.put(Key("x"), BytesSource(os.urandom(3 * CHUNK_BYTES)))
    await store.put(Key("y"), BytesSource(os.urandom(3 * CHUNK_BYTES)))
    execute(database_url, "DELETE FROM chunks WHERE number = 2")
    execute(database_url, "UPDATE chunks SET data = substr(data, 1, 100) WHERE number = 1")
    assert len(await read(store, "x", 0, CHUNK_BYTES)) == CHUNK_BYTES
    await fails_with(Truncated, read(store, "x", 0, CHUNK_BYTES + 1))
    await fails_with(Truncated, read(store, "y", 2 * CHUNK_BYTES))


async def test_a_put_repairs_damaged_rows(store: DatabaseStore, database_url: str) -> None:
    data = os.urandom(3 * CHUNK_BYTES)
    await store.put(Key("x"), BytesSource(data))
    execute(database_url, "DELETE FROM chunks")
    await store.put(Key("x"), BytesSource(data))
    assert await read(store, "x") == data


# --- the place ------------------------------------------------------------------------------


async def test_a_database_without_its_tables_is_misconfigured(database_url: str) -> None:
    store = DatabaseStore("backup", database_url)
    if database_url.startswith("sqlite"):
        path_of(database_url).touch()
    for call in (store.probe(), store.read_marker(), store.stat("x"), store.delete("x")):
        await fails_with(Misconfigured, call)
    await fails_with(Misconfigured, store.put(Key("x"), BytesSource(b"x")))
    await fails_with(Misconfigured, listed(store))
    await store.close()


async def test_a_file_that_is_not_there_is_not_made_by_asking(sqlite_url: str) -> None:
    store = DatabaseStore("backup", sqlite_url)
    for call in (store.probe(), store.read_marker(), store.stat("x"), store.delete("x")):
        await fails_with(Misconfigured, call)
    await fails_with(Misconfigured, store.put(Key("x"), BytesSource(b"x")))
    assert not path_of(sqlite_url).exists()
    await store.close()


async def test_a_file_that_vanishes_takes_no_more_bytes(
    on_sqlite: DatabaseStore, sqlite_url: str
) -> None:
    await on_sqlite.put(Key("x"), BytesSource(b"x"))
    path = path_of(sqlite_url)
    path.rename(path.with_suffix(".away"))
    await fails_with(Misconfigured, on_sqlite.put(Key("y"), BytesSource(b"y")))
    await fails_with(Misconfigured, on_sqlite.stat("x"))
    assert not path.exists()
    path.with_suffix(".away").rename(path)
    assert await read(on_sqlite, "x") == b"x"


async def test_another_file_in_its_place_is_noticed(
    on_sqlite: DatabaseStore, sqlite_url: str, tmp_path: Path
) -> None:
    other_url = f"sqlite:///{tmp_path / 'other.db'}"
    other = DatabaseStore("other", other_url)
    await other.write_marker("id-2")
    await other.close()
    assert await on_sqlite.read_marker() == "id-1"
    for rest in ("-wal", "-shm"):
        path_of(sqlite_url + rest).unlink()
    path_of(other_url).rename(path_of(sqlite_url))
    assert await on_sqlite.read_marker() == "id-2"


async def test_two_schemas_of_one_server_are_two_stores(postgres_url: str) -> None:
    one = DatabaseStore("one", postgres_url, schema="one")
    two = DatabaseStore("two", postgres_url, schema="two")
    for store in (one, two):
        await store.write_marker(store.name)
    await one.put(Key("x"), BytesSource(b"x"))
    assert await two.stat("x") is None
    assert [await store.read_marker() for store in (one, two)] == ["one", "two"]
    await one.close()
    await two.close()


async def test_stores_made_at_once_by_several_are_one(database_url: str) -> None:
    stores = [DatabaseStore("backup", database_url) for _ in range(4)]
    await asyncio.gather(*(store.write_marker("id-1") for store in stores))
    await stores[0].put(Key("x"), BytesSource(b"x"))
    for store in stores:
        assert await read(store, "x") == b"x"
        assert await store.read_marker() == "id-1"
        await store.close()


# --- faults ---------------------------------------------------------------------------------


async def test_a_file_that_is_no_database_is_corrupt(sqlite_url: str) -> None:
    path_of(sqlite_url).write_bytes(b"garbage" * 5000)
    store = DatabaseStore("backup", sqlite_url)
    await fails_with(Corrupt, store.stat("x"))
    await store.close()


async def test_what_is_not_bytes_in_a_chunk_is_corrupt(
    on_sqlite: DatabaseStore, sqlite_url: str
) -> None:
    await on_sqlite.put(Key("x"), BytesSource(b"x" * 10))
    execute(sqlite_url, "UPDATE chunks SET data = 'ten letter'")
    await fails_with(Corrupt, read(on_sqlite, "x"))


async def test_a_locked_file_is_waited_for(on_sqlite: DatabaseStore, sqlite_url: str) -> None:
    with closing(sqlite3.connect(path_of(sqlite_url), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        putting = asyncio.ensure_future(on_sqlite.put(Key("x"), BytesSource(b"x")))
        done, _ = await asyncio.wait([putting], timeout=0.1)
        assert not done
        assert await on_sqlite.stat("x") is None  # readers wait for nobody
        other.execute("ROLLBACK")
    await putting
    assert await read(on_sqlite, "x") == b"x"


async def test_a_file_locked_for_too_long_is_unavailable(
    on_sqlite: DatabaseStore, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path_of(sqlite_url), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await fails_with(Unavailable, on_sqlite.put(Key("x"), BytesSource(b"x")))


async def test_a_full_file_has_no_room(on_sqlite: DatabaseStore) -> None:
    """SQLite answers the same when the disk is full."""
    with on_sqlite._database._engine.connect() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql("PRAGMA max_page_count = 20")
    await fails_with(QuotaExceeded, on_sqlite.put(Key("x"), BytesSource(os.urandom(LARGE))))
    assert await on_sqlite.stat("x") is None


async def test_a_server_that_refuses_is_unavailable(tmp_path: Path) -> None:
    for url in (
        f"postgresql+psycopg:///x?host={tmp_path}",
        "postgresql+psycopg://postgres@127.0.0.1:1/x",
    ):
        store = DatabaseStore("backup", url)
        await fails_with(Unavailable, store.probe())
        await store.close()


async def test_a_database_that_does_not_exist_is_misconfigured(postgres_url: str) -> None:
    url = make_url(postgres_url).set(database="nothing_here")
    store = DatabaseStore("backup", url.render_as_string(hide_password=False))
    await fails_with(Misconfigured, store.probe())
    await store.close()


async def test_a_role_without_rights_is_refused(postgres_url: str) -> None:
    store = DatabaseStore("backup", postgres_url)
    await store.write_marker("id-1")
    await store.close()
    role = f"nobody_{os.getpid()}"
    execute_plainly(postgres_url, f"CREATE ROLE {role} LOGIN")
    url = make_url(postgres_url).set(username=role).render_as_string(hide_password=False)
    store = DatabaseStore("backup", url)
    await fails_with(PermissionDenied, store.stat("x"))
    await store.close()
    execute_plainly(postgres_url, f"DROP ROLE {role}")


def execute_plainly(url: str, statement: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


# --- the process ----------------------------------------------------------------------------


def test_memory_stays_small_and_a_store_left_open_lets_the_process_end(database_url: str) -> None:
    """80 MB pass through; the store is never closed."""
    assert growth("database", database_url, 80) < 40  # MiB


@pytest.mark.drill
def test_half_a_gigabyte_takes_no_more_memory(database_url: str) -> None:
    assert growth("database", database_url, 500) < 40  # MiB


async def test_a_put_that_was_given_up_while_the_file_was_locked_never_appears(
    on_sqlite: DatabaseStore, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = threading.Event()
    monkeypatch.setattr(sql.random, "uniform", lambda *_: waits.set() or 0.01)
    with closing(sqlite3.connect(make_url(sqlite_url).database or "")) as other:
        other.execute("BEGIN IMMEDIATE")
        putting = asyncio.create_task(on_sqlite.put(Key("late"), BytesSource(b"bytes")))
        await asyncio.to_thread(waits.wait, 30)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        other.rollback()
    await on_sqlite.delete("nothing")  # after the step that was waiting
    assert await on_sqlite.stat("late") is None
