"""One HTTP connection: uvicorn's own, with a short way for plain requests for sound or speech.

Most want a range of a file of this machine that the kernel holds in memory. They are answered where
their head was read: no task, no ASGI messages, head and first piece in one write, the rest whenever
the socket takes more. What is not in memory, or not good, is waited for by a task of its own, and
nothing is said before the first piece is there: that is all that far sound needs, too.

A request for speech is short, so it is held back for as long as its packet is read: most come in
one, and what was said a moment ago is answered in the same way.

Whatever is not as simple as that (a condition, a query, another method) goes uvicorn's way, which
says the same in the same headers. docs/decisions/0005 and 0008 have the figures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import structlog
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from soundkeep.errors import CatalogUnavailable, Unplayable
from soundkeep.reading.body import PIECE_BYTES, Body
from soundkeep.reading.trusted import Buffer
from soundkeep.web.delivery import PREFIX, Begun, Delivery
from soundkeep.web.gateways.gateway import Gateway
from soundkeep.web.gateways.shelf import MAX_REQUEST_BYTES

TURN_BYTES = 4 * 1024 * 1024  # then other connections have their turn

_PREFIX = PREFIX.encode()

log = structlog.get_logger()


class Wire(HttpToolsProtocol):
    """What uvicorn makes for each connection. Its application has a `delivery` and `gateways`."""

    sending: Sending | None = None  # `cycle` may be a later request already, which waits for it
    held: bytes | None = None  # the body, so far, of a request that was not passed on yet
    gateway: Gateway  # that it is for

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.held is not None:
            self._pass_on()

    def on_headers_complete(self) -> None:
        # An answer given at once in this very call has set the timer of an idle connection.
        self._unset_keepalive_if_required()
        begun = self._begun() if self.url.startswith(_PREFIX) else None
        if begun is not None:
            self._begin(begun)
        elif self._is_for_a_gateway() and self._may_begin(b"POST"):
            self.held = b""
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self.held is None:
            super().on_body(body)
            return
        self.held += body
        if len(self.held) > MAX_REQUEST_BYTES:
            self._pass_on()

    def on_message_complete(self) -> None:
        if self.held is not None:
            begun = self._at_hand(self.held)
            if begun is not None:
                self.held = None
                self._begin(begun)
                return
            self._pass_on()
        super().on_message_complete()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.sending is not None:
            self.loop.call_soon(self.sending.pump)  # a transport may not be closed in this call

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.sending is not None:
            self.sending.abandon()

    @property
    def delivery(self) -> Delivery:
        """The hot path of the application behind this connection, a `web.app.Server`."""
        found = self.app.delivery
        assert isinstance(found, Delivery)
        return found

    def _begin(self, begun: Begun) -> None:
        self.cycle = self.sending = Sending(self, begun.body, begun.size_bytes)
        self.sending.begin(begun)

    def _begun(self) -> Begun | None:
        """An answer at once, if this connection has nothing else to say first."""
        if not self._may_begin(b"GET"):
            return None
        try:
            return self.delivery.begin_at_once(self.url, self.headers, _scratch.buffer)
        except Exception:  # the parser would make a refusal of it; the long way may still do
            log.exception("no short way")
            return None

    def _at_hand(self, asked: bytes) -> Begun | None:
        """The same of speech."""
        try:
            return self.gateway.begin_at_once(self.url, self.headers, asked, _scratch.buffer)
        except Exception:
            log.exception("no short way")
            return None

    def _is_for_a_gateway(self) -> bool:
        for gateway in self.app.gateways:
            if self.url.startswith(gateway.raw_prefix):
                self.gateway = gateway
                return True
        return False

    def _may_begin(self, method: bytes) -> bool:
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy or self.flow.write_paused or self.parser.get_method() != method:
            return False
        if self.expect_100_continue or self.parser.should_upgrade():
            return False
        return self.parser.get_http_version() == "1.1" and not self.transport.is_closing()

    def _pass_on(self) -> None:
        """What was held back goes uvicorn's way, unless it was no good HTTP."""
        held, self.held = self.held or b"", None
        if not self.transport.is_closing():
            super().on_headers_complete()
            super().on_body(held)


class Sending(RequestResponseCycle):
    """An answer on its short way. To uvicorn it is a cycle like any other."""

    def __init__(self, wire: Wire, body: Body, size_bytes: int) -> None:
        self.transport = wire.transport
        self.flow = wire.flow
        self.keep_alive = wire.parser.should_keep_alive()
        self.disconnected = False
        self.response_complete = False
        self.more_body = False
        self.message_event = _NOBODY_WAITS
        self._wire = wire
        self._delivery = wire.delivery
        self._body: Body | None = body  # not held by a connection that is only kept alive
        self._left = size_bytes
        self._task: asyncio.Task[None] | None = None

    def begin(self, begun: Begun) -> None:
        """As much as is in memory and the socket takes."""
        self._delivery.running += 1
        if begun.piece is None:
            self._run(self._begin_late(begun))
        else:
            self._send_first(begun, begun.piece)
            self.pump()

    def _send_first(self, begun: Begun, piece: Buffer) -> None:
        """The head and the first piece in one write."""
        lines = [STATUS_LINE[begun.status]]
        for name, value in self._wire.server_state.default_headers:
            lines += [name, b": ", value, b"\r\n"]
        lines += begun.lines
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self.transport.writelines((b"".join(lines), piece))
        _scratch.given_to(self.transport, piece)
        self._left = begun.size_bytes
        self._sent(piece)

    def pump(self) -> None:
        """Sends pieces that are in memory until the socket is full or others should have a turn."""
        turn_ends = self._left - TURN_BYTES
        while self._body is not None and self._task is None and not self._must_wait():
            if self._left <= turn_ends:
                self._wire.loop.call_soon(self.pump)
                return
            piece = self._body.next_at_once(_scratch.buffer)
            if piece is None:
                self._run(self._go_on(self._body))
                return
            self.transport.write(piece)
            _scratch.given_to(self.transport, piece)
            self._sent(piece)

    def abandon(self) -> None:
        """The listener has gone."""
        if self._task is not None:
            self._task.cancel()
        self._end()

    def _must_wait(self) -> bool:
        return self.flow.write_paused or self.transport.is_closing()

    def _sent(self, piece: Buffer) -> None:
        self._delivery.sent_bytes += len(piece)
        self._left -= len(piece)
        if not self._left:
            self._end()
            if not self.keep_alive:
                self.transport.close()
            self._wire.on_response_complete()

    def _end(self) -> None:
        self.response_complete = True
        self._body = self._wire.sending = None
        self._delivery.running -= 1

    def _run(self, reading: Coroutine[None, None, None]) -> None:
        """In a task of its own: it may wait, and go on from another copy."""
        self._task = self._wire.loop.create_task(reading)
        self._wire.tasks.add(self._task)
        self._task.add_done_callback(self._wire.tasks.discard)

    async def _begin_late(self, begun: Begun) -> None:
        """Nothing is promised before the first piece is there."""
        try:
            self._send_first(*await self._first_of(begun))
        except BaseException:
            self.transport.close()
            await begun.body.close()
            raise
        await self._go_on(begun.body)

    async def _first_of(self, begun: Begun) -> tuple[Begun, Buffer]:
        """What is sent, and its first piece: a refusal, if there is none."""
        try:
            return begun, await begun.body.next()
        except Exception as error:
            if not isinstance(error, (Unplayable, CatalogUnavailable)):
                log.exception("no sound", url=self._wire.url)
            refused = begun.refused(error)
            assert refused.piece is not None
            return refused, refused.piece

    async def _go_on(self, body: Body) -> None:
        try:
            while self._left:
                await self.flow.drain()
                piece = await body.next()
                self.transport.write(piece)
                self._sent(piece)
        except (Unplayable, CatalogUnavailable) as error:
            log.warning("a sound was cut", url=self._wire.url, left=self._left, why=str(error))
        except Exception:
            log.exception("a sound was cut", url=self._wire.url, left=self._left)
        finally:
            if self._left:
                self.transport.close()  # short of its length: it must not look like a whole sound
            await body.close()


class _Scratch:
    """Memory to read into, used again as long as the kernel takes at once what is in it."""

    def __init__(self) -> None:
        self.buffer = bytearray(PIECE_BYTES)

    def given_to(self, transport: asyncio.WriteTransport, piece: Buffer) -> None:
        """What is still to be sent stays as it is: others get new memory."""
        if self._holds(piece) and transport.get_write_buffer_size():
            self.buffer = bytearray(PIECE_BYTES)

    def _holds(self, piece: Buffer) -> bool:
        return isinstance(piece, memoryview) and piece.obj is self.buffer


_scratch = _Scratch()
_NOBODY_WAITS = asyncio.Event()
