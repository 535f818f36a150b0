"""Runs transactions on the catalog, on SQLite or PostgreSQL, and nothing else.

A transaction is a plain function of a `Tx`; it runs in a thread of the catalog's own and cannot
await, so none stays open across network or client I/O. On SQLite every writing transaction is
`BEGIN IMMEDIATE`, through one writer thread per process, retried on busy for 30 s with waits of
our own (SQLite's starve one process: docs/decisions/0002); those that wait for the thread are
committed as one, which costs one sync of the disk. Why threads and not an asynchronous
driver: one hop per transaction instead of one per statement, and a caller that is cancelled
cannot leave a transaction half done.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from asyncio import Future
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from sqlalchemy import (
    Connection,
    CursorResult,
    Engine,
    Executable,
    Table,
    create_engine,
    event,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import QueuePool

from soundkeep.catalog.schema import now
from soundkeep.errors import CatalogUnavailable, DiskFull

BUSY_SECONDS = 30.0
READERS = 4
WRITERS_POSTGRESQL = 6
MOST_TOGETHER = 32
NOTIFY_CHANNEL = "soundkeep_work"
COUNTING = {"preserve_rowcount": True}  # an INSERT has none on PostgreSQL otherwise

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class Tx:
    """One open transaction. `wakes` is set by whoever makes work due."""

    connection: Connection
    wakes: bool = False

    @property
    def on_postgresql(self) -> bool:
        return self.connection.dialect.name == "postgresql"

    def run(self, statement: Executable, rows: Any = None) -> CursorResult[Any]:
        """Executes a statement, once or for each of many rows."""
        return self.connection.execute(statement, rows)

    def now(self) -> float:
        """The database's clock."""
        return self.connection.execute(select(now())).scalar_one()


class _Asked(Generic[R]):
    """A transaction that waits for the writing thread. Its caller may leave; nobody cancels it."""

    def __init__(self, action: Callable[[Tx], R]) -> None:
        self.action = action
        self.answer: Future[R] = asyncio.get_running_loop().create_future()
        self.result: R
        self.wakes = False
        self.error: BaseException | None = None

    def failed(self, error: BaseException) -> None:
        """A future takes no `StopIteration`."""
        self.error = RuntimeError(repr(error)) if isinstance(error, StopIteration) else error

    def give(self) -> None:
        """Says in the loop how it ended, if its caller is still there."""
        if self.answer.cancelled():
            return
        if self.error is not None:
            self.answer.set_exception(self.error)
        else:
            self.answer.set_result(self.result)


def conflict_insert(table: Table, *, on_postgresql: bool) -> Any:
    """An `INSERT` that can say what becomes of a conflict. (Each dialect has a class of its own
    for it, and PostgreSQL's takes 70 ms to load.)"""
    if on_postgresql:
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415

        return postgresql.insert(table)
    return sqlite.insert(table)


class Catalog:
    """The door to the database: `read` and `write` run a function in a transaction.

    One event loop has it.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.on_postgresql = self.url.get_backend_name() == "postgresql"
        self.on_commit: list[Callable[[], None]] = []  # called in the loop when work became due
        self._engine = _postgresql_engine(url) if self.on_postgresql else _sqlite_engine(url)
        self._writing = self._engine.execution_options(writing=True)
        writers = WRITERS_POSTGRESQL if self.on_postgresql else 1
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="catalog-write")
        self._asked: deque[_Asked[Any]] = deque()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="catalog-read")

    async def upgrade(self, migrate: Callable[[Engine], None]) -> None:
        """Runs the migrations. Raises `CatalogUnavailable`."""
        await asyncio.to_thread(self._upgrade, migrate)

    def _upgrade(self, migrate: Callable[[Engine], None]) -> None:
        """Also while a process that started a moment earlier writes already."""

        def upgrade() -> None:
            with _translated():
                migrate(self._writing)

        _until_free(upgrade)

    async def write(
        self, action: Callable[Concatenate[Tx, P], R], *args: P.args, **options: P.kwargs
    ) -> R:
        """Runs `action(tx, …)` in one writing transaction and answers what it returned.

        Raises `CatalogUnavailable` when the database cannot be had, `DiskFull`, or whatever
        `action` raised; in each case nothing was written. May run `action` again after a
        conflict, so it changes nothing but the database. A caller that is cancelled does not
        cancel the transaction: it ends by itself, either way.
        """
        asked: _Asked[R] = _Asked(lambda tx: action(tx, *args, **options))
        self._asked.append(asked)
        try:
            self._writers.submit(self._write_asked)
        except RuntimeError:  # closed, or no thread is to be had
            with suppress(ValueError):  # an earlier turn has taken it
                self._asked.remove(asked)
            raise
        return await asked.answer

    async def read(
        self, query: Callable[Concatenate[Tx, P], R], *args: P.args, **options: P.kwargs
    ) -> R:
        """Runs `query(tx, …)` on one snapshot. Raises as `write` does."""
        work = partial(self._attempt, self._engine, lambda tx: query(tx, *args, **options))
        result, _ = await asyncio.get_running_loop().run_in_executor(self._readers, work)
        return result

    async def close(self) -> None:
        """Ends the threads and the connections."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writers.shutdown()
        self._readers.shutdown()
        self._engine.dispose()

    def _attempt(self, engine: Engine, action: Callable[[Tx], R]) -> tuple[R, bool]:
        return _until_free(lambda: _transact(engine, action))

    def _write_asked(self) -> None:
        """What waits by now; an earlier turn may have taken it all."""
        group = self._take_asked()
        if not group:
            return
        loop = group[0].answer.get_loop()
        self._write_together(group)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._answer, group)

    def _take_asked(self) -> list[_Asked[Any]]:
        most = 1 if self.on_postgresql else MOST_TOGETHER
        group: list[_Asked[Any]] = []
        with suppress(IndexError):
            while len(group) < most:
                group.append(self._asked.popleft())
        return group

    def _write_together(self, group: list[_Asked[Any]]) -> None:
        """If an action raised, nothing was written and each is tried alone: one's failure is no
        other's. Only a catalog that was busy for too long is everybody's: each alone would wait
        as long again."""
        try:
            self._attempt(self._writing, partial(_together, group))
        except BaseException as error:  # the thread goes on; whoever asked is told
            if len(group) > 1 and not _was_busy(error):
                for asked in group:
                    self._write_together([asked])
                return
            for asked in group:
                asked.failed(error)

    def _answer(self, group: list[_Asked[Any]]) -> None:
        """In the loop. What made work due wakes whoever does it, also when its caller has left."""
        for asked in group:
            asked.give()
        if any(asked.wakes and asked.error is None for asked in group):
            for call in self.on_commit:
                call()


def _together(group: list[_Asked[Any]], tx: Tx) -> None:
    for asked in group:
        own = Tx(tx.connection)
        asked.result = asked.action(own)
        asked.wakes = own.wakes
        tx.wakes |= own.wakes


def _until_free(act: Callable[[], R]) -> R:
    """Again and again on busy or a serialisation conflict, until the time is up."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return act()
        except _Busy as busy:
            if time.monotonic() > deadline:
                text = f"the catalog was busy for {BUSY_SECONDS:.0f} s"
                raise CatalogUnavailable(text) from busy.__cause__
            time.sleep(random.uniform(0.001, 0.01))  # noqa: S311 - not a secret


def _transact(engine: Engine, action: Callable[[Tx], R]) -> tuple[R, bool]:
    with _translated(), begun(engine) as connection:
        tx = Tx(connection)
        result = action(tx)
        if tx.wakes and tx.on_postgresql:
            connection.exec_driver_sql(f"NOTIFY {NOTIFY_CHANNEL}")
        return result, tx.wakes


@contextmanager
def begun(engine: Engine) -> Iterator[Connection]:
    """A transaction. On SQLite a deferred one that writes later would fail when somebody else wrote
    in between. (A listener to `begin` would have each statement look for listeners.)"""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            writing = connection.get_execution_options().get("writing", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
        yield connection


def _was_busy(error: BaseException) -> bool:
    """Whether the time was up for `_until_free`."""
    return isinstance(error.__cause__, DBAPIError) and _is_conflict(error.__cause__)


class _Busy(Exception):
    """Not an error: the transaction is tried again."""


@contextmanager
def _translated() -> Iterator[None]:
    """Turns the drivers' faults into ours, keeping the cause."""
    try:
        yield
    except DBAPIError as error:
        if _is_conflict(error):
            raise _Busy from error
        text = str(error.orig).splitlines()[0] if error.orig else "no answer"
        if "disk is full" in text or getattr(error.orig, "sqlstate", None) == "53100":
            raise DiskFull("the catalog's disk is full") from error
        if isinstance(error, OperationalError | InterfaceError):
            raise CatalogUnavailable(f"the catalog cannot be used: {text}") from error
        raise


def _is_conflict(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.OperationalError):
        return "locked" in str(error.orig) or "busy" in str(error.orig)
    return getattr(error.orig, "sqlstate", None) in ("40001", "40P01", "55P03")


def _sqlite_engine(url: str) -> Engine:
    database = make_url(url).database
    if database:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=READERS + 1,
        execution_options=COUNTING,
        connect_args={"timeout": 0, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 2000")  # for the switch to WAL and for readers
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA busy_timeout = 0")
    cursor.execute("PRAGMA synchronous = FULL")  # NORMAL lost acknowledged writes in power cuts
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA cache_size = -16384")
    cursor.close()


def _postgresql_engine(url: str) -> Engine:
    return create_engine(
        url,
        pool_size=READERS + WRITERS_POSTGRESQL,
        max_overflow=0,
        pool_pre_ping=True,
        execution_options=COUNTING,
        connect_args={"connect_timeout": 10},
    )
