"""GET and PUT over connections that are kept for the next request to the same server.

`http_exchange` is one such connection. Nothing is tried again here but a request on a kept one
that its server had closed meanwhile. Faults are of `OSError`: `Unreachable`, and an answer's; but
for `SourceFailed`.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import aiohappyeyeballs

from soundkeep.stores.http_bodies import Piece, Pieces
from soundkeep.stores.http_exchange import Connection

IDLE_SECONDS = 30  # a kept connection; servers close theirs after 60 s or more
MOST_IDLE = 32
KEEPALIVE_SECONDS = 30
NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305
DEFAULT_PORTS = {"http": 80, "https": 443}


class Unreachable(OSError):
    """No connection came about."""


class SourceFailed(Exception):
    """What should have been sent could not be had; `reason` says why."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Connections:
    """Connections to one server, kept for the next request. Opens none until one is needed."""

    def __init__(
        self,
        scheme: str,
        host: str,
        *,
        connect_seconds: float,
        first_byte_seconds: float,
        between_bytes_seconds: float,
    ) -> None:
        """`host` is what goes into the header `Host`: with the port unless it is the usual one."""
        parts = urlsplit(f"//{host}")
        self._scheme = scheme
        self._host = host
        self._name = parts.hostname or ""
        self._port = parts.port or DEFAULT_PORTS[scheme]
        self._connect_seconds = connect_seconds
        self._limits = first_byte_seconds, between_bytes_seconds
        self._idle: list[Connection] = []  # the one used last is the last
        self._sweeping: asyncio.TimerHandle | None = None

    async def get(self, path: str, headers: Mapping[str, str]) -> Connection:
        """The answer, its body still to be read. Give it back with `release`."""
        request = self._request("GET", path, headers)
        return await self._exchanged(lambda connection: connection.ask(request))

    async def put(
        self,
        path: str,
        headers: Mapping[str, str],
        size_bytes: int,
        opened: Pieces,
        *,
        answer_seconds: float,
    ) -> Connection:
        """As `get`, with a body of so many bytes, which is opened once for each attempt.

        Between the last byte and the answer, `answer_seconds` may pass. Raises `SourceFailed`.
        """
        length = {"content-length": str(size_bytes)}
        request = self._request("PUT", path, {**headers, **length})

        async def exchange(connection: Connection) -> None:
            async with aclosing(opened()) as pieces:
                piece = await _next(pieces, connection)  # else a request would have no body
                connection.begin(request, size_bytes)
                while piece is not None and await connection.give(piece):
                    piece = await _next(pieces, connection)
            await connection.answered(answer_seconds)

        return await self._exchanged(exchange)

    def release(self, connection: Connection) -> None:
        """Keeps it if its answer was read to the end, else ends it."""
        if not connection.rest() or len(self._idle) == MOST_IDLE:
            connection.end()
            return
        self._idle.append(connection)
        if self._sweeping is None:
            loop = asyncio.get_running_loop()
            self._sweeping = loop.call_later(IDLE_SECONDS, self._sweep)

    def close(self) -> None:
        """Ends the connections that are kept; what is being read goes on."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connection in self._idle:
            connection.end()
        self._idle.clear()

    async def _exchanged(self, exchange: Callable[[Connection], Awaitable[None]]) -> Connection:
        """The connection on which the exchange came about."""
        connection = self._kept()
        if connection is not None:
            try:
                await exchange(connection)
            except ConnectionError:
                if connection.was_answered:
                    raise
            else:
                return connection
        connection = await self._connected()
        await exchange(connection)
        return connection

    def _request(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        text = "\r\n".join((*lines, "", ""))
        if text.count("\n") != len(lines) + 1 or text.count("\r") != len(lines) + 1:
            raise ValueError("a header has a line break in it")
        return text.encode("latin-1")

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    def _sweep(self) -> None:
        self._sweeping = None
        oldest = time.monotonic() - IDLE_SECONDS
        stale = [each for each in self._idle if each.rests_since <= oldest or not each.is_open]
        self._idle = [each for each in self._idle if each not in stale]
        for connection in stale:
            connection.end()
        if self._idle:
            loop = asyncio.get_running_loop()
            self._sweeping = loop.call_later(IDLE_SECONDS / 2, self._sweep)

    async def _connected(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await self._connect()
        except TimeoutError:
            raise
        except OSError as error:
            raise Unreachable("no connection came about") from error

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        addresses = await loop.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
        made = await aiohappyeyeballs.start_connection(
            addresses,
            happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
            interleave=1,
            socket_factory=new_socket,
        )
        secure = self._scheme == "https"
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(*self._limits),
                sock=made,
                ssl=_trusting() if secure else None,
                server_hostname=self._name if secure else None,
            )
        except BaseException:
            made.close()
            raise
        return connection


async def _next(pieces: AsyncGenerator[Piece, None], connection: Connection) -> Piece | None:
    """What is to be sent next. The request is over if that cannot be had."""
    try:
        return await anext(pieces, None)
    except Exception as error:
        connection.end()
        raise SourceFailed(error) from error
    except BaseException:
        connection.end()
        raise


def new_socket(address: Any) -> socket.socket:
    """With keepalive, so that a peer that vanished is noticed also between two requests."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
    return made


@functools.cache
def _trusting() -> ssl.SSLContext:
    """The authorities that this machine trusts."""
    return ssl.create_default_context()
