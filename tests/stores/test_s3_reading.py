"""A body goes on where it broke off, and is exactly what was asked for, whatever is answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from soundkeep.errors import NotFound, StoreError, TimedOut, Truncated, Unavailable
from soundkeep.stores.http_ranges import RESUMES
from soundkeep.stores.http_service import Phases
from soundkeep.stores.interface import Bytes, Key
from soundkeep.stores.s3 import S3Store
from soundkeep.stores.s3_signing import Credentials
from soundkeep.testing import BytesSource
from soundkeep.testing.expecting import fails_with, read

DATA = bytes(range(256)) * 4096  # 1 MiB
SIZE = len(DATA)
BRIEF = Phases(connect=5, first_byte=0.3, between_bytes=0.3)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Peer:
    """A server of one object, told how to answer each request in turn; then it answers well."""

    cuts: list[int | None] = field(default_factory=list)  # bytes of the body before it breaks off
    etags: list[str] = field(default_factory=list)
    ranges: bool = True
    conditions: bool = True
    stalls: bool = False  # instead of breaking off
    chunked: bool = False
    shift: int = 0  # it begins so many bytes later than asked
    asked: list[str] = field(default_factory=list)
    matched: list[str] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answer((await reader.readuntil(b"\r\n\r\n")).decode(), writer):
                    pass
        finally:
            self.connections -= 1

    async def _answer(self, request: str, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        number = len(self.asked)
        self.asked.append(header(request, "range"))
        self.matched.append(header(request, "if-match"))
        etag = self.etags[min(number, len(self.etags) - 1)] if self.etags else '"one"'
        if self.conditions and self.matched[-1] not in ("", etag):
            writer.write(b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n")
            return True
        head, body = self._head(etag)
        cut = self.cuts[number] if number < len(self.cuts) else None
        writer.write(head)
        if self.chunked:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        writer.write(body[:cut])
        await writer.drain()
        if cut is not None and self.stalls:
            await asyncio.sleep(60)
        return cut is None

    def _head(self, etag: str) -> tuple[bytes, bytes]:
        found = re.match(r"bytes=(\d+)-(\d*)", self.asked[-1]) if self.ranges else None
        if found is None:
            return head("200 OK", etag, SIZE, self.chunked), DATA
        start = int(found[1]) + self.shift
        stop = min(int(found[2]) + 1 if found[2] else SIZE, SIZE)
        extent = f"Content-Range: bytes {start}-{stop - 1}/{SIZE}\r\n"
        named = head("206 Partial Content", etag, stop - start, self.chunked, extent)
        return named, DATA[start:stop]


def head(status: str, etag: str, size: int, chunked: bool, more: str = "") -> bytes:
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    return f"HTTP/1.1 {status}\r\nETag: {etag}\r\n{more}{length}\r\n\r\n".encode()


def header(request: str, name: str) -> str:
    found = re.search(rf"^{name}: (.*?)\r$", request, re.IGNORECASE | re.MULTILINE)
    return found[1] if found else ""


@contextlib.asynccontextmanager
async def serving(answer: Handler) -> AsyncIterator[str]:
    """A server on loopback; at the end nothing of it is left open."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await answer(reader, writer)
        finally:
            writer.transport.abort()
            running.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running)
        await asyncio.sleep(0)  # an aborted transport closes in the next round


@contextlib.asynccontextmanager
async def store_at(peer: Peer) -> AsyncIterator[S3Store]:
    async with serving(peer.serve) as url:
        store = S3Store("far", "bucket", url, Credentials("a", "b"), phases=BRIEF)
        try:
            yield store
        finally:
            await store.close()


# --- cut, and going on ----------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 65536, SIZE - 1])
@pytest.mark.parametrize(("start", "stop"), [(0, None), (0, SIZE), (100, None), (100, SIZE - 7)])
async def test_a_body_that_breaks_off_goes_on_from_the_same_byte(
    cut: int, start: int, stop: int | None
) -> None:
    wanted = DATA[start:stop]
    cut = min(cut, len(wanted) - 1)
    peer = Peer(cuts=[cut])
    async with store_at(peer) as store:
        assert await read(store, "x", start, stop) == wanted
    assert peer.asked[1:] == [f"bytes={start + cut}-{(stop or SIZE) - 1}"]
    assert peer.matched == ["", '"one"']


async def test_it_goes_on_a_few_times_and_no_byte_comes_twice() -> None:
    peer = Peer(cuts=[1000] * RESUMES)
    async with store_at(peer) as store:
        assert await read(store, "x") == DATA
    starts = [int(asked[6:].partition("-")[0]) for asked in peer.asked[1:]]
    assert starts == [1000 * number for number in range(1, RESUMES + 1)]


async def test_it_does_not_go_on_for_ever_and_gives_what_came() -> None:
    peer = Peer(cuts=[1000] * 100)
    got: list[bytes] = []
    async with store_at(peer) as store:
        with pytest.raises((Truncated, Unavailable)):
            await take(store.open("x"), got)
    assert len(peer.asked) == 1 + RESUMES
    assert b"".join(got) == DATA[: 1000 * len(peer.asked)]


async def take(pieces: Bytes, into: list[bytes]) -> None:
    async with aclosing(pieces):
        async for piece in pieces:
            into.append(piece)


@pytest.mark.parametrize("conditions", [True, False])
async def test_it_does_not_go_on_with_another_object(conditions: bool) -> None:
    peer = Peer(cuts=[1000], etags=['"one"', '"two"'], conditions=conditions)
    async with store_at(peer) as store:
        await fails_with(Truncated, read(store, "x"))
    assert len(peer.asked) == 2


async def test_a_stall_is_a_time_out_and_not_waited_for_again() -> None:
    for cut in (0, 1000):
        peer = Peer(cuts=[cut], stalls=True)
        async with store_at(peer) as store:
            await fails_with(TimedOut, read(store, "x"))
        assert len(peer.asked) == 1


async def test_chunks_that_end_early_are_noticed_and_go_on() -> None:
    peer = Peer(chunked=True, cuts=[5000])
    async with store_at(peer) as store:
        assert await read(store, "x", 10) == DATA[10:]
    assert len(peer.asked) == 2


# --- servers that answer otherwise ----------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (1, 2), (SIZE - 1, SIZE), (300_000, 600_000), (5, None), (0, SIZE)]
)
async def test_the_whole_object_in_answer_to_a_range_is_cut_to_it(
    start: int, stop: int | None
) -> None:
    async with store_at(Peer(ranges=False)) as store:
        assert await read(store, "x", start, stop) == DATA[start:stop]
        await fails_with(Truncated, read(store, "x", start, SIZE + 1))


async def test_also_the_whole_object_goes_on_where_it_broke_off() -> None:
    async with store_at(Peer(ranges=False, cuts=[100_000, 400_000])) as store:
        assert await read(store, "x", 200_000, 500_000) == DATA[200_000:500_000]


async def test_an_answer_that_begins_elsewhere_is_not_taken() -> None:
    async with store_at(Peer(shift=1)) as store:
        await fails_with(StoreError, read(store, "x", 10, 20))


async def test_an_answer_that_does_not_tell_its_length_is_not_taken() -> None:
    async with store_at(Peer(ranges=False, chunked=True)) as store:
        await fails_with(Unavailable, read(store, "x"))


# --- connections ----------------------------------------------------------------------------


async def test_connections_are_kept_and_one_left_early_is_closed() -> None:
    peer = Peer()
    async with store_at(peer) as store:
        for _ in range(5):
            assert await read(store, "x", 5, 1000) == DATA[5:1000]
        assert peer.connections == 1
        for _ in range(3):
            async with aclosing(store.open("x")) as pieces:
                await anext(pieces)
        await until_there_are(peer, 0)
        reading = asyncio.create_task(read(store, "x"))
        while not peer.connections:
            await asyncio.sleep(0)
        reading.cancel()
        await fails_with(asyncio.CancelledError, reading)
        await until_there_are(peer, 0)


async def until_there_are(peer: Peer, connections: int) -> None:
    for _ in range(1000):
        if peer.connections == connections:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{peer.connections} connections are open")


async def test_a_kept_connection_that_was_closed_meanwhile_is_no_error() -> None:
    """Also for a put: its source is opened anew."""
    server = Forgetful()
    async with serving(server.serve) as url:
        store = S3Store("far", "bucket", url, Credentials("a", "b"), phases=BRIEF)
        for number in range(4):
            await store.put(Key("x"), BytesSource(os.urandom(300_000 + number)))
        assert await store.stat("x") is not None
        await store.close()
    assert server.sizes[-4:] == [300_000 + number for number in range(4)]


@dataclass
class Forgetful:
    """Takes puts, and closes each connection a moment after it said that it would keep it."""

    sizes: list[int] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(header(request, "content-length") or 0)
        await reader.readexactly(length)
        if request.startswith("PUT"):
            self.sizes.append(length)
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n')
        await writer.drain()
        writer.close()
        await writer.wait_closed()


async def test_what_is_gone_is_not_found_only_if_the_server_says_so() -> None:
    for status, body, kind in (
        ("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>", NotFound),
        ("404 Not Found", b'<e:Error xmlns:e="s3"><e:Code>NoSuchKey</e:Code></e:Error>', NotFound),
        ("404 Not Found", b"<html>Not Found</html>", StoreError),
    ):
        answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        async with always(answer) as url:
            store = S3Store("far", "bucket", url, Credentials("a", "b"), phases=BRIEF)
            with pytest.raises(kind) as raised:
                await read(store, "x")
            assert isinstance(raised.value, NotFound) == (kind is NotFound)
            await store.close()


def always(answer: bytes) -> contextlib.AbstractAsyncContextManager[str]:
    """Gives the same answer to every request, the end of it a little later."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in (answer[:-30], answer[-30:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.close()
        await writer.wait_closed()

    return serving(serve)
