"""How objects lie in rows of a database, and the statements that put, find and remove them.

    manifests   key → generation, size: what is visible
    chunks      (generation, number) → bytes, 256 KiB each
    drafts      generations that no manifest names: being written, or replaced and to be removed
    marker      the store's id

Whoever speaks to a database shares this page, whether it executes statements on a connection
(`database`) or sends their text (`turso`). Times are by the database's own clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Delete,
    Double,
    Insert,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    Table,
    Text,
    Update,
    delete,
    exists,
    insert,
    select,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.dml import ReturningDelete
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from soundkeep.digest import CHUNK_BYTES, chunk_count
from soundkeep.stores.interface import Key, Source, Stat

REMOVED_AT_ONCE = 32
LISTED_AT_ONCE = 256

_Text = Text().with_variant(Text(collation="C"), "postgresql")  # ordered by bytes, as SQLite does

Generation = int | ColumnElement[int]  # known, or found by the statement itself


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


class now(FunctionElement[float]):  # noqa: N801 - a function of SQL
    """The database's clock, in seconds since the epoch."""

    type = Double()
    inherit_cache = True


@compiles(now, "postgresql")
def _postgresql_now(element: now, compiler: Any, **options: Any) -> str:
    return "extract(epoch FROM clock_timestamp())"


@compiles(now, "sqlite")
def _sqlite_now(element: now, compiler: Any, **options: Any) -> str:
    return "(julianday('now') - 2440587.5) * 86400.0"


class Tables:
    """The store's tables, on PostgreSQL in a schema."""

    def __init__(self, schema: str | None = None) -> None:
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

    # --- the place --------------------------------------------------------------------------

    def marker_id(self) -> Select[str]:
        return select(self.marker.c.id)

    def mark(self, store_id: str) -> tuple[Delete, Insert]:
        return delete(self.marker), insert(self.marker).values(id=store_id)

    # --- what is visible --------------------------------------------------------------------

    def manifest(self, key: str) -> Select[str, int, int, float]:
        return self._manifests().where(self.manifests.c.key == key)

    def page(self, prefix: str, after: str) -> Select[str, int, int, float]:
        """Manifests in order; those behind the prefix's last are on it, too."""
        key = self.manifests.c.key
        some = self._manifests().where(key >= prefix, key > after).order_by(key)
        return some.limit(LISTED_AT_ONCE)

    def some_chunks(self, generation: Generation, first: int, last: int) -> Select[int, bytes]:
        """Those from `first` on and before `last`."""
        chunks = self.chunks.c
        return select(chunks.number, chunks.data).where(
            chunks.generation == generation, chunks.number >= first, chunks.number < last
        )

    def generation_of(self, key: str) -> ColumnElement[int]:
        """For other statements, which so need not be told it."""
        manifests = self.manifests.c
        return select(manifests.generation).where(manifests.key == key).scalar_subquery()

    # --- drafts -----------------------------------------------------------------------------

    def old_drafts(self, seconds: float) -> Select[int]:
        return select(self.drafts.c.generation).where(self.drafts.c.since <= now() - seconds)

    def begin(self, generation: int) -> Insert:
        return insert(self.drafts).values(generation=generation, since=now())

    def touch(self, generation: int) -> Update:
        """Changes one row, or none if the draft was reaped."""
        return update(self.drafts).where(self._is(generation)).values(since=now())

    def end(self, generation: int) -> Delete:
        """Makes it no draft: a manifest names it. Changes one row, or none as `touch`."""
        return delete(self.drafts).where(self._is(generation))

    def remove_some(self, generation: int) -> tuple[Select[Any], Delete, Delete]:
        """Locks the draft, removes a few of its chunks, and the draft itself when none is left.
        Without a row in `drafts` a manifest names the generation, and nothing is removed."""
        chunks = self.chunks.c
        all_of_it = select(chunks.number).where(chunks.generation == generation)
        return (
            select(self.drafts).where(self._is(generation)).with_for_update(),
            delete(self.chunks).where(
                chunks.generation == generation,
                chunks.number.in_(all_of_it.limit(REMOVED_AT_ONCE)),
                exists(select(self.drafts).where(self._is(generation))),
            ),
            self.end(generation).where(~exists(all_of_it)),
        )

    # --- what is to be visible --------------------------------------------------------------

    def if_draft(self, generation: int) -> ColumnElement[int]:
        """The generation for the two below. NULL if it is no draft, which no column takes."""
        return select(self.drafts.c.generation).where(self._is(generation)).scalar_subquery()

    def add_chunk(self, generation: Generation, number: int, data: bytes) -> Insert:
        row = {"generation": generation, "number": number, "data": data}
        return insert(self.chunks).values(row)

    def add_manifest(self, key: Key, source: Source, generation: Generation) -> Insert:
        return insert(self.manifests).values(
            key=str(key),
            generation=generation,
            size_bytes=source.size_bytes,
            sha256=source.digest.raw,
            media_type=source.media_type,
            created_at=now(),
        )

    def unname(self, key: str) -> tuple[Insert, ReturningDelete[int]]:
        """Makes the object a draft to be removed. The second statement tells its generation."""
        manifests = self.manifests.c
        named = select(manifests.generation, now()).where(manifests.key == key)
        return (
            insert(self.drafts).from_select(["generation", "since"], named),
            delete(self.manifests).where(manifests.key == key).returning(manifests.generation),
        )

    # --- inside -----------------------------------------------------------------------------

    def _manifests(self) -> Select[str, int, int, float]:
        columns = self.manifests.c
        return select(columns.key, columns.generation, columns.size_bytes, columns.created_at)

    def _is(self, generation: int) -> ColumnElement[bool]:
        return self.drafts.c.generation == generation


def chunks_wanted(start: int, stop: int, at_once: int) -> tuple[int, int]:
    """The chunk with the byte `start`, and where the few end that are asked for together: those
    that begin before the byte `stop`."""
    first = max(start, 0) // CHUNK_BYTES
    return first, min(first + at_once, chunk_count(stop))
