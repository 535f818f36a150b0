"""Bodies sent over real connections: every byte, from a source that may fail, to a server that may
answer early, take its time, or go."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from servers.counted import Counted
from servers.tls import new_certificate, speaking_for, trusting
from soundkeep.digest import CHUNK_BYTES
from soundkeep.stores import http_connections
from soundkeep.stores.http_bodies import Piece, Pieces
from soundkeep.stores.http_connections import Connections, SourceFailed, new_socket

BODY = random.Random(0).randbytes(9 * CHUNK_BYTES + 17)
DONE = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\n\r\n'
CHUNKED = b"HTTP/1.1 200 OK\r\nETag: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSED = b"HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nkeys"
BRIEF_SECONDS = 0.3

Taking = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[bytes]]


async def whole(reader: asyncio.StreamReader, _: asyncio.StreamWriter, size: int) -> bytes:
    return await reader.readexactly(size)


async def closing_after(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int
) -> bytes:
    """Closes the connection a moment after it has answered."""
    asyncio.get_running_loop().call_later(0.1, writer.close)
    return await reader.readexactly(size)


@dataclass
class Taker(Counted):
    """A server that takes each body as the next of `takes` does, and then says the next of `says`.
    Where either is at its end, the whole is taken, and it was well done."""

    says: list[bytes] = field(default_factory=list)
    takes: list[Taking] = field(default_factory=list)
    heads: list[list[str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self.one(writer):
            while True:
                await self._take(reader, writer)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.heads.append(head)
        take = self.takes.pop(0) if self.takes else whole
        size = next(int(line[16:]) for line in head if line.startswith("content-length: "))
        self.bodies.append(await take(reader, writer, size))
        writer.write(self.says.pop(0) if self.says else DONE)
        await writer.drain()


@asynccontextmanager
async def at(
    taker: Taker,
    seconds: float = 30,
    secure: ssl.SSLContext | None = None,
    line: SlowLine | None = None,
) -> AsyncIterator[Connections]:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    server = await asyncio.start_server(taker.serve, sock=listening, ssl=secure)
    port = listening.getsockname()[1]
    if line is not None:
        port = line.begin(port)
    connections = Connections(
        "https" if secure else "http",
        f"127.0.0.1:{port}",
        connect_seconds=10,
        first_byte_seconds=seconds,
        between_bytes_seconds=seconds,
    )
    try:
        yield connections
    finally:
        connections.close()
        if line is not None:
            await line.end()
        server.close()
        await until(lambda: not taker.open)


class SlowLine:
    """What one connection sends is carried on a little at a time, and never held for long."""

    LITTLE_BYTES = 16 * 1024

    def begin(self, port: int) -> int:
        """Leads to that port; answers its own."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * self.LITTLE_BYTES)
        self._listening.setblocking(False)
        self._carrying = asyncio.create_task(self._carry(port))
        own: int = self._listening.getsockname()[1]
        return own

    async def end(self) -> None:
        self._carrying.cancel()
        await asyncio.gather(self._carrying, return_exceptions=True)

    async def _carry(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        with self._listening, socket.socket() as onward:
            onward.setblocking(False)
            here, _ = await loop.sock_accept(self._listening)
            with here:
                await loop.sock_connect(onward, ("127.0.0.1", port))
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass_on(here, onward, BRIEF_SECONDS / 20))
                    both.create_task(self._pass_on(onward, here, 0))

    async def _pass_on(self, from_: socket.socket, to: socket.socket, rest_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        while piece := await loop.sock_recv(from_, self.LITTLE_BYTES):
            await loop.sock_sendall(to, piece)
            await asyncio.sleep(rest_seconds)


@dataclass
class Counting:
    """A source of a body in chunks, that counts how often it was opened and is open."""

    body: bytes
    fails_at: int | None = None
    opened: int = 0
    open: int = 0
    given: int = 0

    async def __call__(self) -> AsyncGenerator[Piece, None]:
        self.opened += 1
        self.open += 1
        try:
            for start in range(0, len(self.body), CHUNK_BYTES):
                if self.fails_at is not None and start >= self.fails_at:
                    raise ConnectionResetError("of the source")
                self.given += 1
                yield self.body[start : start + CHUNK_BYTES]
        finally:
            self.open -= 1


async def put(
    connections: Connections, size_bytes: int, opened: Pieces, seconds: float = 30
) -> tuple[int, bytes]:
    answer = await connections.put("/x", {}, size_bytes, opened, answer_seconds=seconds)
    try:
        return answer.status, await answer.beginning()
    finally:
        connections.release(answer)


def trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Who speaks so is trusted by our connections."""
    certificate = new_certificate(folder)
    monkeypatch.setattr(http_connections, "_trusting", lambda: trusting(certificate))
    return speaking_for(certificate)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


# --- good ones ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(BODY)])
async def test_every_byte_arrives_and_the_connection_is_kept(size: int) -> None:
    taker = Taker()
    source = Counting(BODY[:size])
    async with at(taker) as connections:
        for _ in range(3):
            assert await put(connections, size, source) == (200, b"")
    assert taker.bodies == [BODY[:size]] * 3
    assert (taker.connections, source.opened, source.open) == (1, 3, 0)


async def test_a_put_says_how_long_it_is_and_what_it_was_told_to_say() -> None:
    taker = Taker()
    async with at(taker) as connections:
        told = {"x-amz-date": "now"}
        source = Counting(b"abc")
        answer = await connections.put("/a%20b?partNumber=1", told, 3, source, answer_seconds=9)
        assert answer.headers["etag"] == '"1"'
        connections.release(answer)
    first, host, *others = taker.heads[0]
    assert first == "PUT /a%20b?partNumber=1 HTTP/1.1"
    assert host.startswith("host: 127.0.0.1:")
    assert others == ["x-amz-date: now", "content-length: 3", "", ""]


async def test_an_answer_without_a_length_that_has_an_end_keeps_its_connection() -> None:
    async def in_two(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int) -> bytes:
        body = await reader.readexactly(n)
        writer.write(CHUNKED)
        await writer.drain()
        await asyncio.sleep(0.02)  # so that the end comes by itself
        return body

    end = b"0\r\n\r\n"
    taker = Taker([end, CHUNKED + end, b"HTTP/1.1 204 No Content\r\n\r\n"], [in_two])
    async with at(taker) as connections:
        for _ in range(4):
            await put(connections, 3, Counting(b"abc"))
    assert taker.connections == 1
    assert taker.bodies == [b"abc"] * 4


async def test_a_connection_on_which_a_second_answer_came_is_not_kept() -> None:
    taker = Taker([2 * (CHUNKED + b"0\r\n\r\n")])
    async with at(taker) as connections:
        for _ in range(2):
            assert await put(connections, 3, Counting(b"abc")) == (200, b"")
    assert taker.connections == 2


async def test_a_server_that_is_slow_and_steady_gets_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For a piece it takes longer than it may be silent; the system holds little of it."""

    async def slowly(reader: asyncio.StreamReader, _: asyncio.StreamWriter, size: int) -> bytes:
        body = bytearray()
        while len(body) < size // 2:
            body += await reader.read(16 * 1024)
            await asyncio.sleep(BRIEF_SECONDS / 20)
        return bytes(body) + await reader.readexactly(size - len(body))

    def little(address: Any) -> socket.socket:
        made = new_socket(address)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        return made

    monkeypatch.setattr(http_connections, "new_socket", little)
    taker = Taker(takes=[slowly])
    async with at(taker, BRIEF_SECONDS) as connections:
        assert await put(connections, len(BODY), Counting(BODY)) == (200, b"")
    assert taker.bodies == [BODY]


@pytest.mark.parametrize("through_tls", [False, True])
async def test_a_slow_line_is_no_silence(
    through_tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while it carries what is held in buffers of which no transport tells, nor after the
    last byte was given."""
    secure = trusted(tmp_path, monkeypatch) if through_tls else None
    taker = Taker()
    async with at(taker, BRIEF_SECONDS, secure, SlowLine()) as connections:
        assert await put(connections, len(BODY), Counting(BODY), BRIEF_SECONDS) == (200, b"")
    assert taker.bodies == [BODY]


@pytest.mark.parametrize("through_tls", [False, True])
async def test_no_more_is_read_of_a_source_than_the_server_has_room_for(
    through_tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = asyncio.Event()

    async def later(reader: asyncio.StreamReader, _: asyncio.StreamWriter, size: int) -> bytes:
        await goes_on.wait()
        return await reader.readexactly(size)

    source = Counting(BODY * 10)
    taker = Taker(takes=[later])
    secure = trusted(tmp_path, monkeypatch) if through_tls else None
    async with at(taker, secure=secure) as connections:
        putting = asyncio.create_task(put(connections, len(source.body), source))
        given = -1
        while not given > 0 or given != source.given:  # until it stands still
            given = source.given
            await asyncio.sleep(0.1)
        assert given < len(source.body) // CHUNK_BYTES // 2
        goes_on.set()
        assert await putting == (200, b"")
        assert await put(connections, 3, Counting(b"abc")) == (200, b"")
    assert taker.bodies == [source.body, b"abc"]
    assert taker.connections == 1


# --- servers that do otherwise --------------------------------------------------------------------


@pytest.mark.parametrize("size", [CHUNK_BYTES, len(BODY) * 4])
async def test_a_refusal_before_the_end_is_heard_and_the_rest_is_not_sent(size: int) -> None:
    source = Counting((BODY * 4)[:size])

    async def at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> bytes:
        writer.write(REFUSED)
        await writer.drain()
        await until(lambda: not source.open)  # whoever hears it stops
        await reader.read()  # and says no more here
        raise ConnectionError

    taker = Taker(takes=[at_once])
    async with at(taker) as connections:
        assert await put(connections, len(BODY) * 4, source, 5) == (403, b"keys")
        await until(lambda: not taker.open)
        assert await put(connections, 3, Counting(b"abc")) == (200, b"")
    assert taker.connections == 2


@pytest.mark.parametrize("size", [3, CHUNK_BYTES])
async def test_a_connection_on_which_a_body_was_refused_is_not_kept(size: int) -> None:
    """Nobody knows whether it was read; what comes after it would wait behind it."""

    async def unread(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> bytes:
        writer.write(REFUSED)
        await until(lambda: taker.connections > 1)
        raise ConnectionError

    taker = Taker(takes=[unread])
    async with at(taker) as connections:
        assert await put(connections, size, Counting(BODY[:size])) == (403, b"keys")
        assert await put(connections, 3, Counting(b"abc"), 1) == (200, b"")
    assert taker.bodies == [b"abc"]


async def test_nothing_was_put_that_the_server_did_not_wait_for() -> None:
    async def hasty(_: asyncio.StreamReader, __: asyncio.StreamWriter, ___: int) -> bytes:
        return b""

    source = Counting(BODY * 10)
    async with at(Taker(takes=[hasty])) as connections:
        with pytest.raises(ConnectionError, match="before it had everything"):
            await put(connections, len(source.body), source)
    assert source.open == 0


@pytest.mark.parametrize("taken", [0, CHUNK_BYTES])
async def test_a_kept_connection_that_is_gone_costs_nobody_a_put(taken: int) -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> bytes:
        await reader.readexactly(taken)
        writer.transport.abort()
        raise ConnectionError

    source = Counting(BODY)
    taker = Taker(takes=[whole, breaks])
    async with at(taker) as connections:
        for _ in range(2):
            assert await put(connections, len(BODY), source) == (200, b"")
    assert taker.bodies == [BODY] * 2
    assert (taker.connections, source.opened, source.open) == (2, 3, 0)


async def test_a_kept_connection_that_goes_while_the_source_begins_costs_nobody_a_put() -> None:
    taker = Taker(takes=[closing_after])
    async with at(taker) as connections:
        await put(connections, 3, Counting(b"abc"))

        async def when_it_is_gone() -> AsyncGenerator[Piece, None]:
            await until(lambda: taker.connections > 1 or not taker.open)
            await asyncio.sleep(0.05)
            yield b"abc"

        assert await put(connections, 3, when_it_is_gone) == (200, b"")
    assert taker.bodies == [b"abc"] * 2


async def test_a_new_connection_that_breaks_is_not_put_into_again() -> None:
    async def breaks(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> bytes:
        writer.transport.abort()
        raise ConnectionError

    source = Counting(BODY)
    async with at(Taker(takes=[breaks])) as connections:
        with pytest.raises(ConnectionError):
            await put(connections, len(BODY), source)
    assert (source.opened, source.open) == (1, 0)


async def test_a_server_that_takes_nothing_is_waited_for_so_long_and_no_longer() -> None:
    async def nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter, ___: int) -> bytes:
        await until(lambda: not source.open)
        raise ConnectionError

    source = Counting(BODY * 10)
    async with at(Taker(takes=[nothing]), BRIEF_SECONDS) as connections:
        async with asyncio.timeout(10):
            with pytest.raises(TimeoutError):
                await put(connections, len(source.body), source)
    assert source.open == 0


async def test_the_answer_has_a_time_of_its_own() -> None:
    async def thinks(reader: asyncio.StreamReader, _: asyncio.StreamWriter, size: int) -> bytes:
        body = await reader.readexactly(size)
        await asyncio.sleep(3 * BRIEF_SECONDS)
        return body

    async with at(Taker(takes=[thinks, thinks]), BRIEF_SECONDS) as connections:
        assert await put(connections, 3, Counting(b"abc")) == (200, b"")
        with pytest.raises(TimeoutError):
            await put(connections, 3, Counting(b"abc"), BRIEF_SECONDS)


# --- sources that do otherwise --------------------------------------------------------------------


@pytest.mark.parametrize("fails_at", [0, CHUNK_BYTES])
@pytest.mark.parametrize("kept", [False, True])
async def test_a_source_that_fails_is_no_fault_of_the_server(fails_at: int, kept: bool) -> None:
    """Not even when it says what a connection says that was closed."""
    taker = Taker()
    source = Counting(BODY, fails_at)
    async with at(taker) as connections:
        if kept:
            await put(connections, 3, Counting(b"abc"))
        with pytest.raises(SourceFailed) as caught:
            await put(connections, len(BODY), source)
        assert isinstance(caught.value.reason, ConnectionResetError)
        await until(lambda: not taker.open)
    assert (source.opened, source.open) == (1, 0)
    assert taker.bodies == [b"abc"] * kept


async def test_who_is_cancelled_half_way_leaves_neither_source_nor_connection() -> None:
    async def nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: int) -> bytes:
        await reader.readexactly(1)
        await until(lambda: not source.open)
        raise ConnectionError

    source = Counting(BODY * 10)
    taker = Taker(takes=[nothing])
    async with at(taker) as connections:
        putting = asyncio.create_task(put(connections, len(source.body), source))
        await until(lambda: bool(source.given))
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        await until(lambda: not taker.open)
    assert source.open == 0


async def test_who_is_cancelled_while_the_source_is_closed_leaves_no_connection() -> None:
    """A source is closed early when the server wants no more of it."""
    closes = asyncio.Event()

    async def source() -> AsyncGenerator[Piece, None]:
        try:
            while True:
                yield BODY
                await asyncio.sleep(0)
        finally:
            closes.set()
            await asyncio.Event().wait()

    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> bytes:
        writer.write(REFUSED)
        while await reader.read(CHUNK_BYTES):
            pass
        raise ConnectionError

    taker = Taker(takes=[refuses])
    async with at(taker) as connections:
        putting = asyncio.create_task(put(connections, len(BODY) * 99, source))
        await closes.wait()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        await until(lambda: not taker.open)


async def test_a_source_that_fails_at_once_makes_no_request() -> None:
    """Else a source that has more bytes than the none it announced would leave an empty object."""
    taker = Taker()
    async with at(taker) as connections:
        with pytest.raises(SourceFailed):
            await put(connections, 0, Counting(BODY, 0))
    assert not taker.heads


def test_all_this_holds_on_the_loop_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop, whose transports are not asyncio's."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for size in (0, CHUNK_BYTES, len(BODY)):
            runner.run(test_every_byte_arrives_and_the_connection_is_kept(size))
        for size in (CHUNK_BYTES, len(BODY) * 4):
            runner.run(test_a_refusal_before_the_end_is_heard_and_the_rest_is_not_sent(size))
        for taken in (0, CHUNK_BYTES):
            runner.run(test_a_kept_connection_that_is_gone_costs_nobody_a_put(taken))
        runner.run(test_a_kept_connection_that_goes_while_the_source_begins_costs_nobody_a_put())
        runner.run(test_a_server_that_is_slow_and_steady_gets_everything(monkeypatch))
        for through_tls in (False, True):
            given = through_tls, tmp_path, monkeypatch
            runner.run(test_a_slow_line_is_no_silence(*given))
            runner.run(test_no_more_is_read_of_a_source_than_the_server_has_room_for(*given))
        runner.run(test_a_server_that_takes_nothing_is_waited_for_so_long_and_no_longer())
        runner.run(test_who_is_cancelled_half_way_leaves_neither_source_nor_connection())
