"""Bodies from real connections: whole chunks, kept connections, and every way to break off."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from servers.counted import Counted
from servers.tls import new_certificate, speaking_for, trusting
from soundkeep.digest import CHUNK_BYTES
from soundkeep.stores import http_connections, http_exchange
from soundkeep.stores.http_connections import Connections, Unreachable
from soundkeep.stores.http_exchange import BEGINNING_BYTES, HEAD_BYTES, Connection, EndedEarly

BODY = random.Random(0).randbytes(3 * CHUNK_BYTES + 17)
BRIEF_SECONDS = 0.2


def measured(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Peer(Counted):
    """A server that answers each request with what is next in `says`, then does what is next in
    `does`: it goes on, ends the connection, breaks it, or falls silent."""

    says: list[bytes]
    does: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self.one(writer):
            does = "goes on"
            while does == "goes on":
                self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
                number = len(self.requests) - 1
                if number < len(self.says):
                    writer.write(self.says[number])
                    await writer.drain()
                does = self.does[number] if number < len(self.does) else "goes on"
            if does == "falls silent":
                await reader.read()
            elif does == "breaks":
                writer.transport.abort()


@asynccontextmanager
async def at(
    peer: Peer, seconds: float = 30, secure: ssl.SSLContext | None = None
) -> AsyncIterator[Connections]:
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, ssl=secure)
    port = server.sockets[0].getsockname()[1]
    host = f"localhost:{port}" if secure else f"127.0.0.1:{port}"
    connections = new_connections("https" if secure else "http", host, seconds)
    try:
        yield connections
    finally:
        connections.close()
        server.close()


def new_connections(scheme: str, host: str, seconds: float = 30) -> Connections:
    return Connections(
        scheme,
        host,
        connect_seconds=10,
        first_byte_seconds=seconds,
        between_bytes_seconds=seconds,
    )


async def pieces_of(connections: Connections) -> list[bytes]:
    answer = await connections.get("/x", {})
    try:
        pieces: list[bytes] = []
        await read_on(answer, pieces)
        return pieces
    finally:
        connections.release(answer)


async def read_on(answer: Connection, into: list[bytes]) -> None:
    while piece := await answer.piece():
        into.append(piece)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


# --- good answers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [0, 1, HEAD_BYTES, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(BODY)]
)
async def test_a_body_comes_in_whole_chunks_and_its_connection_is_kept(size: int) -> None:
    peer = Peer([measured(BODY[:size])] * 3)
    async with at(peer) as connections:
        for _ in range(3):
            pieces = await pieces_of(connections)
            assert b"".join(pieces) == BODY[:size]
            assert all(len(piece) == CHUNK_BYTES for piece in pieces[:-1])
    assert peer.connections == 1


async def test_a_request_says_what_it_was_told_to_say() -> None:
    peer = Peer([measured(b"", "206 Partial Content", "ETag: one\r\n")])
    async with at(peer) as connections:
        answer = await connections.get("/a%20b", {"range": "bytes=0-1", "x-amz-date": "now"})
        assert (answer.status, answer.headers["etag"], answer.content_length) == (206, "one", 0)
        connections.release(answer)
    first, host, *others = peer.requests[0].split("\r\n")
    assert first == "GET /a%20b HTTP/1.1"
    assert host.startswith("host: 127.0.0.1:")
    assert others == ["range: bytes=0-1", "x-amz-date: now", "", ""]


async def test_no_header_can_smuggle_another_in() -> None:
    connections = new_connections("http", "127.0.0.1:1")
    for value in ("1\r\nx-evil: 1", "1\nx-evil: 1", "1\rx"):
        with pytest.raises(ValueError, match="line break"):
            await connections.get("/x", {"if-match": value})


async def test_what_only_announces_an_answer_is_passed_over() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </y>\r\n\r\n"
    async with at(Peer([hints + hints + measured(b"sound")])) as connections:
        assert await pieces_of(connections) == [b"sound"]


async def test_a_body_that_trickles_is_given_as_it_comes_and_then_in_chunks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_exchange, "HELD_SECONDS", 0.02)
    goes_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        whole = measured(BODY)
        writer.write(whole[: 1000 - len(BODY)])
        await goes_on.wait()
        writer.write(whole[1000 - len(BODY) :])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    connections = new_connections("http", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    answer = await connections.get("/x", {})
    pieces = [await answer.piece()]
    assert pieces == [BODY[:1000]]
    goes_on.set()
    await read_on(answer, pieces)
    assert b"".join(pieces) == BODY
    edges = {sum(map(len, pieces[:count])) for count in range(len(pieces))}
    assert CHUNK_BYTES in edges
    connections.release(answer)
    connections.close()
    server.close()


async def test_a_slow_listener_holds_a_chunk_and_the_rest_stays_away() -> None:
    long = BODY * 30
    async with at(Peer([measured(long)])) as connections:
        answer = await connections.get("/x", {})
        first = await answer.piece()
        await until(lambda: answer._paused)
        assert answer._held == CHUNK_BYTES
        pieces = [first]
        await read_on(answer, pieces)
        assert b"".join(pieces) == long
        connections.release(answer)


# --- connections that are kept ----------------------------------------------------------------


@pytest.mark.parametrize("does", ["ends", "breaks"])
async def test_a_kept_connection_that_was_closed_costs_nobody_a_request(does: str) -> None:
    peer = Peer([measured(b"one"), measured(b"two")], [does])
    async with at(peer) as connections:
        assert await pieces_of(connections) == [b"one"]
        assert await pieces_of(connections) == [b"two"]
    assert peer.connections == 2


async def test_a_request_into_a_connection_that_is_just_being_closed_is_sent_again() -> None:
    peer = Peer([measured(b"one"), b"", measured(b"two")], ["goes on", "breaks"])
    async with at(peer) as connections:
        assert await pieces_of(connections) == [b"one"]
        assert await pieces_of(connections) == [b"two"]
    assert peer.connections == 2


async def test_a_new_connection_that_breaks_is_not_tried_again() -> None:
    peer = Peer([b""], ["breaks"])
    async with at(peer) as connections:
        with pytest.raises(ConnectionError):
            await connections.get("/x", {})
    assert len(peer.requests) == 1


@pytest.mark.parametrize(
    "says",
    [
        measured(b"one", more="Connection: close\r\n"),
        measured(b"one") + b"and more than was asked for",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\none",
    ],
)
async def test_a_connection_that_cannot_be_kept_is_not(says: bytes) -> None:
    peer = Peer([says, measured(b"two")])
    async with at(peer) as connections:
        with contextlib.suppress(ConnectionError):
            await pieces_of(connections)
        assert await pieces_of(connections) == [b"two"]
    assert peer.connections == 2


async def test_a_body_that_was_left_ends_its_connection() -> None:
    peer = Peer([measured(BODY), measured(b"two")])
    async with at(peer) as connections:
        answer = await connections.get("/x", {})
        assert await answer.piece() == BODY[:CHUNK_BYTES]
        connections.release(answer)
        await until(lambda: not peer.open)
        assert await pieces_of(connections) == [b"two"]


@pytest.mark.parametrize("says", [b"", measured(BODY)[:-1]])
async def test_who_is_cancelled_while_waiting_leaves_no_connection(says: bytes) -> None:
    peer = Peer([says], ["falls silent"])
    async with at(peer) as connections:
        task = asyncio.create_task(pieces_of(connections))
        await until(lambda: bool(peer.requests))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not peer.open)


async def test_an_idle_connection_is_ended_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "IDLE_SECONDS", 0.05)
    peer = Peer([measured(b"one")])
    async with at(peer) as connections:
        assert await pieces_of(connections) == [b"one"]
        await until(lambda: not peer.open)


# --- broken answers ---------------------------------------------------------------------------


@pytest.mark.parametrize("came", [0, 1000, CHUNK_BYTES + 1000])
@pytest.mark.parametrize("does", ["ends", "breaks"])
async def test_what_came_before_a_break_is_given_and_then_it_is_told(does: str, came: int) -> None:
    peer = Peer([measured(BODY)[: came - len(BODY)]], [does])
    async with at(peer) as connections:
        answer = await connections.get("/x", {})
        pieces: list[bytes] = []
        with pytest.raises(ConnectionError) as caught:
            await read_on(answer, pieces)
        if does == "ends":
            assert isinstance(caught.value, EndedEarly)
            assert b"".join(pieces) == BODY[:came]
        assert BODY.startswith(b"".join(pieces))
        connections.release(answer)


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 200 OK\r\n", measured(BODY)[: 1000 - len(BODY)]])
async def test_silence_is_waited_for_so_long_and_no_longer(says: bytes) -> None:
    peer = Peer([says], ["falls silent"])
    async with at(peer, BRIEF_SECONDS) as connections:
        with pytest.raises(TimeoutError):
            await pieces_of(connections)
        await until(lambda: not peer.open)


@pytest.mark.parametrize(
    "says",
    [
        b"220 smtp.example.org ESMTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nX: " + HEAD_BYTES * b"x",
    ],
)
async def test_what_does_not_speak_http_is_a_broken_connection(says: bytes) -> None:
    async with at(Peer([says])) as connections:
        with pytest.raises(ConnectionError):
            await connections.get("/x", {})


async def test_nobody_there_is_told_apart() -> None:
    async with at(Peer([])) as connections:
        pass
    with pytest.raises(Unreachable):
        await connections.get("/x", {})


# --- TLS --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_certificate(tmp_path_factory.mktemp("tls"))


async def test_bodies_come_through_tls_as_they_come_without(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connections, "_trusting", lambda: trusting(certificate))
    long = BODY * 10
    peer = Peer(
        [measured(long), measured(b""), measured(long)[:-1]], ["goes on", "goes on", "ends"]
    )
    async with at(peer, secure=speaking_for(certificate)) as connections:
        pieces = await pieces_of(connections)
        assert b"".join(pieces) == long
        assert all(len(piece) == CHUNK_BYTES for piece in pieces[:-1])
        assert await pieces_of(connections) == []
        assert peer.connections == 1
        with pytest.raises(ConnectionError):
            await pieces_of(connections)


def test_all_this_holds_on_the_loop_of_the_server(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop, whose transports are not asyncio's."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for size in (0, CHUNK_BYTES, len(BODY)):
            runner.run(test_a_body_comes_in_whole_chunks_and_its_connection_is_kept(size))
        for does in ("ends", "breaks"):
            runner.run(test_what_came_before_a_break_is_given_and_then_it_is_told(does, 1000))
            runner.run(test_a_kept_connection_that_was_closed_costs_nobody_a_request(does))
        runner.run(test_a_body_that_was_left_ends_its_connection())
        runner.run(test_silence_is_waited_for_so_long_and_no_longer(measured(BODY)[:-1]))
        runner.run(test_a_slow_listener_holds_a_chunk_and_the_rest_stays_away())
        runner.run(test_bodies_come_through_tls_as_they_come_without(certificate, monkeypatch))


async def test_a_server_without_a_trusted_certificate_is_not_asked(certificate: Path) -> None:
    peer = Peer([])
    async with at(peer, secure=speaking_for(certificate)) as connections:
        with pytest.raises(Unreachable) as caught:
            await connections.get("/x", {})
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert not peer.requests


# --- refusals ---------------------------------------------------------------------------------

TEXT = b"<Error><Code>SlowDown</Code></Error>"


@pytest.mark.parametrize(
    "says",
    [
        measured(TEXT, "503 No"),
        b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n24\r\n" + TEXT + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 503 No\r\nConnection: close\r\n\r\n" + TEXT,
    ],
)
async def test_why_something_was_refused_is_read_in_whatever_form(says: bytes) -> None:
    async with at(Peer([says], ["ends"])) as connections:
        answer = await connections.get("/x", {})
        assert answer.status == 503
        assert await answer.beginning() == TEXT
        connections.release(answer)


async def test_of_an_answer_without_a_length_only_the_beginning_is_read() -> None:
    async with at(Peer([b"HTTP/1.1 200 OK\r\n\r\n" + BODY], ["ends"])) as connections:
        answer = await connections.get("/x", {})
        assert answer.content_length is None
        beginning = await answer.beginning()
        assert BODY.startswith(beginning)
        assert BEGINNING_BYTES <= len(beginning) < len(BODY)
        connections.release(answer)
        assert not answer.is_open
