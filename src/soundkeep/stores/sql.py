"""The two databases a store can lie in: transactions on SQLite and PostgreSQL, faults translated.

On SQLite a writing transaction is `BEGIN IMMEDIATE`, tried again on busy for 30 s with short waits
of our own, since other processes write the same file. A file that vanished or was replaced is
never written through a connection to the old one, and only `create` makes a new one: else a
store that is gone would look like an empty one.

How long a commit takes to be safe is the caller's choice. `durable=False` is SQLite's
`synchronous=NORMAL` and PostgreSQL's `synchronous_commit=off`: in the log, in order, not yet
waited for. The next durable commit syncs the same log, and with it all that came before.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, MetaData, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateSchema

from soundkeep.errors import (
    Corrupt,
    Misconfigured,
    PermissionDenied,
    QuotaExceeded,
    StoreError,
    Unavailable,
)
from soundkeep.stores.files import make_directories, sync_directory

BUSY_SECONDS = 30.0
CONNECT_SECONDS = 10
READERS = 4
PAGE_BYTES = 16384  # docs/decisions/0003

R = TypeVar("R")


class Database(Protocol):
    """What differs between the two."""

    writers: int  # transactions that may write at once

    def create(self, tables: MetaData) -> None:
        """As the function `create`, but once, and raises what the driver raises."""
        ...

    def transact(self, action: Callable[[Connection], R], write: bool, durable: bool) -> R:
        """As the function `transact`, but once, and raises what the driver raises."""
        ...

    def is_busy(self, error: Exception) -> bool:
        """Whether the same transaction may succeed in a moment."""
        ...

    def fault(self, error: Exception) -> type[StoreError]:
        """What a driver's error means."""
        ...

    def dispose(self) -> None:
        """Closes every connection."""
        ...


def database(url: str) -> Database:
    """The database that a SQLAlchemy URL names."""
    if make_url(url).get_backend_name() == "postgresql":
        return PostgreSQL(url)
    return SQLite(Path(make_url(url).database or ""))


def create(database: Database, tables: MetaData) -> None:
    """Makes the place and the tables, as far as they are missing."""
    _patiently(database, lambda: database.create(tables))


def transact(
    database: Database,
    action: Callable[[Connection], R],
    *,
    write: bool = False,
    durable: bool = False,
) -> R:
    """Runs `action` in a transaction; again on a conflict, so it changes nothing else.

    Raises a `StoreError`, and then nothing was written, unless the connection broke at the very
    commit: a caller that repeats itself is right either way.
    """
    return _patiently(database, lambda: database.transact(action, write, durable))


def _patiently(database: Database, call: Callable[[], R]) -> R:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return call()
        except (DBAPIError, sqlite3.Error, OSError) as error:
            if not database.is_busy(error) or time.monotonic() > deadline:
                raise _translated(database, error) from error
        time.sleep(random.uniform(0.001, 0.01))  # noqa: S311 - SQLite's own waits starve somebody


def _translated(database: Database, error: Exception) -> StoreError:
    said = getattr(error, "orig", None) or error
    kind = PermissionDenied if isinstance(error, PermissionError) else database.fault(error)
    return kind((str(said).splitlines() or ["no answer"])[0])


# --- SQLite ---------------------------------------------------------------------------------

_SQLITE_FAULTS: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_PERM: PermissionDenied,
    sqlite3.SQLITE_AUTH: PermissionDenied,
    sqlite3.SQLITE_READONLY: PermissionDenied,
    sqlite3.SQLITE_FULL: QuotaExceeded,
    sqlite3.SQLITE_CORRUPT: Corrupt,
    sqlite3.SQLITE_NOTADB: Corrupt,
    sqlite3.SQLITE_CANTOPEN: Misconfigured,
    sqlite3.SQLITE_ERROR: Misconfigured,  # no such table
}


class SQLite:
    """A file."""

    writers = 1

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity: tuple[int, int] | None = None
        self._engine = create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=READERS + self.writers,
        )

    def create(self, tables: MetaData) -> None:
        make_directories(self._path.parent)
        if not self._path.exists():
            self._path.touch()
            sync_directory(self._path.parent)
        with self._engine.connect() as connection:
            cursor = connection.connection.cursor()
            cursor.execute("PRAGMA busy_timeout = 5000")  # the switch to WAL waits for nobody else
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA busy_timeout = 0")
            cursor.close()
        self.transact(tables.create_all, write=True, durable=True)

    def transact(self, action: Callable[[Connection], R], write: bool, durable: bool) -> R:
        self._forget_another_file()
        with self._engine.begin() as connection:
            _begin(connection, write=write, durable=durable)
            return action(connection)

    def is_busy(self, error: Exception) -> bool:
        return _sqlite_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

    def fault(self, error: Exception) -> type[StoreError]:
        return _SQLITE_FAULTS.get(_sqlite_code(error), Unavailable)

    def dispose(self) -> None:
        self._engine.dispose()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=rw",  # a missing file stays missing
            uri=True,
            timeout=0,
            isolation_level=None,  # the driver begins nothing by itself
            check_same_thread=False,
        )
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a file that is still empty
        connection.execute("PRAGMA cache_size = -4096")
        return connection

    def _forget_another_file(self) -> None:
        """An open connection would go on writing to a file that has no name any more."""
        identity = _identity(self._path)
        if identity is None:
            raise Misconfigured(f"there is no database {self._path}")
        if self._identity not in (None, identity):
            self._engine.dispose()
        self._identity = identity


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError, NotADirectoryError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _begin(connection: Connection, *, write: bool, durable: bool) -> None:
    """A deferred transaction that writes later fails when somebody else wrote in between."""
    if not write:
        connection.exec_driver_sql("BEGIN")
        return
    level = "FULL" if durable else "NORMAL"
    connection.exec_driver_sql(f"PRAGMA synchronous = {level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _sqlite_code(error: Exception) -> int:
    """The primary result code, which lies in the lowest byte."""
    code = getattr(getattr(error, "orig", None) or error, "sqlite_errorcode", 0)
    return int(code) & 0xFF


# --- PostgreSQL -----------------------------------------------------------------------------

_CONFLICTS = ("40001", "40P01", "55P03")  # serialisation, deadlock, lock not available
_POSTGRESQL_FAULTS: dict[str, type[StoreError]] = {
    "28": PermissionDenied,  # authorisation
    "42501": PermissionDenied,
    "3D": Misconfigured,  # no such database
    "3F": Misconfigured,  # no such schema
    "42P01": Misconfigured,  # no such table
    "42703": Misconfigured,  # no such column
    "53100": QuotaExceeded,  # disk full
    "XX001": Corrupt,
    "XX002": Corrupt,
}
_REFUSALS: dict[str, type[StoreError]] = {
    "authentication failed": PermissionDenied,
    "no pg_hba.conf entry": PermissionDenied,
    "no password supplied": PermissionDenied,
    "permission denied": PermissionDenied,
    "does not exist": Misconfigured,
}


class PostgreSQL:
    """A server; the tables lie in a schema of their own."""

    writers = 4

    def __init__(self, url: str) -> None:
        self._engine = create_engine(
            url,
            pool_size=READERS + self.writers,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={
                "cursor_factory": _binary_cursor(),
                "connect_timeout": CONNECT_SECONDS,
                "keepalives_idle": 10,  # a server that went away without a word is noticed
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 15_000,
            },
        )

    def create(self, tables: MetaData) -> None:
        self.transact(lambda connection: _create(connection, tables), write=True, durable=True)

    def transact(self, action: Callable[[Connection], R], write: bool, durable: bool) -> R:
        with self._engine.begin() as connection:
            if write:
                level = "on" if durable else "off"
                connection.exec_driver_sql(f"SET LOCAL synchronous_commit = {level}")
            return action(connection)

    def is_busy(self, error: Exception) -> bool:
        return _sqlstate(error) in _CONFLICTS

    def fault(self, error: Exception) -> type[StoreError]:
        state = _sqlstate(error)
        if not state:
            return _refusal(str(error))
        return _POSTGRESQL_FAULTS.get(state) or _POSTGRESQL_FAULTS.get(state[:2], Unavailable)

    def dispose(self) -> None:
        self._engine.dispose()


def _binary_cursor() -> type[Any]:
    """Takes answers in binary: as text a chunk is twice as long (140 and not 213 MB/s, read)."""
    import psycopg  # noqa: PLC0415 - 130 ms and 10 MB that SQLite does without

    class BinaryCursor(psycopg.Cursor[Any]):
        def __init__(self, connection: psycopg.Connection[Any], **options: Any) -> None:
            super().__init__(connection, **options)
            self.format = psycopg.pq.Format.BINARY

    return BinaryCursor


def _create(connection: Connection, tables: MetaData) -> None:
    """Two processes that create at once would both see nothing there: one waits."""
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('soundkeep store'))")
    connection.execute(CreateSchema(str(tables.schema), if_not_exists=True))
    tables.create_all(connection)


def _sqlstate(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _refusal(text: str) -> type[StoreError]:
    """While connecting, libpq gives a sentence and no code."""
    return next((kind for said, kind in _REFUSALS.items() if said in text), Unavailable)
