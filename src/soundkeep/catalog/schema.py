"""The catalog's tables: what should be true and what is.

Written with SQLAlchemy Core for SQLite and PostgreSQL alike. Times are seconds since the epoch
by the database's own clock. Paths and keys compare by bytes on both, so that prefix listing is a
range scan of an index.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

metadata = MetaData()

ByteText = Text().with_variant(Text(collation="C"), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows only as INTEGER


class now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function it is
    """Seconds since the epoch by the database's clock, in the middle of a transaction too."""

    type = Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **options: object) -> str:
    """`unixepoch('subsec')` is NULL before SQLite 3.42, and a comparison with NULL never holds."""
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **options: object) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


def _claimable() -> tuple[Column[Any], ...]:
    """What every table has whose rows are work: see `claims.py`."""
    return (
        Column("chore", Text),
        Column("lane", Text, nullable=False),
        Column("due_at", Double, nullable=False),
        Column("lease_token", Text),
        Column("lease_holder", Text),
        Column("attempts", Integer, nullable=False),
        Column("last_error", Text),
    )


def _partial(name: str, *columns: Column[Any], where: ColumnElement[bool]) -> None:
    """An index of those rows only that meet the condition."""
    Index(name, *columns, sqlite_where=where, postgresql_where=where)


blobs = Table(
    "blobs",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("chunk_hashes", LargeBinary, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("extension", Text, nullable=False),
    Column("codec", Text, nullable=False),
    Column("duration_seconds", Double, nullable=False),
    Column("bit_rate", Integer),
    Column("channels", Integer),
    Column("sample_rate_hz", Integer),
    Column("tags", Text, nullable=False),  # JSON
    Column("created_at", Double, nullable=False),
)

tracks = Table(
    "tracks",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("id", ByteText, nullable=False, unique=True),
    Column("owner", ByteText, nullable=False),
    Column("path", ByteText, nullable=False),
    Column("title", Text, nullable=False),
    Column("visibility", Text, nullable=False),
    Column("metadata", Text, nullable=False),  # JSON, as the application wrote it
    Column("words", Text, nullable=False),  # what search looks through; see search.py
    Column("asked", Text, nullable=False, server_default="{}"),  # JSON: store → `model.Asked`
    Column("own_keys", Text, nullable=False, server_default="{}"),  # JSON: store → key
    Column("digest", LargeBinary(32), ForeignKey("blobs.digest"), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("revision", Integer, nullable=False),
    UniqueConstraint("owner", "path", name="one_track_per_path"),
    Index("tracks_by_path", "path", "seq"),
    sqlite_autoincrement=True,
)

copies = Table(
    "copies",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary(32), ForeignKey("blobs.digest"), nullable=False, index=True),
    Column("store", ByteText, nullable=False),
    Column("key", ByteText, nullable=False),
    Column("locator", Text),
    Column("state", Text, nullable=False),
    Column("wish", Text, nullable=False),
    Column("since", Double, nullable=False),
    Column("verified", Text),
    Column("verified_at", Double),
    Column("seen_at", Double),  # when a scrub last saw that it is there, without reading it
    # What every claimable table has; see claims.py. A row at rest has no chore.
    *_claimable(),
    UniqueConstraint("store", "key", name="one_copy_per_key"),
    sqlite_autoincrement=True,  # a number never means another copy later
)

sidecars = Table(
    "sidecars",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary(32), nullable=False, index=True),  # may outlive the blob's row
    Column("kind", Text, nullable=False, server_default="track"),  # see `model.Subject`
    Column("name", ByteText, nullable=False),  # a track's id or a segment's key; outlives both
    Column("store", ByteText, nullable=False),
    Column("key", ByteText, nullable=False),
    Column("audio_key", ByteText, nullable=False),
    Column("public", Boolean, nullable=False),  # then it does not name the owner
    Column("locator", Text),
    Column("wish", Text, nullable=False),
    Column("wanted", Integer, nullable=False),  # the revision that it should show
    Column("revision", Integer),  # the one that it shows; None if it was never written
    *_claimable(),
    UniqueConstraint("store", "key", name="one_sidecar_per_key"),
    sqlite_autoincrement=True,  # a receipt's number never means another sidecar later
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("track_id", ByteText, primary_key=True),
    Column("owner", ByteText, nullable=False),
    Column("path", ByteText, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("visibility", Text, nullable=False),
    Column("deleted_at", Double, nullable=False),
)

removals = Table(
    "removals",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("track_id", ByteText, nullable=False, index=True),
    Column("store", ByteText, nullable=False),
    Column("key", ByteText, nullable=False),
    Column("copy_id", Serial, index=True),  # None when the copy stays
    Column("sidecar_id", Serial, index=True),  # of a line about a sidecar
    Column("outcome", Text, nullable=False),  # see `answers.Removal`
    Column("confirmed_at", Double),
)

stores = Table(
    "stores",
    metadata,
    Column("name", ByteText, primary_key=True),
    Column("store_id", Text, nullable=False),  # what its marker must say
    Column("marked_at", Double),  # when the marker was written; None while it never was
    Column("kind", Text, nullable=False),
    Column("first_seen_at", Double, nullable=False),
    Column("opened_at", Double),  # when its circuit opened; None while it is closed
    Column("probe_at", Double),
    Column("error_code", Text),
    Column("error", Text),
    Column("draining_at", Double),  # since when nothing is placed there; None while it is in use
)

scrubs = Table(
    "scrubs",
    metadata,
    Column("store", ByteText, primary_key=True),
    Column("turn_token", Text),  # of the process that scrubs it now
    Column("turn_until", Double),
    Column("pass_began_at", Double, nullable=False),
    Column("full_pass_at", Double),  # when every copy had last been looked at since a pass began
    Column("copies_read", BigInteger, nullable=False),
    Column("bytes_read", BigInteger, nullable=False),
)

finds = Table(
    "finds",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("copy_id", Serial, nullable=False, index=True),
    Column("store", ByteText, nullable=False, index=True),
    Column("key", ByteText, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("why", Text, nullable=False),
    Column("found_at", Double, nullable=False),
    Column("healed_at", Double),
    sqlite_autoincrement=True,
)

orphans = Table(
    "orphans",
    metadata,
    Column("store", ByteText, primary_key=True),
    Column("key", ByteText, primary_key=True),  # its locator there
    Column("size_bytes", BigInteger, nullable=False),
    Column("first_seen_at", Double, nullable=False),
    Column("last_seen_at", Double, nullable=False),
)

errands = Table(
    "errands",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("store", ByteText, nullable=False),
    Column("key", ByteText),  # of the object to adopt
    Column("track_id", ByteText),  # of the track to sync
    Column("operation", Text, nullable=False, server_default="upload"),  # of a sync
    # As `_claimable`, but other programs write these rows, and say no more than they must.
    Column("chore", Text),
    Column("lane", Text, nullable=False, server_default="b"),
    Column("due_at", Double, nullable=False, server_default="0"),
    Column("lease_token", Text),
    Column("lease_holder", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    sqlite_autoincrement=True,
)

facts = Table(
    "facts",
    metadata,
    Column("name", ByteText, primary_key=True),
    Column("value", Text, nullable=False),  # JSON
    Column("at", Double, nullable=False),
)

renditions = Table(
    "renditions",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("track_id", ByteText, nullable=False),
    Column("format", ByteText, nullable=False),
    Column("rendition_id", ByteText, index=True),  # the track that it is, once it is made
    Column("created_at", Double, nullable=False),
    *_claimable(),
    UniqueConstraint("track_id", "format"),
    sqlite_autoincrement=True,
)

segments = Table(
    "segments",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("key", ByteText, nullable=False, unique=True),
    Column("engine", ByteText, nullable=False),
    Column("model", ByteText, nullable=False),
    Column("voice", ByteText, nullable=False),
    Column("owner", ByteText),  # whose alone it is; None where owners share
    Column("request", Text, nullable=False),  # the canonical JSON of which the key was made
    Column("text", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("digest", LargeBinary(32), ForeignKey("blobs.digest"), index=True),
    Column("timing", Text),  # JSON
    Column("characters", BigInteger),  # as the provider counted them
    Column("cost_billionths", BigInteger),  # what a hit saves
    Column("currency", Text),
    Column("hits", BigInteger, nullable=False),
    Column("refusals", Integer, nullable=False),  # by the judge, one after another
    Column("created_at", Double, nullable=False),
    Column("revision", Integer, nullable=False, server_default="1"),  # of what its sidecar says
    # What every claimable table has; see claims.py. A segment that is there has no chore.
    *_claimable(),
    sqlite_autoincrement=True,
)

segment_keys = Table(
    "segment_keys",
    metadata,
    Column("other_key", ByteText, primary_key=True),  # of an older form, or of an import
    Column("segment_key", ByteText, nullable=False, index=True),
)

refused_takes = Table(
    "refused_takes",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("segment_key", ByteText, nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("host", Text, nullable=False),  # whose disk has it
    Column("file", Text, nullable=False),
    Column("made_at", Double, nullable=False),
    sqlite_autoincrement=True,
)

speeches = Table(
    "speeches",
    metadata,
    Column("key", ByteText, primary_key=True),
    Column("format", Text, nullable=False),
    Column("segments", Text, nullable=False),  # JSON: their keys in order
    Column("digest", LargeBinary(32), ForeignKey("blobs.digest"), index=True),
    Column("hits", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("script", Text),  # JSON: the shown text, and where its segments lie
    Column("last_heard_at", Double),
)

speech_keys = Table(
    "speech_keys",
    metadata,
    Column("other_key", ByteText, primary_key=True),  # of an import
    Column("speech_key", ByteText, nullable=False, index=True),
)

SPEECH = (segments, speeches)  # what names a blob besides tracks

speech_tracks = Table(
    "speech_tracks",
    metadata,
    Column("speech_key", ByteText, primary_key=True),
    Column("owner", ByteText, primary_key=True),
    Column("collection", ByteText, primary_key=True),
    Column("track_id", ByteText, nullable=False, index=True),
)

purses = Table(
    "purses",
    metadata,
    Column("owner", ByteText, primary_key=True),
    Column("month", ByteText, primary_key=True),  # 2026-11, in UTC
    Column("currency", ByteText, primary_key=True),
    Column("spent_billionths", BigInteger, nullable=False),  # the sum over its intents
)

intents = Table(
    "intents",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("segment_key", ByteText, nullable=False, index=True),
    Column("engine", ByteText, nullable=False),
    Column("model", ByteText, nullable=False),
    Column("voice", ByteText, nullable=False),
    Column("owner", ByteText, nullable=False),  # who pays
    Column("month", ByteText, nullable=False),
    Column("currency", ByteText, nullable=False),  # "" where no price is known
    Column("holder", Text, nullable=False),  # the process that calls
    Column("lease_token", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("characters", BigInteger, nullable=False),  # estimated, then as they were counted
    Column("estimate_billionths", BigInteger, nullable=False),
    Column("cost_billionths", BigInteger, nullable=False),  # the estimate until it is known
    Column("request_id", Text),
    Column("error", Text),
    Column("made_at", Double, nullable=False),
    Column("ended_at", Double),
    Index("intents_by_month", "month", "owner"),
    sqlite_autoincrement=True,
)

speech_hits = Table(
    "speech_hits",
    metadata,
    Column("day", ByteText, primary_key=True),  # 2026-11-21, in UTC
    Column("owner", ByteText, primary_key=True),
    Column("engine", ByteText, primary_key=True),
    Column("model", ByteText, primary_key=True),
    Column("voice", ByteText, primary_key=True),
    Column("currency", ByteText, primary_key=True),
    Column("hits", BigInteger, nullable=False),
    Column("misses", BigInteger, nullable=False),
    Column("saved_billionths", BigInteger, nullable=False),
    Column("first_bytes", BigInteger, nullable=False),  # answers whose first byte was timed
    Column("first_byte_seconds", Double, nullable=False),  # all of them together
)

plans = Table(
    "plans",
    metadata,
    Column("id", ByteText, primary_key=True),
    Column("owner", ByteText, nullable=False),  # who pays
    Column("name", Text, nullable=False),
    Column("engine", ByteText, nullable=False),
    Column("model", ByteText, nullable=False),
    Column("request", Text, nullable=False),  # canonical, but for its text and its voice
    Column("format", Text, nullable=False),
    Column("voices", Text, nullable=False),  # JSON: their ids, the first one first
    Column("collection", ByteText),
    Column("budget_billionths", BigInteger),
    Column("spent_billionths", BigInteger, nullable=False),  # with the estimates of what is in hand
    Column("currency", Text, nullable=False),  # "" where no price is known
    Column("rate_per_minute", Double),
    Column("window", Text),
    Column("ordering", Text, nullable=False),
    Column("standing", Boolean, nullable=False),
    Column("texts", BigInteger, nullable=False),  # how many were taken up
    Column("state", Text, nullable=False),
    Column("next_at", Double, nullable=False),  # before it nothing is begun
    Column("failures", Integer, nullable=False),  # of the engine, one after another
    Column("last_error", Text),
    Column("created_at", Double, nullable=False),
)

plan_items = Table(
    "plan_items",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("plan_id", ByteText, nullable=False),
    Column("segment_key", ByteText, nullable=False),
    Column("request", Text, nullable=False),  # canonical
    Column("place", BigInteger, nullable=False),  # its turn
    Column("characters", BigInteger, nullable=False),
    Column("estimate_billionths", BigInteger, nullable=False),
    Column("counted_billionths", BigInteger, nullable=False),  # its share of what the plan spent
    Column("begun_at", Double),  # what was paid for the segment since then is the plan's
    Column("state", Text, nullable=False),
    # What every claimable table has; see claims.py. An item that has ended has no chore.
    *_claimable(),
    UniqueConstraint("plan_id", "segment_key", name="one_item_per_segment"),
    sqlite_autoincrement=True,
)

plan_speeches = Table(
    "plan_speeches",
    metadata,
    Column("plan_id", ByteText, primary_key=True),
    Column("speech_key", ByteText, primary_key=True),  # its texts are taken up already
)

_partial(
    "public_tracks_by_path", tracks.c.path, tracks.c.seq, where=tracks.c.visibility == "public"
)
_partial(
    "copies_to_claim",
    copies.c.chore,
    copies.c.store,
    copies.c.lane,
    copies.c.due_at,
    where=copies.c.chore.is_not(None),
)
_partial("copies_not_at_rest", copies.c.state, copies.c.id, where=copies.c.state != "present")
_partial("copies_that_failed", copies.c.id, where=copies.c.last_error.is_not(None))
_partial("copies_by_holder", copies.c.lease_holder, where=copies.c.lease_holder.is_not(None))
_partial(
    "sidecars_to_claim",
    sidecars.c.chore,
    sidecars.c.store,
    sidecars.c.lane,
    sidecars.c.due_at,
    where=sidecars.c.chore.is_not(None),
)
_partial("sidecars_that_failed", sidecars.c.id, where=sidecars.c.last_error.is_not(None))
_partial("sidecars_by_holder", sidecars.c.lease_holder, where=sidecars.c.lease_holder.is_not(None))
_partial(
    "renditions_to_claim",
    renditions.c.chore,
    renditions.c.lane,
    renditions.c.due_at,
    where=renditions.c.chore.is_not(None),
)
_partial(
    "segments_to_claim",
    segments.c.chore,
    segments.c.engine,
    segments.c.lane,
    segments.c.due_at,
    where=segments.c.chore.is_not(None),
)
_partial("segments_by_holder", segments.c.lease_holder, where=segments.c.lease_holder.is_not(None))
_partial("intents_that_are_open", intents.c.holder, where=intents.c.state == "open")
_partial(
    "errands_to_claim",
    errands.c.chore,
    errands.c.store,
    errands.c.lane,
    errands.c.due_at,
    where=errands.c.chore.is_not(None),
)
_partial("errands_by_holder", errands.c.lease_holder, where=errands.c.lease_holder.is_not(None))
Index("speech_tracks_by_collection", speech_tracks.c.collection, speech_tracks.c.owner)
_partial(
    "plan_items_to_claim",
    plan_items.c.plan_id,
    plan_items.c.place,
    where=plan_items.c.chore.is_not(None),
)
_partial(
    "plan_items_by_holder", plan_items.c.lease_holder, where=plan_items.c.lease_holder.is_not(None)
)
