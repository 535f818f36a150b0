"""The hot path: `GET /audio/{track_id}` as a plain ASGI class.

Every byte is verified before it is sent: `reading.body` sees to that, and goes on from another
copy at the exact byte when one fails. When nothing is left the connection is ended short of its
`Content-Length`: a cut sound must never look like a whole one. What can be answered without
waiting for anything is answered by `wire`, which asks `begin_at_once`. Measured choices are in
docs/decisions/0005.

A track with a good copy in a store of `delivery = redirect` is answered 307, always the long way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace

from soundkeep.access.keys import KeyRing
from soundkeep.copies.fronts import Fronts
from soundkeep.copies.placement import Rules
from soundkeep.errors import CatalogUnavailable, SoundkeepError, Unplayable
from soundkeep.model import Copy, Track
from soundkeep.ranges import (
    ByteRange,
    Unsatisfiable,
    if_range_holds,
    none_match_holds,
    parse_range,
)
from soundkeep.reading.body import Body, Local
from soundkeep.reading.lookup import Found, Lookup
from soundkeep.reading.reader import Reader
from soundkeep.reading.trusted import Buffer
from soundkeep.settings import Settings
from soundkeep.stores.interface import Store
from soundkeep.web.elsewhere import Elsewhere, Target
from soundkeep.web.exchange import Exchange, Message, Receive, Send, send_sound
from soundkeep.web.headers import (
    Headers,
    cors_headers,
    etag_of,
    header_lines,
    preflight_headers,
    sound_headers,
)
from soundkeep.web.problems import RETRY_SECONDS, problem

PREFIX = "/audio/"
STREAM_HERE = b"delivery=stream"  # a query: the listener will not be sent elsewhere
METHODS = b"GET, HEAD, OPTIONS"
CONDITIONS = frozenset((b"if-none-match", b"if-range"))
BODIES = frozenset((b"content-length", b"transfer-encoding", b"expect", b"upgrade"))
UNEXPECTED = "something went wrong here; the server's log says what"


@dataclass(slots=True)
class Begun:
    """An answer to be sent: its header lines, and where its pieces come from."""

    status: int
    lines: tuple[bytes, ...]
    size_bytes: int
    piece: Buffer | None  # the first, if it is at hand
    body: Body
    cors: bytes

    def refused(self, error: Exception) -> Begun:
        """What is sent instead when there is no first piece."""
        if isinstance(error, (Unplayable, CatalogUnavailable)):
            status, headers, document = refusal_for_now(error)
        else:
            status, headers, document = refusal(500, "internal", UNEXPECTED)
        return replace(
            self,
            status=status,
            lines=(header_lines(headers), self.cors),
            size_bytes=len(document),
            piece=document,
        )


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
        self._keys = keys
        rules = Rules.of(settings)
        self.elsewhere = Elsewhere(Fronts.of(settings, rules), stores, settings.policy.proof_age)
        self._origins = frozenset(settings.http.cors_origins)
        self._any_origin = (
            header_lines(cors_headers(None, self._origins)) if "*" in self._origins else b""
        )
        self.running = 0  # streams, for draining and figures
        self.sent_bytes = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.running += 1
        try:
            await self._answer(_Request(scope, receive, send, self._origins))
        finally:
            self.running -= 1

    def begin_at_once(self, url: bytes, headers: Headers, into: bytearray) -> Begun | None:
        """A plain answer to a GET of a sound that was just looked up; None if it is not as simple.

        Its first piece is there if it is in memory; it may be a view of `into`, of `PIECE_BYTES`.

        Nothing is refused here: what is not simple is looked at again, and answered, by the call
        of this class.
        """
        fields = dict(headers)
        if not (CONDITIONS | BODIES).isdisjoint(fields):
            return None
        sound = self._known(url)
        if sound is None or sound.target is not None:
            return None
        if not (sound.public or self._keys.allows(fields.get(b"authorization"))):
            return None
        asked = parse_range(_text(fields, b"range"), sound.size_bytes)
        if isinstance(asked, Unsatisfiable) or not sound.size_bytes:
            return None
        start, stop = (asked.start, asked.stop) if asked else (0, sound.size_bytes)
        body = Body(self._reader, sound.blob, start, stop, sound.local, sound.copies)
        piece = body.next_at_once(into)
        cors = self._any_origin or header_lines(cors_headers(fields.get(b"origin"), self._origins))
        status, *lines = sound.head_lines(asked)
        return Begun(status, (*lines, cors), stop - start, piece, body, cors)

    def _known(self, url: bytes) -> Sound | None:
        """The sound of a plain URL if it was looked up within the last second."""
        if b"?" in url or b"%" in url:
            return None
        for track_id in _ids(url[len(PREFIX) :].decode("latin-1")):
            known, found = self._lookup.cached(track_id)
            if found is not None:
                return self._prepared(found)
            if not known:
                return None
        return None

    async def _answer(self, request: _Request) -> None:
        if request.method == "OPTIONS":
            await request.send(204, [(b"allow", METHODS), *preflight_headers()])
        elif request.method not in ("GET", "HEAD"):
            allow = (b"allow", METHODS)
            await request.refuse(405, "method_not_allowed", "sound is read with GET or HEAD", allow)
        else:
            try:
                sound = await self._find(request.path[len(PREFIX) :])
            except CatalogUnavailable as error:
                await request.refuse_for_now(error)
                return
            if sound is None or not self._may_hear(sound, request):
                await request.refuse(404, "no_such_track", "there is no such track")
            else:
                await self._send_sound(sound, request)

    async def _find(self, name: str) -> Sound | None:
        """The whole name is looked up first; then it may be an id with an extension."""
        for track_id in _ids(name):
            known, found = self._lookup.cached(track_id)
            if not known:
                found = await self._lookup.track(track_id)
            if found is not None:
                return self._prepared(found)
        return None

    def _prepared(self, found: Found) -> Sound:
        """Made once for each look-up, so once a second at most."""
        if not isinstance(found.prepared, Sound):
            local = self._reader.order.best_file(found.copies)
            target = self.elsewhere.redirection(found.track, found.copies, found.out)
            found.prepared = Sound(found.track, found.copies, local, target)
        return found.prepared

    def _may_hear(self, sound: Sound, request: _Request) -> bool:
        return sound.public or self._keys.allows(request.headers.get(b"authorization"))

    async def _send_sound(self, sound: Sound, request: _Request) -> None:
        """Conditions come before the range (RFC 9110, 13.2.2)."""
        if not none_match_holds(request.text(b"if-none-match"), sound.etag):
            await request.send(304, sound.headers)
            return
        if sound.target is not None and await self._sent_elsewhere(sound.target, request):
            return
        asked = request.range_of(sound)
        if isinstance(asked, Unsatisfiable):
            content_range = (b"content-range", b"bytes */%d" % sound.size_bytes)
            await request.refuse(
                416, "range_not_satisfiable", "the range lies beyond the end", content_range
            )
        elif request.method == "HEAD":
            await request.send(*sound.head(asked))
        else:
            start, stop = (asked.start, asked.stop) if asked else (0, sound.size_bytes)
            body = Body(self._reader, sound.blob, start, stop, sound.local, sound.copies)
            try:
                await self._stream(body, stop - start, sound.head(asked), request)
            finally:
                await body.close()

    async def _sent_elsewhere(self, target: Target, request: _Request) -> bool:
        """Sends the listener to a store, unless it asked for our own stream or nobody signs now.
        Where to is true only now, so it is never cached."""
        if request.wants_stream_here:
            return False
        address = await self.elsewhere.address(target)
        if address is not None:
            location = (b"location", address.url.encode("latin-1"))
            empty, fleeting = (b"content-length", b"0"), (b"cache-control", b"no-store")
            await request.send(307, [location, empty, fleeting])
        return address is not None

    async def _stream(
        self, body: Body, size_bytes: int, head: tuple[int, Headers], request: _Request
    ) -> None:
        """Nothing is promised before the first piece is there; nothing ends cleanly too soon."""
        try:
            piece = await body.next()
        except (Unplayable, CatalogUnavailable) as error:
            await request.refuse_for_now(error)
            return
        await request.start(*head)
        await send_sound(request, body, piece, size_bytes, self._sent)

    def _sent(self, size_bytes: int) -> None:
        self.sent_bytes += size_bytes


class Sound:
    """A track as the hot path wants it: what can be made beforehand is made once."""

    __slots__ = (
        "_lines",
        "_whole",
        "blob",
        "copies",
        "etag",
        "headers",
        "local",
        "public",
        "size_bytes",
        "target",
    )

    def __init__(
        self, track: Track, copies: tuple[Copy, ...], local: Local | None, target: Target | None
    ) -> None:
        self.copies = copies
        self.public = track.public
        self.blob = track.blob
        self.size_bytes = track.blob.size_bytes
        self.etag = etag_of(track)
        self.local = local  # the best copy and its file, if the best copy is a file
        self.target = target  # where listeners are sent instead
        self.headers = sound_headers(track)
        self._whole = [*self.headers, (b"content-type", track.blob.sound.media_type.encode())]
        self._lines = header_lines(self._whole)

    def head(self, asked: ByteRange | None) -> tuple[int, Headers]:
        """Status and headers of an answer with a body."""
        if asked is None:
            return 200, [*self._whole, (b"content-length", b"%d" % self.size_bytes)]
        return 206, [
            *self._whole,
            (b"content-length", b"%d" % asked.size_bytes),
            (b"content-range", asked.content_range(self.size_bytes).encode()),
        ]

    def head_lines(self, asked: ByteRange | None) -> tuple[int, bytes, bytes]:
        """The same as it goes over the wire: the status, and two runs of header lines."""
        size = self.size_bytes
        if asked is None:
            return 200, self._lines, b"content-length: %d\r\n" % size
        length = b"content-length: %d\r\n" % asked.size_bytes
        return (
            206,
            self._lines,
            length + b"content-range: %b\r\n" % asked.content_range(size).encode(),
        )


class _Request(Exchange):
    """One request for sound."""

    __slots__ = ("_origins",)

    def __init__(
        self, scope: Message, receive: Receive, send: Send, origins: frozenset[str]
    ) -> None:
        super().__init__(scope, receive, send)
        self._origins = origins

    @property
    def wants_stream_here(self) -> bool:
        """Whether it says that it will not be sent elsewhere."""
        return STREAM_HERE in self.query.split(b"&")

    def range_of(self, sound: Sound) -> ByteRange | Unsatisfiable | None:
        """What is asked for: a range has a meaning for GET only (RFC 9110, 14.2), and only of the
        content that the client has in mind (13.1.5)."""
        if self.method != "GET" or not if_range_holds(self.text(b"if-range"), sound.etag):
            return None
        return parse_range(self.text(b"range"), sound.size_bytes)

    def start(self, status: int, headers: Headers) -> Awaitable[None]:
        cors = cors_headers(self.headers.get(b"origin"), self._origins)
        return super().start(status, headers + cors)

    async def send(self, status: int, headers: Headers) -> None:
        """An answer without a body, by its status or its method."""
        await self.start(status, headers)
        await self.body(b"", more=False)

    async def refuse(self, status: int, code: str, detail: str, *more: tuple[bytes, bytes]) -> None:
        """A problem document."""
        await self._send_refusal(*refusal(status, code, detail, *more))

    async def refuse_for_now(self, error: SoundkeepError) -> None:
        """What may go well a little later."""
        await self._send_refusal(*refusal_for_now(error))

    async def _send_refusal(self, status: int, headers: Headers, document: bytes) -> None:
        await self.start(status, headers)
        await self.body(b"" if self.method == "HEAD" else document, more=False)


Refusal = tuple[int, Headers, bytes]


def refusal(status: int, code: str, detail: str, *more: tuple[bytes, bytes]) -> Refusal:
    """A problem document: its status, its headers and itself."""
    document = problem(status, code, detail)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(document)),
        (b"cache-control", b"no-store"),
        *more,
    ]
    return status, headers, document


def refusal_for_now(error: SoundkeepError) -> Refusal:
    """What may go well a little later."""
    retry_after = (b"retry-after", b"%d" % RETRY_SECONDS)
    return refusal(503, error.code, str(error), retry_after)


def _ids(name: str) -> tuple[str, ...]:
    """What a name may mean, in this order: an id, and an id with an extension."""
    stem, dot, _ = name.rpartition(".")
    return (name, stem) if dot else (name,)


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = fields.get(name)
    return None if value is None else value.decode("latin-1")
