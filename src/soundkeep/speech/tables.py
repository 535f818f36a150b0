"""Foreign tables of what was spoken elsewhere: their lines, and what their columns mean to us.

A table is a CSV file or a table of a SQLite, libSQL or PostgreSQL database, which is only read. The
columns that tables usually have are known (`KNOWN`); others are named by the operator, as
`column=field`. Lines are read one by one, so a table of any size, with sounds in it, takes no more
memory than its largest line.
"""

from __future__ import annotations

import asyncio
import csv
import json
import math
import re
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from soundkeep.errors import BadInput, BadMetadata, SettingsError
from soundkeep.names import metadata_object, owner_name, title_text, track_id, track_path

FIELDS = (
    "key",
    "text",
    "voice",
    "engine",
    "model",
    "language",
    "speed",
    "audio",
    "id",
    "path",
    "title",
    "owner",
    "collection",
    "hits",
    "last_heard",
    "metadata",
    "claims",
)
# What the columns of such tables are usually called.
KNOWN = {
    "content_hash": "key",
    "contentHash": "key",
    "text": "text",
    "voice": "voice",
    "voice_id": "voice",
    "voiceId": "voice",
    "model": "model",
    "model_id": "model",
    "language": "language",
    "speed": "speed",
    "speaking_rate": "speed",
    "audio_blob": "audio",
    "storage_url": "audio",
    "audio_url": "audio",
    "file_path": "audio",
    "cdn_url": "audio",
    "track_id": "id",
    "title": "title",
    "book_id": "collection",
    "bookId": "collection",
    "metadata": "metadata",
    "storage_locations": "claims",
}
HITS, LAST_HEARD = "cacheHits", "lastAccessedAt"  # of a column `metadata`
MAX_KEY_CHARS = 200
MAX_HITS = 10**12  # more would be no count
MILLISECONDS_FROM = 10**11  # a number of seconds that large is thousands of years away

_SINCE_EPOCH = re.compile(r"\d{9,}(\.\d+)?", re.ASCII)  # in a CSV file; an ISO date has 8 digits


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table, counted from 1."""

    number: int
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a line says, each field of its type. `audio` is bytes, an address or a path."""

    key: str | None
    text: str | None
    speech: Mapping[str, Any]  # the other fields of a request for it
    audio: bytes | str
    id: str | None
    path: str | None
    title: str | None
    owner: str
    collection: str | None
    hits: int
    last_heard_at: float | None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    claims: Mapping[str, Any] = field(default_factory=dict)  # which stores have it, as it says
    urls: tuple[str, ...] = ()  # where it says that the sound is

    @property
    def is_url(self) -> bool:
        return isinstance(self.audio, str) and self.audio.startswith(("http://", "https://"))


FindFile: TypeAlias = Callable[[str | None, str | None, str | None], str]


class Mapped:
    """Which columns a table has, and what each means. Raises `SettingsError` if that is nothing."""

    def __init__(
        self,
        columns: Iterable[str],
        said: Mapping[str, str],
        defaults: Mapping[str, str],
        find_file: FindFile | None = None,
    ) -> None:
        """`find_file` finds the file of a line that has no audio, by its id, title and path."""
        there = list(columns)
        for column, name in said.items():
            if column not in there:
                raise SettingsError(f"there is no column {column!r}; there are {', '.join(there)}")
            if name and name not in FIELDS:
                raise SettingsError(f"there is no field {name!r}; there are {', '.join(FIELDS)}")
        fields = {column: said.get(column, KNOWN.get(column, "")) for column in there}
        self._columns = {
            name: sorted((c for c in there if fields[c] == name), key=lambda c: c not in said)
            for name in FIELDS
        }
        self._defaults = defaults
        self._find_file = find_file
        if not self._columns["audio"] and find_file is None:
            raise SettingsError(f"say by --map which column has the audio: {', '.join(there)}")
        if not any(self._columns[name] for name in ("key", "text", "id")):
            raise SettingsError("say by --map which column is the key, the text or the id")

    def name(self, line: Line) -> str:
        """How a person finds the line, whatever else it says: the lines of a database have no
        order that lasts."""
        said = self._text(line, "key") or self._text(line, "id")
        return f"line {line.number}" + (f" ({said[:MAX_KEY_CHARS]})" if said else "")

    def entry(self, line: Line) -> Entry:
        """What the line says. Raises `BadInput`."""
        metadata = _metadata(self._first(line, "metadata"))
        key, audio = self._text(line, "key"), self._first(line, "audio")
        if key is not None and (len(key) > MAX_KEY_CHARS or not key.isprintable()):
            raise BadInput(f"a key has at most {MAX_KEY_CHARS} printable characters")
        id_, path, title = (self._text(line, name) for name in ("id", "path", "title"))
        collection = self._text(line, "collection")
        if audio is None:
            audio = self._file(id_, title, path)
        entry = Entry(
            key=key,
            text=self._text(line, "text"),
            speech=self._speech(line),
            audio=bytes(audio) if isinstance(audio, bytes | memoryview) else str(audio),
            id=track_id(id_) if id_ else None,
            path=track_path(path) if path else None,
            title=title_text(title) if title else None,
            owner=owner_name(str(self._first(line, "owner"))),
            collection=track_path(collection) if collection else None,
            hits=_hits(self._first(line, "hits"), metadata),
            last_heard_at=_when(self._first(line, "last_heard") or metadata.get(LAST_HEARD)),
            metadata=metadata,
            claims=_metadata(self._first(line, "claims")),
            urls=tuple(self._urls(line)),
        )
        if not (entry.key or entry.text or entry.id):
            raise BadInput("it has no key, no text and no id")
        return entry

    def _urls(self, line: Line) -> Iterator[str]:
        for column in self._columns["audio"]:
            value = line.cells.get(column)
            if isinstance(value, str) and value.startswith(("http://", "https://")):
                yield value

    def _file(self, id_: str | None, title: str | None, path: str | None) -> str:
        if self._find_file is None:
            raise BadInput("it has no audio")
        return self._find_file(id_, title, path)

    def _speech(self, line: Line) -> dict[str, Any]:
        names = ("voice", "engine", "model", "language")
        given: dict[str, Any] = {name: self._text(line, name) for name in names}
        speed = self._first(line, "speed")
        given["speed"] = None if speed is None else _number("speed", speed)
        return given

    def _text(self, line: Line, name: str) -> str | None:
        value = self._first(line, name)
        return None if value is None else str(value).strip() or None

    def _first(self, line: Line, name: str) -> Any:
        """The first of the field's columns that says anything, else what holds for all lines."""
        for column in self._columns[name]:
            value = line.cells.get(column)
            if value not in (None, "", b""):
                return value
        return self._defaults.get(name)


# --- reading --------------------------------------------------------------------------------


class Table:
    """A foreign table: its columns, and its lines in order."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self._rows = rows
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="foreign-table")
        self.columns: tuple[str, ...] = ()

    async def open(self) -> None:
        """Reads the names of the columns. Raises `SettingsError` if there is no such table."""
        first = await self._next()
        if first is None:
            raise SettingsError("the table has no columns")
        self.columns = tuple(map(str, first))

    async def lines(self) -> AsyncGenerator[Line, None]:
        """Every line. Raises `SettingsError` when the table cannot be read any further."""
        number = 0
        while (row := await self._next()) is not None:
            number += 1
            yield Line(number, dict(zip(self.columns, row, strict=False)))

    async def close(self) -> None:
        """Gives back the connection, or the file."""
        close = getattr(self._rows, "close", None)
        if close is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown()

    async def _next(self) -> tuple[Any, ...] | None:
        """In one thread of its own, as SQLite wants it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, _step, self._rows)


def csv_table(path: Path) -> Table:
    """A CSV file with the names of its columns in the first line."""
    return Table(_csv_rows(path))


def database_table(url: str, table: str) -> Table:
    """A table of a database. A libSQL file is a SQLite file."""
    return Table(_database_rows(url, table))


def _step(rows: Iterator[tuple[Any, ...]]) -> tuple[Any, ...] | None:
    try:
        return next(rows, None)
    except (SQLAlchemyError, OSError, UnicodeDecodeError, csv.Error) as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines() or [""]
        raise SettingsError(f"the table cannot be read: {said[0]}") from None


def _csv_rows(path: Path) -> Iterator[tuple[Any, ...]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a chapter is longer than its default
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from map(tuple, csv.reader(file))


def _database_rows(url: str, table: str) -> Iterator[tuple[Any, ...]]:
    """Reads only: what is not there is not made."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if not Path(parsed.database or "").is_file():
            raise SettingsError(f"there is no file {parsed.database}")
        parsed = make_url(f"sqlite:///file:{parsed.database}?mode=ro&uri=true")
    engine = create_engine(parsed)
    quote = engine.dialect.identifier_preparer.quote_identifier
    query = text(f"SELECT * FROM {'.'.join(map(quote, table.split('.')))}")  # noqa: S608 - quoted
    try:
        with (
            engine.connect().execution_options(yield_per=1) as connection,
            closing(connection.execute(query)) as found,
        ):
            yield tuple(found.keys())
            yield from map(tuple, found)
    finally:
        engine.dispose()


# --- cells ----------------------------------------------------------------------------------


def _metadata(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        return metadata_object(value if isinstance(value, dict) else json.loads(value))
    except (ValueError, TypeError, RecursionError):
        raise BadMetadata("its metadata is not valid JSON") from None


def _hits(value: Any, metadata: Mapping[str, Any]) -> int:
    hits = value if value is not None else metadata.get(HITS)
    return min(MAX_HITS, max(0, int(_number("hits", hits)))) if hits is not None else 0


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise BadInput(f"{name} is a number, not {ascii(value)[:40]}")
    return number


def _when(value: Any) -> float | None:
    """Seconds since the epoch, of a date, an ISO text, or a number of seconds or milliseconds."""
    if value is None:
        return None
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, int | float) or _SINCE_EPOCH.fullmatch(str(value)):
        seconds = _number("last_heard", value)
        return seconds / 1000 if seconds > MILLISECONDS_FROM else seconds
    else:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            raise BadInput(f"{ascii(value)[:40]} is no date") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
