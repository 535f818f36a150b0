"""A store in a database: SQLite or PostgreSQL, rows of 256 KiB.

    manifests   key → generation, size: what is visible
    chunks      (generation, number) → bytes
    drafts      generations that no manifest names: being written, or replaced and to be removed
    marker      the store's id

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
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Delete,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    Table,
    Text,
    Update,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from soundkeep.digest import CHUNK_BYTES, chunk_count, chunk_span, chunks_touching
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
from soundkeep.stores.sql import READERS, Database, create, database, transact
from soundkeep.stores.threads import Draft, Threads

BATCH_CHUNKS = 8
READ_AT_ONCE = 4  # chunks in one transaction: 1 MiB
REMOVED_AT_ONCE = 32
LISTED_AT_ONCE = 256

_Text = Text().with_variant(Text(collation="C"), "postgresql")  # ordered by bytes, as SQLite does

R = TypeVar("R")


class Tables:
    """The store's tables, on PostgreSQL in a schema."""

    def __init__(self, schema: str | None) -> None:
        self.all = MetaData(schema=schema)
        self.manifests = Table(
            "manifests",
            self.all,
            Column("key", _Text, primary_key=True),
            Column("generation", BigInteger, nullable=False, unique=True),
            Column("size_bytes", BigInteger, nullable=False),
            Column("sha256", LargeBinary, nullable=False),  # as announced, for who reads by hand
            Column("media_type", Text, nullable=False),
            Column("created_at", Double, nullable=False),
        )
        self.chunks = Table(
            "chunks",
            self.all,
            Column("generation", BigInteger, primary_key=True, autoincrement=False),
            Column("number", Integer, primary_key=True, autoincrement=False),
            Column("data", LargeBinary, nullable=False),
        )
        self.drafts = Table(
            "drafts",
            self.all,
            Column("generation", BigInteger, primary_key=True, autoincrement=False),
            Column("since", Double, nullable=False),
        )
        self.marker = Table("marker", self.all, Column("id", Text, primary_key=True))


@dataclass(frozen=True, slots=True)
class Manifest:
    """One visible object."""

    key: str
    generation: int
    size_bytes: int
    created_at: float

    @property
    def stat(self) -> Stat:
        return Stat(self.key, self.size_bytes, str(self.generation), self.created_at)


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
                held = await self._read(partial(self._chunks, manifest.generation, number, stop))
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
        return connection.execute(select(self._tables.marker.c.id)).scalars().first()

    def _mark(self, connection: Connection, store_id: str) -> None:
        lock_key(connection, MARKER_KEY)
        connection.execute(delete(self._tables.marker))
        connection.execute(insert(self._tables.marker).values(id=store_id))

    def _old_drafts(self, seconds: float, connection: Connection) -> Sequence[int]:
        drafts = self._tables.drafts
        old = select(drafts.c.generation).where(drafts.c.since <= now(connection) - seconds)
        return connection.execute(old).scalars().all()

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
        statement = self._select_manifests().where(self._tables.manifests.c.key == locator)
        row = await self._read(lambda connection: connection.execute(statement).one_or_none())
        return Manifest(*row) if row else None

    def _page(self, prefix: str, after: str, connection: Connection) -> Sequence[Manifest]:
        key = self._tables.manifests.c.key
        statement = self._select_manifests().where(key >= prefix, key > after).order_by(key)
        return [Manifest(*row) for row in connection.execute(statement.limit(LISTED_AT_ONCE))]

    def _select_manifests(self) -> Select[str, int, int, float]:
        columns = self._tables.manifests.c
        return select(columns.key, columns.generation, columns.size_bytes, columns.created_at)

    def _begin(
        self, locator: str, start: int, stop: int | None, connection: Connection
    ) -> tuple[Manifest | None, dict[int, bytes]]:
        """The manifest, and the first chunks of the range."""
        statement = self._select_manifests().where(self._tables.manifests.c.key == locator)
        row = connection.execute(statement).one_or_none()
        if row is None:
            return None, {}
        manifest = Manifest(*row)
        end = manifest.size_bytes if stop is None else min(stop, manifest.size_bytes)
        first = max(start, 0) // CHUNK_BYTES
        return manifest, self._chunks(manifest.generation, first, end, connection)

    def _chunks(
        self, generation: int, first: int, stop: int, connection: Connection
    ) -> dict[int, bytes]:
        """A few chunks at once: `first` and those after it that begin before the byte `stop`."""
        chunks = self._tables.chunks.c
        last = min(first + READ_AT_ONCE, chunk_count(stop))
        wanted = select(chunks.number, chunks.data).where(
            chunks.generation == generation, chunks.number >= first, chunks.number < last
        )
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
        self._key = str(key)
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
            self._still_ours(connection, update(self._tables.drafts).values(since=now(connection)))
        else:
            _make_draft(connection, self._tables, self.generation)
        self._insert(connection, batch)

    def _finish(self, last: list[bytes], connection: Connection) -> int | None:
        lock_key(connection, self._key)
        if self._written:
            self._still_ours(connection, delete(self._tables.drafts))
        self._insert(connection, last)
        replaced = _take_manifest(connection, self._tables, self._key)
        connection.execute(
            insert(self._tables.manifests).values(
                key=self._key,
                generation=self.generation,
                size_bytes=self._source.size_bytes,
                sha256=self._source.digest.raw,
                media_type=self._source.media_type,
                created_at=now(connection),
            )
        )
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
        mine = change.where(self._tables.drafts.c.generation == self.generation)
        if connection.execute(mine).rowcount != 1:
            raise Unavailable(f"{self._key} was reaped while it was written")


def remove_generation(database: Database, tables: Tables, generation: int) -> None:
    """Removes a draft's chunks, a few in each transaction, and at the end the draft."""
    while transact(database, partial(_remove_some, tables, generation), write=True, durable=True):
        pass


def _remove_some(tables: Tables, generation: int, connection: Connection) -> bool:
    """Whether there may be more. Without a row in `drafts` a manifest names the generation."""
    draft, chunks = tables.drafts, tables.chunks
    ours = draft.c.generation == generation
    if connection.execute(select(draft).where(ours).with_for_update()).first() is None:
        return False
    some = select(chunks.c.number).where(chunks.c.generation == generation).limit(REMOVED_AT_ONCE)
    numbers = connection.execute(some).scalars().all()
    connection.execute(
        delete(chunks).where(chunks.c.generation == generation, chunks.c.number.in_(numbers))
    )
    if len(numbers) < REMOVED_AT_ONCE:
        connection.execute(delete(draft).where(ours))
    return len(numbers) == REMOVED_AT_ONCE


def _take_manifest(connection: Connection, tables: Tables, key: str) -> int | None:
    """Removes the manifest and makes its generation a draft, which is answered."""
    taken = delete(tables.manifests).where(tables.manifests.c.key == key)
    generation = connection.execute(taken.returning(tables.manifests.c.generation)).scalar()
    if generation is not None:
        _make_draft(connection, tables, generation)
    return generation


def _make_draft(connection: Connection, tables: Tables, generation: int) -> None:
    row = insert(tables.drafts).values(generation=generation, since=now(connection))
    connection.execute(row)


def lock_key(connection: Connection, key: str) -> None:
    """Until the end of the transaction nobody else changes the key, not even one not there yet."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))


def now(connection: Connection) -> ColumnElement[float]:
    """The database's clock, in seconds since the epoch."""
    if connection.dialect.name == "postgresql":
        return literal_column("extract(epoch FROM clock_timestamp())", Double)
    return literal_column("(julianday('now') - 2440587.5) * 86400.0", Double)
