"""A proxy on loopback that spoils the answers of any HTTP server, on order and to the byte.

    with fault_proxy(server_port) as proxy:
        proxy.suffers(stall(at=70_000), once=True)
        …read through proxy.url…
        proxy.heals()

It follows HTTP/1.1 far enough to know where each answer's body begins, so a fault at byte N is at
byte N of a body, whatever came before it on the same connection. A fault ordered once is spent
when it strikes: a body too short to reach it leaves it for the next. Few bytes are under way at
any time, or loopback's buffers would hide that a server died.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from enum import Enum

from servers.background import Background, background
from servers.http_wire import (
    PIECE_BYTES,
    Gone,
    answer_of,
    body_of,
    field,
    head_of,
    head_with_length,
    length_of_answer,
    length_of_request,
)

BUFFER_BYTES = 8 * 1024
READ_AHEAD_BYTES = 32 * 1024  # also the most a head may have
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of no time at all


class Kind(Enum):
    STALL = "says no more, and stays"
    RESET = "resets the connection"
    TRUNCATE = "closes cleanly, too early"
    FLIP = "changes a byte"
    DELAY = "waits before it answers"
    SILENCE = "takes the request and never answers"
    REFUSE = "takes no connection"
    ANSWER = "answers by itself, and passes nothing on"
    LIE = "passes the request on, and gives another answer"
    RESIZE = "gives a body of another length, and says that this is its length"


@dataclass(frozen=True)
class Fault:
    """`of` is looked for in the request line, `at` counts the bytes of the body."""

    kind: Kind
    at: int = 0
    seconds: float = 0.0
    of: str = ""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    surplus_bytes: int = 0

    def answer(self, request_line: str) -> bytes:
        return answer_of(self.status, self.headers, self.body, request_line)


def stall(at: int, of: str = "") -> Fault:
    return Fault(Kind.STALL, at, of=of)


def reset(at: int, of: str = "") -> Fault:
    return Fault(Kind.RESET, at, of=of)


def truncate(at: int, of: str = "") -> Fault:
    return Fault(Kind.TRUNCATE, at, of=of)


def flip(at: int, of: str = "") -> Fault:
    return Fault(Kind.FLIP, at, of=of)


def delay(seconds: float, of: str = "") -> Fault:
    return Fault(Kind.DELAY, seconds=seconds, of=of)


def silence(of: str = "") -> Fault:
    return Fault(Kind.SILENCE, of=of)


def refuse() -> Fault:
    return Fault(Kind.REFUSE)


def answer(status: int, body: bytes = b"", of: str = "", **headers: str) -> Fault:
    return Fault(Kind.ANSWER, of=of, status=status, body=body, headers=_named(headers))


def lie(status: int, body: bytes = b"", of: str = "", **headers: str) -> Fault:
    return Fault(Kind.LIE, of=of, status=status, body=body, headers=_named(headers))


def resize(surplus_bytes: int, of: str = "") -> Fault:
    return Fault(Kind.RESIZE, of=of, surplus_bytes=surplus_bytes)


def _named(headers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.replace("_", "-"), text) for name, text in headers.items())


@contextlib.contextmanager
def fault_proxy(target_port: int) -> Iterator[FaultProxy]:
    """A proxy before the server on this port; ended with all its connections."""
    with background() as thread:
        proxy = FaultProxy(target_port, thread)
        try:
            proxy.heals()
            yield proxy
        finally:
            proxy.close()


class FaultProxy:
    """The test's hand on it. `connections` counts all that came, `struck` the faults that hit."""

    def __init__(self, target_port: int, thread: Background) -> None:
        self.target_port = target_port
        self.connections = 0
        self.struck = 0
        self._thread = thread
        self._fault: Fault | None = None
        self._once = False
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._reserved = _bound(0)  # keeps the port ours while nobody listens on it
        self.port: int = self._reserved.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """Connections that a client holds open now."""
        return self._thread.call(lambda: len(self._links))

    def suffers(self, fault: Fault, *, once: bool = False) -> None:
        """From now on, or only until it struck once. A refusal also ends what is open."""
        self._thread.run(self._suffer(fault, once))

    def heals(self) -> None:
        """Nothing is wrong with what is answered from now on; what stalls goes on stalling."""
        self._thread.run(self._suffer(None, once=False))

    def drop(self) -> None:
        """Resets every open connection, as a server that dies does."""
        self._thread.run(self._drop())

    def close(self) -> None:
        self._thread.run(self._stop_listening())
        self.drop()
        self._reserved.close()

    async def _suffer(self, fault: Fault | None, once: bool) -> None:
        self._fault, self._once = fault, once
        if fault is not None and fault.kind is Kind.REFUSE:
            await self._stop_listening()
            await self._drop()
        elif self._server is None:
            listener = _bound(self.port)
            self._server = await asyncio.start_server(
                self._serve, sock=listener, limit=READ_AHEAD_BYTES
            )

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _drop(self) -> None:
        for link in list(self._links):
            link.reset()
        while self._links:
            await asyncio.sleep(0)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.connections += 1
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.relay()
        finally:
            self._links.discard(link)

    def meets(self, request_line: str) -> Fault | None:
        """The fault that may strike the answer to this request."""
        fault = self._fault
        return fault if fault is not None and fault.of in request_line else None

    def strikes(self, fault: Fault) -> bool:
        """Whether it still holds, now that its place is reached; if once, it is spent."""
        if fault is not self._fault:
            return False
        self.struck += 1
        if self._once:
            self._fault = None
        return True


def _bound(port: int) -> socket.socket:
    """A socket that shares its port with others of ours, and buffers little."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    bound.bind(("127.0.0.1", port))
    return bound


class _Link:
    """One client's connection and the one to the server behind it."""

    def __init__(self, proxy: FaultProxy, reader: StreamReader, writer: StreamWriter) -> None:
        self._proxy = proxy
        self._client, self._to_client = reader, writer
        self._requests: deque[str] = deque()
        self._ended = asyncio.Event()

    def reset(self) -> None:
        _reset(self._to_client)
        self._ended.set()

    async def relay(self) -> None:
        """Until either end is gone, or a fault ends it."""
        try:
            server, to_server = await _connect(self._proxy.target_port)
        except OSError:
            self.reset()
            return
        await _first_of(self._up(to_server), self._down(server), self._ended.wait())
        for writer in (to_server, self._to_client):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _up(self, to_server: StreamWriter) -> None:
        """Requests, as they come, unless their answer is to be silence."""
        while True:
            head = await head_of(self._client)
            request_line = head.split(b"\r\n", 1)[0].decode("latin-1")
            fault = self._proxy.meets(request_line)
            if fault and fault.kind is Kind.SILENCE and self._proxy.strikes(fault):
                await self._swallow()
            if fault and fault.kind is Kind.ANSWER and self._proxy.strikes(fault):
                await self._answer(head, fault.answer(request_line))
                continue
            self._requests.append(request_line)
            await _write(to_server, head)
            async for piece, _ in body_of(self._client, length_of_request(head)):
                await _write(to_server, piece)

    async def _answer(self, head: bytes, answer: bytes) -> None:
        """In the server's place; who asks before sending a body is answered at once."""
        if field(head, b"expect") is not None:
            await _write(self._to_client, answer)
            await self._swallow()
        async for _ in body_of(self._client, length_of_request(head)):
            pass
        await _write(self._to_client, answer)

    async def _swallow(self) -> None:
        """Whatever is sent, until the client goes."""
        while await self._client.read(PIECE_BYTES):
            pass
        raise Gone

    async def _down(self, server: StreamReader) -> None:
        while True:
            head = await head_of(server)
            if head.startswith(b"HTTP/1.1 1"):  # 100 Continue comes before the answer
                await _write(self._to_client, head)
                continue
            request_line = self._requests.popleft()
            fault = self._proxy.meets(request_line)
            if fault and fault.kind is Kind.DELAY and self._proxy.strikes(fault):
                await asyncio.sleep(fault.seconds)
            body = body_of(server, length_of_answer(head, request_line))
            if fault and fault.kind in OF_WHOLE_ANSWERS and self._proxy.strikes(fault):
                await _write(self._to_client, await _changed(head, body, request_line, fault))
                continue
            await _write(self._to_client, head)
            await self._spoiled(body, fault)

    async def _spoiled(
        self, pieces: AsyncIterator[tuple[bytes, bool]], fault: Fault | None
    ) -> None:
        """Passes a body on; the fault strikes where the body reaches it."""
        sent = 0
        async for piece, counts in pieces:
            if not counts:
                await _write(self._to_client, piece)
                continue
            at = fault.at - sent if fault is not None and fault.kind in AT_A_BYTE else -1
            if fault is not None and 0 <= at < len(piece) and self._proxy.strikes(fault):
                await self._strike(fault, piece, at)
            else:
                await _write(self._to_client, piece)
            sent += len(piece)

    async def _strike(self, fault: Fault, piece: bytes, at: int) -> None:
        await _write(self._to_client, piece[:at])
        if fault.kind is Kind.FLIP:
            await _write(self._to_client, bytes([piece[at] ^ 0xFF]) + piece[at + 1 :])
            return
        if fault.kind is Kind.STALL:
            await asyncio.Event().wait()  # `_up` notices when the client goes
        if fault.kind is Kind.RESET:
            await _arrived(self._to_client)
            self.reset()
        raise Gone


AT_A_BYTE = {Kind.STALL, Kind.RESET, Kind.TRUNCATE, Kind.FLIP}
OF_WHOLE_ANSWERS = {Kind.LIE, Kind.RESIZE}


async def _changed(
    head: bytes, pieces: AsyncIterator[tuple[bytes, bool]], request_line: str, fault: Fault
) -> bytes:
    """Another answer than the server's, which has done by now what was asked."""
    body = b"".join([piece async for piece, counts in pieces if counts])
    if fault.kind is Kind.LIE:
        return fault.answer(request_line)
    said = int(field(head, b"content-length") or len(body))
    size = max(0, said + fault.surplus_bytes)
    has_body = not request_line.startswith("HEAD ") and b" 204 " not in head.partition(b"\r")[0]
    surplus = bytes(max(0, fault.surplus_bytes)) if has_body else b""
    return head_with_length(head, size) + (body + surplus)[:size]


async def _first_of(*parts: Awaitable[object]) -> None:
    """Runs them until one ends, and cancels the others."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception) and not isinstance(outcome, (Gone, OSError)):
            raise outcome


async def _connect(port: int) -> tuple[StreamReader, StreamWriter]:
    """To the server, with a receive buffer so small that it notices what we do not take."""
    link = socket.socket()
    link.setblocking(False)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * BUFFER_BYTES)
    try:
        await asyncio.get_running_loop().sock_connect(link, ("127.0.0.1", port))
    except OSError:
        link.close()
        raise
    return await asyncio.open_connection(sock=link, limit=READ_AHEAD_BYTES)


def _reset(writer: StreamWriter) -> None:
    link = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()


async def _write(writer: StreamWriter, data: bytes) -> None:
    if writer.transport.is_closing():
        raise Gone
    writer.transport.set_write_buffer_limits(0)
    writer.write(data)
    await writer.drain()


async def _arrived(writer: StreamWriter) -> None:
    """A reset throws away what the client's kernel has not acknowledged yet: waits for that."""
    link = writer.get_extra_info("socket")
    while struct.unpack("i", fcntl.ioctl(link.fileno(), termios.TIOCOUTQ, bytes(4)))[0]:
        await asyncio.sleep(0.001)
