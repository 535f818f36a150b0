"""A request and its answer, one at a time, over one connection that is kept.

A general client passes a body on in pieces of whatever size they came, through several buffers;
at the pace of a store in the same rack that is most of what relaying costs (docs/decisions/0008).
Here each chunk of an answer is received straight into memory of its own. This client knows
HTTP/1.1 as far as an object store speaks it: an answer with its length. Of an answer without, it
reads so much as says why something was refused.

Faults are of `OSError`: `EndedEarly`, `TimeoutError`, and `ConnectionError`.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import time
from collections.abc import Mapping
from typing import Any

import httptools

from soundkeep.digest import CHUNK_BYTES
from soundkeep.stores.http_parts import Head, Room, acknowledged_by_peer

HEAD_BYTES = 16 * 1024
BEGINNING_BYTES = 16 * 1024  # as much is read of an answer that is no sound
HELD_SECONDS = 1.0  # what came of a chunk is passed on then, also if it is not whole
SENT_AHEAD_BYTES = 2 * CHUNK_BYTES  # of a request's body, that the system has not taken yet

_ROOM_FOR_NOTHING = bytearray(1)


class EndedEarly(ConnectionError):
    """The connection ended before the answer did."""


class _Phase(enum.Enum):
    """What the next bytes of a connection are."""

    RESTING = enum.auto()  # nobody has asked: there should be none
    HEAD = enum.auto()
    BODY = enum.auto()
    UNMEASURED = enum.auto()  # a body without a length


class Connection(asyncio.BufferedProtocol):
    """One connection, and the answer that is being read from it.

    A chunk is received into memory of its own, which is what the reader gets; when it is whole, and
    nobody has come for it, nothing more is received.
    """

    def __init__(self, first_byte_seconds: float, between_bytes_seconds: float) -> None:
        self._first_byte_seconds = first_byte_seconds
        self._between_bytes_seconds = between_bytes_seconds
        self._tick_seconds = min(HELD_SECONDS, first_byte_seconds / 2, between_bytes_seconds / 2)
        self._loop = asyncio.get_running_loop()
        self._phase = _Phase.RESTING
        self._answer = Head()
        self._parser: httptools.HttpResponseParser | None = None  # of a body without a length
        self._memory = bytearray(HEAD_BYTES)  # for heads, and for a body without a length
        self._begin = 0  # of what is in it and was not parsed yet
        self._end = 0
        self._room: Room | None = None  # for the chunk that is being received
        self._held = 0  # so many bytes of it came
        self._left = 0  # bytes of the body that are still to come
        self._owed = CHUNK_BYTES  # so many make up the chunk that is being taken
        self._waiter: asyncio.Future[None] | None = None
        self._limit_seconds = first_byte_seconds  # how long the other side may be silent now
        self._silent_since = 0.0
        self._waits_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._held_long = False
        self._paused = False
        self._full = False  # the system takes nothing more of a request for now
        self._has_body = False
        self._unsent = 0  # bytes of its body that were not given yet
        self._waiting_bytes = 0  # of what was given, when we last looked
        self._acknowledged_bytes = 0  # by the other side, of all that was sent, when we last looked
        self._fault: OSError | None = None
        self.rests_since = 0.0

    # --- what a reader calls ------------------------------------------------------------------

    async def ask(self, request: bytes) -> None:
        """Sends a request without a body and waits for the head of its answer."""
        self.begin(request)
        await self.answered(self._first_byte_seconds)

    def begin(self, request: bytes, size_bytes: int = 0) -> None:
        """Sends the head of a request, whose body of `size_bytes` is still to be given."""
        self._phase = _Phase.HEAD
        self._answer = Head()
        self._begin = self._end = self._held = 0
        self._room = None
        self._owed = CHUNK_BYTES
        self._has_body = size_bytes > 0
        self._unsent = size_bytes
        if self._fault is None:  # else whoever gives, or waits for the answer, hears of it
            self._timer = self._loop.call_later(self._tick_seconds, self._tick)
            self._transport.write(request)

    async def give(self, piece: bytes | memoryview) -> bool:
        """Sends a piece of the body, and waits until there is room for another. False if the server
        has answered before it had everything: it wants no more."""
        if self._phase is not _Phase.HEAD:
            return False
        if self._fault is not None:
            raise self._fault
        self._limit_seconds = self._between_bytes_seconds
        self._transport.write(piece)
        self._unsent -= len(piece)
        while self._full and self._phase is _Phase.HEAD:
            await self._wait()
        return True

    async def answered(self, seconds: float) -> None:
        """Waits for the head of the answer, if it has not come yet."""
        self._limit_seconds = seconds
        try:
            while self._phase is _Phase.HEAD:
                await self._wait()
            if self._is_owed() and self.status < 300:
                raise ConnectionError("the server says it is done before it had everything")
        except BaseException:
            self.end()
            raise
        self._limit_seconds = self._between_bytes_seconds

    @property
    def was_answered(self) -> bool:
        """Whether anything at all came for the last request."""
        return self._end > 0 or self._phase is not _Phase.HEAD

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        """By names in lower case."""
        return self._answer.headers

    @property
    def content_length(self) -> int | None:
        return self._answer.length

    async def piece(self) -> bytes:
        """The next chunk of a body with a length, or what came of it in `HELD_SECONDS`; empty at
        the end. What came before a fault is given before it is raised."""
        while not self._is_due():
            await self._wait()
        return self._taken()

    async def beginning(self) -> bytes:
        """The beginning of the body, whatever its form; all of it if it is no longer."""
        body = self._answer.body
        while len(body) < BEGINNING_BYTES:
            if self._phase is _Phase.BODY:
                piece = await self.piece()
                if not piece:
                    break
                body += piece
            elif self._answer.ended:
                break
            else:
                await self._wait()
        return bytes(body)

    def rest(self) -> bool:
        """Makes it ready to be kept; False if it cannot be: request or answer are not whole."""
        unread = self._left or self._held or not self._is_whole()
        if not self.is_open or unread or self._is_unread_there() or not self._answer.keeps:
            return False
        self._stop_clock()
        self._phase = _Phase.RESTING
        self._begin = self._end = 0
        self.rests_since = time.monotonic()
        return True

    def end(self) -> None:
        self._stop_clock()
        self._transport.abort()

    @property
    def is_open(self) -> bool:
        return self._fault is None and not self._transport.is_closing()

    # --- what the transport calls -------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        self._socket: socket.socket = transport.get_extra_info("socket")
        transport.set_write_buffer_limits(high=SENT_AHEAD_BYTES)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._is_over():
            return memoryview(_ROOM_FOR_NOTHING)
        if self._phase is not _Phase.BODY:
            return memoryview(self._memory)[self._end :]
        if self._room is None:
            self._room = Room(min(self._owed, self._left))
        return self._room.view[self._held :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_over():
            self._fail(ConnectionError("the server says more than it was asked"))
            return
        if self._phase is _Phase.BODY:
            self._held += nbytes
            self._left -= nbytes
            self._silent_since = self._loop.time()
            if self._is_due():
                self._pause()
                self._wake()
        else:
            self._end += nbytes
            self._parse()

    def eof_received(self) -> None:
        """A body without a length may end so."""
        self._answer.ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._answer.ended = True
        self._fail(exc if isinstance(exc, OSError) else EndedEarly("the connection ended"))

    # --- inside -------------------------------------------------------------------------------

    def _parse(self) -> None:
        try:
            if self._phase is _Phase.HEAD:
                self._take_head()
            if self._phase is _Phase.UNMEASURED:
                assert self._parser is not None
                self._parser.feed_data(self._memory[self._begin : self._end])
                self._begin = self._end = 0
                self._wake()
        except (httptools.HttpParserError, ValueError):
            self._fail(ConnectionError("what answers does not speak HTTP"))

    def _take_head(self) -> None:
        """Raises `HttpParserError`, and `ValueError` for a head that cannot be."""
        while (stop := self._memory.find(b"\r\n\r\n", self._begin, self._end) + 4) > 3:
            answer = Head()
            parser = httptools.HttpResponseParser(answer)
            parser.feed_data(self._memory[self._begin : stop])
            self._begin = stop
            answer.status, answer.version = parser.get_status_code(), parser.get_http_version()
            if answer.status >= 200:  # those below only announce it
                self._begin_body(answer, parser)
                return
        if self._end == HEAD_BYTES:
            raise ValueError("the head is too long")

    def _begin_body(self, answer: Head, parser: httptools.HttpResponseParser) -> None:
        self._answer = answer
        if answer.length is None:
            self._phase, self._parser = _Phase.UNMEASURED, parser
        else:
            self._phase, self._left = _Phase.BODY, answer.length
            if self._end > self._begin:
                self._take_first(memoryview(self._memory)[self._begin : self._end])
        self._wake()

    def _take_first(self, came: memoryview) -> None:
        """What of the body came with the head."""
        if len(came) > self._left:
            raise ValueError("the answer is longer than it says")
        self._room = Room(min(self._owed, self._left))
        self._room.view[: len(came)] = came
        self._held = len(came)
        self._left -= len(came)

    def _is_over(self) -> bool:
        """Whether the server has nothing to say now."""
        return self._phase is _Phase.RESTING or (self._is_whole() and not self._left)

    def _is_whole(self) -> bool:
        """Whether the answer has an end that is told, and not only that of the connection."""
        told = self._phase is _Phase.UNMEASURED and self._answer.whole
        return told or self._phase is _Phase.BODY

    def _is_owed(self) -> bool:
        """Whether something of the request has not left this process."""
        return bool(self._unsent or self._transport.get_write_buffer_size())

    def _is_unread_there(self) -> bool:
        """Whether the server may not have read the whole request. Of a body that it refused nobody
        knows: the next request could wait behind it until the time is over."""
        return self._is_owed() or (self._has_body and self.status >= 300)

    def _is_due(self) -> bool:
        """Whether there is something to take: a whole chunk, the rest, what is held for long, or
        what came before the fault."""
        if not self._left or self._fault is not None:
            return True
        return self._held == self._owed or (self._held_long and self._held > 0)

    def _taken(self) -> bytes:
        data = self._room.taken(self._held) if self._room is not None else b""
        if not data and self._left and self._fault is not None:
            raise self._fault
        self._room, self._held = None, 0
        self._owed = self._owed - len(data) or CHUNK_BYTES
        self._held_long = False
        if self._paused and self._fault is None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def _pause(self) -> None:
        """Until what is there was taken. The end of an answer is no reason: a kept connection is
        listened to, since its server may close it."""
        if self._left and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    async def _wait(self) -> None:
        """Until something has changed. Raises what is wrong with the connection."""
        if self._fault is not None:
            raise self._fault
        self._silent_since = self._waits_since = self._loop.time()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, fault: OSError) -> None:
        if self._fault is None:
            self._fault = fault
        self._stop_clock()
        self._transport.abort()
        self._wake()

    def _tick(self) -> None:
        """Looks from time to time whether somebody waits in vain. A slow listener does not."""
        self._timer = self._loop.call_later(self._tick_seconds, self._tick)
        if self._waiter is None:
            return
        now = self._loop.time()
        if self._has_body and self._phase is _Phase.HEAD and self._takes_on():
            self._silent_since = now
        if now - self._silent_since >= self._limit_seconds:
            self._fail(TimeoutError(f"nothing came for {self._limit_seconds:g} s"))
        elif now - self._waits_since >= self._tick_seconds:
            self._held_long = True
            if self._phase is _Phase.BODY and self._is_due():
                self._wake()

    def _takes_on(self) -> bool:
        """Whether the other side has taken something of a request since we last looked.

        What waits in the transport does not tell that alone: the system itself takes megabytes,
        and through TLS a transport hands on in one go what a slow line carries for minutes.
        """
        waiting, acknowledged = self._waiting_bytes, self._acknowledged_bytes
        self._waiting_bytes = self._transport.get_write_buffer_size()
        self._acknowledged_bytes = acknowledged_by_peer(self._socket)
        return self._waiting_bytes < waiting or self._acknowledged_bytes > acknowledged

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
