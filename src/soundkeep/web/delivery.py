"""The hot path: `GET /audio/{track_id}` as a plain ASGI class.

Every byte is verified before it is sent. A file of this machine is read inline, a chunk at a
time; whatever goes wrong with it, `reading` continues at the exact byte from the next copy. When
nothing is left the connection is aborted: a short body must never look like a clean end.
Measured choices are in docs/decisions/0005.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing
from typing import Any

from soundkeep.access.keys import KeyRing
from soundkeep.digest import CHUNK_BYTES
from soundkeep.errors import CatalogUnavailable, StoreError, Unplayable
from soundkeep.model import Copy, Track
from soundkeep.ranges import (
    ByteRange,
    Unsatisfiable,
    if_range_holds,
    none_match_holds,
    parse_range,
)
from soundkeep.reading.lookup import Found, Lookup
from soundkeep.reading.order import local_path
from soundkeep.reading.reader import Reader
from soundkeep.reading.trusted import LocalFile, Trust
from soundkeep.settings import Settings
from soundkeep.stores.interface import Store
from soundkeep.web.headers import (
    Headers,
    cors_headers,
    etag_of,
    preflight_headers,
    sound_headers,
)
from soundkeep.web.problems import problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PREFIX = "/audio/"
WATCHED_BYTES = 2 * 1024 * 1024  # longer bodies notice when their listener has gone

Pieces = AsyncGenerator[bytes | bytearray, None]


class Delivery:
    """Answers everything under `/audio/`."""

    def __init__(
        self,
        lookup: Lookup,
        reader: Reader,
        stores: Mapping[str, Store],
        keys: KeyRing,
        settings: Settings,
    ) -> None:
        self._lookup = lookup
        self._reader = reader
        self._stores = stores
        self._keys = keys
        self._origins = frozenset(settings.http.cors_origins)
        self._trust = Trust(settings.reading.trust_seconds)
        self.running = 0  # streams, for draining and figures
        self.sent_bytes = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.running += 1
        try:
            await self._answer(_Request(scope, receive, send, self._origins))
        finally:
            self.running -= 1

    async def _answer(self, request: _Request) -> None:
        if request.method == "OPTIONS":
            await request.send(204, preflight_headers())
            return
        if request.method not in ("GET", "HEAD"):
            await request.refuse(405, "method_not_allowed", "sound is read with GET or HEAD")
            return
        try:
            found = await self._find(request.path[len(PREFIX) :])
        except CatalogUnavailable as error:
            await request.refuse(503, error.code, str(error))
            return
        if found is None or not self._may_hear(found.track, request):
            await request.refuse(404, "no_such_track", "there is no such track")
            return
        await self._send_sound(found, request)

    async def _find(self, name: str) -> Found | None:
        """The whole name is looked up first; then it may be an id with an extension."""
        for track_id in dict.fromkeys((name, name.rpartition(".")[0])):
            known, found = self._lookup.cached(track_id)
            if not known and track_id:
                found = await self._lookup.track(track_id)
            if found is not None:
                return found
        return None

    def _may_hear(self, track: Track, request: _Request) -> bool:
        return track.public or self._keys.allows(request.headers.get(b"authorization"))

    async def _send_sound(self, found: Found, request: _Request) -> None:
        headers = found.headers
        if headers is None:
            headers = found.headers = sound_headers(found.track)
        assert isinstance(headers, list)
        etag, size = etag_of(found.track), found.track.blob.size_bytes
        if not none_match_holds(request.text(b"if-none-match"), etag):
            await request.send(304, headers)
            return
        asked = parse_range(request.text(b"range"), size)
        if asked is not None and not if_range_holds(request.text(b"if-range"), etag):
            asked = None
        if isinstance(asked, Unsatisfiable):
            unsatisfiable = [*headers, (b"content-range", b"bytes */%d" % size)]
            await request.send(416, unsatisfiable)
            return
        await self._send_range(found, asked, headers, request)

    async def _send_range(
        self, found: Found, asked: ByteRange | None, headers: Headers, request: _Request
    ) -> None:
        blob = found.track.blob
        wanted = asked or ByteRange(0, blob.size_bytes)
        headers = [
            *headers,
            (b"content-type", blob.sound.media_type.encode()),
            (b"content-length", b"%d" % wanted.size_bytes),
        ]
        if asked is not None:
            headers.append((b"content-range", asked.content_range(blob.size_bytes).encode()))
        status = 206 if asked is not None else 200
        if request.method == "HEAD":
            await request.send(status, headers)
            return
        async with aclosing(self._pieces(found, wanted)) as pieces:
            await self._stream(pieces, wanted, status, headers, request)

    async def _stream(
        self, pieces: Pieces, wanted: ByteRange, status: int, headers: Headers, request: _Request
    ) -> None:
        """Nothing is promised before the first piece is there; nothing ends cleanly too soon."""
        try:
            piece = await anext(pieces, b"")
        except Unplayable as error:
            await request.refuse(503, error.code, str(error), [(b"retry-after", b"5")])
            return
        await request.start(status, headers)
        left = wanted.size_bytes - len(piece)
        async with _Watch(request, enabled=left > WATCHED_BYTES) as watch:
            await request.body(piece, more=left > 0)
            async for piece in pieces:
                left -= len(piece)
                await request.body(piece, more=left > 0)
                if watch.gone:
                    return
        self.sent_bytes += wanted.size_bytes

    async def _pieces(self, found: Found, wanted: ByteRange) -> Pieces:
        """Verified pieces: from a local file while it is good, then from wherever they are."""
        at = wanted.start
        local = self._local(found)
        if local is not None:
            copy, file = local
            try:
                while at < wanted.stop:
                    stop = min(wanted.stop, at - at % CHUNK_BYTES + CHUNK_BYTES)
                    try:
                        piece = file.read(at, stop, wait=False)
                    except BlockingIOError:
                        piece = await asyncio.to_thread(file.read, at, stop)
                    yield piece
                    at = stop
            except StoreError as error:
                self._reader.failed(copy, error)
            finally:
                file.close()
        if at < wanted.stop:
            rest = self._reader.open(found.track.blob, at, wanted.stop)
            async with aclosing(rest):
                async for piece in rest:
                    yield piece

    def _local(self, found: Found) -> tuple[Copy, LocalFile] | None:
        """The best copy's file, if the best copy is a file and can be opened."""
        best = next(iter(self._reader.order.sort(found.copies)), None)
        path = local_path(self._stores[best.store], best) if best else None
        if best is None or path is None:
            return None
        try:
            return best, LocalFile(path, found.track.blob, self._trust)
        except StoreError as error:
            self._reader.failed(best, error)
            return None


class _Request:
    """One request, as the hot path wants it."""

    __slots__ = ("_origin", "_origins", "_send", "headers", "method", "path", "receive")

    def __init__(
        self, scope: Message, receive: Receive, send: Send, origins: frozenset[str]
    ) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.receive = receive
        self._send = send
        self._origins = origins
        self._origin = self.headers.get(b"origin")

    def text(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def start(self, status: int, headers: Headers) -> None:
        every = headers + cors_headers(self._origin, self._origins)
        await self._send({"type": "http.response.start", "status": status, "headers": every})

    async def body(self, piece: bytes | bytearray, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})

    async def send(self, status: int, headers: Headers) -> None:
        """An answer without a body."""
        if status not in (204, 304) and not any(name == b"content-length" for name, _ in headers):
            headers = [*headers, (b"content-length", b"0")]
        await self.start(status, headers)
        await self.body(b"", more=False)

    async def refuse(
        self, status: int, code: str, detail: str, more: Headers | None = None
    ) -> None:
        """A problem document."""
        body = problem(status, code, detail)
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            *(more or []),
        ]
        await self.start(status, headers)
        await self.body(b"" if self.method == "HEAD" else body, more=False)


class _Watch:
    """Notices that a listener has gone: servers do not say so when something is sent."""

    def __init__(self, request: _Request, *, enabled: bool) -> None:
        self._request = request
        self._task: asyncio.Task[None] | None = None
        self._enabled = enabled

    async def __aenter__(self) -> _Watch:
        if self._enabled:
            self._task = asyncio.create_task(self._wait())
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._task is not None:
            self._task.cancel()

    @property
    def gone(self) -> bool:
        return self._task is not None and self._task.done()

    async def _wait(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
