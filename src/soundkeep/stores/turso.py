"""A store in a libSQL database, asked over HTTP: Turso, or a `sqld` of one's own.

Objects lie in rows of 256 KiB as `rows` says, the same as in a SQLite file of the store
`database`. Each request is one transaction: a put sends a few chunks at a time, and with the last
of them the manifest; a range is read a few chunks at a time, and only those it touches.

A draft that was reaped while it was written makes the database refuse the next request of its
put, so that no object appears with chunks missing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from datetime import timedelta

from sqlalchemy.schema import CreateTable

from soundkeep.digest import CHUNK_BYTES, chunk_span, chunks_touching
from soundkeep.errors import Corrupt, NotFound, StoreError, Truncated
from soundkeep.stores.hrana import Hrana, Row, Statement
from soundkeep.stores.http_service import PHASES, Phases
from soundkeep.stores.interface import RESERVED_PREFIX, Bytes, Caps, Key, Receipt, Source, Stat
from soundkeep.stores.pieces import check_fits, exactly, regrouped, span
from soundkeep.stores.rows import REMOVED_AT_ONCE, Manifest, Tables, chunks_wanted

WRITE_AT_ONCE = 4  # chunks in one request: 1 MiB, and a third more in base64
READ_AT_ONCE = 4
TIDY_SECONDS = 10


class TursoStore:
    """Rows in the database at `url`, which begins with http:// or https://."""

    def __init__(
        self,
        name: str,
        url: str,
        token: str | None = None,
        *,
        phases: Phases = PHASES,
        public: bool = False,
        max_bytes: int | None = None,
        types: frozenset[str] | None = None,
    ) -> None:
        self.name = name
        self.caps = Caps(public=public, max_bytes=max_bytes, types=types)
        self._tables = Tables()
        self._hrana = Hrana(name, url, token, phases)
        self._tidying: set[asyncio.Task[None]] = set()

    async def probe(self) -> None:
        await self.read_marker()

    async def read_marker(self) -> str | None:
        rows = await self._rows(self._tables.marker_id())
        return str(rows[0][0]) if rows else None

    async def write_marker(self, store_id: str) -> None:
        tables = self._tables.all.sorted_tables
        made = (CreateTable(table, if_not_exists=True) for table in tables)
        await self._hrana.write(*made, *self._tables.mark(store_id))

    async def put(self, key: Key, source: Source) -> Receipt:
        check_fits(self.caps, source)
        generation = secrets.randbits(62)
        try:
            replaced = await self._fill(key, source, generation)
        except BaseException:
            self._remove_later(generation)
            raise
        if replaced is not None:
            self._remove_later(replaced)
        return Receipt(str(key), etag=str(generation))

    async def stat(self, locator: str) -> Stat | None:
        rows = await self._rows(self._tables.manifest(locator))
        return Manifest(*rows[0]).stat if rows else None

    async def open(self, locator: str, start: int = 0, stop: int | None = None) -> Bytes:
        manifest, held = await self._begin(locator, start, stop)
        start, stop = span(manifest.size_bytes, start, stop)
        numbers = list(chunks_touching(start, stop)) if start < stop else []
        for number in numbers:
            if number not in held and (number - numbers[0]) % READ_AT_ONCE == 0:
                held = await self._chunks(manifest.generation, number * CHUNK_BYTES, stop)
            first, last = chunk_span(number, manifest.size_bytes)
            data = held.pop(number, None)
            if data is None or len(data) != last - first:
                raise Truncated(f"{self.name} has not all of {locator}: chunk {number}")
            yield data[max(start - first, 0) : stop - first]

    async def delete(self, locator: str) -> None:
        _, taken = await self._hrana.write(*self._tables.unname(locator))
        for (generation,) in taken.rows:
            await self._remove(generation)

    async def list(self, prefix: str = "", after: str | None = None) -> AsyncIterator[Stat]:
        last = after or ""
        while rows := await self._rows(self._tables.page(prefix, last)):
            for manifest in (Manifest(*row) for row in rows):
                if not manifest.key.startswith(prefix):
                    return
                if not manifest.key.startswith(RESERVED_PREFIX):
                    yield manifest.stat
            last = rows[-1][0]

    async def sign(self, locator: str, expires_in: timedelta) -> str | None:
        return None

    async def reap(self, older_than: timedelta) -> int:
        old = await self._rows(self._tables.old_drafts(older_than.total_seconds()))
        for (generation,) in old:
            await self._remove(generation)
        return len(old)

    async def close(self) -> None:
        """What is being removed has some seconds; `reap` finds what is left."""
        if self._tidying:
            _, late = await asyncio.wait(self._tidying, timeout=TIDY_SECONDS)
            for task in late:
                task.cancel()
        await self._hrana.close()

    # --- reading ----------------------------------------------------------------------------

    async def _begin(
        self, locator: str, start: int, stop: int | None
    ) -> tuple[Manifest, dict[int, bytes]]:
        """The manifest, and the first chunks of the range, in one request."""
        end = start + READ_AT_ONCE * CHUNK_BYTES if stop is None else max(start, stop)
        first, last = chunks_wanted(start, end, READ_AT_ONCE)
        generation = self._tables.generation_of(locator)
        manifests, chunks = await self._hrana.read(
            self._tables.manifest(locator), self._tables.some_chunks(generation, first, last)
        )
        if not manifests.rows:
            raise NotFound(f"{self.name} has no {locator}")
        return Manifest(*manifests.rows[0]), self._held(chunks.rows)

    async def _chunks(self, generation: int, start: int, stop: int) -> dict[int, bytes]:
        first, last = chunks_wanted(start, stop, READ_AT_ONCE)
        return self._held(await self._rows(self._tables.some_chunks(generation, first, last)))

    def _held(self, rows: Sequence[Row]) -> dict[int, bytes]:
        for number, data in rows:
            if not isinstance(data, bytes):  # SQLite keeps any type there
                raise Corrupt(f"{self.name}: chunk {number} is no bytes")
        return dict(rows)

    async def _rows(self, statement: Statement) -> Sequence[Row]:
        (answered,) = await self._hrana.read(statement)
        return answered.rows

    # --- writing ----------------------------------------------------------------------------

    async def _fill(self, key: Key, source: Source, generation: int) -> int | None:
        """Sends all but the last batch, then that one together with the manifest. Answers the
        generation replaced."""
        sent = 0
        held: Sequence[bytes] = []
        async with aclosing(regrouped(exactly(source), CHUNK_BYTES)) as chunks:
            async for chunk in chunks:
                if len(held) == WRITE_AT_ONCE:
                    await self._hrana.write(*self._added(generation, sent, held))
                    sent, held = sent + len(held), []
                held = [*held, chunk]
        draft, taken = self._tables.unname(str(key))
        ours = self._tables.if_draft(generation)
        *_, gone, _, _ = await self._hrana.write(
            *self._added(generation, sent, held),
            draft,
            taken,
            self._tables.add_manifest(key, source, ours),
            self._tables.end(generation),
        )
        return gone.rows[0][0] if gone.rows else None

    def _added(self, generation: int, sent: int, chunks: Sequence[bytes]) -> Sequence[Statement]:
        """Fails if the draft was reaped since the last call."""
        ours = self._tables.if_draft(generation)
        begins = self._tables.touch(generation) if sent else self._tables.begin(generation)
        adds = (
            self._tables.add_chunk(ours, number, chunk)
            for number, chunk in enumerate(chunks, start=sent)
        )
        return [begins, *adds]

    async def _remove(self, generation: int) -> None:
        """Removes a draft's chunks, a few in each transaction, and at the end the draft."""
        while True:
            _, chunks, _ = await self._hrana.write(*self._tables.remove_some(generation))
            if chunks.changed < REMOVED_AT_ONCE:
                return

    def _remove_later(self, generation: int) -> None:
        """Nobody waits for it, and nobody learns how it went: what it misses, `reap` finds."""
        task = asyncio.create_task(self._try_to_remove(generation))
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)

    async def _try_to_remove(self, generation: int) -> None:
        with suppress(StoreError):
            await self._remove(generation)
