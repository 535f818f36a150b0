"""A store in a database: SQLite or PostgreSQL, rows of 256 KiB as `rows` lays them out.

A put writes chunks under a new generation, a few in each short transaction, and last the manifest
in a durable one: so nothing stays open while the source is slow, and an object appears whole. To
replace is to point the manifest at the new generation; whoever still reads the old one finds
chunks missing and gets `Truncated`, never mixed bytes. An object of up to 2 MiB takes one
transaction in all, which is one fsync.

These tables are the store's own; the catalog's are in `catalog`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Delete, Update, func, insert, select

from soundkeep.digest import CHUNK_BYTES, chunk_span, chunks_touching
from soundkeep.errors import Corrupt, NotFound, Truncated, Unavailable
from soundkeep.stores.interface import (
    MARKER_KEY,
    RESERVED_PREFIX,
    Bytes,
    Caps,
    Key,
    Receipt,
    Source,
    Stat,
)
from soundkeep.stores.pieces import check_fits, exactly, regrouped, span
from soundkeep.stores.rows import REMOVED_AT_ONCE, Manifest, Tables, chunks_wanted
from soundkeep.stores.sql import READERS, Database, create, database, transact
from soundkeep.stores.threads import Draft, Threads

BATCH_CHUNKS = 8
READ_AT_ONCE = 4  # chunks in one transaction: 1 MiB

R = TypeVar("R")


class DatabaseStore:
    """Rows in the database at `url`, on PostgreSQL in `schema`."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        schema: str = "soundkeep_store",
        public: bool = False,
        max_bytes: int | None = None,
        types: frozenset[str] | None = None,
    ) -> None:
        self.name = name
        self.caps = Caps(public=public, max_bytes=max_bytes, types=types)
        self._database = database(url)
        self._tables = Tables(schema if url.startswith("postgresql") else None)
        self._writers = Threads(f"store-{name}-write", self._database.writers)
        self._readers = Threads(f"store-{name}-read", READERS)

    async def probe(self) -> None:
        await self._read(self._marker)

    async def read_marker(self) -> str | None:
        return await self._read(self._marker)

    async def write_marker(self, store_id: str) -> None:
        await self._writers.run(self._create)
        await self._write(lambda connection: self._mark(connection, store_id))

    async def put(self, key: Key, source: Source) -> Receipt:
        check_fits(self.caps, source)
        draft = RowDraft(self._database, self._tables, key, source)
        try:
            replaced = await self._fill(draft, source)
        except BaseException:
            draft.abandon(self._writers)
            raise
        if replaced is not None:
            self._writers.later(partial(remove_generation, self._database, self._tables, replaced))
        return Receipt(str(key), etag=str(draft.generation))

    async def stat(self, locator: str) -> Stat | None:
        manifest = await self._manifest(locator)
        return manifest.stat if manifest else None

    async def open(self, locator: str, start: int = 0, stop: int | None = None) -> Bytes:
        manifest, held = await self._read(partial(self._begin, locator, start, stop))
        if manifest is None:
            raise NotFound(f"{self.name} has no {locator}")
        start, stop = span(manifest.size_bytes, start, stop)
        numbers = list(chunks_touching(start, stop)) if start < stop else []
        for number in numbers:
            if number not in held and (number - numbers[0]) % READ_AT_ONCE == 0:
                at = number * CHUNK_BYTES
                held = await self._read(partial(self._chunks, manifest.generation, at, stop))
            first, last = chunk_span(number, manifest.size_bytes)
            data = held.pop(number, None)
            if data is None or len(data) != last - first:
                raise Truncated(f"{self.name} has not all of {locator}: chunk {number}")
            yield data[max(start - first, 0) : stop - first]

    async def delete(self, locator: str) -> None:
        generation = await self._write(lambda connection: self._unname(connection, locator))
        if generation is not None:
            await self._writers.run(remove_generation, self._database, self._tables, generation)

    async def list(self, prefix: str = "", after: str | None = None) -> AsyncIterator[Stat]:
        last = after or ""
        while some := await self._read(partial(self._page, prefix, last)):
            for manifest in some:
                if not manifest.key.startswith(prefix):
                    return
                if not manifest.key.startswith(RESERVED_PREFIX):
                    yield manifest.stat
            last = some[-1].key

    async def sign(self, locator: str, expires_in: timedelta) -> str | None:
        return None

    async def reap(self, older_than: timedelta) -> int:
        old = await self._read(partial(self._old_drafts, older_than.total_seconds()))
        for generation in old:
            await self._writers.run(remove_generation, self._database, self._tables, generation)
        return len(old)

    async def close(self) -> None:
        await self._writers.close()
        await self._readers.close()
        self._database.dispose()

    async def _read(self, query: Callable[[Connection], R]) -> R:
        return await self._readers.run(partial(transact, self._database, query))

    async def _write(self, action: Callable[[Connection], R]) -> R:
        call = partial(transact, self._database, action, write=True, durable=True)
        return await self._writers.run(call)

    # --- the place --------------------------------------------------------------------------

    def _create(self) -> None:
        create(self._database, self._tables.all)

    def _marker(self, connection: Connection) -> str | None:
        return connection.execute(self._tables.marker_id()).scalars().first()

    def _mark(self, connection: Connection, store_id: str) -> None:
        lock_key(connection, MARKER_KEY)
        for statement in self._tables.mark(store_id):
            connection.execute(statement)

    def _old_drafts(self, seconds: float, connection: Connection) -> Sequence[int]:
        return connection.execute(self._tables.old_drafts(seconds)).scalars().all()

    # --- objects ----------------------------------------------------------------------------

    async def _fill(self, draft: RowDraft, source: Source) -> int | None:
        """Writes all but the last batch, then that one together with the manifest."""
        held: list[bytes] = []
        async with aclosing(regrouped(exactly(source), CHUNK_BYTES)) as chunks:
            async for chunk in chunks:
                if len(held) == BATCH_CHUNKS:
                    await self._writers.run(draft.write, held)
                    held = []
                held.append(chunk)
        return await self._writers.run(draft.publish, held)

    async def _manifest(self, locator: str) -> Manifest | None:
        statement = self._tables.manifest(locator)
        row = await self._read(lambda connection: connection.execute(statement).one_or_none())
        return Manifest(*row) if row else None

    def _page(self, prefix: str, after: str, connection: Connection) -> Sequence[Manifest]:
        rows = connection.execute(self._tables.page(prefix, after))
        return [Manifest(*row) for row in rows]

    def _begin(
        self, locator: str, start: int, stop: int | None, connection: Connection
    ) -> tuple[Manifest | None, dict[int, bytes]]:
        """The manifest, and the first chunks of the range."""
        row = connection.execute(self._tables.manifest(locator)).one_or_none()
        if row is None:
            return None, {}
        manifest = Manifest(*row)
        end = manifest.size_bytes if stop is None else min(stop, manifest.size_bytes)
        return manifest, self._chunks(manifest.generation, start, end, connection)

    def _chunks(
        self, generation: int, start: int, stop: int, connection: Connection
    ) -> dict[int, bytes]:
        """A few chunks at once: the one with the byte `start`, and those after it."""
        wanted = self._tables.some_chunks(generation, *chunks_wanted(start, stop, READ_AT_ONCE))
        found = {row.number: row.data for row in connection.execute(wanted)}
        for number, data in found.items():
            if not isinstance(data, bytes):  # SQLite keeps any type there
                raise Corrupt(f"{self.name}: chunk {number} is no bytes")
        return found

    def _unname(self, connection: Connection, locator: str) -> int | None:
        """Makes the object invisible, and its chunks a draft to be removed."""
        lock_key(connection, locator)
        return _take_manifest(connection, self._tables, locator)


class RowDraft(Draft):
    """The chunks of a new generation."""

    def __init__(self, database: Database, tables: Tables, key: Key, source: Source) -> None:
        super().__init__()
        self.generation = secrets.randbits(62)
        self._database = database
        self._tables = tables
        self._key = key
        self._source = source
        self._written = 0  # chunks in transactions before this one

    def write(self, batch: list[bytes]) -> None:
        """Adds whole chunks."""
        with self.step():
            transact(self._database, partial(self._add, batch), write=True)
            self._written += len(batch)

    def publish(self, last: list[bytes]) -> int | None:
        """Adds the last chunks and points the manifest here. Answers the generation replaced."""
        with self.step():
            finish = partial(self._finish, last)
            return transact(self._database, finish, write=True, durable=True)

    def remove(self) -> None:
        remove_generation(self._database, self._tables, self.generation)

    def _add(self, batch: list[bytes], connection: Connection) -> None:
        if self._written:
            self._still_ours(connection, self._tables.touch(self.generation))
        else:
            connection.execute(self._tables.begin(self.generation))
        self._insert(connection, batch)

    def _finish(self, last: list[bytes], connection: Connection) -> int | None:
        lock_key(connection, str(self._key))
        if self._written:
            self._still_ours(connection, self._tables.end(self.generation))
        self._insert(connection, last)
        replaced = _take_manifest(connection, self._tables, str(self._key))
        connection.execute(self._tables.add_manifest(self._key, self._source, self.generation))
        self._refuse_abandoned()  # a database that is busy may have kept us for half a minute
        return replaced

    def _insert(self, connection: Connection, batch: list[bytes]) -> None:
        rows = [
            {"generation": self.generation, "number": number, "data": chunk}
            for number, chunk in enumerate(batch, start=self._written)
        ]
        if rows:
            connection.execute(insert(self._tables.chunks), rows)

    def _still_ours(self, connection: Connection, change: Update | Delete) -> None:
        if connection.execute(change).rowcount != 1:
            raise Unavailable(f"{self._key} was reaped while it was written")


def remove_generation(database: Database, tables: Tables, generation: int) -> None:
    """Removes a draft's chunks, a few in each transaction, and at the end the draft."""
    while transact(database, partial(_remove_some, tables, generation), write=True, durable=True):
        pass


def _remove_some(tables: Tables, generation: int, connection: Connection) -> bool:
    """Whether there may be more."""
    lock, some, draft = tables.remove_some(generation)
    connection.execute(lock)
    removed = connection.execute(some).rowcount
    connection.execute(draft)
    return removed == REMOVED_AT_ONCE


def _take_manifest(connection: Connection, tables: Tables, key: str) -> int | None:
    """Removes the manifest and makes its generation a draft, which is answered."""
    draft, taken = tables.unname(key)
    connection.execute(draft)
    return connection.execute(taken).scalar()


def lock_key(connection: Connection, key: str) -> None:
    """Until the end of the transaction nobody else changes the key, not even one not there yet."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))
