"""A store in a bucket of Google Cloud Storage, or a container of Azure's blob storage.

The requests are obstore's, which knows both services' ways to sign in. What it does not do for us
is done here: it has one error for a missing object and a missing bucket, so an absence is believed
only when the bucket is there; and it aborts an upload in parts only when its source fails, so that
is what happens when a put is cancelled.

Neither service looks at a SHA-256, so a put verifies nothing, and is read back one level up.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore

from soundkeep.errors import BadPath, Corrupt, NotFound, StoreError, Truncated
from soundkeep.stores.cloud_faults import Absent, looking, translated
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
from soundkeep.stores.pieces import check_fits, exactly, span

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import AzureStore, GCSStore

MIB = 1024 * 1024
SINGLE_PUT_BYTES = 8 * MIB  # larger objects go in parts
PART_BYTES = 8 * MIB
PARTS_AT_ONCE = 2
PIECE_BYTES = 256 * 1024
MARKER_BYTES = 4096
ENDS_WITHIN_SECONDS = 5  # an upload that is given up
LETS_GO_SECONDS = 0.1

# obstore 0.12 signs a name as it is encoded in the URL, and Azure compares with the name itself:
# a link to any other would be refused.
_SIGNABLE = re.compile(r"[A-Za-z0-9._/+&=-]+\Z")


class CloudStore:
    """Objects in what `remote` opens, each named by its key."""

    def __init__(
        self,
        name: str,
        remote: GCSStore | AzureStore,
        *,
        signs: bool,
        public: bool = False,
        max_bytes: int | None = None,
        types: frozenset[str] | None = None,
    ) -> None:
        self.name = name
        self.caps = Caps(signs=signs, public=public, max_bytes=max_bytes, types=types)
        self._remote = remote

    async def probe(self) -> None:
        """Lists the marker's neighbours, since only a list says that the bucket is missing; and
        where none is listed, asks for the marker: obstore takes a page of a network that wants
        somebody to log in for an empty list."""
        with translated(f"{self.name}: LIST"):
            async for some in obstore.list(self._remote, RESERVED_PREFIX.rstrip("/"), chunk_size=1):
                if some:
                    return
        with suppress(Absent), looking(f"{self.name}: HEAD {MARKER_KEY}"):
            await obstore.head_async(self._remote, MARKER_KEY)

    async def read_marker(self) -> str | None:
        try:
            return str(json.loads(await self._marker())["id"])
        except NotFound:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"{self.name}: its marker {MARKER_KEY} cannot be read") from error

    async def write_marker(self, store_id: str) -> None:
        await self.probe()
        note = json.dumps({"id": store_id}).encode()
        with translated(f"{self.name}: PUT {MARKER_KEY}"):
            await obstore.put_async(
                self._remote,
                MARKER_KEY,
                note,
                attributes={"Content-Type": "application/json"},
                use_multipart=False,
            )

    async def put(self, key: Key, source: Source) -> Receipt:
        check_fits(self.caps, source)
        if source.size_bytes <= SINGLE_PUT_BYTES:
            etag = await self._put_whole(str(key), source)
        else:
            etag = await self._put_in_parts(str(key), source)
        return Receipt(str(key), etag=etag)

    async def stat(self, locator: str) -> Stat | None:
        try:
            with looking(f"{self.name}: HEAD {locator}"):
                return _stat(await obstore.head_async(self._remote, str(Key(locator))))
        except Absent:
            await self.probe()
            return None

    async def open(self, locator: str, start: int = 0, stop: int | None = None) -> Bytes:
        if start or stop is not None:
            start, stop = await self._span(locator, start, stop)
            if start == stop:
                return
        try:
            async with aclosing(self._pieces(locator, start, stop)) as pieces:
                async for piece in pieces:
                    yield piece
        except Absent as error:
            raise await self._not_found(locator) from error

    async def delete(self, locator: str) -> None:
        with suppress(Absent), looking(f"{self.name}: DELETE {locator}"):
            await obstore.delete_async(self._remote, str(Key(locator)))

    async def list(self, prefix: str = "", after: str | None = None) -> AsyncIterator[Stat]:
        """obstore takes a prefix by whole segments, so the directory's objects are looked through;
        where a list cannot begin in the middle, it begins at the start and those are skipped."""
        directory = prefix.rpartition("/")[0] or None
        found = False
        with translated(f"{self.name}: LIST"):
            async for some in obstore.list(self._remote, directory, offset=after or None):
                for meta in some:
                    found = True
                    stat = _stat(meta)
                    if stat.locator > (after or "") and _is_listed(stat.locator, prefix):
                        yield stat
        if not found:
            await self.probe()

    async def sign(self, locator: str, expires_in: timedelta) -> str | None:
        if not self.caps.signs or not _SIGNABLE.match(locator):
            return None
        with translated(f"{self.name}: sign {locator}"):
            return await obstore.sign_async(self._remote, "GET", str(Key(locator)), expires_in)

    async def reap(self, older_than: timedelta) -> int:
        """Azure forgets blocks that nobody names after a week. For Google a rule of the bucket
        aborts uploads in parts, which obstore cannot list."""
        return 0

    async def close(self) -> None:
        """obstore's connections go with it. Its threads let go of an answer a moment after it was
        given, and a Python that ends in that moment aborts: one process of ten did
        (PyO3/pyo3-async-runtimes#40)."""
        await asyncio.sleep(LETS_GO_SECONDS)

    async def _marker(self) -> bytes:
        """Its beginning, if it is longer than any of ours."""
        note = b""
        async with aclosing(self.open(MARKER_KEY)) as pieces:
            async for piece in pieces:
                note += piece
                if len(note) > MARKER_BYTES:
                    break
        return note[:MARKER_BYTES]

    # --- writing ----------------------------------------------------------------------------

    async def _put_whole(self, key: str, source: Source) -> str | None:
        async with aclosing(exactly(source)) as pieces:
            data = b"".join([piece async for piece in pieces])
        with translated(f"{self.name}: PUT {key}"):
            done = await obstore.put_async(
                self._remote, key, data, attributes=_attributes(source), use_multipart=False
            )
        return done["e_tag"]

    async def _put_in_parts(self, key: str, source: Source) -> str | None:
        feed = _Feed(source)
        with translated(f"{self.name}: PUT {key}"):
            putting = asyncio.ensure_future(self._fed(key, source, feed))
            try:
                return await asyncio.shield(putting)
            except BaseException:
                feed.give_up()
                await asyncio.wait([putting], timeout=ENDS_WITHIN_SECONDS)
                if putting.done() and not putting.cancelled():
                    putting.exception()  # told already, or of no interest to who has gone
                if feed.failure is not None:
                    raise feed.failure from None
                raise
            finally:
                await feed.close()

    async def _fed(self, key: str, source: Source, feed: _Feed) -> str | None:
        done = await obstore.put_async(
            self._remote,
            key,
            feed,
            attributes=_attributes(source),
            use_multipart=True,
            chunk_size=PART_BYTES,
            max_concurrency=PARTS_AT_ONCE,
        )
        return done["e_tag"]

    # --- reading ----------------------------------------------------------------------------

    async def _pieces(self, locator: str, start: int, stop: int | None) -> Bytes:
        """What is there of the range, which is not empty. Raises `Absent`, too."""
        at = start
        with looking(f"{self.name}: GET {locator}"):
            options: Any = {"range": (start, stop)} if stop is not None else {}
            found = await obstore.get_async(self._remote, str(Key(locator)), options=options)
            end = found.meta["size"] if stop is None else stop
            async for piece in found.stream(min_chunk_size=PIECE_BYTES):
                if data := bytes(piece)[: end - at]:
                    at += len(data)
                    yield data
        if at < end:
            raise Truncated(f"{self.name}: {locator} ended at byte {at} of {end}")

    async def _span(self, locator: str, start: int, stop: int | None) -> tuple[int, int]:
        """The range with its end filled in; what lies outside is asked of nobody."""
        if stop is not None and 0 <= start < stop:
            return start, stop
        stat = await self.stat(locator)
        if stat is None:
            raise NotFound(f"{self.name} has no {locator}")
        return span(stat.size_bytes, start, stop)

    async def _not_found(self, locator: str) -> StoreError:
        await self.probe()
        return NotFound(f"{self.name} has no {locator}")


class _Feed:
    """A source as obstore takes it, which can be made to fail while it is waited for."""

    def __init__(self, source: Source) -> None:
        self._pieces = exactly(source)
        self._next: asyncio.Future[bytes | None] | None = None
        self._is_given_up = False
        self.failure: Exception | None = None  # what the source raised

    def __aiter__(self) -> _Feed:
        return self

    async def __anext__(self) -> bytes:
        if self._is_given_up:
            raise ConnectionAbortedError("the put was given up")
        self._next = asyncio.ensure_future(anext(self._pieces, None))
        try:
            piece = await self._next
        except asyncio.CancelledError:
            raise ConnectionAbortedError("the put was given up") from None
        except Exception as error:
            self.failure = error
            raise
        if piece is None:
            raise StopAsyncIteration
        return piece

    def give_up(self) -> None:
        """Nothing more comes, and the upload fails."""
        self._is_given_up = True
        if self._next is not None:
            self._next.cancel()

    async def close(self) -> None:
        await self._pieces.aclose()


def _attributes(source: Source) -> Any:
    """What is said of the object, for whoever serves it from there."""
    attributes: dict[str, str] = {"Content-Type": source.media_type}
    if source.cache_seconds is not None:
        attributes["Cache-Control"] = f"public, max-age={source.cache_seconds}"
    return attributes


def _stat(meta: ObjectMeta | Mapping[str, Any]) -> Stat:
    return Stat(
        meta["path"],
        meta["size"],
        etag=meta["e_tag"],
        modified_at=meta["last_modified"].timestamp(),
    )


def _is_listed(locator: str, prefix: str) -> bool:
    """A foreign object whose name is no key cannot be ours."""
    if not locator.startswith(prefix) or locator.startswith(RESERVED_PREFIX):
        return False
    try:
        Key(locator)
    except BadPath:
        return False
    return True
