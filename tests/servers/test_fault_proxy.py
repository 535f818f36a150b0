"""The proxy that spoils answers: each fault is what it says, at the very byte."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from servers.fault_proxy import (
    FaultProxy,
    answer,
    delay,
    fault_proxy,
    flip,
    lie,
    refuse,
    reset,
    resize,
    silence,
    stall,
    truncate,
)
from servers.soundkeep import eventually

BODY = random.Random(1).randbytes(100_000)
LONG = 1000 * len(BODY)
OFFSETS = [0, 1, 16 * 1024 - 1, 16 * 1024, 70_001, len(BODY) - 1]


class Plain(BaseHTTPRequestHandler):
    """Answers a body with its length, or in chunks, and echoes what is posted."""

    protocol_version = "HTTP/1.1"
    seen: list[str]
    written: int
    blocked: Event

    def do_GET(self) -> None:
        Plain.seen.append(self.requestline)
        if self.path == "/chunked":
            self.chunked()
        elif self.path == "/long":
            self.long()
        elif self.path == "/short":
            self.answer(b"short")
        else:
            self.answer(BODY)

    def do_HEAD(self) -> None:
        self.answer(BODY)

    def long(self) -> None:
        """Until it could not go on for a while."""
        self.send_response(200)
        self.send_header("Content-Length", str(LONG))
        self.end_headers()
        self.connection.settimeout(0.3)
        for _ in range(LONG // len(BODY)):
            try:
                self.wfile.write(BODY)
            except TimeoutError:
                self.blocked.set()
                return
            Plain.written += len(BODY)

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def chunked(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(BODY), 30_000):
            piece = BODY[at : at + 30_000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()


@pytest.fixture
def port() -> Iterator[int]:
    Plain.seen, Plain.written, Plain.blocked = [], 0, Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Plain)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def proxy(port: int) -> Iterator[FaultProxy]:
    with fault_proxy(port) as started:
        yield started


@contextlib.contextmanager
def client(proxy: FaultProxy, patience_seconds: float = 10) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=patience_seconds)
    with contextlib.closing(connection):
        yield connection


def get(proxy: FaultProxy, path: str = "/", patience_seconds: float = 10) -> tuple[bytes, object]:
    """What came of a body, and how it ended."""
    came = b""
    with client(proxy, patience_seconds) as connection:
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            while piece := answer.read1():
                came += piece
        except (OSError, http.client.HTTPException) as error:
            return came, error
        return came, None


def test_without_a_fault_every_byte_goes_through_in_both_directions(proxy: FaultProxy) -> None:
    with client(proxy) as connection:
        for method, path, sent, expected in [
            ("GET", "/", None, BODY),
            ("HEAD", "/", None, b""),
            ("GET", "/chunked", None, BODY),
            ("POST", "/", BODY[:50_000], BODY[:50_000]),
            ("GET", "/short", None, b"short"),
        ]:
            connection.request(method, path, sent)
            assert connection.getresponse().read() == expected
    assert (proxy.connections, proxy.struck) == (1, 0)
    eventually(lambda: proxy.open == 0)


@pytest.mark.parametrize("at", OFFSETS)
@pytest.mark.parametrize("path", ["/", "/chunked"])
def test_a_flip_changes_one_byte_of_one_body(proxy: FaultProxy, path: str, at: int) -> None:
    proxy.suffers(flip(at), once=True)
    came, ended = get(proxy, path)
    assert ended is None
    assert [n for n in range(len(BODY)) if came[n] != BODY[n]] == [at]
    assert get(proxy, path) == (BODY, None)


@pytest.mark.parametrize("at", OFFSETS)
def test_a_truncation_ends_cleanly_at_its_byte(proxy: FaultProxy, at: int) -> None:
    proxy.suffers(truncate(at))
    for _ in range(2):
        came, ended = get(proxy)
        assert came == BODY[:at]
        assert not isinstance(ended, OSError)


@pytest.mark.parametrize("at", OFFSETS)
def test_a_reset_is_a_reset(proxy: FaultProxy, at: int) -> None:
    proxy.suffers(reset(at), once=True)
    came, ended = get(proxy)
    assert isinstance(ended, ConnectionResetError)
    assert came == BODY[:at]


@pytest.mark.parametrize("at", OFFSETS)
def test_a_stall_says_no_more_and_ends_with_its_client(proxy: FaultProxy, at: int) -> None:
    proxy.suffers(stall(at), once=True)
    came, ended = get(proxy, patience_seconds=0.2)
    assert isinstance(ended, TimeoutError)
    assert came == BODY[:at]
    eventually(lambda: proxy.open == 0, 5)
    assert get(proxy) == (BODY, None)


def test_a_body_too_short_for_the_fault_leaves_it_for_the_next(proxy: FaultProxy) -> None:
    proxy.suffers(truncate(5), once=True)
    assert get(proxy, "/short") == (b"short", None)
    assert proxy.struck == 0
    assert get(proxy)[0] == BODY[:5]
    assert proxy.struck == 1


def test_a_fault_can_be_for_some_requests_only(proxy: FaultProxy) -> None:
    proxy.suffers(truncate(3, of="/short"))
    assert get(proxy) == (BODY, None)
    assert get(proxy, "/short")[0] == b"sho"


def test_a_later_answer_on_the_same_connection_is_counted_from_its_own_start(
    proxy: FaultProxy,
) -> None:
    with client(proxy) as connection:
        connection.request("GET", "/")
        assert connection.getresponse().read() == BODY
        proxy.suffers(flip(10))
        connection.request("GET", "/")
        came = connection.getresponse().read()
    assert [n for n in range(len(BODY)) if came[n] != BODY[n]] == [10]
    assert proxy.connections == 1


def test_who_never_answers_does_not_even_ask(proxy: FaultProxy) -> None:
    proxy.suffers(silence(), once=True)
    came, ended = get(proxy, patience_seconds=0.2)
    assert (came, type(ended)) == (b"", TimeoutError)
    assert Plain.seen == []
    eventually(lambda: proxy.open == 0, 5)
    assert get(proxy) == (BODY, None)


def test_a_delay_outlasts_a_client_with_less_patience(proxy: FaultProxy) -> None:
    proxy.suffers(delay(0.2))
    assert isinstance(get(proxy, patience_seconds=0.05)[1], TimeoutError)
    assert get(proxy) == (BODY, None)


def test_a_refusal_ends_what_is_open_and_lasts_until_it_heals(proxy: FaultProxy) -> None:
    with client(proxy) as connection:
        connection.request("GET", "/short")
        assert connection.getresponse().read() == b"short"
        proxy.suffers(refuse())
        assert proxy.open == 0
        assert connection.sock is not None
        with pytest.raises(ConnectionResetError):
            connection.sock.recv(1)
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port))
    proxy.heals()
    assert get(proxy) == (BODY, None)


def test_a_server_that_is_gone_resets_its_clients(port: int, proxy: FaultProxy) -> None:
    unused = socket.create_server(("127.0.0.1", 0))
    proxy.target_port = unused.getsockname()[1]
    unused.close()
    assert isinstance(get(proxy)[1], OSError)
    proxy.target_port = port
    assert get(proxy) == (BODY, None)


def test_a_client_that_stops_reading_holds_the_server_back(port: int) -> None:
    """Else a server that is killed would have sent everything long before."""
    with fault_proxy(port) as proxy, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        slow.connect(("127.0.0.1", proxy.port))
        slow.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        assert slow.recv(1000)
        eventually(Plain.blocked.is_set)
        assert Plain.written < LONG / 5
        assert proxy.open == 1


def test_an_answer_of_its_own_comes_before_the_server_is_asked(proxy: FaultProxy) -> None:
    proxy.suffers(answer(429, b"later", retry_after="7"))
    with client(proxy) as connection:
        for method, sent, expected in (
            ("GET", None, b"later"),
            ("POST", BODY[:50_000], b"later"),
            ("HEAD", None, b""),
        ):
            connection.request(method, "/", sent)
            came = connection.getresponse()
            assert (came.status, came.headers["Retry-After"]) == (429, "7")
            assert came.read() == expected
        assert Plain.seen == []
        proxy.heals()
        connection.request("GET", "/short")
        assert connection.getresponse().read() == b"short"


def test_a_lie_is_told_after_the_deed(proxy: FaultProxy) -> None:
    proxy.suffers(lie(500, b"sorry"))
    with client(proxy) as connection:
        for path in ("/", "/chunked", "/short"):
            connection.request("GET", path)
            came = connection.getresponse()
            assert (came.status, came.read()) == (500, b"sorry")
        assert Plain.seen == [f"GET {path} HTTP/1.1" for path in ("/", "/chunked", "/short")]
        proxy.heals()
        connection.request("GET", "/short")
        assert connection.getresponse().read() == b"short"


@pytest.mark.parametrize("path", ["/", "/chunked"])
@pytest.mark.parametrize(("surplus", "expected"), [(3, BODY + bytes(3)), (-3, BODY[:-3])])
def test_another_length_is_announced_and_kept_to(
    proxy: FaultProxy, path: str, surplus: int, expected: bytes
) -> None:
    proxy.suffers(resize(surplus))
    assert get(proxy, path) == (expected, None)
    with client(proxy) as connection:
        connection.request("HEAD", "/")
        came = connection.getresponse()
        assert came.headers["Content-Length"] == str(len(expected))
        assert came.read() == b""
