"""Asks an HTTP server on loopback many times, in a process of its own, and counts every byte.

`ask()` starts this file as a program, gives it the plan on standard input and reads the tally
from its standard output, so the client never shares an interpreter with what is measured. Each
connection is a thread with a blocking socket and keep-alive; each answer's status and length
are checked, and one wrong answer ends the run with an error.

Bodies of answers are dropped inside the kernel (`MSG_TRUNC`, tcp(7)): a client that copied them
would take the core the server needs. So whether the bytes are right is not seen here: compare
one answer byte for byte before you measure.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

SINK_BYTES = 1024 * 1024
HEAD_BYTES = 4096
SILENCE_SECONDS = 60


@dataclass(frozen=True)
class Ask:
    """A request, asked `times` times, and what must be answered.

    In `target` each `{n}` is replaced by a number that counts up from `first`. With `stamp_at`
    the same number, as eight bytes, replaces what lies there in the body: every upload then has
    other bytes.
    """

    target: str
    times: int = 1
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body_file: str | None = None
    stamp_at: int | None = None
    first: int = 0
    status: int = 200
    length: int | None = None  # of the answer's body; unchecked without one


@dataclass(frozen=True)
class Answers:
    """What came back: the seconds are the client's, from the first request to the last answer."""

    units: int
    seconds: float
    body_bytes: int


def ask(
    port: int, asks: Sequence[Ask], connections: int = 8, limit_seconds: float = 600
) -> Answers:
    """Ask everything over so many connections. Raises RuntimeError at any wrong answer."""
    plan = {"port": port, "connections": connections, "asks": [asdict(each) for each in asks]}
    client = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(plan).encode(),
        capture_output=True,
        timeout=limit_seconds,
        check=False,
    )
    if client.returncode:
        raise RuntimeError(f"the client failed: {client.stderr.decode()}")
    return Answers(**json.loads(client.stdout))


# --- the program ----------------------------------------------------------------------------


def exchange(
    port: int, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
) -> tuple[int, bytes]:
    """Asks once and takes the whole answer: to prepare, and to compare before measuring."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SILENCE_SECONDS)
    try:
        connection.request(method, target, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def main() -> None:
    plan = json.load(sys.stdin)
    requests = list(spelled_out(plan["asks"]))
    connections = plan["connections"]
    shares = [requests[number::connections] for number in range(connections)]
    started = time.perf_counter()
    with ThreadPoolExecutor(connections) as threads:
        body_bytes = sum(threads.map(lambda share: ask_in_turn(plan["port"], share), shares))
    seconds = time.perf_counter() - started
    print(json.dumps(asdict(Answers(len(requests), seconds, body_bytes))))


def spelled_out(asks: Sequence[Mapping[str, Any]]) -> Iterator[Ask]:
    for fields in asks:
        each = Ask(**fields)
        for number in range(each.first, each.first + each.times):
            target = each.target.replace("{n}", str(number))
            yield replace(each, target=target, times=1, first=number)


def ask_in_turn(port: int, asks: Sequence[Ask]) -> int:
    connection = Connection(port)
    try:
        return sum(connection.ask(each) for each in asks)
    finally:
        connection.close()


class Connection:
    """One connection, kept alive as long as the server wishes."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._socket: socket.socket | None = None
        self._sink = bytearray(SINK_BYTES)

    def ask(self, each: Ask) -> int:
        """Send, receive and check; the length of the answer's body."""
        wire = self._connected()
        for piece in pieces(each):
            wire.sendall(piece)
        head, begun = receive_head(wire)
        status, length, closes = understood(head, each)
        check(each, status, length, begun)
        drop(wire, length - len(begun), self._sink)
        if closes:
            self.close()
        return length

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, SILENCE_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket


def pieces(each: Ask) -> Iterator[bytes | memoryview]:
    """The request as it goes over the wire; the body's file is read once and never copied."""
    body = body_of(each.body_file) if each.body_file is not None else memoryview(b"")
    headers = {"Host": "127.0.0.1", **each.headers}
    if each.body_file is not None:
        headers["Content-Length"] = str(len(body))
    lines = [f"{each.method} {each.target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    yield ("\r\n".join(lines) + "\r\n\r\n").encode()
    if each.stamp_at is None:
        yield body
    else:
        yield body[: each.stamp_at]
        yield each.first.to_bytes(8, "big")
        yield body[each.stamp_at + 8 :]


@cache
def body_of(path: str) -> memoryview:
    return memoryview(Path(path).read_bytes())


def receive_head(wire: socket.socket) -> tuple[bytes, bytes]:
    """The head of the answer, and what of its body came along."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = wire.recv(HEAD_BYTES)
        if not more:
            raise ConnectionError(f"the connection ended after {received!r}")
        received += more
    head, _, begun = received.partition(b"\r\n\r\n")
    return head, begun


def understood(head: bytes, each: Ask) -> tuple[int, int, bool]:
    """Status, length of the body, and whether the server closes the connection."""
    first, *lines = head.decode("latin-1").split("\r\n")
    status = int(first.split(" ")[1])
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    if "transfer-encoding" in headers:
        raise ValueError("an answer without a length cannot be checked")
    bodiless = each.method == "HEAD" or status in (204, 304)
    length = 0 if bodiless else int(headers["content-length"])
    return status, length, headers.get("connection", "").lower() == "close"


def check(each: Ask, status: int, length: int, begun: bytes) -> None:
    if status != each.status:
        raise ValueError(f"{each.method} {each.target}: {status}, not {each.status}: {begun!r}")
    if each.length not in (None, length):
        raise ValueError(f"{each.method} {each.target}: {length} bytes, not {each.length}")


def drop(wire: socket.socket, remaining: int, sink: bytearray) -> None:
    while remaining > 0:
        count = wire.recv_into(sink, min(remaining, len(sink)), socket.MSG_TRUNC)
        if not count:
            raise ConnectionError(f"the body ended {remaining} bytes early")
        remaining -= count


if __name__ == "__main__":
    main()
