"""Parts of an exchange over HTTP: the memory of a chunk, what the head of an answer says, and how
much of a request the other side has."""

from __future__ import annotations

import socket
import sys
from io import BytesIO

BYTES_ACKED = slice(120, 128)  # in the `tcp_info` of Linux: `tcpi_bytes_acked`


class Room:
    """Memory to receive a chunk into. `BytesIO` gives its memory away as `bytes` without copying
    it, which `bytearray` cannot; while a transport still holds a view of it, it copies."""

    def __init__(self, size_bytes: int) -> None:
        self._memory = BytesIO()
        self._memory.seek(size_bytes - 1)
        self._memory.write(b"\0")
        self.view = self._memory.getbuffer()

    def taken(self, size_bytes: int) -> bytes:
        """The first bytes. The room is of no more use."""
        self.view.release()
        return self._memory.getvalue()[:size_bytes]


class Head:
    """What a head says, and the beginning of a body that has no length."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.version = ""
        self.body = bytearray()
        self.ended = False
        self.whole = False  # it ended by itself, and not with the connection

    @property
    def length(self) -> int | None:
        length = self.headers.get("content-length")
        return int(length) if length and "transfer-encoding" not in self.headers else None

    @property
    def keeps(self) -> bool:
        """Whether another request may follow on the connection."""
        closes = "close" in self.headers.get("connection", "").lower()
        return self.version == "1.1" and not closes

    # --- what the parser calls ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.whole:
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended = self.whole = True


def acknowledged_by_peer(connected: socket.socket) -> int:
    """How many bytes, since it was connected; 0 if it is closed, or the system does not tell."""
    if sys.platform != "linux":
        return 0
    try:
        told = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED.stop)
    except OSError:  # through TLS a socket is closed a moment before we hear of it
        return 0
    return int.from_bytes(told[BYTES_ACKED], sys.byteorder)
